package xds

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// What headgate and a real Envoy need with many models: the time until a new
// Envoy serves, the time from a weight to the first answer by it, and memory.
// One model is in the middle of a rollout. Run with -benchtime 1x.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("models=%d", n), func(b *testing.B) { growth(b, n) })
	}
}

func growth(b *testing.B, n int) {
	us, listen := upstreams(b, "v1", "v2"), freeListener(b)
	plans := newPlanner(b)
	for i := range n {
		m := served(b, fmt.Sprintf("m%05d", i), listen, us)
		delete(m.endpoints, "v2")
		if i == 0 {
			m.endpoints["v2"] = us["v2"].Addr
			m.candidate, m.share, m.salt = "v2", 0, "m-1"
		}
		plans.models = append(plans.models, m.plan())
	}
	p := NewPublisher(PublisherOptions{})
	ads := startADS(b, p, "127.0.0.1:0")
	begin := time.Now()
	p.Publish(plans.plan(), nil)
	built := time.Since(begin)

	begin = time.Now()
	e := envoytest.Start(b, bootstrapFor(b, "one", ads.addr), envoytest.NoWait())
	delivered(b, p, 5*time.Minute, "m00000", fmt.Sprintf("m%05d", n-1))
	first := time.Since(begin)

	var took []float64
	for b.Loop() {
		for i := range 30 {
			want, share := "v2", routing.Whole
			if i%2 == 1 {
				want, share = "v1", 0
			}
			took = append(took, turnaround(b, p, plans.weight("m00000", share).plan(), "http://"+listen+"/m00000", want))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(built.Milliseconds()), "build-ms")
	b.ReportMetric(float64(first.Milliseconds()), "first-state-ms")
	b.ReportMetric(took[len(took)/2], "weight-ms-median")
	b.ReportMetric(took[len(took)*9/10], "weight-ms-p90")
	b.ReportMetric(resident(b, e.PID), "envoy-MB")
	runtime.GC()
	b.ReportMetric(resident(b, os.Getpid()), "headgate-MB")
	b.ReportMetric(0, "ns/op")
}

// turnaround is the time from a plan to the first answer by it, in
// milliseconds, seen by one client with a connection that it keeps.
func turnaround(b *testing.B, p *Publisher, plan *routing.Plan, url, want string) float64 {
	begin := time.Now()
	p.Publish(plan, nil)
	for time.Since(begin) < 10*time.Second {
		r, err := http.NewRequest(http.MethodPost, url, http.NoBody)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("x-user-id", "alice")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Fatalf("status %d", resp.StatusCode)
		}
		if resp.Header.Get("x-headgate-version") == want {
			return float64(time.Since(begin).Microseconds()) / 1000
		}
	}
	b.Fatalf("no answer by %s", want)
	return 0
}

// resident is a process's memory in MB.
func resident(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Logf("memory: %v", err)
		return 0
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages) * float64(os.Getpagesize()) / 1e6
}
