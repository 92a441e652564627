package stats

import "math"

// Rate tests a rate against a fixed limit m while it is being counted.
//
// Formula: for each alternative of odds ratio r the likelihood ratio of q with
// odds(q) = r odds(m) against m, which is r^x / (1 + (r-1) m)^n after n requests
// of which x were bad; the capital is the mean over a grid of r > 1 (Above) or
// r < 1 (Below). It depends on the counts only.
//
// Assumption: each request is bad with a probability that, given all before,
// is at most (Above) or at least (Below) the limit where the limit is kept or
// broken. It need not be constant. Then the capital exceeds 1/alpha at any time
// with probability at most alpha, however often one looks.
//
// Papers: Robbins, "Statistical methods related to the law of the iterated
// logarithm", 1970; Waudby-Smith and Ramdas, "Estimating means of bounded random
// variables by betting", JRSS B 2023.
//
// A limit of 0 (or less) is above what is true once one request was bad, and
// nothing is below it; a limit of 1 (or more) is the reverse. A limit that is no
// number is never shown to be kept or broken.
//
// A Rate does not change and may be used by several goroutines.
type Rate struct {
	side  Side
	limit float64
	bad   []float64 // log capital that a bad request adds to each bet
	every []float64 // and that each request adds, bad or not
}

// NewRate is the test of a limit, a part of all requests in [0, 1].
func NewRate(limit float64, side Side) *Rate {
	rs := ratios(side)
	r := &Rate{side: side, limit: limit, bad: make([]float64, len(rs)), every: make([]float64, len(rs))}
	for k, ratio := range rs {
		r.bad[k], r.every[k] = rateBet(ratio, limit, side)
	}
	return r
}

// rateBet is what a bad request, and what each request, adds to the log of a
// bet's capital.
func rateBet(ratio, limit float64, side Side) (bad, every float64) {
	switch {
	case limit > 0 && limit < 1:
		return math.Log(ratio), -math.Log1p((ratio - 1) * limit)
	case limit <= 0 && side == Above:
		return certain, 0
	case limit >= 1 && side == Below:
		return -certain, certain // a good request wins, a bad one changes nothing
	}
	return 0, 0
}

// Bets is the number of bets: the length of the slices that Add takes.
func (r *Rate) Bets() int { return len(r.bad) }

// Add adds the log capital of n requests, x of them bad, to logs, which has one
// value for each bet and begins with zeros. More bad requests than requests
// count as all bad.
func (r *Rate) Add(logs []float64, n, x uint64) {
	r.add(logs, float64(n), float64(min(x, n)))
}

func (r *Rate) add(logs []float64, n, x float64) {
	logs = logs[:len(r.bad)]
	every := r.every[:len(r.bad)]
	for k, bad := range r.bad {
		logs[k] += x*bad + n*every[k]
	}
}

// RateInterval is where a rate lies of which x of n were bad: the confidence
// sequence that inverts [Rate]. The true rate is ever below low with probability
// at most alphaLow, ever above high with at most alphaHigh, over all n
// together. Low is above a limit exactly if the test Above it has reached
// [Threshold] of alphaLow, and high below it exactly if the test Below it has
// reached that of alphaHigh. No requests give [0, 1].
func RateInterval(n, x uint64, alphaLow, alphaHigh float64) (low, high float64) {
	x = min(x, n)
	if n == 0 {
		return 0, 1
	}
	return rateLow(float64(n), float64(x), alphaLow), rateHigh(float64(n), float64(x), alphaHigh)
}

func rateLow(n, x, alpha float64) float64 {
	if x <= 0 || !(alpha > 0) {
		return 0
	}
	at := Threshold(alpha)
	low := boundary(0, x/n, func(m float64) float64 { return rateLog(harms, n, x, m) - at })
	return max(low, math.SmallestNonzeroFloat64) // one bad request shows that the rate is not 0
}

func rateHigh(n, x, alpha float64) float64 {
	if x >= n || !(alpha > 0) {
		return 1
	}
	at := Threshold(alpha)
	high := boundary(1, x/n, func(m float64) float64 { return rateLog(benefits, n, x, m) - at })
	return min(high, math.Nextafter(1, 0)) // one good request shows that the rate is not 1
}

// rateLog is the log capital of the bets on ratios against a limit m inside
// (0, 1).
func rateLog(ratios []float64, n, x, m float64) float64 {
	var logs [maxBets]float64
	for k, r := range ratios {
		logs[k] = x*math.Log(r) - n*math.Log1p((r-1)*m)
	}
	return LogMix(logs[:len(ratios)])
}
