package xds

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Two Envoys with one id are told of, once; one that comes back is not.
func TestTwinsAreToldOnce(t *testing.T) {
	var log bytes.Buffer
	p := NewPublisher(PublisherOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	told := func(want int) {
		t.Helper()
		if n := strings.Count(log.String(), "two Envoys have the same node id"); n != want {
			t.Errorf("told %d times, want %d", n, want)
		}
	}
	first, _ := pretend(p, "edge")
	pretend(p, "other")
	second, _ := pretend(p, "edge")
	p.leave(first) // its connection was dead, which is found out late
	p.warnOfTwins(second)
	told(0)
	third, _ := pretend(p, "edge")
	p.warnOfTwins(third)
	told(1)
	fourth, _ := pretend(p, "edge")
	p.warnOfTwins(fourth)
	p.warnOfTwins(third)
	told(1)
}

// A stream that tells what its Envoy has needs the publisher, while another
// one of the same Envoy joins.
func TestReconnectWhileTheOldStreamWorks(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	old, _ := pretend(p, "edge")
	ended := make(chan struct{})
	old.mu.Lock()
	go func() {
		pretend(p, "edge")
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("join waits for a stream that may be waiting for the publisher")
	}
	old.mu.Unlock()
}
