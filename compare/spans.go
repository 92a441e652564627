package compare

import (
	"math"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// spanLook is how far a span was looked at.
type spanLook struct{ candidate, stable int }

// spanSeen is what was seen of a span when it was last looked at.
type spanSeen struct {
	at  spanLook
	ill bool // stable breaks the limit as the candidate does
}

// safeLook is what was last found of the step, and at which numbers.
type safeLook struct {
	at   spanLook
	safe bool
}

// needLook is how many requests were last thought to be needed, and at which
// numbers.
type needLook struct {
	at     spanLook
	needed float64
}

// coarse is by how many stages the numbers grow before it is thought over.
const coarse = 2

// stages are those of the step's latencies.
func (t *Trial) stages() spanLook {
	return spanLook{stage(t.step.candidate.Latency.N()), stage(t.step.stable.Latency.N())}
}

// stage is a number that changes whenever n has grown by a twentieth: intervals
// of whole distributions are dear, and a look that comes a twentieth later than
// it could is as valid.
func stage(n uint64) int {
	if n < 20 {
		return int(n)
	}
	return 20 + int(math.Log(float64(n)/20)/math.Log(1.05))
}

// figure is an estimate with its confidence sequence.
type figure struct{ estimate, low, high float64 }

// lookSpans looks at each span whose numbers have grown. The j-th of a rollout
// has the part 1/(j(j+1)) of the level: a union over tests, since spans overlap.
func (g *gate) lookSpans(t *Trial, level float64) shown {
	ill := false
	if !g.bounded() {
		return shownNothing
	}
	for i := range t.spans {
		s := &t.spans[i]
		at := spanLook{stage(s.candidate.N()), stage(s.stable.N())}
		if s.number < g.fromSpan || s.candidate.N() == 0 {
			continue
		}
		if seen := g.looked[s.number]; seen.at == at {
			ill = ill || seen.ill
			continue
		}
		if g.looked == nil {
			g.looked = map[int]spanSeen{}
		}
		g.looked[s.number] = spanSeen{at: at}
		part := level * stats.StartWeight(s.number)
		if g.gate.Bound == routing.BoundMaxIncrease {
			d := g.difference(&s.candidate, &s.stable, part, 0)
			g.mainEver = g.mainEver || d.low > g.gate.Limit
			continue
		}
		f := g.value(&s.candidate, part, 0)
		if f.low <= g.gate.Limit {
			continue
		}
		if !t.comparable() {
			return shownBreach
		}
		stable := g.value(&s.stable, 0, part)
		g.mainEver = g.mainEver || f.low > stable.high
		sick := stable.estimate > g.gate.Limit && f.low <= stable.high
		g.looked[s.number] = spanSeen{at: at, ill: sick}
		ill = ill || sick
	}
	if r := g.asUsers(t); r == shownBreach || !ill {
		return r
	}
	return shownIll
}

// value is the metric of one version.
func (g *gate) value(h *stats.Histogram, alphaLow, alphaHigh float64) figure {
	if g.metric.Kind == KindQuantile {
		low, high := stats.QuantileInterval(h, g.metric.Quantile, alphaLow, alphaHigh)
		return figure{h.Quantile(g.metric.Quantile), low, high}
	}
	bound := g.meanBound()
	low, high := stats.MeanInterval(h, bound, alphaLow, alphaHigh)
	return figure{h.Mean(bound), low, high}
}

// meanBound is the longest time that counts in a mean: longer ones count as
// this. Without a bound no finite number of requests would show anything. 0: not
// known yet.
func (g *gate) meanBound() float64 {
	if g.gate.Bound == routing.BoundMax {
		return meanReach * g.gate.Limit
	}
	return g.bound
}

// meanReach is the bound of a mean, as a multiple of the limit or of stable's.
const meanReach = 10

// fixBound fixes the bound of a mean that is compared, by what stable has shown.
// What was seen before is not used with it.
func (g *gate) fixBound(t *Trial) {
	if g.metric.Kind != KindMean || g.gate.Bound != routing.BoundMaxIncrease || g.bound > 0 {
		return
	}
	if usual := t.usual(); usual != nil {
		g.bound = meanReach * usual.Mean(math.MaxFloat64)
		t.newSpan(t.to)
		g.fromSpan = t.spanned
	}
}

// bounded tells whether the metric is defined by now.
func (g *gate) bounded() bool { return g.metric.Kind != KindMean || g.meanBound() > 0 }

// difference is how far the candidate is above stable, in the gate's unit. Each
// side has half of each level.
func (g *gate) difference(candidate, stable *stats.Histogram, alphaLow, alphaHigh float64) figure {
	c := g.value(candidate, alphaLow/2, alphaHigh/2)
	s := g.value(stable, alphaHigh/2, alphaLow/2)
	isRatio := g.gate.Unit == routing.UnitRatio
	f := figure{estimate: c.estimate - s.estimate}
	if isRatio {
		f.estimate = ratio(c.estimate, s.estimate)
	}
	f.low, f.high = stats.Relative(isRatio, c.low, c.high, s.low, s.high)
	return f
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return math.Inf(1)
	}
	return a / b
}

// safeSpans tells whether the step as a whole keeps the limit.
func (g *gate) safeSpans(t *Trial) bool {
	ca, st := &t.step.candidate.Latency, &t.step.stable.Latency
	at := t.stages()
	if g.cached.at == at {
		return g.cached.safe
	}
	g.cached = safeLook{at: at}
	if ca.N() == 0 || !g.bounded() {
		return false
	}
	if g.gate.Bound == routing.BoundMaxIncrease {
		g.cached.safe = st.N() > 0 && g.difference(ca, st, 0, t.falsePromotion()).high <= g.safeLimit()
	} else {
		g.cached.safe = g.value(ca, 0, t.falsePromotion()).high <= g.gate.Limit
	}
	return g.cached.safe
}
