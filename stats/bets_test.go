package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// near tells whether two numbers agree to a relative (or, below 1, absolute)
// error.
func near(got, want, tolerance float64) bool {
	if got == want {
		return true
	}
	return math.Abs(got-want) <= tolerance*math.Max(1, math.Abs(want))
}

func TestLogMix(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		logs []float64
		want float64
	}{
		{nil, 0},
		{[]float64{0, 0, 0}, 0},
		{[]float64{math.Log(2), math.Log(4)}, math.Log(3)},
		{[]float64{1000, 1000}, 1000},
		{[]float64{-1e9, 0}, -math.Ln2},
		{[]float64{-inf, 0}, -math.Ln2},
		{[]float64{-inf, -inf}, -inf},
		{[]float64{1e18, -1e18}, 1e18},
	} {
		if got := LogMix(c.logs); !near(got, c.want, 1e-15) {
			t.Errorf("LogMix(%v) = %v, want %v", c.logs, got, c.want)
		}
	}
}

func TestReachedIsLogMixOverThreshold(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		logs := make([]float64, rng.IntN(9))
		for k := range logs {
			logs[k] = 4 * rng.NormFloat64()
		}
		at := 3 * rng.NormFloat64()
		if got, want := Reached(logs, at), LogMix(logs) >= at; got != want {
			t.Fatalf("Reached(%v, %v) = %v, want %v", logs, at, got, want)
		}
	}
}

func TestThresholdAndBudget(t *testing.T) {
	for _, c := range []struct{ alpha, want float64 }{
		{0.05, math.Log(20)}, {1, 0}, {7, 0}, {0, math.Inf(1)}, {-1, math.Inf(1)}, {math.NaN(), math.Inf(1)},
	} {
		if got := Threshold(c.alpha); !near(got, c.want, 1e-15) {
			t.Errorf("Threshold(%v) = %v, want %v", c.alpha, got, c.want)
		}
	}
	if got := Budget(0.05, 4); got != 0.0125 {
		t.Errorf("Budget(0.05, 4) = %v", got)
	}
	if got := Budget(0.05, 0); got != 0.05 {
		t.Errorf("Budget(0.05, 0) = %v", got)
	}
	sum := 0.0
	for j := -1; j < 1000; j++ {
		sum += StartWeight(j)
	}
	if !near(sum+1.0/1000, 1, 1e-12) {
		t.Errorf("the weights up to 999 sum to %v, want %v", sum, 1-1.0/1000)
	}
}

func TestBetsFit(t *testing.T) {
	for name, bets := range map[string][]float64{
		"harms": harms, "benefits": benefits, "stakesAbove": stakesAbove, "stakesBelow": stakesBelow,
	} {
		if len(bets) > maxBets {
			t.Errorf("%s: %d bets: must be at most %d", name, len(bets), maxBets)
		}
	}
}
