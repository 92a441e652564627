package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// logRate is the log capital of a fresh test after n requests, x of them bad.
func logRate(limit float64, side Side, n, x uint64) float64 {
	r := NewRate(limit, side)
	logs := make([]float64, r.Bets())
	r.Add(logs, n, x)
	return LogMix(logs)
}

// The wanted values are SciPy 1.17's logsumexp(binom.logpmf(x, n, q) -
// binom.logpmf(x, n, m)) - log(len(q)) with q/(1-q) = r m/(1-m).
func TestRateKnown(t *testing.T) {
	for _, c := range []struct {
		n, x         uint64
		m            float64
		above, below float64
	}{
		{100, 0, 0.01, -0.843984164558, 0.529116736148},
		{1000, 25, 0.01, 6.04835459127, -1.99722888051},
		{5000, 3, 0.002, -1.73277547092, 2.03901417212},
		{40, 40, 0.5, 25.3560830679, -2.24827401858},
		{1000000, 10400, 0.01, 5.89595401317, -18.676658988},
		{20, 1, 0.9, -2.39303577174, 37.9272649447},
	} {
		if got := logRate(c.m, Above, c.n, c.x); !near(got, c.above, 1e-8) {
			t.Errorf("%d of %d above %v: log capital %.12g, want %.12g", c.x, c.n, c.m, got, c.above)
		}
		if got := logRate(c.m, Below, c.n, c.x); !near(got, c.below, 1e-8) {
			t.Errorf("%d of %d below %v: log capital %.12g, want %.12g", c.x, c.n, c.m, got, c.below)
		}
	}
}

// A single bet is Wald's likelihood ratio.
func TestRateBetIsWaldsRatio(t *testing.T) {
	var file struct {
		Cases []struct {
			ID string
			In struct {
				P0, P1 float64
				Data   string
			}
			Out struct {
				LLR float64 `json:"llr_final"`
			}
		}
	}
	readCases(t, "sprt_bernoulli.json", &file)
	for _, c := range file.Cases {
		odds := c.In.P1 / (1 - c.In.P1) * (1 - c.In.P0) / c.In.P0
		bad, every := rateBet(odds, c.In.P0, Above)
		llr := 0.0
		for _, answer := range c.In.Data {
			llr += every
			if answer == '1' {
				llr += bad
			}
		}
		if !near(llr, c.Out.LLR, 1e-9) {
			t.Errorf("%s: log likelihood ratio %.12g, want %.12g", c.ID, llr, c.Out.LLR)
		}
	}
}

func readCases(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "cases", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// binomials are the probabilities of x = 0..n.
func binomials(n int, p float64) []float64 {
	ps := make([]float64, n+1)
	for x := range ps {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(x + 1))
		c, _ := math.Lgamma(float64(n - x + 1))
		ps[x] = math.Exp(a - b - c + float64(x)*math.Log(p) + float64(n-x)*math.Log1p(-p))
	}
	return ps
}

func TestRateExpectsNoGain(t *testing.T) {
	for _, limit := range []float64{0.001, 0.01, 0.2, 0.5, 0.97} {
		for _, part := range []float64{0, 0.2, 0.7, 1} {
			for _, n := range []int{1, 7, 40} {
				above, below := 0.0, 0.0
				p, q := limit*(1-part)+1e-12*part, limit+(1-limit)*part*(1-1e-12)
				for x, prob := range binomials(n, p) {
					above += prob * math.Exp(logRate(limit, Above, uint64(n), uint64(x)))
				}
				for x, prob := range binomials(n, q) {
					below += prob * math.Exp(logRate(limit, Below, uint64(n), uint64(x)))
				}
				if above > 1+1e-9 || below > 1+1e-9 {
					t.Errorf("limit %v, n %d: expected capital %v at %v, %v at %v: must be at most 1",
						limit, n, above, p, below, q)
				}
				if part == 0 && (above < 1-1e-9 || below < 1-1e-9) {
					t.Errorf("limit %v, n %d: expected capital %v and %v at the limit: must be 1", limit, n, above, below)
				}
			}
		}
	}
}

