package simulate

import (
	"context"
	"testing"

	"github.com/headgate/headgate/routing"
)

// TestShadowSteps simulates shadows: they are judged by the copies that they
// get, as planned, and rollouts go on with users afterwards.
func TestShadowSteps(t *testing.T) {
	for _, users := range []string{"", ", users: {number: 3000, zipf: 1, failing: 1% at 30%}"} {
		s := scenario(t, `
traffic: {rate: 20/s`+users+`}
stable: {errors: 0.4%}
rollout:
  steps: [{shadow: 50%, for: 10m}, {traffic: 10%, for: 5m}, {traffic: 100%}]
  gates: [{metric: error_rate, max: 2%}, {metric: error_rate, max_increase: 1pp}]
`)
		run := func() *RuleResult {
			r, err := Run(context.Background(), s, Options{Runs: 30, Seed: 4, Rules: []string{Headgate}})
			if err != nil {
				t.Fatal(err)
			}
			return &r.Rules[0]
		}
		healthy := run()
		if healthy.MedianSecondsToPromotion == nil || *healthy.MedianSecondsToPromotion < 900 {
			t.Errorf("half of the healthy ones are promoted after %v s", show(healthy.MedianSecondsToPromotion))
		}
		plan := PlanOf(s.Model, Present{Rate: 20, Errors: 0.004, Keyed: users != ""})
		first := plan.Steps[0]
		if first.Kind != routing.StepShadow || first.Percent != 50 || first.Seconds == nil || *first.Seconds != 600 {
			t.Fatalf("the plan of the shadow is %+v", first)
		}
		if !first.Gates[1].Measurable || first.Gates[1].SmallestHarm == nil {
			t.Fatalf("the plan of the shadow is %+v", first)
		}
		s.Candidate.Errors = *first.Gates[1].SmallestHarm
		harmful := run()
		if back := harmful.P90SecondsToRollback; back == nil || *back > 1.2*600 {
			t.Errorf("with %.3g %% errors nine of ten are back in %v s, planned were 600 s", 100*s.Candidate.Errors, show(back))
		}
	}
}
