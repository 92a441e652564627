package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// counts waits until a gate has n requests behind it, and fails the test when it
// gets more.
func (g *gate) counts(c *trial, n int) rollout.Status {
	g.t.Helper()
	s := g.until(c, fmt.Sprintf("%d requests", n), func(s rollout.Status) bool { return finding(s, "error_rate", "max").N >= uint64(n) })
	for _, bound := range []routing.BoundKind{routing.BoundMax, routing.BoundMaxIncrease} {
		if f := finding(s, "error_rate", bound); f.N != uint64(n) {
			g.t.Fatalf("%s %s of %s has %d requests behind it, want %d", f.Metric, f.Bound, c.name, f.N, n)
		}
	}
	return s
}

// TestFaultKilledInTrial kills headgate in each step of a judged rollout, when
// what was found is written, when it may not be, and while the next step
// begins. Each request counts once, or not at all when it was lost.
func TestFaultKilledInTrial(t *testing.T) {
	t.Parallel()
	gates := []string{"{metric: error_rate, max: 50%}", "{metric: error_rate, max_increase: 50pp}", "{metric: latency_p90, max: 20s}"}
	c := newTrial(t, "killed", []string{"{traffic: 10%}", "{traffic: 40%}", "{traffic: 80%}", "{traffic: 100%}"}, gates)
	c.partly(t, 1, 1, 4)
	g, w := court(t, c)
	again := func(n int) rollout.Status {
		g.kill()
		g.start().up()
		g.resumed(c, n)
		g.told(w)
		return g.status(c.name)
	}
	for step, percent := range []float64{10, 40, 80} {
		g.step(c, step)
		n := c.batch(t, 60)["v2"]
		before := g.counts(c, n)
		g.durable(c)
		after := again(n)
		if after.Step != step || after.Weights["v2"] != percent || after.Phase != rollout.PhaseProgressing {
			t.Fatalf("after a kill in step %d: %+v", step, after)
		}
		g.counts(c, n)
		for _, bound := range []routing.BoundKind{routing.BoundMax, routing.BoundMaxIncrease} {
			was, is := finding(before, "error_rate", bound), finding(after, "error_rate", bound)
			if *was.Estimate != *is.Estimate || *was.Low != *is.Low || *was.High != *is.High {
				t.Errorf("%s: %v (%v to %v) before the kill, %v (%v to %v) after it", bound, *was.Estimate, *was.Low, *was.High, *is.Estimate, *is.Low, *is.High)
			}
		}
		n += c.batch(t, 30)["v2"]
		g.counts(c, n)
		g.durable(c)
		if step == 1 { // what was not written may be lost, and is not counted twice
			more := c.batch(t, 30)["v2"]
			g.counts(c, n+more)
			s := again(n)
			got := int(finding(s, "error_rate", "max").N)
			if got != n && got != n+more {
				t.Errorf("%d requests after a kill, want %d or %d", got, n, n+more)
			}
			n = got
		}
		written := n
		n += c.batch(t, 30)["v2"]
		g.counts(c, n)

		old := g.status(c.name)
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			g.post(c.name, rollout.ActionSkip, admin.Order{})
		}()
		<-time.After(rand.N(20 * time.Millisecond))
		g.kill()
		<-moved
		g.start().up()
		s := g.until(c, "rest", func(s rollout.Status) bool { return settled(s) })
		if s.Step == step && s.Phase == old.Phase {
			if s.Weights["v2"] != percent {
				t.Fatalf("killed while step %d began: %+v", step+1, s)
			}
			g.resumed(c, written)
			g.must("skip", c.name)
		}
		if step < 2 {
			g.told(w)
		}
	}
	g.phase(c, rollout.PhaseCompleted)
}

// TestFaultKilledWhileItAdvances kills headgate again and again while a
// candidate that keeps its limits takes over. It gets there, and no request
// notices.
func TestFaultKilledWhileItAdvances(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "advances", []string{"{traffic: 10%, for: 300ms}", "{traffic: 40%, for: 300ms}", "{traffic: 80%, for: 300ms}", "{traffic: 100%, for: 300ms}"},
		[]string{"{metric: error_rate, max: 20%}", "{metric: error_rate, max_increase: 30pp}", "{metric: latency_p50, max: 20s}"})
	g, _ := court(t, c)
	load := c.load(t, 150)
	for range times(4, 100) {
		goesOn(t, load, 50+rand.IntN(250))
		g.kill()
		g.start().up()
	}
	g.phase(c, rollout.PhaseCompleted)
	r := clean(t, load)
	if back := r.Backwards("v1", "v2"); len(back) > 0 {
		t.Errorf("%d users went back, the first: %+v", len(back), back[0])
	}
	next := 0
	for _, r := range g.history(c.name) {
		switch r.Kind {
		case rollout.KindAdvanced, rollout.KindCompleted:
			if next++; r.Actor != rollout.ActorJudge {
				t.Errorf("%s by %s: %q", r.Summary, r.Actor, r.Reason)
			}
		}
	}
	if next != len(c.steps) {
		t.Errorf("%d steps were ended, want %d", next, len(c.steps))
	}
}

