package rollout

import (
	"testing"
	"time"
)

// BenchmarkJudged is what the state machine does with a look that moves nothing.
func BenchmarkJudged(b *testing.B) {
	s, at := State{Model: "churn"}, t0
	for _, h := range toGates() {
		at = at.Add(h.after)
		s, _ = Next(s, about(s, h.event), at)
	}
	e := about(s, waiting)
	at = at.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		if _, effects := Next(s, e, at); len(effects) > 0 {
			b.Fatal(effects)
		}
	}
}
