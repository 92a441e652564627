package rollout

import (
	"testing"
)

// TestOverruledIsKept: another process knows what a person has overruled, and
// statuses say so.
func TestOverruledIsKept(t *testing.T) {
	way := toGates(now(pausing), ask(ActionResume))
	folded, at := replayed(t, way)
	s, _ := Next(folded, Configured{Wanted: gated()}, at)
	s, _ = Next(s, Delivered{true}, at)
	s, effects := Next(s, about(s, pausing), at)
	if s.Phase != PhaseProgressing || len(kindsIn(effects)) > 0 {
		t.Errorf("after a restart: %s, %v", brief(s), kindsIn(effects))
	}
	for i, f := range StatusOf(View{State: s}, at).Gates {
		if want := map[int]string{1: "cli"}[i]; f.OverruledBy != want {
			t.Errorf("%s: overruled by %q, want %q", f.Metric, f.OverruledBy, want)
		}
	}
	for i, f := range s.Judgement.Findings {
		if f.OverruledBy != "" {
			t.Errorf("finding %d was changed", i)
		}
	}
	paused, at := reach(t, "", toGates(now(pausing)))
	_, effects = Next(paused, ask(ActionResume).event, at)
	if got, want := Summary(*writes(effects)[0]), "v1 → v2: 10%, and overrules latency_p99 max_increase; why not"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
