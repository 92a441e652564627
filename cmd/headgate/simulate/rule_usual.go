package simulate

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// argo is a background analysis of Argo Rollouts: each gate is a metric of an
// AnalysisTemplate with an interval, a successCondition that compares the figure
// of the last interval with the limit, and a failureLimit. The rollout is
// aborted when more measurements of one metric than that have failed. Its steps
// are pauses. An interval without requests counts as fine, as templates that
// think of NaN have it.
type argo struct {
	name         string
	every        time.Duration
	failureLimit int // 0 is the default of Argo Rollouts, 3 what its examples have
}

// Name is that of a Rule.
func (a argo) Name() string { return a.name }

// About says what it does.
func (a argo) About() string {
	return fmt.Sprintf("each gate is measured every %s on that time alone; back when more than %d measurements of one have failed",
		words(a.every), a.failureLimit)
}

// Begin begins a rollout.
func (a argo) Begin(p *routing.Policy) Watcher {
	c := checks(p)
	return &argoRun{a, c, make([]int, len(c))}
}

type argoRun struct {
	argo
	checks []check
	failed []int
}

// Measure decides.
func (a *argoRun) Measure(m *Measured) Decision {
	for i := range a.checks {
		if passed, known := a.checks[i].passed(m); known && !passed {
			if a.failed[i]++; a.failed[i] > a.failureLimit {
				return Abort
			}
		}
	}
	return Go
}

// flagger is an analysis of Flagger with an interval and a threshold: an
// interval in which a gate's figure is beyond its limit, or of which there is no
// figure, is a failed check. The canary does not advance by it, and goes back
// when there are as many as the threshold. Successful checks in between do not
// make up for failed ones. Its steps are taken to be the scenario's.
type flagger struct {
	every     time.Duration
	threshold int
}

// usualThreshold is `threshold` of Flagger's examples.
const usualThreshold = 5

// Name is that of a Rule.
func (flagger) Name() string { return "flagger" }

// About says what it does.
func (f flagger) About() string {
	return fmt.Sprintf("each gate is checked every %s on that time alone, no requests fail it; a failed check halts, back when %d have failed",
		words(f.every), f.threshold)
}

// Begin begins a rollout.
func (f flagger) Begin(p *routing.Policy) Watcher { return &flaggerRun{f, checks(p), 0} }

type flaggerRun struct {
	flagger
	checks []check
	failed int
}

// Measure decides.
func (f *flaggerRun) Measure(m *Measured) Decision {
	for i := range f.checks {
		if passed, known := f.checks[i].passed(m); known && passed {
			continue
		}
		if f.failed++; f.failed >= f.threshold {
			return Abort
		}
		return Halt
	}
	return Go
}

// zTest is what a script does that has heard of statistics: each interval, it
// compares all that both versions have answered since the rollout began by a
// one-sided test of two proportions with pooled variance, and goes back when
// p < 0.05. For latency, the proportions are of answers slower than the limit,
// or than stable's quantile so far.
type zTest struct{ every time.Duration }

// zLimit is the 95 % quantile of the standard normal distribution.
const zLimit = 1.6448536269514722

// Name is that of a Rule.
func (zTest) Name() string { return "z-test" }

// About says what it does.
func (z zTest) About() string {
	return "a test of two proportions on all since the beginning, every " + words(z.every) + "; back at p < 0.05"
}

// Begin begins a rollout.
func (zTest) Begin(p *routing.Policy) Watcher { return &zRun{checks: checks(p)} }

type zRun struct {
	checks []check
	all    Measured
}

// Measure decides.
func (z *zRun) Measure(m *Measured) Decision {
	z.all.Candidate.merge(&m.Candidate)
	z.all.Stable.merge(&m.Stable)
	for i := range z.checks {
		if z.worse(&z.checks[i]) {
			return Abort
		}
	}
	return Go
}

func (z *zRun) worse(c *check) bool {
	a, b := &z.all.Candidate, &z.all.Stable
	switch c.metric.Event {
	case compare.EventError:
		return significant(a.Errors, a.Requests, b.Errors, b.Requests)
	case compare.EventClientError:
		return significant(a.ClientErrors, a.Requests, b.ClientErrors, b.Requests)
	}
	slow := c.gate.Limit
	switch {
	case c.gate.Bound == routing.BoundMax && c.metric.Kind == compare.KindQuantile:
	case c.metric.Kind == compare.KindQuantile:
		slow = b.quantile(c.metric.Quantile)
	default:
		slow = b.quantile(0.5)
	}
	xa, na := a.above(slow)
	xb, nb := b.above(slow)
	return significant(xa, na, xb, nb)
}

// words is a time without the units that are 0: 5m, 1h30m.
func words(d time.Duration) string {
	out := d.String()
	if strings.HasSuffix(out, "m0s") {
		out = strings.TrimSuffix(out, "0s")
	}
	if strings.HasSuffix(out, "h0m") {
		out = strings.TrimSuffix(out, "0m")
	}
	return out
}

// significant tells whether the first proportion is larger than the second at
// p < 0.05.
func significant(xa, na, xb, nb uint64) bool {
	if na == 0 || nb == 0 || xa+xb == 0 {
		return false
	}
	a, b := float64(na), float64(nb)
	pooled := float64(xa+xb) / (a + b)
	deviation := math.Sqrt(pooled * (1 - pooled) * (1/a + 1/b))
	return deviation > 0 && (float64(xa)/a-float64(xb)/b)/deviation > zLimit
}

// merge adds another sample.
func (s *Sample) merge(o *Sample) {
	s.Requests += o.Requests
	s.Errors += o.Errors
	s.ClientErrors += o.ClientErrors
	if o.bins == nil {
		return
	}
	if s.bins == nil {
		s.bins, s.values = make([]uint32, len(o.bins)), o.values
	}
	for i, n := range o.bins {
		s.bins[i] += n
	}
}
