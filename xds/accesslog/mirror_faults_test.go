package accesslog_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// badServer is a version that does what a test says with each connection.
func badServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(conn, _ any) bool { return conn.(net.Conn).Close() == nil })
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, true)
			go func() {
				serve(conn)
				_ = conn.Close()
				open.Delete(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// eachRequest answers the requests of a connection.
func eachRequest(answer func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if _, err := bufio.NewReader(r.Body).WriteTo(discard{}); err != nil {
				return
			}
			answer(conn)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// peak is the most memory that a process has had, in MiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// Whatever a mirrored version does, users get their answers, Envoy stays small,
// and the log says what happened.
func TestMirrorFaults(t *testing.T) {
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	hang := func(net.Conn) { <-never }
	large := bytes.Repeat([]byte("x"), 1<<20)
	refused := fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t))
	for _, tt := range []struct {
		name    string
		address func() string
		body    []byte // nil: {}
		rate    float64
		send    int
		class   compare.Class
		code    int
	}{
		{"slow", func() string {
			u := envoytest.NewUpstream(t, "slow")
			u.SetDelay(10 * time.Second)
			return u.Addr
		}, nil, 300, 300, compare.ClassError, 504},
		{"refuses", func() string { return refused }, nil, 300, 300, compare.ClassError, 503},
		{"hangs", func() string { return badServer(t, eachRequest(hang)) }, nil, 300, 300, compare.ClassError, 504},
		{"closes half-way", func() string {
			return badServer(t, eachRequest(func(conn net.Conn) {
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf"))
				_ = conn.Close()
			}))
		}, nil, 300, 300, compare.ClassError, 200},
		{"answers 100 MB", func() string {
			return badServer(t, eachRequest(func(conn net.Conn) {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", 100*len(large))
				for range 100 {
					if _, err := conn.Write(large); err != nil {
						return
					}
				}
			}))
		}, nil, 20, 10, compare.ClassSuccess, 200},
		{"reads nothing", func() string { return badServer(t, hang) }, large, 50, 100, compare.ClassError, 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMirroring(t, tt.address(), nil)
			m.delivered()
			o := envoytest.LoadOptions{
				URL: "http://" + m.listen + "/", Rate: tt.rate, Requests: tt.send, Body: tt.body, Connections: 16, Prepare: withID,
			}
			before := envoytest.Load(t.Context(), o)
			small := peak(t, m.envoy.PID)
			m.publish([]routing.Mirror{{Version: "v3", Share: routing.Whole}})
			m.delivered()
			during := envoytest.Load(t.Context(), o)
			t.Logf("p99 %s without copies, %s with", before.Percentile(0.99), during.Percentile(0.99))
			if before.Failed+during.Failed > 0 || len(during.Results) != tt.send {
				t.Errorf("without copies: %s\nwith: %s", before, during)
			}
			m.sawOutcome(tt.class, tt.code)
			grown := peak(t, m.envoy.PID) - small
			t.Logf("memory: %d MiB, and %d MiB more with copies", small, grown)
			if grown > 400 {
				t.Errorf("Envoy grew by %d MiB", grown)
			}
		})
	}
}

// sawOutcome waits for a copy with an outcome. All others must have been
// dropped by the breaker, and blame nobody.
func (m *mirroring) sawOutcome(class compare.Class, code int) {
	m.t.Helper()
	count := map[string]int{}
	envoytest.Eventually(m.t, 10*time.Second, fmt.Sprintf("a copy with %s, %d", class, code), func() bool {
		m.sink.mu.Lock()
		defer m.sink.mu.Unlock()
		clear(count)
		for _, o := range m.sink.seen {
			if o.Mirrored {
				count[fmt.Sprint(o.Class, " ", o.Code)]++
			}
		}
		return count[fmt.Sprint(class, " ", code)] > 0
	})
	m.t.Logf("copies: %v", count)
	for outcome, n := range count {
		if outcome != fmt.Sprint(class, " ", code) && outcome != "aborted 503" {
			m.t.Errorf("%d copies: %s", n, outcome)
		}
	}
}

// What is too much is dropped at once, and never waits for its turn.
func TestMirrorBreaker(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	shadow := badServer(t, eachRequest(func(conn net.Conn) {
		for n := now.Add(1); n > most.Load(); {
			most.Store(n)
		}
		<-release
		now.Add(-1)
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
	}))
	m := newMirroring(t, shadow, nil)
	edited := *m.model
	edited.Timeout = time.Minute
	m.model = &edited
	m.publish([]routing.Mirror{{Version: "v3", Share: routing.Whole}})
	m.delivered()
	const sent = 300
	r := envoytest.Load(t.Context(), envoytest.LoadOptions{URL: "http://" + m.listen + "/", Requests: sent, Connections: 8, Prepare: withID})
	if r.Failed > 0 {
		t.Error(r)
	}
	outcomes := func() (dropped, answered int) {
		m.sink.mu.Lock()
		defer m.sink.mu.Unlock()
		for _, o := range m.sink.seen {
			switch {
			case !o.Mirrored || !strings.HasPrefix(o.RequestID, "load-"):
			case o.Class == compare.ClassAborted && o.Code == http.StatusServiceUnavailable:
				dropped++
			case o.Class == compare.ClassSuccess:
				answered++
			}
		}
		return dropped, answered
	}
	envoytest.Eventually(t, 10*time.Second, "what is too much is dropped", func() bool {
		dropped, _ := outcomes()
		return dropped+int(now.Load()) == sent
	})
	close(release)
	envoytest.Eventually(t, 10*time.Second, "the others are answered", func() bool {
		dropped, answered := outcomes()
		return dropped+answered == sent
	})
	// Workers look at the breaker at the same time, so it lets one or two more in.
	if n := most.Load(); n > 68 || n < 60 {
		t.Errorf("%d copies at a time, want about 64", n)
	}
}
