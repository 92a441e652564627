package stats

import "math"

// stakes are the parts of the capital that the bets on a mean put at risk.
var stakes = []float64{0.002, 0.005, 0.012, 0.03, 0.07, 0.15, 0.3, 0.5, 0.75, 0.95}

// Mean tests the mean of min(value, bound) against a fixed limit m.
//
// Formula: the capital is multiplied by 1 + lambda (y - m) for each value y =
// min(value, bound), with lambda = f/m (Above) or -f/(bound - m) (Below) for a
// grid of stakes f in (0, 1); the mean over the grid. Values are taken from a
// [Histogram]: the lower ends of its bins for Above, the upper ends for Below.
//
// Assumption: given all before, the expected y is at most (Above) or at least
// (Below) the limit where the limit is kept or broken. No other assumption on
// the distribution.
//
// Paper: Waudby-Smith and Ramdas, "Estimating means of bounded random variables
// by betting", JRSS B 2023.
//
// A limit at or below 0 is above what is true once a value is above 0; nothing is
// below it. A limit at or beyond the bound is the reverse.
type Mean struct {
	limit, bound float64
	side         Side
}

// NewMean is the test of a limit of the mean of min(value, bound).
func NewMean(limit, bound float64, side Side) *Mean {
	return &Mean{limit: limit, bound: bound, side: side}
}

// Bets is the number of bets: the length of the slices that Add takes.
func (m *Mean) Bets() int { return len(stakes) }

// Add adds the log capital of the values in h to logs, which has one value for
// each bet and begins with zeros. It takes some nanoseconds for each bin and bet.
func (m *Mean) Add(logs []float64, h *Histogram) {
	values := h.capped(m.bound, m.side)
	values.add(logs[:len(stakes)], m.limit, m.side)
}

// MeanInterval is where the mean of min(value, bound) lies of what a histogram
// has counted: the confidence sequence that inverts [Mean]. The truth is ever
// below low with probability at most alphaLow, ever above high with at most
// alphaHigh, over all n together. What is not known is 0 and bound.
func MeanInterval(h *Histogram, bound, alphaLow, alphaHigh float64) (low, high float64) {
	return h.meanInterval(bound, alphaLow, alphaHigh, 1)
}

// meanInterval is the interval if there were scale times as many values.
func (h *Histogram) meanInterval(bound, alphaLow, alphaHigh, scale float64) (low, high float64) {
	if h.n == 0 || !(bound > 0) || math.IsInf(bound, 1) {
		return 0, max(bound, 0)
	}
	above, below := h.capped(bound, Above), h.capped(bound, Below)
	above.scale, below.scale = scale, scale
	atLow, atHigh := Threshold(alphaLow), Threshold(alphaHigh)
	low = boundary(0, above.mean(), func(m float64) float64 { return above.log(m, Above) - atLow })
	high = boundary(bound, below.mean(), func(m float64) float64 { return below.log(m, Below) - atHigh })
	return low, high
}

// capped is values of which some are equal.
type capped struct {
	bound float64
	scale float64 // each count stands for so many
	y, n  []float64
}

// capped is the counted values as the tests of a side take them.
func (h *Histogram) capped(bound float64, side Side) capped {
	c := capped{bound: bound, scale: 1, y: make([]float64, 0, len(h.counts)), n: make([]float64, 0, len(h.counts))}
	for i, n := range h.counts {
		if n == 0 {
			continue
		}
		y := edge(h.from + i)
		if side == Below {
			y = edge(h.from + i + 1)
		}
		c.y, c.n = append(c.y, min(y, bound)), append(c.n, float64(n))
	}
	return c
}

func (c *capped) mean() float64 {
	sum, n := 0.0, 0.0
	for i, y := range c.y {
		sum += y * c.n[i]
		n += c.n[i]
	}
	return sum / n
}

func (c *capped) log(m float64, side Side) float64 {
	var logs [maxBets]float64
	c.add(logs[:len(stakes)], m, side)
	return LogMix(logs[:len(stakes)])
}

// add adds what each stake wins on the values against a mean of m.
func (c *capped) add(logs []float64, m float64, side Side) {
	switch {
	case !(c.bound > 0) || math.IsNaN(m):
		return
	case side == Above && m <= 0, side == Below && m >= c.bound:
		c.addCertain(logs, side)
		return
	case side == Above && m >= c.bound, side == Below && m <= 0:
		return
	}
	for k, f := range stakes {
		sum := 0.0
		for i, y := range c.y {
			z := y/m - 1
			if side == Below {
				z = (m - y) / (c.bound - m)
			}
			sum += c.n[i] * math.Log(1+f*z)
		}
		logs[k] += sum * c.scale
	}
}

// addCertain is for limits at an end of what is possible: one value off that end
// refutes.
func (c *capped) addCertain(logs []float64, side Side) {
	for i, y := range c.y {
		if side == Above && y > 0 || side == Below && y < c.bound {
			for k := range logs {
				logs[k] += certain * c.n[i] * c.scale
			}
		}
	}
}
