package main

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

const (
	aTenth   = "{traffic: 10%, for: 24h}"
	half     = "{traffic: 50%, for: 24h}"
	everyone = "{traffic: 100%, for: 24h}"
)

// failedFor logs how long requests of a broken candidate were answered by it,
// and returns how many.
func failedFor(t *testing.T, r *envoytest.Report) int {
	t.Helper()
	n := only(t, r, "v2")
	var first, last time.Time
	for _, result := range r.Results {
		if result.Version != "v2" || result.Status < 400 {
			continue
		}
		if at := result.Start.Add(result.Duration); first.IsZero() || at.Before(first) {
			first = at
		}
		last = result.Start
	}
	t.Logf("%d requests failed; from the first bad answer to the last request on v2: %s", n, last.Sub(first).Round(time.Millisecond))
	return n
}

// TestFaultEverythingFails has candidates fail at each request, at once and in
// mid-step, in a pause, and where no gate says anything about errors: they go
// back, and nobody else's request fails.
func TestFaultEverythingFails(t *testing.T) {
	t.Parallel()
	atOnce := newTrial(t, "at-once", []string{aTenth, everyone}, []string{"{metric: error_rate, max: 1%}", "{metric: error_rate, max_increase: 0.5pp}"})
	later := newTrial(t, "later", []string{aTenth, everyone}, nil)
	paused := newTrial(t, "paused", []string{"{traffic: 20%}", everyone}, []string{"{metric: latency_p99, max: 1h}"})
	slow := newTrial(t, "slow", []string{aTenth, everyone}, nil)
	atOnce.v2.SetStatus(http.StatusInternalServerError)
	slow.v2.SetStatus(http.StatusServiceUnavailable)
	g, _ := court(t, atOnce, later, paused, slow)

	t.Run("at once", func(t *testing.T) {
		load := atOnce.load(t, 150)
		g.back(atOnce, "")
		if n := failedFor(t, load.Stop()); n < 5 || n > 200 {
			t.Errorf("%d requests failed", n)
		}
	})
	t.Run("in mid-step", func(t *testing.T) {
		load := later.load(t, 100) // 10 a second of the candidate
		goesOn(t, load, 150)
		later.v2.SetStatus(http.StatusInternalServerError)
		g.back(later, "gross_failure")
		if n := failedFor(t, load.Stop()); n < 10 || n > 200 {
			t.Errorf("%d requests failed", n)
		}
	})
	t.Run("in a pause", func(t *testing.T) {
		g.serving(paused.name, "v2", 20)
		g.must("pause", paused.name)
		load := paused.load(t, 100)
		goesOn(t, load, 50)
		paused.v2.Reset(true)
		g.back(paused, "gross_failure")
		if n := failedFor(t, load.Stop()); n < 10 || n > 200 {
			t.Errorf("%d requests failed", n)
		}
	})
	t.Run("slowly", func(t *testing.T) { tenBadAnswers(t, g, slow) })
	t.Run("after a restart", func(t *testing.T) {
		g.kill()
		g.start().up()
		for _, c := range []*trial{atOnce, later, paused, slow} {
			s := g.phase(c, rollout.PhaseRolledBack)
			if s.Rollout != 1 || s.Weights["v1"] != 100 || len(s.Gates) == 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestFaultKilledWhileItFails kills headgate around the moment at which a
// candidate goes back. It goes back all the same.
func TestFaultKilledWhileItFails(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "fails", []string{half, everyone}, []string{"{metric: error_rate, max: 1%}"})
	c.v2.SetStatus(http.StatusInternalServerError)
	g, _ := court(t, c)
	for i := range times(3, 100) {
		g.until(c, "another try", func(s rollout.Status) bool { return s.Rollout == i+1 && settled(s) })
		load := c.load(t, 60)
		goesOn(t, load, 1+rand.IntN(60))
		g.kill()
		g.start().up()
		g.back(c, "")
		if n := only(t, load.Stop(), "v2"); n > 300 {
			t.Errorf("%d requests failed", n)
		}
		g.must("retry", c.name)
	}
}

// tenBadAnswers sends so few requests that each is told before the next.
func tenBadAnswers(t *testing.T, g *gate, c *trial) {
	g.serving(c.name, "v2", 10)
	bad, good := c.crowd("v2", 1, 10, 10), c.crowd("v1", 1, 10, 10)
	for i := range bad {
		if s := g.status(c.name); s.Phase != rollout.PhaseProgressing {
			t.Fatalf("after %d bad answers: %+v", i, s)
		}
		c.batch(t, 1, good[i])
		c.batch(t, 1, bad[i])
		g.eventually(20*time.Second, "the records", func() bool {
			v := g.versions(c.name)
			return v["v1"].Requests > uint64(i) && v["v2"].Requests > uint64(i)
		})
	}
	g.back(c, "gross_failure")
}

// TestFaultOtherFailures has candidates that fail otherwise than by 5xx, after
// headgate has reached them.
func TestFaultOtherFailures(t *testing.T) {
	t.Parallel()
	refusing := newTrial(t, "refusing", []string{half, everyone}, []string{"{metric: error_rate, max: 5%}"})
	hanging := newTrial(t, "hanging", []string{half, everyone}, []string{"{metric: error_rate, max: 5%}"})
	hanging.extra = append(hanging.extra, "timeout: 5s")
	client := newTrial(t, "client", []string{half, everyone}, []string{"{metric: client_error_rate, max_increase: 5pp}"})
	clientMax := newTrial(t, "client-max", []string{half, everyone}, []string{"{metric: client_error_rate, max: 5%}"})
	slow := newTrial(t, "slow", []string{half, everyone}, []string{"{metric: latency_p99, max: 1s}"})
	slower := newTrial(t, "slower", []string{half, everyone}, []string{"{metric: latency_p99, max_increase: 1s}"})
	reasons := map[*trial]string{
		refusing: "", hanging: "", client: "client_error_rate", clientMax: "client_error_rate", slow: "latency_p99", slower: "latency_p99",
	}
	g, _ := court(t, slices.Collect(maps.Keys(reasons))...)
	for c := range reasons {
		g.serving(c.name, "v2", 50)
	}
	refusing.v2.Stop()
	hanging.v2.Hang(true)
	client.v2.SetStatus(http.StatusUnprocessableEntity)
	clientMax.v2.SetStatus(http.StatusUnprocessableEntity)
	slow.v2.SetDelay(3 * time.Second)
	slower.v2.SetDelay(3 * time.Second)
	loads := map[*trial][]*envoytest.Loader{}
	for c := range reasons {
		rate := 30.0
		if c == slower {
			rate = 200 // what is usual has to be known to the hundredth
		}
		// Who waits for v2 keeps nobody else waiting.
		for _, version := range []string{"v1", "v2"} {
			loads[c] = append(loads[c], c.load(t, rate, func(o *envoytest.LoadOptions) {
				o.Users, o.Connections = c.crowd(version, 1, 50, 100), 24
			}))
			rate = 30
		}
	}
	for _, c := range []*trial{refusing, client, clientMax, hanging, slow, slower} {
		g.back(c, reasons[c])
		for _, load := range loads[c] {
			if n := only(t, load.Stop(), "v2"); n > 300 {
				t.Errorf("%s: %d requests failed", c.name, n)
			}
		}
	}
}
