package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// TestFaultNoTraffic has candidates that nobody asks: they are neither passed
// nor failed, until a step has lasted for at_most, and then what the file says
// is done.
func TestFaultNoTraffic(t *testing.T) {
	t.Parallel()
	steps := []string{"{traffic: 10%, for: 1s}", "{traffic: 100%}"}
	gates := []string{"{metric: error_rate, max: 1%}", "{metric: latency_p99, max_increase: 10%}"}
	waits := newTrial(t, "waits", steps, gates)
	pauses := newTrial(t, "pauses", steps, gates, "at_most: 2s")
	goesBack := newTrial(t, "back", steps, gates, "at_most: 2s", "on_timeout: rollback")
	promoted := newTrial(t, "promoted", steps, gates, "at_most: 2s", "on_timeout: promote")
	g, _ := court(t, waits, pauses, goesBack, promoted)

	s := g.until(waits, "more than its time", func(s rollout.Status) bool { return strings.Contains(s.Reason, "4 of at least 1 s") })
	if s.Step != 0 || s.Phase != rollout.PhaseProgressing || !strings.Contains(s.Reason, "no traffic") {
		t.Errorf("without traffic: %+v", s)
	}
	for _, metric := range []string{"error_rate", "latency_p99"} {
		if f := finding(s, metric, ""); f.Verdict != routing.VerdictWaiting || f.Reason != routing.ReasonNoTraffic || f.N != 0 || f.Estimate != nil {
			t.Errorf("%s without traffic: %+v", metric, f)
		}
	}
	for c, want := range map[*trial]struct {
		phase rollout.Phase
		kind  string
	}{
		pauses:   {rollout.PhasePaused, rollout.KindPaused},
		goesBack: {rollout.PhaseRolledBack, rollout.KindRolledBack},
		promoted: {rollout.PhaseCompleted, rollout.KindAdvanced},
	} {
		g.phase(c, want.phase)
		r := g.event(c, want.kind)
		if r.Actor != rollout.ActorTimer || !strings.Contains(r.Reason, "at_most 2s") || !strings.Contains(r.Reason, "no_traffic") {
			t.Errorf("%s: %s by %s: %q", c.name, r.Kind, r.Actor, r.Reason)
		}
	}
	if s := g.status(waits.name); s.Step != 0 || s.Phase != rollout.PhaseProgressing {
		t.Errorf("without traffic: %+v", s)
	}
}

// TestFaultBothFail has versions that fail alike, and a stable one that fails
// alone: nobody is blamed.
func TestFaultBothFail(t *testing.T) {
	t.Parallel()
	gates := []string{"{metric: error_rate, max: 5%}", "{metric: error_rate, max_increase: 10pp}"}
	both := newTrial(t, "both", []string{"{traffic: 50%, for: 1s}", "{traffic: 100%}"}, gates)
	stable := newTrial(t, "stable", []string{"{traffic: 50%, for: 1s}", everyone}, gates)
	for _, u := range []*envoytest.Upstream{both.v1, both.v2, stable.v1} {
		u.SetStatus(http.StatusInternalServerError)
	}
	g, _ := court(t, both, stable)
	loads := []*envoytest.Loader{both.load(t, 80), stable.load(t, 80)}
	s := g.until(both, "both are ill", func(s rollout.Status) bool {
		return finding(s, "error_rate", "max").Reason == routing.ReasonBaselineIll && finding(s, "error_rate", "max").N >= 100
	})
	if s.Phase != rollout.PhaseProgressing || s.Step != 0 || s.Weights["v2"] != 50 || !strings.Contains(s.Reason, "the stable version breaks the limit too") {
		t.Errorf("while both fail: %+v", s)
	}
	g.until(stable, "the next step", func(s rollout.Status) bool { return s.Step == 1 })
	if failed := only(t, loads[1].Stop(), "v1"); failed == 0 {
		t.Error("stable did not fail")
	}
	loads[0].Stop()
	for _, c := range []*trial{both, stable} {
		if r := g.event(c, rollout.KindRolledBack); r.Kind != "" {
			t.Errorf("%s was rolled back: %s", c.name, r.Reason)
		}
	}
	// Alone, the candidate is to blame.
	both.v1.SetStatus(http.StatusOK)
	load := both.load(t, 80)
	g.back(both, "")
	load.Stop()
}

