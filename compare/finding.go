package compare

import (
	"math"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// find says what a gate shows now. A breach is first: it is shown, whatever else
// is not known. Then what keeps everything from being shown, then the step.
func (g *gate) find(t *Trial, level float64, figures bool) routing.Finding {
	f := routing.Finding{
		Metric: g.gate.Metric, Bound: g.gate.Bound, Limit: g.gate.Limit, Unit: g.gate.Unit,
		OnBreach: g.gate.OnBreach, Verdict: routing.VerdictWaiting,
	}
	n, stable := g.countsOf(t)
	if g.kind != testNone {
		f.N = n
	}
	switch shown := g.look(t, level); {
	case shown == shownBreach:
		f.Verdict = routing.VerdictBreach
	case shown == shownIll:
		f.Reason = routing.ReasonBaselineIll
	case t.unseen:
		f.Reason = routing.ReasonTelemetryGap
	case t.now.Since.IsZero():
		f.Reason = routing.ReasonNotAcknowledged
	case !g.measurable(t):
		f.Reason = routing.ReasonNotMeasurable
	case n == 0, g.gate.Bound != routing.BoundMax && stable == 0:
		f.Reason = routing.ReasonNoTraffic
	case g.isSafe(t) && t.unheard:
		f.Reason = routing.ReasonTelemetryGap
	case g.isSafe(t):
		f.Verdict = routing.VerdictSafe
	default:
		f.Reason = routing.ReasonNoEvidence
	}
	if figures {
		g.figures(t, level, &f)
		f.Text = g.text(t, &f)
	}
	return f
}

// figures adds what the present step shows: the estimate, its confidence
// sequence, and how long it will take.
func (g *gate) figures(t *Trial, level float64, f *routing.Finding) {
	if f.N == 0 || !g.measurable(t) || !g.bounded() {
		return
	}
	v, ok := g.figure(t, level)
	if !ok {
		return
	}
	f.Estimate, f.Low, f.High = finite(v.estimate), finite(v.low), finite(v.high)
	if f.Reason == routing.ReasonNoEvidence {
		f.Needed = neededCount(g.needed(t), f.N)
	}
}

// figure is the step's estimate and interval, in the gate's unit. Its lower end
// is above the limit when a breach test that began with the step has shown a
// breach, its upper end below when the step is safe.
func (g *gate) figure(t *Trial, level float64) (figure, bool) {
	ca, st := &t.step.candidate, &t.step.stable
	promotion := t.falsePromotion()
	switch {
	case g.metric.Kind == KindRate && g.gate.Bound == routing.BoundMax:
		c := g.stepCounts(t, true)
		low, high := stats.RateInterval(c.n, c.c, level, promotion)
		return figure{float64(c.c) / float64(c.n), low, high}, true
	case g.metric.Kind == KindRate:
		c := g.stepCounts(t, false)
		if c.m == 0 {
			return figure{}, false
		}
		isRatio := g.gate.Unit == routing.UnitRatio
		low, high := stats.ShareInterval(c.w, c.n+c.m, c.c, c.s, isRatio, level, promotion)
		pc, ps := float64(c.c)/float64(c.n), float64(c.s)/float64(c.m)
		if isRatio {
			return figure{ratioOrOne(pc, ps), low, high}, true
		}
		return figure{pc - ps, low, high}, true
	case g.gate.Bound == routing.BoundMax:
		return g.value(&ca.Latency, level, promotion), true
	case st.Latency.N() == 0:
		return figure{}, false
	}
	return g.difference(&ca.Latency, &st.Latency, level, promotion), true
}

// ratioOrOne is a/b, where nothing over nothing is no difference.
func ratioOrOne(a, b float64) float64 {
	if a == 0 && b == 0 {
		return 1
	}
	return ratio(a, b)
}

// needed is how many of the candidate's requests it takes to be safe, if the
// estimate is the truth; infinite when it never will be.
func (g *gate) needed(t *Trial) float64 {
	alpha := t.falsePromotion()
	switch b := g.safe.(type) {
	case limitBet:
		c := g.stepCounts(t, true)
		return b.Needed(alpha, float64(c.c)/float64(c.n))
	case shareBet:
		c := g.stepCounts(t, false)
		if c.m == 0 {
			return math.Inf(1)
		}
		return c.w * b.Needed(alpha, c.w, float64(c.c)/float64(c.n), float64(c.s)/float64(c.m))
	}
	at := t.stages()
	if d := g.hoped.at.candidate - at.candidate; g.hoped.at.candidate == 0 || d < -coarse || d > coarse {
		g.hoped = needLook{at: at, needed: g.neededOfSpans(t, alpha)}
	}
	return g.hoped.needed
}

// neededOfSpans takes the distributions for what they seem to be.
func (g *gate) neededOfSpans(t *Trial, alpha float64) float64 {
	ca, st := &t.step.candidate.Latency, &t.step.stable.Latency
	quantile := g.metric.Kind == KindQuantile
	switch {
	case g.gate.Bound == routing.BoundMax && quantile:
		return stats.QuantileNeeded(ca, g.metric.Quantile, g.gate.Limit, alpha, stats.Below)
	case g.gate.Bound == routing.BoundMax:
		return stats.MeanNeeded(ca, g.meanBound(), g.gate.Limit, alpha, stats.Below)
	case ca.N()+st.N() == 0:
		return math.Inf(1)
	}
	// Of those that were answered, which need not be as the split has it.
	w := float64(ca.N()) / float64(ca.N()+st.N())
	m := g.margin(g.safeLimit())
	if quantile {
		return w * stats.RelativeQuantileNeeded(ca, st, w, g.metric.Quantile, m, alpha, stats.Below)
	}
	return w * stats.RelativeMeanNeeded(ca, st, w, g.meanBound(), m, alpha, stats.Below)
}

// neededCount is a number of requests in two figures, more than there are; 0
// when it will never be enough.
func neededCount(v float64, n uint64) uint64 {
	if !(v < 1e15) {
		return 0
	}
	v = max(v, float64(n)*1.02+1)
	unit := math.Pow(10, math.Max(0, math.Floor(math.Log10(v))-1))
	return uint64(math.Ceil(v/unit) * unit)
}

func finite(v float64) *float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return &v
}