// TestRateEverWrong sums the probability of all paths that ever reach the
// threshold when the rate is the limit itself: no simulation.
func TestRateEverWrong(t *testing.T) {
	const n, alpha = 1500, 0.05
	for _, limit := range []float64{0.01, 0.1, 0.5} {
		for _, side := range []Side{Above, Below} {
			r := NewRate(limit, side)
			logs := make([]float64, r.Bets())
			alive := make([]float64, n+2)
			alive[0] = 1
			wrong := 0.0
			for i := 1; i <= n; i++ {
				for x := i; x >= 0; x-- {
					p := alive[x] * (1 - limit)
					if x > 0 {
						p += alive[x-1] * limit
					}
					if alive[x] = p; p > 1e-15 {
						clear(logs)
						if r.Add(logs, uint64(i), uint64(x)); Reached(logs, Threshold(alpha)) {
							wrong, alive[x] = wrong+p, 0
						}
					}
				}
			}
			if wrong > alpha || wrong < alpha/20 {
				t.Errorf("limit %v, side %v: ever wrong within %d looks with probability %v, promised %v", limit, side, n, wrong, alpha)
			}
		}
	}
}

func TestRateAtTheEnds(t *testing.T) {
	nan := math.NaN()
	shown := Threshold(1e-9)
	for _, c := range []struct {
		name  string
		limit float64
		side  Side
		n, x  uint64
		shown bool
	}{
		{"no requests", 0.01, Above, 0, 0, false},
		{"nothing bad against none", 0, Above, 1e12, 0, false},
		{"one bad against none", 0, Above, 1e12, 1, true},
		{"one bad against less than none", -3, Above, 1, 1, true},
		{"below none", 0, Below, 1e12, 0, false},
		{"all bad against all", 1, Above, 1e12, 1e12, false},
		{"all bad, below all", 1, Below, 1e12, 1e12, false},
		{"one good, below all", 1, Below, 1e12, 1e12 - 1, true},
		{"more than all", 7, Above, 10, 10, false},
		{"no number, above", nan, Above, 100, 100, false},
		{"no number, below", nan, Below, 100, 0, false},
		{"more bad than requests count as all", 0.99, Above, 10, 1e12, false},
		{"1e12 requests at twice the limit", 1e-6, Above, 1e12, 2e6, true},
		{"1e12 requests at half the limit", 1e-6, Below, 1e12, 5e5, true},
		{"every count there is", 0.5, Above, math.MaxUint64, math.MaxUint64, true},
	} {
		got := logRate(c.limit, c.side, c.n, c.x)
		if math.IsNaN(got) || math.IsInf(got, 0) {
			t.Errorf("%s: log capital %v", c.name, got)
		}
		if got >= shown != c.shown {
			t.Errorf("%s: log capital %v: shown must be %v", c.name, got, c.shown)
		}
	}
}

func TestRateIsAdditive(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	r := NewRate(0.02, Above)
	parts, whole := make([]float64, r.Bets()), make([]float64, r.Bets())
	var n, x uint64
	for range 1000 {
		a := rng.Uint64N(100)
		b := rng.Uint64N(a + 1)
		r.Add(parts, a, b)
		n, x = n+a, x+b
	}
	r.Add(whole, n, x)
	for k := range whole {
		if !near(parts[k], whole[k], 1e-10) {
			t.Errorf("bet %d: %v in parts, %v in one", k, parts[k], whole[k])
		}
	}
}

// The wanted ends are SciPy 1.17's brentq over the formula of TestRateKnown.
func TestRateIntervalKnown(t *testing.T) {
	for _, c := range []struct {
		n, x             uint64
		alpha, low, high float64
	}{
		{0, 0, 0.05, 0, 1},
		{100, 1, 0.05, math.SmallestNonzeroFloat64, 0.07134334194},
		{1000, 10, 0.025, 0.002793519846, 0.02399363848},
		{50000, 50, 0.01, 0.0005651005033, 0.001594537427},
		{20, 20, 0.05, 0.8104694453, 1},
		{300, 0, 0.05, 0, 0.01407408171},
	} {
		low, high := RateInterval(c.n, c.x, c.alpha, c.alpha)
		if !near(low, c.low, 1e-9) || !near(high, c.high, 1e-9) || low == 0 && c.x > 0 {
			t.Errorf("%d of %d: [%.10g, %.10g], want [%.10g, %.10g]", c.x, c.n, low, high, c.low, c.high)
		}
	}
}