// TestJudgeOverrides has people who chose v2 fail there, which says nothing
// about those whom the split sends.
func TestJudgeOverrides(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "chosen", []string{"{traffic: 50%, for: 1s}", "{traffic: 100%}"}, []string{
		"{metric: error_rate, max_increase: 10pp}", "{metric: error_rate, max: 2%}",
	})
	c.versions = []string{
		fmt.Sprintf("v1: {endpoints: [%q]}", scripted(t, "answer")), fmt.Sprintf("v2: {endpoints: [%q]}", scripted(t, "answer")),
	}
	c.extra = append(c.extra, "overrides:", `  - {header: canary, equals: "true", version: v2}`)
	g, _ := court(t, c)
	g.step(c, 0)
	users := func(o *envoytest.LoadOptions) { o.Users = c.crowd("v2", 1, 50, 100) }
	load := c.load(t, 40, users)
	chosen := c.load(t, 10, func(o *envoytest.LoadOptions) {
		o.Header = http.Header{"Canary": {"true"}, "Answer": {"500"}}
		o.Users = c.crowd("v1", 1, 50, 50)
	})
	goesOn(t, chosen, 20)
	goesOn(t, load, 1)
	failed := only(t, chosen.Stop(), "v2")
	drawn := len(clean(t, load).Results)
	s := g.until(c, "all requests", func(s rollout.Status) bool { return finding(s, "error_rate", "max").N >= uint64(failed+drawn) })
	if f := finding(s, "error_rate", "max_increase"); f.N != uint64(drawn) || f.Verdict == routing.VerdictBreach {
		t.Errorf("%d requests of drawn users, and compared: %+v", drawn, f)
	}
	if f := finding(s, "error_rate", "max"); f.N != uint64(failed+drawn) || *f.Estimate == 0 || f.Verdict == routing.VerdictBreach {
		t.Errorf("%d requests in all, and judged by itself: %+v", failed+drawn, f)
	}
	if s.Phase != rollout.PhaseProgressing || s.Step != 0 {
		t.Errorf("%+v", s)
	}
	// Others show that v2 is fine.
	c.batch(t, 400)
	s = g.until(c, "a verdict", func(s rollout.Status) bool {
		return finding(s, "error_rate", "max_increase").Verdict == routing.VerdictSafe
	})
	if s.Phase != rollout.PhaseProgressing {
		t.Errorf("%+v", s)
	}
}

// partly gives a version so many endpoints, of which bad ones fail.
func (c *trial) partly(t testing.TB, version int, bad, all int) {
	var endpoints []string
	for i := range all {
		u := envoytest.NewUpstream(t, fmt.Sprintf("v%d", version+1))
		if i < bad {
			u.SetStatus(http.StatusInternalServerError)
		}
		endpoints = append(endpoints, fmt.Sprintf("%q", u.Addr))
	}
	c.versions[version] = fmt.Sprintf("v%d: {endpoints: [%s]}", version+1, strings.Join(endpoints, ", "))
}

// TestJudgeDoesWhatIsAsked has candidates of which each sixth request fails, and
// policies of other kinds.
func TestJudgeDoesWhatIsAsked(t *testing.T) {
	t.Parallel()
	steps := []string{"{traffic: 50%, for: 1s}", everyone}
	const worse = "metric: error_rate, max_increase: 2pp"
	pause := newTrial(t, "pause", steps, []string{"{" + worse + ", on_breach: pause}"})
	warn := newTrial(t, "warn", []string{"{traffic: 50%, for: 1s}", "{traffic: 60%, for: 24h}", everyone}, []string{"{" + worse + ", on_breach: warn}", "{metric: client_error_rate, max: 20%}"})
	observe := newTrial(t, "observe", steps, []string{"{" + worse + "}", "{metric: error_rate, max: 90%, on_breach: warn}"}, "mode: observe")
	well := newTrial(t, "observe-well", steps, []string{"{metric: error_rate, max: 20%}"}, "mode: observe")
	excess := newTrial(t, "excess", []string{"{traffic: 50%, for: 24h}", everyone}, []string{"{metric: error_rate, max: 90%}"}, "max_excess: 10")
	all := []*trial{pause, warn, observe, excess}
	for _, c := range all {
		c.partly(t, 1, 1, 6)
	}
	excess.partly(t, 1, 1, 12) // far from what is a gross failure, also where errors come sooner than answers
	all = append(all, well)
	g, _ := court(t, all...)
	for _, c := range all {
		c.load(t, 60)
	}

	g.until(pause, "paused", func(s rollout.Status) bool { return s.Phase == rollout.PhasePaused })
	if r := g.event(pause, rollout.KindPaused); r.Actor != rollout.ActorJudge || !strings.Contains(r.Reason, "error_rate") {
		t.Errorf("paused by %s: %q", r.Actor, r.Reason)
	}
	if s := g.status(pause.name); s.Weights["v2"] != 50 {
		t.Errorf("in the pause: %+v", s)
	}
	if s := g.status(pause.name); !strings.Contains(s.Reason, "`headgate resume pause` goes on in spite of it") {
		t.Errorf("the way out of the pause: %s", s.Reason)
	}
	g.must("resume", pause.name, "--reason", "it is known")

	g.until(warn, "the next step", func(s rollout.Status) bool { return s.Step == 1 })
	g.until(warn, "the warning", func(rollout.Status) bool { return g.event(warn, rollout.KindWarned).Actor == rollout.ActorJudge })

	g.until(observe, "what it would do", func(rollout.Status) bool { return g.event(observe, rollout.KindWouldRollBack).Kind != "" })
	g.until(well, "what it would do", func(rollout.Status) bool { return g.event(well, rollout.KindWouldAdvance).Kind != "" })
	for _, c := range []*trial{observe, well} {
		if s := g.status(c.name); s.Step != 0 || s.Weights["v2"] != 50 || s.Mode != routing.ModeObserve || s.Phase != rollout.PhaseProgressing {
			t.Errorf("while it only observes: %+v", s)
		}
		g.must("skip", c.name)
		g.serving(c.name, "v2", 100)
	}
	s := g.until(pause, "the next step, in spite of the gate", func(s rollout.Status) bool { return s.Step == 1 && finding(s, "error_rate", "").OverruledBy != "" })
	if s.Phase != rollout.PhaseProgressing || s.Weights["v2"] != 100 {
		t.Errorf("after a person resumed: %+v", s)
	}
	g.back(excess, "excess_errors")
	for _, c := range []*trial{pause, warn, observe, well} {
		if r := g.event(c, rollout.KindRolledBack); r.Kind != "" {
			t.Errorf("%s was rolled back: %s", c.name, r.Reason)
		}
	}
}

