package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

func TestJudged(t *testing.T) {
	bubble(t, "time and gates together end a step", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(41 * time.Minute)
		g.wantReason("10% since 00:00 UTC, 41 of at least 60 min, waits for error_rate: 2,100 of about 3,200 requests, latency_p99: 2,100 of about 3,200 requests")
		g.judge.say("s")
		g.pass(19*time.Minute - 2*time.Second)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.judge.say("sw")
		g.pass(40 * time.Minute)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.judge.say("s")
		g.pass(time.Second)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
		g.pass(30 * time.Minute)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
		g.do(rollout.ActionSkip)
		g.pass(2*time.Hour + time.Second)
		g.want(rollout.PhaseCompleted, -1, "v2 100%")
		if s, _ := g.Status("churn"); len(s.Gates) != 2 || s.Gates[1].Verdict != routing.VerdictSafe || s.Mode != routing.ModeAct {
			t.Errorf("the last rollout ended with %+v", s.Gates)
		}
	})
	bubble(t, "an alarm is looked at at once", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(10*time.Second + time.Millisecond)
		g.judge.say("b")
		g.ring()
		g.want(rollout.PhaseRolledBack, -1, "v2 0%, v1 100%")
		g.wantReason("rolled back by judge at 00:00 UTC: error_rate is too much; v1 serves everyone; `headgate retry churn` tries v2 again, a new release: in the file begins another rollout")
		if got := g.kept(); got != "#1 11" {
			t.Errorf("evidence %s", got)
		}
		g.ring() // nobody is on trial
		g.pass(time.Hour)
		g.do(rollout.ActionRetry)
		g.judge.say("s")
		g.pass(time.Hour + time.Second)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
	})
	bubble(t, "a gate that pauses", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("sb"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(2 * time.Second)
		g.want(rollout.PhasePaused, 0, "v2 10%, v1 90%")
		g.do(rollout.ActionResume)
		g.pass(2 * time.Hour)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
		if s, _ := g.Status("churn"); s.Gates[1].OverruledBy == "" || s.Gates[0].OverruledBy != "" {
			t.Errorf("gates %+v", s.Gates)
		}
		g.do(rollout.ActionPause)
		g.judge.say("bb")
		g.pass(2 * time.Second)
		g.want(rollout.PhaseRolledBack, -1, "v2 0%, v1 100%")
	})
	bubble(t, "observe", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("b"))
		g.apply(churn(from("v1"), release("v2"), gates, func(m *routing.Model) { m.Policy.Mode = routing.ModeObserve }))
		g.pass(time.Minute)
		g.judge.say("s")
		g.pass(2 * time.Hour)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		want := []string{"seen", "started", "reachable", "acknowledged", "would_roll_back", "would_advance"}
		if diff := cmp.Diff(want, g.kinds()); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
	})
	bubble(t, "copies are sent while the watch lasts", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("s"))
		g.apply(churn(from("v1"), release("v2"), gates, func(m *routing.Model) {
			m.Steps = []routing.Step{{Kind: routing.StepTraffic, Share: routing.Whole, For: time.Hour, Control: routing.Control{Mirror: true, Share: 2000}}}
		}))
		g.pass(2 * time.Hour)
		want := []string{"churn: v2 0%, v1 100%", "churn: v2 100%, v1 0%, copies to v1 20%", "churn: v2 100%"}
		if diff := cmp.Diff(want, g.fleet.history); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

