package rollout

import (
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

// TestWaitWords are the reasons that people read.
func TestWaitWords(t *testing.T) {
	const lacks = "10% since 00:00 UTC, 20 of at least 60 min, waits for error_rate: 2,100 of about 3,200 requests"
	silent := judge("wsww")
	silent.Findings[0].Reason = routing.ReasonNoTraffic
	long := func(w *Wanted) {
		first := w.Steps[0]
		first.AtMost = 30 * time.Hour
		w.Steps = stepsWith(w.Steps, 0, first)
	}
	for name, tc := range map[string]struct {
		way  []happened
		want string
		ends bool
	}{
		"waits":              {toGates(), lacks + "; pauses at 03:00 UTC if the gates are not safe by then", false},
		"goes back":          {toGates(now(Configured{Wanted: gated(timing(0, routing.OnTimeoutRollback))}), now(waiting)), lacks + "; rolls back at 03:00 UTC if the gates are not safe by then", false},
		"promotes":           {toGates(now(Configured{Wanted: gated(timing(0, routing.OnTimeoutPromote))}), now(waiting)), lacks + "; goes on at 03:00 UTC even if the gates are not safe (on_timeout: promote)", false},
		"no traffic":         {toGates(now(Configured{Wanted: gated(timing(0, routing.OnTimeoutPromote))}), now(silent)), "10% since 00:00 UTC, 20 of at least 60 min, waits for error_rate: no traffic; BEWARE: goes on at 03:00 UTC ALTHOUGH NOTHING IS SHOWN, for there is no traffic (on_timeout: promote)", false},
		"the end":            {toLastGates(routing.Control{Share: 100}), "99% (1% control) since 00:20 UTC, 20 of at least 120 min, waits for error_rate: 2,100 of about 3,200 requests; rolls back at 04:20 UTC if the gates are not safe by then", false},
		"tomorrow":           {toGates(now(Configured{Wanted: gated(long)}), now(waiting)), lacks + "; pauses at 2026-03-30 06:00 UTC if the gates are not safe by then", false},
		"safe":               {toGates(now(safe)), "10% since 00:00 UTC, 20 of at least 60 min", true},
		"not judged":         {toGates(now(Configured{Wanted: gated(limited)})), "10% since 00:00 UTC, 20 of at least 60 min, waits for a first look at the gates; pauses at 03:00 UTC if the gates are not safe by then", false},
		"observes":           {toGates(now(Configured{Wanted: gated(observed)}), now(safe)), "10% since 00:00 UTC, 20 of at least 60 min, waits for a person; verdicts are only told: `headgate skip churn` ends the step", false},
		"by hand":            {toGates(ask(ActionSkip), now(Delivered{true}), now(waiting)), "25% since 00:20 UTC, waits for a person: `headgate skip churn` ends the step", false},
		"no gates":           {toStep0(), "10% since 00:00 UTC, 20 of at least 60 min", true},
		"broken":             {toGates(now(pausing)), "paused at 10% by judge at 00:20 UTC: latency_p99 is too much; `headgate resume churn` goes on in spite of it until the rollout ends, `headgate rollback churn` goes back", false},
		"timed out":          {toGates(after(160*time.Minute, waiting)), "paused at 10% by timer at 03:00 UTC: at_most 3h0m0s is over, and not safe: error_rate max (no_evidence); `headgate resume churn` waits for at most 3h0m0s more, `headgate rollback churn` goes back", false},
		"by cli":             {toGates(ask(ActionPause)), "paused at 10% by cli at 00:20 UTC: why not; `headgate resume churn` goes on", false},
		"overruled":          {toGates(now(pausing), ask(ActionResume), now(Delivered{true}), now(pausing)), lacks + "; pauses at 03:00 UTC if the gates are not safe by then; latency_p99 is too much, and overruled by cli", false},
		"overruled, by hand": {toGates(now(pausing), ask(ActionResume), ask(ActionSkip), now(Delivered{true}), now(pausing)), "25% since 00:20 UTC, waits for a person: `headgate skip churn` ends the step; latency_p99 is too much, and overruled by cli", false},
		"observes, broken":   {toGates(now(Configured{Wanted: gated(observed)}), now(judge("bwww"))), "10% since 00:00 UTC, 20 of at least 60 min, waits for a person; not safe yet: latency_p99; error_rate is too much; verdicts are only told: `headgate skip churn` ends the step", false},
		"observes, waits":    {toGates(now(Configured{Wanted: gated(observed)}), now(waiting)), "10% since 00:00 UTC, 20 of at least 60 min, waits for a person; not safe yet: error_rate: 2,100 of about 3,200 requests; would pause at 03:00 UTC if the gates are not safe by then; verdicts are only told: `headgate skip churn` ends the step", false},
	} {
		s, at := reach(t, "", tc.way)
		got := StatusOf(View{State: s, Delivery: Delivery{Envoys: 1}}, at)
		if got.Reason != tc.want || got.StepEnds != nil != tc.ends {
			t.Errorf("%s: %q, ends %v; want %q", name, got.Reason, got.StepEnds, tc.want)
		}
	}
	for want, f := range map[string]routing.Finding{
		"x: no traffic":                              {Metric: "x", Reason: routing.ReasonNoTraffic},
		"x: 1,234,567 requests are not enough":       {Metric: "x", N: 1234567},
		"x: the stable version breaks the limit too": {Metric: "x", Reason: routing.ReasonBaselineIll},
	} {
		if got := waitWords(f.Metric, &f); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestGatesOfAStepNobodyLookedAt shows that what was said in the step before is
// not told of this one, and which of two gates on one metric is meant.
func TestGatesOfAStepNobodyLookedAt(t *testing.T) {
	s := State{Phase: PhaseProgressing, Wanted: &Wanted{Policy: &routing.Policy{Gates: []routing.Gate{
		{Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate},
		{Metric: "error_rate", Bound: routing.BoundMaxIncrease, Limit: 0.005, Unit: routing.UnitPoints},
	}}}}
	s.Rollout.Findings = []routing.Finding{{Metric: "error_rate", Verdict: routing.VerdictSafe, N: 900}}
	s.Rollout.StepStarted = time.Unix(0, 0)
	got := s.findings()
	if len(got) != 2 || got[0].Verdict != routing.VerdictWaiting || got[0].Reason != routing.ReasonNoEvidence || got[0].N != 0 || got[1].Limit != 0.005 {
		t.Errorf("running: %+v", got)
	}
	s.Judgement = &routing.Judgement{Findings: got}
	want := ", waits for error_rate max, error_rate max_increase"
	if words := s.waitsFor(time.Now()); words != want {
		t.Errorf("%q, want %q", words, want)
	}
	s.Judgement, s.Phase = nil, PhaseRolledBack
	if got := s.findings(); len(got) != 1 || got[0].N != 900 {
		t.Errorf("over: %+v", got)
	}
}