// TestJudgeFollowsEdits edits the gates of a rollout, sets the release back and
// tries it again.
func TestJudgeFollowsEdits(t *testing.T) {
	t.Parallel()
	const kept = "{metric: error_rate, max: 5%}"
	c := newTrial(t, "edited", []string{"{traffic: 50%}", "{traffic: 100%}"}, []string{kept, "{metric: error_rate, max_increase: 5pp}"})
	g, _ := court(t, c)
	g.step(c, 0)
	n := c.batch(t, 100)["v2"]
	before := g.counts(c, n)
	c.gates("{metric: client_error_rate, max: 9%}", "{metric: error_rate, max_increase: 9pp}", kept)
	g.try(c)
	s := g.until(c, "the edit", func(s rollout.Status) bool { return finding(s, "client_error_rate", "max").N > 0 })
	was, is := finding(before, "error_rate", "max"), finding(s, "error_rate", "max")
	if is.N != was.N || *is.Estimate != *was.Estimate || *is.Low != *was.Low {
		t.Errorf("a gate that stayed: %+v, before the edit %+v", is, was)
	}
	if f := finding(s, "error_rate", "max_increase"); f.Limit != 0.09 {
		t.Errorf("a gate that was edited: %+v", f)
	}
	if s.Rollout != 1 || s.Step != 0 || g.event(c, rollout.KindPolicy).Actor != rollout.ActorConfig {
		t.Errorf("after the edit: %+v", s)
	}
	n += c.batch(t, 50)["v2"]
	g.counts(c, n)

	c.release = "v1"
	g.try(c)
	g.phase(c, rollout.PhaseRolledBack)
	if r := g.event(c, rollout.KindRolledBack); r.Actor != rollout.ActorConfig {
		t.Errorf("rolled back by %s: %q", r.Actor, r.Reason)
	}
	c.release = "v2"
	g.try(c)
	g.until(c, "the second rollout", func(s rollout.Status) bool { return s.Rollout == 2 })
	g.step(c, 0)
	n = c.batch(t, 50)["v2"]
	g.counts(c, n)
	g.must("rollback", c.name)
	g.phase(c, rollout.PhaseRolledBack)
	g.must("retry", c.name)
	g.until(c, "the third rollout", func(s rollout.Status) bool { return s.Rollout == 3 })
	g.step(c, 0)
	n = c.batch(t, 50)["v2"]
	g.counts(c, n)
}

// TestJudgeOfTwoEnvoys adds up what two Envoys served.
func TestJudgeOfTwoEnvoys(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "two", []string{"{traffic: 50%}", "{traffic: 100%}"}, []string{"{metric: error_rate, max: 5%}", "{metric: error_rate, max_increase: 5pp}"})
	g, w := newGate(t, "serve"), warm(t)
	g.put(w)
	g.start().up()
	envoys := []*envoytest.Envoy{g.envoyOf("one"), g.envoyOf("two")}
	g.awaitRecords(w)
	served := func(e *envoytest.Envoy, model modelFile) int {
		for name, n := range e.Stats(fmt.Sprintf("http.127_0_0_1_%d", model.port)) {
			if strings.HasSuffix(name, "downstream_rq_completed") {
				return n
			}
		}
		return 0
	}
	// Both have opened their access log.
	g.eventually(time.Minute, "both Envoys", func() bool {
		_, _, err := post(w.url(), "{}", "connection", "close")
		noError(t, err)
		return served(envoys[0], w) > 0 && served(envoys[1], w) > 0 && g.metrics("headgate_streams")[`service="access_log"`] >= 2
	})
	g.try(c)
	g.open(c)
	g.step(c, 0)
	n := 0
	for i := 0; i < 20 || served(envoys[0], c.modelFile) == 0 || served(envoys[1], c.modelFile) == 0; i++ {
		n += c.batch(t, 10)["v2"]
	}
	g.counts(c, n)
}