// TestShadows are what Envoys are told to copy.
func TestShadows(t *testing.T) {
	first := func(m *routing.Model) {
		m.Steps = slices.Insert(m.Steps, 0, routing.Step{Kind: routing.StepShadow, Share: 2000, For: time.Hour})
	}
	standing := func(shadows ...routing.Shadow) func(*routing.Model) {
		return func(m *routing.Model) { m.Shadows = shadows }
	}
	published := func(g *gate, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, g.fleet.history); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	}
	bubble(t, "before the first user", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("s"))
		g.apply(churn(from("v1"), release("v2"), gates, first))
		g.pass(time.Hour + time.Second)
		published(g, "churn: v2 0%, v1 100%", "churn: v2 0%, v1 100%, copies to v2 20%", "churn: v2 10%, v1 90%")
		want := []string{
			"watch churn #1 step 0/4 v1→v2 0% shadow 20%", "watch churn #1 step 0/4 v1→v2 0% shadow 20% since 00:00:00",
			"watch churn #1 step 1/4 v1→v2 10%", "watch churn #1 step 1/4 v1→v2 10% since 01:00:00",
		}
		if diff := cmp.Diff(want, g.judge.took()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
	bubble(t, "a way back ends the copies", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("b"))
		g.apply(churn(from("v1"), release("v2"), gates, first))
		g.pass(2 * time.Second)
		g.want(rollout.PhaseRolledBack, -1, "v2 0%, v1 100%")
		published(g, "churn: v2 0%, v1 100%", "churn: v2 0%, v1 100%, copies to v2 20%", "churn: v2 0%, v1 100%")
	})
	bubble(t, "a candidate that does not answer gets no copies", func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("s"))
		g.probe.fail("v2", errors.New("connection refused"))
		g.apply(churn(from("v1"), release("v2"), gates, first))
		g.pass(time.Minute)
		published(g, "churn: v2 0%, v1 100%")
	})
	bubble(t, "standing ones outlive rollouts and restarts", func(t *testing.T) {
		j, two := journal.NewMemory(), standing(routing.Shadow{Version: "v3", Share: 1}, routing.Shadow{Version: "v2", Share: 5000})
		g := judged(t, j, newOracle("s"))
		g.apply(churn(two))
		g.apply(churn(two, release("v2"), gates, first))
		g.pass(time.Hour + time.Second)
		g.do(rollout.ActionRollback)
		g.stop()
		g = judged(t, j, newOracle("s"))
		g.apply(churn(two, release("v2"), gates, first))
		published(g, "churn: v2 0%, v1 100%, copies to v2 50%, copies to v3 0.01%")
		g.apply(churn(standing(routing.Shadow{Version: "v3", Share: 2}), release("v2"), gates, first))
		g.do(rollout.ActionRetry)
		g.do(rollout.ActionPromote)
		g.pass(time.Second)
		published(g, "churn: v2 0%, v1 100%, copies to v2 50%, copies to v3 0.01%", "churn: v2 0%, v1 100%, copies to v3 0.02%",
			"churn: v2 0%, v1 100%, copies to v3 0.02%", // of another rollout
			"churn: v2 0%, v1 100%, copies to v2 20%, copies to v3 0.02%", "churn: v2 100%, v1 0%, copies to v3 0.02%", "churn: v2 100%, copies to v3 0.02%")
	})
}

