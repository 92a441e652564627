package simulate

import (
	"context"
	"testing"
	"time"

	"github.com/headgate/headgate/stats"
)

// TestPlanAgreesWithSimulation compares what is planned with what happens: the
// time until a step ends, and how often the smallest harm is found.
func TestPlanAgreesWithSimulation(t *testing.T) {
	const text = `
traffic: {rate: 20/s}
stable: {errors: 0.4%}
rollout: {steps: [{traffic: 20%, for: 10m}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}
`
	s := scenario(t, text)
	plan := PlanOf(s.Model, Present{Rate: 20, Errors: 0.004})
	first := plan.Steps[0]
	if len(first.Gates) != 1 || first.Seconds == nil || first.Gates[0].SmallestHarm == nil {
		t.Fatalf("the plan of the first step is %+v", first)
	}
	if last := plan.Steps[1]; len(last.Gates) != 0 || *last.Seconds != 0 {
		t.Errorf("the last step ends at once, but the plan says %+v", last)
	}
	run := func() *RuleResult {
		r, err := Run(context.Background(), s, Options{Runs: 200, Seed: 4, Rules: []string{Headgate}})
		if err != nil {
			t.Fatal(err)
		}
		return &r.Rules[0]
	}
	healthy := run()
	got, want := *healthy.MedianSecondsToPromotion, *plan.Seconds
	if got < 0.8*want || got > 1.25*want {
		t.Errorf("half of the rollouts take %.0f s, planned were %.0f s", got, want)
	}

	s.Candidate.Errors = *first.Gates[0].SmallestHarm
	s.Model.Steps[0].For = 10 * time.Minute
	harmful := run()
	if back := harmful.P90SecondsToRollback; back == nil || *back > 1.2*600 || *back < 0.4*600 {
		t.Errorf("with %.3g %% errors nine of ten are back in %v s, planned were 600 s", 100*s.Candidate.Errors, show(back))
	}
}

// TestPlanTells looks at what a plan says of gates and steps.
func TestPlanTells(t *testing.T) {
	s := scenario(t, `
traffic: {rate: 1/s}
stable: {errors: 0.4%, latency: {median: 40ms, p99: 200ms}}
rollout:
  steps: [{traffic: 10%, for: 10m}, {traffic: 50%, for: 10h}, {traffic: 100%, for: 1h}]
  gates:
    - {metric: error_rate, max: 1%}
    - {metric: error_rate, max_increase: 0.5pp}
    - {metric: latency_p99, max: 150ms}
`)
	h := &stats.Histogram{}
	for q := 0.0005; q < 1; q += 0.001 {
		h.Add(s.Stable.Latency.quantile(q), 1)
	}
	plan := PlanOf(s.Model, Present{Rate: 1, Errors: 0.004, Latency: h, Keyed: true})
	first, second, third := plan.Steps[0], plan.Steps[1], plan.Steps[2]
	if !first.Gates[0].Outlasts || *first.Gates[0].SafeAfter < 600 {
		t.Errorf("at 0.1 requests a second error_rate is safe after %v s of 10 min", show(first.Gates[0].SafeAfter))
	}
	if second.Gates[0].Outlasts || *second.Gates[0].SafeAfter > *first.Gates[0].SafeAfter/3 {
		t.Errorf("at 0.5 requests a second error_rate is safe after %v s", show(second.Gates[0].SafeAfter))
	}
	if g := second.Gates[2]; g.SafeAfter != nil || !g.Outlasts || second.Seconds != nil || plan.Seconds != nil || g.Present == nil || *g.Present < 0.15 {
		t.Errorf("a limit that stable breaks is safe after %v s, and the plan ends after %v", show(g.SafeAfter), show(plan.Seconds))
	}
	if g := third.Gates[1]; g.Measurable || g.Outlasts {
		t.Error("with everybody on the candidate there is nothing to compare it with, but the plan says so")
	}
}

// TestPlanOfUntimedSteps has a step that a person ends, and a last step that has
// no time but a control: it lasts until its gates are safe.
func TestPlanOfUntimedSteps(t *testing.T) {
	s := scenario(t, `
traffic: {rate: 20/s}
stable: {errors: 0.4%}
rollout:
  steps: [{traffic: 20%, for: 1h}, {traffic: 50%}, {traffic: 100%, control: 1%}]
  gates: [{metric: error_rate, max: 1%}]
`)
	plan := PlanOf(s.Model, Present{Rate: 20, Errors: 0.004})
	held, last := plan.Steps[1], plan.Steps[2]
	if !held.Hold || held.Gates[0].Outlasts || held.Gates[0].SafeAfter == nil {
		t.Errorf("a step that a person ends: %+v", held)
	}
	if len(last.Gates) != 1 || last.Seconds == nil || *last.Seconds == 0 || *last.Seconds != *last.Gates[0].SafeAfter {
		t.Errorf("the last step waits for its gate, but the plan says %+v", last)
	}
}
