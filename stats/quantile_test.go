package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestQuantileIntervalIsWhatTheRatesSay looks at every edge: low is the highest
// above which the test of a rate shows too many values, high the lowest above
// which it shows too few.
func TestQuantileIntervalIsWhatTheRatesSay(t *testing.T) {
	for n := range 30 {
		values := lognormals(uint64(n), 1+n*n*8, -1, 1)
		h := histogram(values...)
		for _, q := range []float64{0.5, 0.9, 0.99} {
			for _, alpha := range []float64{0.2, 0.01} {
				wantLow, wantHigh := 0.0, math.Inf(1)
				for _, b := range bins(h) {
					if logRate(1-q, Above, h.N(), h.CountAbove(b.Low)) >= Threshold(alpha) {
						wantLow = b.Low
					}
					if math.IsInf(wantHigh, 1) && logRate(1-q, Below, h.N(), h.CountAbove(b.High)) >= Threshold(alpha) {
						wantHigh = b.High
					}
				}
				low, high := QuantileInterval(h, q, alpha, alpha)
				if low != wantLow || high != wantHigh {
					t.Fatalf("quantile %v of %d values at %v: [%v, %v], want [%v, %v]", q, h.N(), alpha, low, high, wantLow, wantHigh)
				}
			}
		}
	}
}

func TestQuantileIntervalOfLittle(t *testing.T) {
	inf := math.Inf(1)
	one, equal := histogram(1), new(Histogram)
	equal.Add(1, 1e12)
	for _, c := range []struct {
		name      string
		h         *Histogram
		q         float64
		low, high float64
	}{
		{"nothing", new(Histogram), 0.5, 0, inf},
		{"one value", one, 0.5, 0, inf},
		{"quantile 0", equal, 0, 0, inf},
		{"quantile 1", equal, 1, 0, inf},
		{"no quantile", equal, math.NaN(), 0, inf},
		{"1e12 equal values", equal, 0.5, 1, 1 + 1.0/64},
		{"their p99", equal, 0.99, 1, 1 + 1.0/64},
	} {
		if low, high := QuantileInterval(c.h, c.q, 0.05, 0.05); low != c.low || high != c.high {
			t.Errorf("%s: [%v, %v], want [%v, %v]", c.name, low, high, c.low, c.high)
		}
	}
	if low, high := QuantileInterval(histogram(lognormals(1, 5000, 0, 1)...), 0.5, 0, 0); low != 0 || high != inf {
		t.Errorf("at no level: [%v, %v]", low, high)
	}
}

// misses measures how often an interval ever leaves out the truth, when it is
// looked at as the values come in.
func misses(runs, values int, sigma float64, look func(h *Histogram) bool) float64 {
	missed := 0
	for run := range runs {
		rng := rand.New(rand.NewPCG(uint64(run), 9))
		h := new(Histogram)
		for i := 1; i <= values; i++ {
			h.Add(math.Exp(-2+sigma*rng.NormFloat64()), 1)
			if (i < 20 || i%50 == 0) && look(h) {
				missed++
				break
			}
		}
	}
	return float64(missed) / float64(runs)
}

func TestQuantileIntervalCovers(t *testing.T) {
	for _, c := range []struct{ q, z float64 }{{0.5, 0}, {0.9, 1.2815515655446004}, {0.99, 2.3263478740408408}} {
		truth := math.Exp(-2 + 1.5*c.z)
		got := misses(150, 1500, 1.5, func(h *Histogram) bool {
			low, high := QuantileInterval(h, c.q, 0.05, 0.05)
			return low > truth || high < truth
		})
		t.Logf("quantile %v: missed in %.3f of the runs", c.q, got)
		if got > 0.1 {
			t.Errorf("quantile %v: missed in %v of the runs, promised 0.1", c.q, got)
		}
	}
	// It can miss: the same against what is not the quantile.
	got := misses(50, 1500, 1.5, func(h *Histogram) bool {
		low, _ := QuantileInterval(h, 0.5, 0.05, 0.05)
		return low > 0.8*math.Exp(-2)
	})
	if got < 0.9 {
		t.Errorf("found in %v of the runs that the median is above 0.8 of it", got)
	}
}