// TestWatch is what a judge is told, and when.
func TestWatch(t *testing.T) {
	bubble(t, "a whole rollout", func(t *testing.T) {
		f := newFleet("envoy-1")
		g := &gate{t: t, fleet: f, journal: &faulty{Memory: journal.NewMemory()}, probe: &endpoints{}, judge: newOracle("w")}
		g.open()
		told := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, g.judge.took()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		last := func(c routing.Control) func(m *routing.Model) {
			return func(m *routing.Model) { m.Steps[2].Control = c }
		}
		g.probe.fail("v2", errors.New("connection refused"))
		g.apply(churn(from("v1"), release("v2"), gates))
		told("not reachable")
		g.probe.fail("v2", nil)
		g.pass(time.Minute)
		told("the share is published", "watch churn #1 step 0/3 v1→v2 10%")
		f.ack("envoy-1")
		g.pass(time.Minute)
		told("acknowledged", "watch churn #1 step 0/3 v1→v2 10% since 00:01:00")
		f.connect("envoy-2")
		g.pass(time.Minute)
		told("an Envoy is behind", "watch churn #1 step 0/3 v1→v2 10%")
		f.ack("envoy-2")
		g.pass(time.Minute)
		told("it has caught up", "watch churn #1 step 0/3 v1→v2 10% since 00:03:00")
		g.do(rollout.ActionPause)
		f.disconnect("envoy-2")
		g.pass(time.Minute)
		told("paused")
		f.connect("envoy-3")
		synctest.Wait()
		told("an Envoy is behind in a pause", "watch churn #1 step 0/3 v1→v2 10%")
		f.ack("envoy-3")
		synctest.Wait()
		told("it has caught up in the pause", "watch churn #1 step 0/3 v1→v2 10% since 00:05:00")
		g.do(rollout.ActionResume)
		g.apply(churn(from("v1"), release("v2"), gates, func(m *routing.Model) { m.Timeout = time.Second }))
		f.ack("envoy-1", "envoy-3")
		synctest.Wait()
		told("another timeout is another plan", "watch churn #1 step 0/3 v1→v2 10%", "watch churn #1 step 0/3 v1→v2 10% since 00:05:00")
		g.apply(churn(from("v1"), release("v2"), gates, last(routing.Control{Share: 100}), func(m *routing.Model) {
			m.Timeout = time.Second
			m.Policy.Gates[0].Limit, m.Policy.Gates[0].Written = 0.02, "2%"
		}))
		f.ack("envoy-1", "envoy-3")
		synctest.Wait()
		told("the policy is another", "watch churn #1 step 0/3 v1→v2 10% since 00:05:00",
			"watch churn #1 step 0/3 v1→v2 10%", "watch churn #1 step 0/3 v1→v2 10% since 00:05:00")
		g.do(rollout.ActionSkip)
		f.ack("envoy-1", "envoy-3")
		synctest.Wait()
		told("the next step", "watch churn #1 step 1/3 v1→v2 25%", "watch churn #1 step 1/3 v1→v2 25% since 00:05:00")
		g.do(rollout.ActionSkip)
		told("the watch", "watch churn #1 step 2/3 v1→v2 99% control 1%")
		g.do(rollout.ActionPromote)
		told("promoted", "watch churn #1 step 2/3 v1→v2 100%")
		f.ack("envoy-1", "envoy-3")
		synctest.Wait()
		told("completed", "forget churn")
		g.apply(churn(release("v3"), gates))
		g.apply(churn(from("v1"), release("v3"), gates))
		told("the next rollout", "watch churn #2 step 0/3 v2→v3 10%")
		if err := g.Apply(t.Context(), config(churn(named("other")))); err != nil {
			t.Fatal(err)
		}
		told("the model is gone", "forget churn")
	})
}

// TestJudgedRestart: another process goes on with what was found.
func TestJudgedRestart(t *testing.T) {
	bubble(t, "in order", func(t *testing.T) {
		j := journal.NewMemory()
		g := judged(t, j, newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(10*time.Second + time.Millisecond)
		g.stop()
		if got := g.kept(); got != "#1 11" { // ten, and one at the end
			t.Errorf("evidence %s", got)
		}
		g = judged(t, j, newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		want := []string{"watch churn #1 step 0/3 v1→v2 10% kept 11", "watch churn #1 step 0/3 v1→v2 10% since 00:00:10"}
		if diff := cmp.Diff(want, g.judge.took()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		g.pass(5*time.Second + time.Millisecond)
		if got := g.kept(); got != "#1 16" {
			t.Errorf("evidence %s", got)
		}
		g.do(rollout.ActionRollback)
		g.do(rollout.ActionRetry)
		g.stop()
		g.judge.took()
		g = judged(t, j, newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		if calls := g.judge.took(); len(calls) == 0 || calls[0] != "watch churn #2 step 0/3 v1→v2 10% kept 1" {
			t.Errorf("another rollout begins with the evidence of its own: %q", calls)
		}
	})
	bubble(t, "evidence of another rollout is nobody's", func(t *testing.T) {
		j := journal.NewMemory()
		if err := j.KeepEvidence(t.Context(), rollout.Evidence{Model: "churn", Rollout: 7, Data: []byte("99")}); err != nil {
			t.Fatal(err)
		}
		g := judged(t, j, newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		if calls := g.judge.took(); len(calls) == 0 || calls[0] != "watch churn #1 step 0/3 v1→v2 10%" {
			t.Errorf("%q", calls)
		}
	})
	bubble(t, "an edit of the gates meanwhile", func(t *testing.T) {
		j := journal.NewMemory()
		g := judged(t, j, newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.stop()
		g = judged(t, j, newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates, func(m *routing.Model) { m.Policy.Gates = m.Policy.Gates[:1] }))
		records, err := g.History(t.Context(), "churn", 1)
		if err != nil || len(records) != 1 || records[0].Kind != rollout.KindPolicy ||
			records[0].Reason != "what judges was edited: gone: latency_p99 max_increase 10%, on_breach pause" {
			t.Errorf("%+v, %v", records, err)
		}
	})
}

// TestEvidenceRefused: what cannot be written is counted and tried again, and
// moves nothing.
func TestEvidenceRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(10*time.Second + time.Millisecond)
		g.journal.fail(errors.New("disk full"))
		g.pass(20 * time.Second)
		if n := g.EvidenceFailures(); n < 15 || n > 21 || g.kept() != "#1 10" {
			t.Errorf("%d failures, evidence %s", n, g.kept())
		}
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.wantReason("10% since 00:00 UTC, 0 of at least 60 min, waits for error_rate: 2,100 of about 3,200 requests, latency_p99: 2,100 of about 3,200 requests")
		g.judge.say("b")
		g.pass(10 * time.Second)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.journal.fail(nil)
		g.pass(time.Minute)
		g.want(rollout.PhaseRolledBack, -1, "v2 0%, v1 100%")
		if n := g.EvidenceFailures(); n > 32 {
			t.Errorf("%d failures", n)
		}
		g.stop()
		if got := g.kept(); got == "#1 10" {
			t.Errorf("evidence %s", got)
		}
	})
}

// TestSlowLook: a judge that takes its time holds nobody up, and what it finds
// about gates that were edited meanwhile does not count.
func TestSlowLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOracle("b")
		g := judged(t, journal.NewMemory(), o)
		until := make(chan struct{})
		o.block(until)
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(10 * time.Second)
		g.do(rollout.ActionPause)
		g.do(rollout.ActionResume)
		g.apply(churn(from("v1"), release("v2"), gates, func(m *routing.Model) { m.Policy.Gates = m.Policy.Gates[:1] }))
		o.say("w")
		o.block(nil)
		close(until)
		g.pass(10 * time.Second)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		if s, _ := g.Status("churn"); len(s.Gates) != 1 {
			t.Errorf("gates %+v", s.Gates)
		}
	})
}

