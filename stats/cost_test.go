package stats

import (
	"math"
	"testing"
)

// growth is the most that one bet wins per unit, of bets on ratios from 1e-4 to
// 1 or from 1 to 1e4.
func growth(side Side, of func(ratio float64) float64) float64 {
	best := 0.0
	for x := 0.002; x < math.Log(1e4); x *= 1.05 {
		r := math.Exp(x)
		if side == Below {
			r = math.Exp(-x)
		}
		best = max(best, of(r))
	}
	return best
}

// TestBetsCost computes what it costs that the best bet is not known: by how
// much the threshold would have to be higher for a gambler who knows it to need
// as much. The mean of K bets can cost log K and more where the truth is between
// two of them.
func TestBetsCost(t *testing.T) {
	const most = 2.6
	sum, cells := 0.0, 0.0
	check := func(needed, growth, alpha float64, what ...any) {
		t.Helper()
		cost := needed*growth - Threshold(alpha)
		sum, cells = sum+cost, cells+1
		if cost > most || cost < 0 {
			t.Errorf("%v: costs %.2f, want at most %v", what, cost, most)
		}
	}
	for _, limit := range []float64{0.001, 0.01, 0.05} {
		for _, times := range []float64{0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2, 3, 5} {
			side := Above
			if times < 1 {
				side = Below
			}
			p := limit * times
			best := growth(side, func(r float64) float64 {
				bad, every := rateBet(r, limit, side)
				return p*bad + every
			})
			if needed := NewRate(limit, side).Needed(level(side), p); needed > 100 {
				check(needed, best, level(side), "rate", p, "against", limit)
			}
		}
	}
	for _, ps := range []float64{0.001, 0.01, 0.05} {
		for _, w := range []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.99} {
			for _, c := range comparisons(ps) {
				best := growth(c.side, func(r float64) float64 {
					a, b, e := shareBet(r, w, c.margin.ratio(), c.margin.Points)
					return w*c.pc*a + (1-w)*ps*b + e
				})
				needed := NewShare(c.margin, c.side).Needed(level(c.side), w, c.pc, ps)
				check(needed, best, level(c.side), "share", w, "of", ps, c.pc, c.margin)
			}
		}
	}
	t.Logf("costs %.2f in the mean; log K is %.2f and %.2f", sum/cells, math.Log(float64(len(harms))), math.Log(float64(len(benefits))))
}