// An interval that holds at all times is wider than one that holds once.
func TestRateIntervalContainsClopperPearson(t *testing.T) {
	var file struct {
		Cases []struct {
			ID  string
			In  struct{ X1, N1, X2, N2 uint64 }
			Out map[string]any
		}
	}
	readCases(t, "two_proportion_tests_and_cis.json", &file)
	for _, c := range file.Cases {
		for name, count := range map[string][2]uint64{"ci1_beta_0.95": {c.In.N1, c.In.X1}, "ci2_beta_0.95": {c.In.N2, c.In.X2}} {
			once := c.Out[name].([]any)
			low, high := RateInterval(count[0], count[1], 0.025, 0.025)
			if low > once[0].(float64) || high < once[1].(float64) {
				t.Errorf("%s: [%v, %v] for %v: must contain %v", c.ID, low, high, count, once)
			}
		}
	}
}

func TestRateIntervalIsWhatTheTestsSay(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for range 3000 {
		n := uint64(math.Exp(rng.Float64() * math.Log(1e12)))
		truth := math.Exp(-rng.Float64() * 9)
		x := min(uint64(float64(n)*truth*rng.Float64()*2), n)
		limit := min(truth*math.Exp(rng.NormFloat64()*0.3), 1)
		if rng.IntN(20) == 0 {
			limit = float64(rng.IntN(2))
		}
		alphaLow, alphaHigh := rng.Float64()*0.1, rng.Float64()*0.1
		low, high := RateInterval(n, x, alphaLow, alphaHigh)
		above, below := logRate(limit, Above, n, x)-Threshold(alphaLow), logRate(limit, Below, n, x)-Threshold(alphaHigh)
		if math.Abs(above) > 1e-6 && (low > limit) != (above >= 0) {
			t.Fatalf("%d of %d, limit %v: low %v, log capital over the threshold %v", x, n, limit, low, above)
		}
		if math.Abs(below) > 1e-6 && (high < limit) != (below >= 0) {
			t.Fatalf("%d of %d, limit %v: high %v, log capital over the threshold %v", x, n, limit, high, below)
		}
		if p := float64(x) / float64(n); !(0 <= low && low <= p && p <= high && high <= 1) {
			t.Fatalf("%d of %d: [%v, %v]: must contain the estimate", x, n, low, high)
		}
	}
}

func TestRateIntervalIsMonotone(t *testing.T) {
	for _, n := range []uint64{1, 50, 10000} {
		lastLow, lastHigh := -1.0, -1.0
		for x := uint64(0); x <= n; x += max(n/50, 1) {
			low, high := RateInterval(n, x, 0.05, 0.05)
			if low < lastLow || high < lastHigh {
				t.Errorf("%d of %d: [%v, %v] after [%v, %v]", x, n, low, high, lastLow, lastHigh)
			}
			lastLow, lastHigh = low, high
		}
	}
	wideLow, wideHigh := RateInterval(1000, 20, 0.01, 0.01)
	low, high := RateInterval(1000, 20, 0.1, 0.1)
	if wideLow >= low || wideHigh <= high {
		t.Errorf("[%v, %v] at 1 %% each, [%v, %v] at 10 %% each", wideLow, wideHigh, low, high)
	}
	if low, high := RateInterval(1000, 20, 0, 0); low != 0 || high != 1 {
		t.Errorf("[%v, %v] at no level", low, high)
	}
}

func FuzzRate(f *testing.F) {
	f.Add(0.01, uint64(1000), uint64(10), 0.05, 0.01)
	f.Add(math.Inf(1), uint64(1), uint64(2), math.NaN(), -1.0)
	f.Fuzz(func(t *testing.T, limit float64, n, x uint64, alpha, truth float64) {
		for _, side := range []Side{Above, Below} {
			if got := logRate(limit, side, n, x); math.IsNaN(got) || math.IsInf(got, 0) {
				t.Errorf("log capital %v", got)
			}
			r := NewRate(limit, side)
			if got := r.Needed(alpha, truth); math.IsNaN(got) || got < 1 {
				t.Errorf("needed %v", got)
			}
			r.Smallest(alpha, float64(n), truth)
		}
		low, high := RateInterval(n, x, alpha, alpha)
		if !(0 <= low && low <= high && high <= 1) {
			t.Errorf("[%v, %v]", low, high)
		}
	})
}
