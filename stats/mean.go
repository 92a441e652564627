package stats

import "math"

// The bets on a mean, as the c of [Mean] times the bound.
var (
	stakesAbove = []float64{0.06, 0.2, 0.6, 1.8, 5, 16, 80}
	stakesBelow = []float64{0.1, 0.3, 0.8, 2.2, 8, 80}
)

// Mean tests the mean of min(value, bound) against a fixed limit m.
//
// Formula: for each value y = min(value, bound) the factor (1 + c y) / (1 + c m)
// for Above, for Below the same of bound - y and bound - m; the capital is the
// mean over a grid of c. That is 1 + lambda (y - m) with lambda = c / (1 + c m),
// written so that the sum of log(1 + c y) serves every m. Values are taken from
// a [Histogram]: the lower ends of its bins for Above, the upper ends for Below.
//
// Assumption: given all before, the expected y is at most (Above) or at least
// (Below) the limit where the limit is kept or broken. Nothing else is asked of
// the distribution: that is what the bound is for. The bets are chosen for
// bounds of 3 to 30 times the mean.
//
// Paper: Waudby-Smith and Ramdas, "Estimating means of bounded random variables
// by betting", JRSS B 2023.
//
// A limit at or below 0 is above what is true once a value is above 0, and
// nothing is below it; a limit at or beyond the bound is the reverse. A bound
// that is not above 0 and finite, and a limit that is no number, show nothing.
//
// A Mean does not change and may be used by several goroutines.
type Mean struct {
	limit, bound float64
	side         Side
}

// NewMean is the test of a limit of the mean of min(value, bound).
func NewMean(limit, bound float64, side Side) *Mean {
	return &Mean{limit: limit, bound: bound, side: side}
}

// Bets is the number of bets: the length of the slices that Add takes.
func (m *Mean) Bets() int { return len(stakes(m.side)) }

func stakes(side Side) []float64 {
	if side == Below {
		return stakesBelow
	}
	return stakesAbove
}

// Add adds the log capital of the values in h to logs, which has one value for
// each bet and begins with zeros. It takes about 100 ns for each bin with values.
func (m *Mean) Add(logs []float64, h *Histogram) {
	logs = logs[:m.Bets()]
	if h.n == 0 || !(m.bound > 0) || math.IsInf(m.bound, 1) || math.IsNaN(m.limit) {
		return
	}
	g := h.gains(m.bound, m.side)
	limit := m.limit
	if m.side == Below {
		limit = m.bound - limit
	}
	for k := range logs {
		logs[k] += g.log(k, limit)
	}
}

// gains is what values have won for each bet, before the price of a limit.
type gains struct {
	n       float64 // values
	surely  float64 // values that are surely off the end that a limit of 0 means
	mean    float64 // of y
	c, sums [maxBets]float64
	bets    int
}

// gains sums log(1 + c y) over the values, with y counted from the bound down
// for Below.
func (h *Histogram) gains(bound float64, side Side) gains {
	st := stakes(side)
	g := gains{n: float64(h.n), bets: len(st)}
	for k, s := range st {
		g.c[k] = s / bound
	}
	for i, count := range h.counts {
		if count == 0 {
			continue
		}
		y := min(edge(h.from+i), bound)
		if side == Below {
			y = bound - min(edge(h.from+i+1), bound)
		}
		n := float64(count)
		if y > 0 {
			g.surely += n
		}
		g.mean += n * y
		for k := range st {
			g.sums[k] += n * math.Log(1+g.c[k]*y)
		}
	}
	g.mean /= g.n
	return g
}

// log is the log capital of bet k against a limit of the mean of y.
func (g *gains) log(k int, limit float64) float64 {
	if limit <= 0 {
		return certain * g.surely
	}
	return g.sums[k] - g.n*math.Log1p(g.c[k]*limit)
}

// scale makes it as if there were s times as many values.
func (g *gains) scale(s float64) {
	g.n *= s
	for k := range g.sums {
		g.sums[k] *= s
	}
}

// refuted is the largest mean of y that the bets have refuted: the least that
// it can be.
func (g *gains) refuted(alpha float64) float64 {
	if g.surely <= 0 {
		return 0
	}
	at := Threshold(alpha)
	m := boundary(0, g.mean, func(m float64) float64 {
		var logs [maxBets]float64
		for k := range g.bets {
			logs[k] = g.sums[k] - g.n*math.Log1p(g.c[k]*m)
		}
		return LogMix(logs[:g.bets]) - at
	})
	return max(m, math.SmallestNonzeroFloat64)
}

// MeanInterval is where the mean of min(value, bound) lies of what a histogram
// has counted: the confidence sequence that inverts [Mean]. The truth is ever
// below low with probability at most alphaLow, ever above high with at most
// alphaHigh, over all n together. What is not known is 0 and bound; an end whose
// alpha is 0 costs nothing.
func MeanInterval(h *Histogram, bound, alphaLow, alphaHigh float64) (low, high float64) {
	return h.meanInterval(bound, alphaLow, alphaHigh, 1)
}

// meanInterval is the interval if there were scale times as many values.
func (h *Histogram) meanInterval(bound, alphaLow, alphaHigh, scale float64) (low, high float64) {
	low, high = 0, bound
	if h.n == 0 || !(bound > 0) || math.IsInf(bound, 1) {
		return low, high
	}
	if alphaLow > 0 {
		g := h.gains(bound, Above)
		g.scale(scale)
		low = g.refuted(alphaLow)
	}
	if alphaHigh > 0 {
		g := h.gains(bound, Below)
		g.scale(scale)
		if d := g.refuted(alphaHigh); d > 0 {
			high = min(bound-d, math.Nextafter(bound, 0))
		}
	}
	return low, high
}