// TestManyTrials: each of many models is looked at each second, and an alarm
// does not wait for them.
func TestManyTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOracle("w")
		o.silent = true
		g := judged(t, journal.NewMemory(), o)
		var models []*routing.Model
		for i := range 100 {
			models = append(models, churn(named(fmt.Sprintf("m%03d", i)), from("v1"), release("v2"), gates))
		}
		g.apply(models...)
		g.pass(10*time.Second + time.Millisecond)
		o.mu.Lock()
		for model, n := range o.looks {
			if n < 9 || n > 10 {
				t.Errorf("%s: %d looks in 10 s", model, n)
			}
		}
		if len(o.looks) != 100 {
			t.Errorf("looked at %d models", len(o.looks))
		}
		o.mu.Unlock()
		o.say("b")
		o.alarm <- "m007"
		synctest.Wait()
		if s, _ := g.Status("m007"); s.Phase != rollout.PhaseRolledBack {
			t.Errorf("m007: %s", s.Phase)
		}
		if s, _ := g.Status("m008"); s.Phase != rollout.PhaseProgressing {
			t.Errorf("m008: %s", s.Phase)
		}
		g.pass(time.Second)
		for _, s := range g.Statuses() {
			if s.Phase != rollout.PhaseRolledBack {
				t.Errorf("%s: %s", s.Model, s.Phase)
			}
		}
	})
}

// TestVerdictsAreTold: subscribers hear of a verdict that is another one, not of
// each look.
func TestVerdictsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := judged(t, journal.NewMemory(), newOracle("w"))
		g.apply(churn(from("v1"), release("v2"), gates))
		g.pass(2 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		updates := g.Subscribe(ctx)
		g.pass(10 * time.Second)
		g.judge.say("sw")
		g.pass(10 * time.Second)
		var verdicts []routing.Verdict
		for len(updates) > 0 {
			u := <-updates
			verdicts = append(verdicts, u.Status.Gates[0].Verdict)
		}
		if !slices.Equal(verdicts, []routing.Verdict{routing.VerdictSafe}) {
			t.Errorf("told %v", verdicts)
		}
		safe, err := g.Wait(ctx, "churn", func(s rollout.Status) bool { return s.Gates[1].Verdict == routing.VerdictWaiting })
		if err != nil || safe.Phase != rollout.PhaseProgressing {
			t.Errorf("wait: %+v, %v", safe, err)
		}
	})
}
