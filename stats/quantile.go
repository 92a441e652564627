package stats

import "math"

// QuantileInterval is where the q-quantile lies, q in (0, 1), of what a
// histogram has counted: a confidence sequence. The truth is ever below low
// with probability at most alphaLow, ever above high with at most alphaHigh,
// over all n together. Ends are edges of bins, rounded outwards. What is not
// known is 0 and +Inf.
//
// Formula: the quantile is at or below v only if at most 1-q of the values are
// above v. Low is the highest v for which [Rate] with limit 1-q shows more
// above it, high the lowest for which it shows fewer at or above it.
//
// Assumption: each value, given all before, is above the true quantile with
// probability 1-q. No assumption on the distribution's form or tail.
//
// Paper: Howard and Ramdas, "Sequential estimation of quantiles with
// applications to A/B testing and best-arm identification", Bernoulli 2022; here
// with the mixture of [Rate] in place of their boundaries.
func QuantileInterval(h *Histogram, q, alphaLow, alphaHigh float64) (low, high float64) {
	return h.quantileInterval(q, alphaLow, alphaHigh, 1)
}

// quantileInterval is the interval if there were scale times as many values.
func (h *Histogram) quantileInterval(q, alphaLow, alphaHigh, scale float64) (low, high float64) {
	low, high = 0, math.Inf(1)
	if h.n == 0 || !(q > 0 && q < 1) {
		return low, high
	}
	n := float64(h.n) * scale
	least := leastRefuting(n, 1-q, Threshold(alphaLow))
	most := mostRefuting(n, 1-q, Threshold(alphaHigh))
	var above uint64
	for i := len(h.counts) - 1; i >= 0; i-- {
		// Bin i ends where `above` values begin.
		if float64(above)*scale <= most {
			high = edge(h.from + i + 1)
		}
		above += h.counts[i]
		if float64(above)*scale >= least {
			low = edge(h.from + i)
			break
		}
	}
	return low, high
}

// leastRefuting is the least count x of n, fractions allowed, with which the
// test of a limit m has shown more than m; +Inf when there is none.
func leastRefuting(n, m, at float64) float64 {
	f := func(x float64) float64 { return rateLog(harms, n, x, m) - at }
	if !(f(n) >= 0) {
		return math.Inf(1)
	}
	return boundary(n, n*m, f)
}

// mostRefuting is the greatest count x of n with which the test of a limit m has
// shown less than m; negative when there is none.
func mostRefuting(n, m, at float64) float64 {
	f := func(x float64) float64 { return rateLog(benefits, n, x, m) - at }
	if !(f(0) >= 0) {
		return -1
	}
	return boundary(0, n*m, f)
}