// TestJudgeAtHundredPercent has candidates that begin to fail when they serve
// everyone, with each kind of control.
func TestJudgeAtHundredPercent(t *testing.T) {
	t.Parallel()
	const worse = "{metric: error_rate, max_increase: 2pp}"
	held := newTrial(t, "held", []string{"{traffic: 100%, for: 24h, control: 10%}"}, []string{worse})
	copied := newTrial(t, "copied", []string{"{traffic: 100%, for: 24h, control: mirror}"}, []string{worse})
	alone := newTrial(t, "alone", []string{"{traffic: 50%, for: 1ms}", "{traffic: 100%, for: 24h}"}, []string{"{metric: error_rate, max: 5%}", worse})
	unasked := newTrial(t, "unasked", []string{"{traffic: 100%, for: 24h}"}, nil)
	alike := newTrial(t, "alike", []string{"{traffic: 100%, for: 24h, control: mirror}"}, []string{"{metric: error_rate, max_increase: 20pp}"})
	for _, c := range []*trial{held, copied, alone, alike} {
		c.versions = []string{
			fmt.Sprintf("v1: {endpoints: [%q]}", scripted(t, "v1")), fmt.Sprintf("v2: {endpoints: [%q]}", scripted(t, "v2")),
		}
	}
	g, _ := court(t, held, copied, alone, alike, unasked)
	g.must("skip", alone.name)
	for c, percent := range map[*trial]float64{held: 90, copied: 100, alone: 100, unasked: 100} {
		g.serving(c.name, "v2", percent)
	}
	failing := func(versions ...string) func(o *envoytest.LoadOptions) {
		var n atomic.Int64
		return func(o *envoytest.LoadOptions) {
			o.Prepare = func(r *http.Request, _ string) {
				if i := n.Add(1); i > 150 && i%4 == 0 {
					for _, v := range versions {
						r.Header.Set(v, "500")
					}
				}
			}
		}
	}
	both := alike.load(t, 80, failing("v1", "v2"))
	var loads []*envoytest.Loader
	for _, c := range []*trial{held, copied, alone} {
		loads = append(loads, c.load(t, 80, failing("v2")))
	}
	for _, c := range []*trial{held, copied} {
		s := g.until(c, "a comparison", func(s rollout.Status) bool { return finding(s, "error_rate", "max_increase").Estimate != nil })
		if s.Phase != rollout.PhaseProgressing {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	if s := g.until(alone, "what it is by itself", func(s rollout.Status) bool {
		return s.Step == 1 && finding(s, "error_rate", "max").N > 0
	}); finding(s, "error_rate", "max_increase").Reason != routing.ReasonNotMeasurable {
		t.Errorf("compared with nothing: %+v", s.Gates)
	}
	for _, c := range []*trial{held, copied, alone} {
		g.back(c, "error_rate")
	}
	for _, load := range loads {
		only(t, load.Stop(), "v2")
	}
	s := g.until(alike, "a verdict", func(s rollout.Status) bool {
		f := finding(s, "error_rate", "max_increase")
		return f.Verdict != routing.VerdictWaiting && f.N > 250
	})
	if failed := only(t, both.Stop(), "v2"); failed == 0 || finding(s, "error_rate", "max_increase").Verdict != routing.VerdictSafe {
		t.Errorf("%d requests failed that fail on either version: %+v", failed, s)
	}
	unasked.v2.SetStatus(http.StatusInternalServerError)
	load := unasked.load(t, 60)
	g.back(unasked, "gross_failure")
	only(t, load.Stop(), "v2")
}
