package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

// A file whose rollout was taken away says that everyone may move at once. In
// mid-rollout that is refused; with a time to watch, or where nothing else was
// planned, it is taken.
func TestStepsTakenAway(t *testing.T) {
	everyone := routing.Step{Kind: routing.StepTraffic, Share: routing.Whole}
	watched := everyone
	watched.For = time.Hour
	for _, tc := range []struct {
		name          string
		before, after []routing.Step
		refused       bool
	}{
		{"none", []routing.Step{{Kind: routing.StepTraffic, Share: 1000, Hold: true}, everyone}, nil, true},
		{"everyone at once", []routing.Step{{Kind: routing.StepTraffic, Share: 1000, Hold: true}, everyone}, []routing.Step{everyone}, true},
		{"everyone, watched", []routing.Step{{Kind: routing.StepTraffic, Share: 1000, Hold: true}, everyone}, []routing.Step{watched}, false},
		{"as before", []routing.Step{everyone}, []routing.Step{everyone}, false},
	} {
		now := time.Now()
		s, _ := Next(State{Model: "churn"}, Configured{Wanted: wanted(releasing("v1"))}, now)
		s, _ = Next(s, Configured{Wanted: wanted(stepping(tc.before...))}, now)
		if !s.Running() {
			t.Fatalf("%s: no rollout runs: %+v", tc.name, s)
		}
		_, effects := Next(s, Configured{Wanted: wanted(stepping(tc.after...))}, now)
		r, refused := refusal(effects)
		if refused != tc.refused || refused && (r.Path != "rollout.steps" || !strings.Contains(r.Reason, "promote churn")) {
			t.Errorf("%s: refused %v: %+v", tc.name, refused, r)
		}
	}
}
