package compare

import (
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

func TestZZRecover(t *testing.T) {
	for _, outage := range []int{30, 120, 600} {
		t0 := time.Unix(1e9, 0)
		p := &routing.Policy{Gates: []routing.Gate{{Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate}}}
		tr := NewTrial(routing.Trial{Model: "m", Rollout: 1, Steps: 2, Stable: "v1", Candidate: "v2", Share: 1000, Since: t0, Policy: p}, false)
		ill, safe := 0, 0
		for s := 1; s < 72*3600; s++ {
			b := &Batch{To: t0.Add(time.Duration(s) * time.Second)}
			b.Candidate.Requests, b.Candidate.Drawn = 10, 10
			b.Stable.Requests, b.Stable.Drawn = 90, 90
			if s > 300 && s <= 300+outage {
				b.Candidate.Errors, b.Candidate.DrawnErrors = 10, 10
				b.Stable.Errors, b.Stable.DrawnErrors = 90, 90
			}
			tr.Add(b)
			f := tr.Verdicts(b.To).Findings[0]
			if f.Verdict == routing.VerdictBreach {
				t.Logf("outage %d: breach at %d", outage, s)
				break
			}
			if f.Reason == routing.ReasonBaselineIll {
				ill = s
			}
			if f.Verdict == routing.VerdictSafe && s > 300+outage {
				safe = s
				break
			}
		}
		t.Logf("outage of %d s: ill until %d s after its end, safe after %d s", outage, ill-300-outage, safe-300-outage)
	}
}
