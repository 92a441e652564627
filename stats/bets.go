package stats

import "math"

// Side says what a test tries to show.
type Side int

// The sides.
const (
	Above Side = iota // evidence that the value is above the limit
	Below             // evidence that the value is below the limit
)

// Harms are the alternatives that a test for Above bets on, as the factor
// between what is true and the limit; benefits are those for Below. They are
// dense near 1, where a wrong bet costs much, and thin where it costs little.
// The bets nearest to 1 say what can be found at all: a rate between 0.985 and
// 1.02 of its limit never is.
var (
	harms    = []float64{1.04, 1.1, 1.25, 1.6, 2.5, 5, 15, 100}
	benefits = []float64{0.97, 0.92, 0.82, 0.62, 0.35, 0.1, 0.005}
)

// certain is the log capital that an event wins which the limit rules out: more
// than any threshold, and a number that JSON can hold.
const certain = 1e6

// ratios are the alternatives for a side.
func ratios(side Side) []float64 {
	if side == Below {
		return benefits
	}
	return harms
}

// LogMix is the log of the mean of exp(logs): the capital of a gambler who laid
// equal parts on each bet. It is an e-process when each bet is (a mixture of
// martingales is one: Robbins 1970). No bets give 0.
func LogMix(logs []float64) float64 {
	if len(logs) == 0 {
		return 0
	}
	top := logs[0]
	for _, l := range logs[1:] {
		if l > top {
			top = l
		}
	}
	if math.IsInf(top, 0) || math.IsNaN(top) {
		return top
	}
	sum := 0.0
	for _, l := range logs {
		if d := l - top; d > -40 {
			sum += math.Exp(d)
		}
	}
	return top + math.Log(sum/float64(len(logs)))
}

// Reached tells whether LogMix of logs is at least at. It is cheap while no bet
// is near.
func Reached(logs []float64, at float64) bool {
	for _, l := range logs {
		if l >= at {
			return LogMix(logs) >= at
		}
	}
	return len(logs) == 0 && at <= 0
}

// Threshold is the log capital at which a test at level alpha has shown its
// claim: log(1/alpha), by Ville's inequality. An alpha of 0 or less, or NaN, is
// never reached; one of 1 or more is reached at once.
func Threshold(alpha float64) float64 {
	if !(alpha > 0) {
		return math.Inf(1)
	}
	return -math.Log(min(alpha, 1))
}

// Budget is the level of each of parts tests that together are wrong with at
// most the probability total (Bonferroni: the bound of a union). No parts, or
// less, count as one.
func Budget(total float64, parts int) float64 {
	return total / float64(max(parts, 1))
}

// StartWeight is the part of the whole that the j-th of endlessly many parts
// gets, j = 1, 2, ...: 1/(j(j+1)). All of them sum to 1, those from j on to 1/j.
// A j below 1 has none.
func StartWeight(j int) float64 {
	if j < 1 {
		return 0
	}
	return 1 / (float64(j) * (float64(j) + 1))
}
