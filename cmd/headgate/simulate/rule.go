package simulate

import (
	"math"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// Rule is a way to decide that is not headgate's. It is asked once an interval,
// a minute unless told.
type Rule interface {
	Name() string
	About() string // what exactly it does, in a sentence
	// Begin begins a rollout under a policy.
	Begin(p *routing.Policy) Watcher
}

// Watcher is a Rule during one rollout.
type Watcher interface {
	// Measure says what follows from one more interval.
	Measure(m *Measured) Decision
}

// Decision is what a Rule says of an interval.
type Decision int

// The decisions.
const (
	Go    Decision = iota // the interval counts for the step
	Halt                  // it does not
	Abort                 // back to stable
)

// Measured is what both versions answered in one interval.
type Measured struct {
	Candidate, Stable Sample
	Alone             bool // by its share the candidate has nothing to be compared with
}

// Sample is one version's part of an interval.
type Sample struct {
	Requests, Errors, ClientErrors uint64
	bins                           []uint32
	values                         []float64 // of the bins, in seconds
}

// Settings are what the other rules can be told.
type Settings struct {
	// Interval is the time from one measurement to the next, and what each is of;
	// 0: a minute.
	Interval time.Duration
	// FailureLimit replaces `failureLimit` of argo-rollouts and `threshold` of
	// flagger; nil: the usual ones.
	FailureLimit *int
}

// Rules are the rules that headgate is compared with.
func Rules(o Settings) []Rule {
	every, limit, threshold := max(o.Interval, minute), 0, usualThreshold
	if o.FailureLimit != nil {
		limit, threshold = *o.FailureLimit, max(*o.FailureLimit, 1)
	}
	return []Rule{
		argo{name: "argo-rollouts", every: every, failureLimit: limit},
		argo{name: "argo-rollouts-3", every: every, failureLimit: 3},
		flagger{every: every, threshold: threshold},
		zTest{every: every},
	}
}

func (s *Sample) add(c *counts, g *grid) {
	s.Requests += c.requests()
	s.Errors += c.failed()
	s.ClientErrors += c.client
	if c.bins == nil {
		return
	}
	if s.bins == nil {
		s.bins, s.values = make([]uint32, len(c.bins)), g.values
	}
	for i, n := range c.bins {
		s.bins[i] += n
	}
}

// reset empties the sample and keeps its memory.
func (s *Sample) reset() {
	clear(s.bins)
	s.Requests, s.Errors, s.ClientErrors = 0, 0, 0
}

// value is the sample's figure of a metric; NaN: there is none.
func (s *Sample) value(m *compare.Metric) float64 {
	switch {
	case s.Requests == 0:
		return math.NaN()
	case m.Event == compare.EventError:
		return float64(s.Errors) / float64(s.Requests)
	case m.Event == compare.EventClientError:
		return float64(s.ClientErrors) / float64(s.Requests)
	case m.Kind == compare.KindQuantile:
		return s.quantile(m.Quantile)
	case m.Kind == compare.KindMean:
		return s.mean()
	}
	return math.NaN()
}

func (s *Sample) quantile(q float64) float64 {
	var n, sum uint64
	for _, k := range s.bins {
		n += uint64(k)
	}
	rank := uint64(math.Ceil(q * float64(n)))
	for i, k := range s.bins {
		if sum += uint64(k); sum >= rank && sum > 0 {
			return s.values[i]
		}
	}
	return math.NaN()
}

func (s *Sample) mean() float64 {
	var n, sum float64
	for i, k := range s.bins {
		n += float64(k)
		sum += float64(k) * s.values[i]
	}
	return sum / n
}

// above is how many answers took longer than seconds, and of how many.
func (s *Sample) above(seconds float64) (slow, answered uint64) {
	for i, k := range s.bins {
		answered += uint64(k)
		if s.values[i] > seconds {
			slow += uint64(k)
		}
	}
	return slow, answered
}

// check is a gate as a threshold on one interval's figures.
type check struct {
	gate   routing.Gate
	metric compare.Metric
}

// checks are all gates that requests tell of. The other rules know one thing to
// do about a breach, so that on_breach makes no difference.
func checks(p *routing.Policy) []check {
	var out []check
	for _, g := range p.Gates {
		if m, ok := simulated(&g); ok {
			out = append(out, check{g, m})
		}
	}
	return out
}

// simulated is the metric of a gate, and whether synthetic requests tell of it.
func simulated(g *routing.Gate) (compare.Metric, bool) {
	m, ok := compare.LookupMetric(g.Metric)
	return m, ok && m.Source == compare.SourceTraffic
}

// passed tells whether the interval keeps the gate's limit, and whether there is
// anything to tell by. Where the candidate is alone by its share, nobody
// compares it.
func (c *check) passed(m *Measured) (passed, known bool) {
	value := m.Candidate.value(&c.metric)
	if c.gate.Bound != routing.BoundMax && m.Alone {
		return true, true
	}
	if c.gate.Bound == routing.BoundMax {
		return value <= c.gate.Limit, !math.IsNaN(value)
	}
	base := m.Stable.value(&c.metric)
	if math.IsNaN(value) || math.IsNaN(base) {
		return false, false
	}
	limit := c.gate.Limit
	switch {
	case c.gate.Unit == routing.UnitRatio:
		return value <= base*max(limit, 1+c.gate.Resolution), true
	case limit == 0: // nobody would ask for less of a single interval
		limit = c.gate.Resolution
	}
	return value-base <= limit, true
}
