package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// TestDeadline is told as it was when the clock began to run, whenever it is
// asked for, and not while the clock stands still.
func TestDeadline(t *testing.T) {
	want := t0.Add(3 * time.Hour)
	way := toGates(now(pausing), ask(ActionResume), now(Delivered{true}), now(pausing))
	s, at := reach(t, "", way)
	for _, later := range []time.Duration{0, time.Second, time.Hour} {
		got := StatusOf(View{State: s, Delivery: Delivery{Envoys: 1}}, at.Add(later))
		if got.StepTimesOut == nil || !got.StepTimesOut.Equal(want) {
			t.Errorf("%s later: %v, want %s", later, got.StepTimesOut, want)
		}
	}
	for name, way := range map[string][]happened{
		"paused": toGates(ask(ActionPause)), "behind": toGates(now(Delivered{false})),
		"by hand": toGates(ask(ActionSkip), now(Delivered{true})), "no gates": toStep0(),
	} {
		s, at := reach(t, name, way)
		if got := StatusOf(View{State: s}, at).StepTimesOut; got != nil {
			t.Errorf("%s: %s", name, got)
		}
	}
	s.Rollout.Steps = []routing.Step{{AtMost: 30 * time.Second}}
	if got := s.exactly(want, t0); got != "03:00:00 UTC" {
		t.Errorf("of 30 s: %s", got)
	}
}

// TestStepsAsTold are what the file says of steps.
func TestStepsAsTold(t *testing.T) {
	s, at := reach(t, "", toLastGates(routing.Control{Share: 500}))
	want := []StepStatus{
		{Kind: routing.StepTraffic, Share: 10, For: "1h0m0s", AtMost: "3h0m0s", OnTimeout: routing.OnTimeoutPause},
		{Kind: routing.StepTraffic, Share: 25},
		{Kind: routing.StepTraffic, Share: 100, For: "2h0m0s", AtMost: "4h0m0s", OnTimeout: routing.OnTimeoutRollback, Control: "5%"},
	}
	if diff := cmp.Diff(want, StatusOf(View{State: s}, at).Steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if got := s.gets(); got != "95% (5% control)" {
		t.Errorf("gets %s", got)
	}
}

// TestTimeoutIsToldOnce: the record that names what was not safe names it once.
func TestTimeoutIsToldOnce(t *testing.T) {
	s, at := reach(t, "", toGates(now(Configured{Wanted: gated(timing(0, routing.OnTimeoutPromote))}), now(waiting)))
	_, effects := Next(s, about(s, waiting), at.Add(160*time.Minute))
	want := "v1 → v2: 10% → 25%; at_most 3h0m0s is over, and not safe: error_rate max (no_evidence)"
	if r := writes(effects); len(r) == 0 || Summary(*r[len(r)-1]) != want {
		t.Errorf("%q, want %q", Summary(*r[len(r)-1]), want)
	}
}
