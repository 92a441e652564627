package truth

import (
	"math"

	"github.com/headgate/headgate/stats"
)

// Balance counts comparisons that one side wins, the other wins, or nobody: two
// versions that answered the same requests, of which one was right and the other
// wrong, say. Its figure is the mean of +1, -1 and 0, the difference of two
// accuracies.
//
// That two versions share the requests makes it far more exact than two rates by
// themselves: only the requests on which they differ count as noise.
type Balance struct {
	Wins   uint64 `json:"wins"`
	Losses uint64 `json:"losses"`
	Ties   uint64 `json:"ties"`
}

// Add counts one request that was answered rightly or not by the version in
// question and by the one that it is compared with.
func (b *Balance) Add(right, otherRight bool) {
	switch {
	case right == otherRight:
		b.Ties++
	case right:
		b.Wins++
	default:
		b.Losses++
	}
}

// Merge adds what another has counted.
func (b *Balance) Merge(o Balance) {
	b.Wins += o.Wins
	b.Losses += o.Losses
	b.Ties += o.Ties
}

// N is how many comparisons were counted.
func (b Balance) N() uint64 { return b.Wins + b.Losses + b.Ties }

// Estimate is (Wins - Losses) / N, in [-1, 1]; ok is false without any.
func (b Balance) Estimate() (difference float64, ok bool) {
	if b.N() == 0 {
		return 0, false
	}
	return (float64(b.Wins) - float64(b.Losses)) / float64(b.N()), true
}

// stakes are the c of [BalanceTest]: bold ones for comparisons that mostly tie.
var stakes = [...]float64{0.015, 0.04, 0.1, 0.25, 0.6, 1.5, 4, 15, 80}

// BalanceTest tests the mean of a [Balance] against a fixed limit m while it is
// being counted.
//
// Formula: with y = 1 + d for Above and y = 1 - d for Below, where d is +1, 0 or
// -1, and m likewise, each comparison multiplies the capital by (1 + c y) / (1 + c
// (1 ± m)); the capital is the mean over a grid of c. It depends on the counts
// only.
//
// Assumption: given all before, the expected d is at most (Above) or at least
// (Below) the limit where it is kept or broken. It need not be constant, and
// comparisons may depend on one another else.
//
// Paper: Waudby-Smith and Ramdas, "Estimating means of bounded random variables
// by betting", JRSS B 2023. Without ties and with the limit 0 it is a sequential
// form of McNemar's test.
type BalanceTest struct {
	limit float64
	side  stats.Side
}

// NewBalanceTest is the test of a limit in [-1, 1]: of a drop of 2 points below
// stable, whether Losses outweigh Wins by more than that, it is Below -0.02.
func NewBalanceTest(limit float64, side stats.Side) BalanceTest {
	return BalanceTest{limit: limit, side: side}
}

// Bets is the number of bets: the length of the slices that Add takes.
func (BalanceTest) Bets() int { return len(stakes) }

// Add adds the log capital of the comparisons in b to logs, which has one value
// for each bet and begins with zeros. [stats.LogMix] of them is the capital, and
// [stats.Threshold] what it has to reach.
func (t BalanceTest) Add(logs []float64, b Balance) {
	if math.IsNaN(t.limit) {
		return
	}
	mean := 1 + t.limit
	if t.side == stats.Below {
		mean = 1 - t.limit
	}
	b.add(logs, mean, t.side)
}

// add is Add by the limit of y.
func (b Balance) add(logs []float64, mean float64, side stats.Side) {
	most, middle := float64(b.Wins), float64(b.Ties)
	if side == stats.Below {
		most = float64(b.Losses)
	}
	n := float64(b.N())
	for k, c := range stakes {
		logs[k] += most*math.Log1p(2*c) + middle*math.Log1p(c) - n*math.Log1p(c*max(mean, 0))
	}
}

// Interval is where the mean lies: the confidence sequence that inverts
// [BalanceTest]. The truth is ever below low with probability at most alphaLow,
// ever above high with at most alphaHigh, over all counts together. Nothing gives
// [-1, 1].
func (b Balance) Interval(alphaLow, alphaHigh float64) (low, high float64) {
	return b.refuted(alphaLow, stats.Above) - 1, 1 - b.refuted(alphaHigh, stats.Below)
}

// refuted is the largest mean of y that is refuted, 0 when none is.
func (b Balance) refuted(alpha float64, side stats.Side) float64 {
	estimate, ok := b.Estimate()
	if !ok {
		return 0
	}
	mean := 1 + estimate
	if side == stats.Below {
		mean = 1 - estimate
	}
	at := stats.Threshold(alpha)
	shown := func(m float64) bool {
		var logs [len(stakes)]float64
		b.add(logs[:], m, side)
		return stats.LogMix(logs[:]) >= at
	}
	// The capital falls with m, and at the mean itself nothing is shown.
	low, high := 0.0, mean
	if !shown(low) {
		return 0
	}
	for range 60 {
		if m := low + (high-low)/2; shown(m) {
			low = m
		} else {
			high = m
		}
	}
	return low
}
