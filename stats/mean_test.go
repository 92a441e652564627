package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func logMean(limit, bound float64, side Side, h *Histogram) float64 {
	m := NewMean(limit, bound, side)
	logs := make([]float64, m.Bets())
	m.Add(logs, h)
	return LogMix(logs)
}

// Products of factors, one for each value, over values that are edges of bins.
func TestMeanKnown(t *testing.T) {
	values := []float64{0.25, 0.5, 0.5, 1, 1, 1, 4, 16}
	const limit, bound = 0.75, 8
	above, below := 0.0, 0.0
	for _, c := range stakesAbove {
		e := 1.0
		for _, v := range values {
			lambda := c / bound / (1 + c/bound*limit)
			e *= 1 + lambda*(min(v, bound)-limit)
		}
		above += e / float64(len(stakesAbove))
	}
	for _, c := range stakesBelow {
		e := 1.0
		for _, v := range values {
			end := math.Min(v*(1+1.0/64), bound) // of the bin that begins at v
			lambda := -c / bound / (1 + c/bound*(bound-limit))
			e *= 1 + lambda*(end-limit)
		}
		below += e / float64(len(stakesBelow))
	}
	h := histogram(values...)
	if got := logMean(limit, bound, Above, h); !near(got, math.Log(above), 1e-12) {
		t.Errorf("above: %v, want %v", got, math.Log(above))
	}
	if got := logMean(limit, bound, Below, h); !near(got, math.Log(below), 1e-12) {
		t.Errorf("below: %v, want %v", got, math.Log(below))
	}
}

// Two values, of which each sample of three is summed: at the mean, the expected
// capital is 1 where the values are edges, and never more.
func TestMeanExpectsNoGain(t *testing.T) {
	for _, p := range []float64{0.01, 0.3, 0.9} {
		const small, large, bound = 0.5, 4.0, 5.0
		mean := (1-p)*small + p*large
		above, below := 0.0, 0.0
		for k, prob := range binomials(3, p) {
			var h Histogram
			h.Add(small, uint64(3-k))
			h.Add(large, uint64(k))
			above += prob * math.Exp(logMean(mean, bound, Above, &h))
			below += prob * math.Exp(logMean(mean, bound, Below, &h))
		}
		if !near(above, 1, 1e-9) || below > 1+1e-9 || below < 0.8 {
			t.Errorf("large with probability %v: expected capital %v above, %v below", p, above, below)
		}
	}
}

func TestMeanAtTheEnds(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	shown := Threshold(1e-9)
	zeros, large, many := new(Histogram), new(Histogram), new(Histogram)
	zeros.Add(0, 1e12)
	large.Add(100, 1e12)
	many.Add(1, 1e12)
	for _, c := range []struct {
		name         string
		h            *Histogram
		limit, bound float64
		side         Side
		shown        bool
	}{
		{"no values", new(Histogram), 1, 10, Above, false},
		{"zeros above 0", zeros, 0, 10, Above, false},
		{"ones above 0", many, 0, 10, Above, true},
		{"ones above less than 0", many, -5, 10, Above, true},
		{"zeros below 0", zeros, 0, 10, Below, false},
		{"large above the bound", large, 10, 10, Above, false},
		{"large below the bound", large, 10, 10, Below, false},
		{"ones below the bound", many, 10, 10, Below, true},
		{"ones below more than the bound", many, 12, 10, Below, true},
		{"zeros below 1", zeros, 1, 10, Below, true},
		{"ones above 0.98", many, 0.98, 10, Above, true},
		{"ones below 1.03", many, 1.03, 10, Below, true},
		{"ones above 1", many, 1, 10, Above, false},
		{"no bound", many, 0.5, inf, Above, false},
		{"bound 0", many, 0.5, 0, Above, false},
		{"bound is no number", many, 0.5, nan, Above, false},
		{"limit is no number", many, nan, 10, Below, false},
	} {
		got := logMean(c.limit, c.bound, c.side, c.h)
		if math.IsNaN(got) || math.IsInf(got, 0) {
			t.Errorf("%s: log capital %v", c.name, got)
		}
		if got >= shown != c.shown {
			t.Errorf("%s: log capital %v: shown must be %v", c.name, got, c.shown)
		}
	}
}

func TestMeanIntervalIsWhatTheTestsSay(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 1))
	for n := range 200 {
		h := histogram(lognormals(uint64(n), 1+n*n/4, -1, 1)...)
		bound := math.Exp(rng.Float64() * 3)
		alphaLow, alphaHigh := rng.Float64()*0.2, rng.Float64()*0.2
		low, high := MeanInterval(h, bound, alphaLow, alphaHigh)
		limit := h.Mean(bound) * math.Exp(0.3*rng.NormFloat64())
		above, below := logMean(limit, bound, Above, h)-Threshold(alphaLow), logMean(limit, bound, Below, h)-Threshold(alphaHigh)
		if math.Abs(above) > 1e-6 && (low > limit) != (above >= 0) {
			t.Fatalf("limit %v: low %v, log capital over the threshold %v", limit, low, above)
		}
		if math.Abs(below) > 1e-6 && limit < bound && (high < limit) != (below >= 0) {
			t.Fatalf("limit %v: high %v, log capital over the threshold %v", limit, high, below)
		}
		if m := h.Mean(bound); !(0 <= low && low <= m && m <= high && high <= bound) {
			t.Fatalf("[%v, %v]: must contain the mean %v", low, high, m)
		}
		if l, h := MeanInterval(h, bound, 0, 0); l != 0 || h != bound {
			t.Fatalf("at no level: [%v, %v]", l, h)
		}
	}
}

// cappedMean is the mean of min(X, bound) of a lognormal X.
func cappedMean(mu, sigma, bound float64) float64 {
	phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	z := (math.Log(bound) - mu) / sigma
	return math.Exp(mu+sigma*sigma/2)*phi(z-sigma) + bound*(1-phi(z))
}

func TestMeanIntervalCovers(t *testing.T) {
	const bound = 4.0
	truth := cappedMean(-2, 1.5, bound)
	got := misses(100, 1000, 1.5, func(h *Histogram) bool {
		low, high := MeanInterval(h, bound, 0.05, 0.05)
		return low > truth || high < truth
	})
	t.Logf("missed in %.3f of the runs", got)
	if got > 0.1 {
		t.Errorf("missed in %v of the runs, promised 0.1", got)
	}
	got = misses(30, 1500, 1.5, func(h *Histogram) bool {
		low, _ := MeanInterval(h, bound, 0.05, 0.05)
		return low > 0.7*truth
	})
	if got < 0.9 {
		t.Errorf("found in %v of the runs that the mean is above 0.7 of it", got)
	}
}

// TestMeanEverWrong looks after every value, at a mean that is the limit.
func TestMeanEverWrong(t *testing.T) {
	const bound, alpha, runs = 4.0, 0.05, 150
	truth := cappedMean(-2, 1.5, bound)
	for _, side := range []Side{Above, Below} {
		m := NewMean(truth, bound, side)
		wrong := 0
		for run := range runs {
			rng := rand.New(rand.NewPCG(uint64(run), 12))
			logs := make([]float64, m.Bets())
			for range 600 {
				var one Histogram
				one.Add(math.Exp(-2+1.5*rng.NormFloat64()), 1)
				m.Add(logs, &one)
				if Reached(logs, Threshold(alpha)) {
					wrong++
					break
				}
			}
		}
		if part := float64(wrong) / runs; part > alpha {
			t.Errorf("side %v: wrong in %v of the runs, promised %v", side, part, alpha)
		}
	}
}
