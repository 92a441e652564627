package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// logShare is the log capital of a fresh test.
func logShare(m Margin, side Side, w float64, units, xc, xs uint64) float64 {
	s := NewShare(m, side)
	logs := make([]float64, s.Bets())
	s.Add(logs, w, units, xc, xs)
	return LogMix(logs)
}

// The wanted values are SciPy 1.17's logsumexp(binom.logpmf(xc, xc+xs, t1) -
// binom.logpmf(xc, xc+xs, t0)) - log(len(r)), where t0 = u/(1+u), t1 = r u/(1 + r
// u), u = w rho/(1-w): a ratio margin's test is the binomial one.
func TestShareKnownRatio(t *testing.T) {
	for _, c := range []struct {
		w            float64
		xc, xs       uint64
		rho          float64
		above, below float64
	}{
		{0.1, 20, 90, 1, 1.80103624502, -1.64017256683},
		{0.5, 8, 3, 1, 0.415750999724, -1.01171320698},
		{0.01, 3, 20, 1.5, 2.45090564281, -0.976753757983},
		{0.9, 100, 2, 2, 0.666143182329, -1.15501560108},
		{0.25, 0, 40, 1, -1.95166469884, 9.75833807862},
	} {
		m := Margin{Ratio: c.rho}
		if got := logShare(m, Above, c.w, 1000, c.xc, c.xs); !near(got, c.above, 1e-9) {
			t.Errorf("%+v: above %.12g", c, got)
		}
		if got := logShare(m, Below, c.w, 1000, c.xc, c.xs); !near(got, c.below, 1e-9) {
			t.Errorf("%+v: below %.12g", c, got)
		}
	}
}

// The wanted values are sums over units of log factors, and SciPy 1.17's brentq
// over them at 1/40.
func TestShareKnownPoints(t *testing.T) {
	for _, c := range []struct {
		w                       float64
		units, xc, xs           uint64
		delta                   float64
		above, below, low, high float64
	}{
		{0.1, 1000, 10, 20, 0.005, 3.28586473395, -1.42658051182, 0.00287299769, 0.2187716046},
		{0.5, 400, 30, 10, 0.01, 2.73196316802, -1.64234696255, -0.00109984863, 0.2131790796},
		{0.01, 100000, 30, 900, 0.002, 8.67355611765, -2.18853406017, 0.00593410823, 0.04301370337},
		{0.9, 5000, 20, 1, -0.001, 0.207549123326, -0.873470477156, -0.0117036723, 0.007825322564},
	} {
		m := Margin{Points: c.delta}
		if got := logShare(m, Above, c.w, c.units, c.xc, c.xs); !near(got, c.above, 1e-9) {
			t.Errorf("%+v: above %.12g", c, got)
		}
		if got := logShare(m, Below, c.w, c.units, c.xc, c.xs); !near(got, c.below, 1e-9) {
			t.Errorf("%+v: below %.12g", c, got)
		}
		low, high := ShareInterval(c.w, c.units, c.xc, c.xs, false, 1.0/40, 1.0/40)
		if !near(low, c.low, 1e-9) || !near(high, c.high, 1e-9) {
			t.Errorf("%+v: [%.10g, %.10g]", c, low, high)
		}
	}
}

var margins = []Margin{{}, {Points: 0.005}, {Points: 0.2}, {Points: -0.01}, {Ratio: 1.5}, {Ratio: 0.5}, {Ratio: 1.2, Points: 0.01}}

// boundaryRates are pairs (pc, ps) at the margin m.
func boundaryRates(m Margin) [][2]float64 {
	var pairs [][2]float64
	for _, ps := range []float64{0, 0.001, 0.05, 0.3, 0.66, 1} {
		if pc := m.ratio()*ps + m.Points; pc >= 0 && pc <= 1 {
			pairs = append(pairs, [2]float64{pc, ps})
		}
	}
	return pairs
}

// TestShareExpectsNoGain sums over what one unit can do, for each bet: at the
// margin and within it the expected factor is at most 1, whatever stable's rate
// is. Units that differ, bursts and weights that change follow, as a product.
func TestShareExpectsNoGain(t *testing.T) {
	for _, m := range margins {
		for _, side := range []Side{Above, Below} {
			s := NewShare(m, side)
			for _, w := range []float64{0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999} {
				table := s.newTable(w)
				for _, p := range boundaryRates(m) {
					for _, inside := range []float64{0, 0.3, 1} {
						pc, ps := p[0]*(1-inside), p[1]
						if side == Below {
							pc = p[0] + (1-p[0])*inside
						}
						for k := range s.Bets() {
							every := math.Exp(table.every[k])
							e := every * (w*(pc*math.Exp(table.candidate[k])+1-pc) + (1-w)*(ps*math.Exp(table.stable[k])+1-ps))
							if !(e <= 1+1e-9) {
								t.Errorf("%+v side %v w %v rates %v, %v bet %d: expected factor %v", m, side, w, pc, ps, k, e)
							}
							if inside == 0 && e < 1-1e-9 {
								t.Errorf("%+v side %v w %v rates %v, %v bet %d: expected factor %v at the margin", m, side, w, pc, ps, k, e)
							}
						}
					}
				}
			}
		}
	}
}

// With copies each request goes to the candidate and with probability P to
// stable too. The two fail independently, or together as far as they can.
func TestShareExpectsNoGainFromCopies(t *testing.T) {
	for _, m := range []Margin{{}, {Points: 0.005}, {Points: 0.05}, {Ratio: 1.5}} {
		for _, side := range []Side{Above, Below} {
			s := NewShare(m, side)
			for _, part := range []float64{0.01, 0.1, 0.5, 1} {
				table := s.newTable(1 / (1 + part))
				for _, p := range boundaryRates(m) {
					pc, ps := p[0], p[1]
					for _, both := range []float64{pc * ps, min(pc, ps)} {
						for k := range s.Bets() {
							a, b := math.Exp(table.candidate[k])-1, math.Exp(table.stable[k])-1
							every := math.Exp(table.every[k])
							alone := (1 + a*pc) * every
							pair := (1 + a*pc + b*ps + a*b*both) * every * every
							if e := (1-part)*alone + part*pair; !(e <= 1+1e-9) {
								t.Errorf("%+v side %v copies %v rates %v, %v (both %v) bet %d: expected factor %v",
									m, side, part, pc, ps, both, k, e)
							}
						}
					}
				}
			}
		}
	}
}

// TestShareEverWrong sums the probability of all paths of events that ever
// reach the threshold when both rates are equal: given an event, it is the
// candidate's with a probability that only the share decides.
func TestShareEverWrong(t *testing.T) {
	const events, alpha = 400, 0.05
	for _, w := range []float64{0.01, 0.1, 0.5, 0.9} {
		for _, side := range []Side{Above, Below} {
			s := NewShare(Margin{}, side)
			logs := make([]float64, s.Bets())
			alive := make([]float64, events+2)
			alive[0] = 1
			wrong := 0.0
			for i := 1; i <= events; i++ {
				for x := i; x >= 0; x-- {
					p := alive[x] * (1 - w)
					if x > 0 {
						p += alive[x-1] * w
					}
					if alive[x] = p; p > 1e-15 {
						clear(logs)
						if s.Add(logs, w, uint64(i), uint64(x), uint64(i-x)); Reached(logs, Threshold(alpha)) {
							wrong, alive[x] = wrong+p, 0
						}
					}
				}
			}
			few := side == Below && w == 0.01 // too few events to show anything
			if wrong > alpha || wrong < alpha/50 && !few {
				t.Errorf("w %v, side %v: ever wrong within %d events with probability %v, promised %v", w, side, events, wrong, alpha)
			}
		}
	}
}

func TestShareAtTheEnds(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	shown := Threshold(1e-9)
	for _, c := range []struct {
		name          string
		m             Margin
		side          Side
		w             float64
		units, xc, xs uint64
		shown         bool
	}{
		{"nothing", Margin{}, Above, 0.5, 0, 0, 0, false},
		{"no share", Margin{}, Above, 0, 1e6, 1e6, 0, false},
		{"whole share", Margin{}, Above, 1, 1e6, 1e6, 0, false},
		{"share beyond the whole", Margin{}, Above, 1.2, 1e6, 1e6, 0, false},
		{"share is no number", Margin{}, Above, nan, 1e6, 1e6, 0, false},
		{"points are no number", Margin{Points: nan}, Above, 0.5, 1e6, 1e6, 0, false},
		{"ratio is no number", Margin{Ratio: nan}, Below, 0.5, 1e6, 0, 1e6, false},
		{"ratio without end", Margin{Ratio: inf}, Above, 0.5, 100, 100, 0, false},
		{"all points, above", Margin{Points: 1}, Above, 0.5, 1e12, 5e11, 0, false},
		{"all points, below", Margin{Points: 1}, Below, 0.5, 1e12, 5e11, 5e11, true},
		{"1e12 units, 1 % more than twice", Margin{Ratio: 2}, Above, 0.1, 1e12, 2.3e8, 1e9, true},
		{"1e12 units, equal", Margin{}, Above, 0.1, 1e12, 1e8, 9e8, false},
		{"1e12 units, equal, half a point", Margin{Points: 0.005}, Below, 0.1, 1e12, 1e8, 9e8, true},
		{"all bad on the candidate", Margin{}, Above, 0.01, 1e6, 1e4, 0, true},
		{"almost no share", Margin{}, Above, 1e-12, 1e12, 20, 0, true},
		{"almost the whole", Margin{}, Below, 1 - 1e-12, 1e12, 0, 20, true},
		{"more events than units", Margin{Points: 0.5}, Below, 0.5, 0, 0, 10, false},
		{"less than any", Margin{Ratio: 0.001, Points: -50}, Above, 0.5, 1e12, 0, 0, true},
		{"every count there is", Margin{}, Above, 0.5, math.MaxUint64, math.MaxUint64, math.MaxUint64, false},
	} {
		got := logShare(c.m, c.side, c.w, c.units, c.xc, c.xs)
		if math.IsNaN(got) || math.IsInf(got, 0) {
			t.Errorf("%s: log capital %v", c.name, got)
		}
		if got >= shown != c.shown {
			t.Errorf("%s: log capital %v: shown must be %v", c.name, got, c.shown)
		}
	}
}

func TestShareCountsEachEventAsAUnit(t *testing.T) {
	for _, m := range margins {
		if got, want := logShare(m, Above, 0.5, 3, 20, 10), logShare(m, Above, 0.5, 30, 20, 10); got != want {
			t.Errorf("%+v: log capital %v of 3 units with 30 events, %v of 30", m, got, want)
		}
	}
	low, high := ShareInterval(0.5, 3, 20, 10, false, 0.05, 0.05)
	if wantLow, wantHigh := ShareInterval(0.5, 30, 20, 10, false, 0.05, 0.05); low != wantLow || high != wantHigh {
		t.Errorf("[%v, %v] of 3 units with 30 events, [%v, %v] of 30", low, high, wantLow, wantHigh)
	}
}

func TestShareGoesOnWhenTheShareChanges(t *testing.T) {
	s := NewShare(Margin{Points: 0.005}, Above)
	logs, sum := make([]float64, s.Bets()), make([]float64, s.Bets())
	for _, c := range []struct {
		w             float64
		units, xc, xs uint64
	}{{0.01, 1000, 1, 9}, {0.1, 5000, 20, 40}, {0.5, 10000, 70, 50}, {0.1, 10, 0, 1}} {
		s.Add(logs, c.w, c.units, c.xc, c.xs)
		fresh := make([]float64, s.Bets())
		NewShare(Margin{Points: 0.005}, Above).Add(fresh, c.w, c.units, c.xc, c.xs)
		for k := range sum {
			sum[k] += fresh[k]
		}
	}
	for k := range sum {
		if !near(logs[k], sum[k], 1e-12) {
			t.Errorf("bet %d: %v, want %v", k, logs[k], sum[k])
		}
	}
}

func TestShareIntervalIsWhatTheTestsSay(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	for i := range 3000 {
		w := []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.99}[rng.IntN(6)]
		units := uint64(math.Exp(rng.Float64() * math.Log(1e12)))
		p := math.Exp(-rng.Float64() * 8)
		xc := uint64(float64(units) * w * p * rng.Float64() * 2)
		xs := min(uint64(float64(units)*(1-w)*p*rng.Float64()*2), units-min(xc, units))
		alphaLow, alphaHigh := rng.Float64()*0.1, rng.Float64()*0.1
		ratio := i%2 == 0
		low, high := ShareInterval(w, units, xc, xs, ratio, alphaLow, alphaHigh)
		m := Margin{Points: min(max(p*rng.NormFloat64(), -0.99), 0.99)}
		at := m.Points
		if ratio {
			m = Margin{Ratio: math.Exp(rng.NormFloat64())}
			at = m.Ratio
		}
		above := logShare(m, Above, w, units, xc, xs) - Threshold(alphaLow)
		below := logShare(m, Below, w, units, xc, xs) - Threshold(alphaHigh)
		if math.Abs(above) > 1e-5 && (low > at) != (above >= 0) {
			t.Fatalf("w %v, %d and %d of %d, margin %+v: low %v, log capital over the threshold %v", w, xc, xs, units, m, low, above)
		}
		if math.Abs(below) > 1e-5 && (high < at) != (below >= 0) {
			t.Fatalf("w %v, %d and %d of %d, margin %+v: high %v, log capital over the threshold %v", w, xc, xs, units, m, high, below)
		}
		if !(low <= high) {
			t.Fatalf("w %v, %d and %d of %d: [%v, %v]", w, xc, xs, units, low, high)
		}
	}
}

func TestShareIntervalOfNothing(t *testing.T) {
	for _, c := range []struct {
		w     float64
		units uint64
	}{{0.5, 0}, {0, 10}, {1, 10}, {math.NaN(), 10}, {-1, 10}} {
		low, high := ShareInterval(c.w, c.units, 0, 0, false, 0.05, 0.05)
		lowRatio, highRatio := ShareInterval(c.w, c.units, 0, 0, true, 0.05, 0.05)
		if low != -1 || high != 1 || lowRatio != 0 || !math.IsInf(highRatio, 1) {
			t.Errorf("w %v, %d units: [%v, %v] and ratio [%v, %v]", c.w, c.units, low, high, lowRatio, highRatio)
		}
	}
	if low, high := ShareInterval(0.5, 1e6, 0, 0, false, 0.05, 0.05); low > -1e-6 || low < -1e-4 || high < 1e-6 || high > 1e-4 {
		t.Errorf("a million units without events: [%v, %v]", low, high)
	}
	if low, high := ShareInterval(0.5, 1e6, 40, 0, true, 0.05, 0.05); low < 5 || !math.IsInf(high, 1) {
		t.Errorf("40 events on the candidate alone: ratio [%v, %v]", low, high)
	}
	if low, high := ShareInterval(0.5, 1e6, 0, 40, true, 0.05, 0.05); low != 0 || high > 0.2 {
		t.Errorf("40 events on stable alone: ratio [%v, %v]", low, high)
	}
}

func FuzzShare(f *testing.F) {
	f.Add(0.005, 1.5, 0.1, uint64(1000), uint64(3), uint64(10), 0.05)
	f.Add(math.Inf(1), math.Inf(1), 1e-300, uint64(1), uint64(2), uint64(math.MaxUint64), math.NaN())
	f.Fuzz(func(t *testing.T, points, ratio, w float64, units, xc, xs uint64, alpha float64) {
		m := Margin{Points: points, Ratio: ratio}
		for _, side := range []Side{Above, Below} {
			if got := logShare(m, side, w, units, xc, xs); math.IsNaN(got) || math.IsInf(got, 0) {
				t.Errorf("log capital %v", got)
			}
			s := NewShare(m, side)
			if got := s.Needed(alpha, w, points, ratio); math.IsNaN(got) || got < 1 {
				t.Errorf("needed %v", got)
			}
			s.Smallest(alpha, w, float64(units), ratio, points)
		}
		low, high := ShareInterval(w, units, xc, xs, false, alpha, alpha)
		if !(-1 <= low && low <= high && high <= 1) {
			t.Errorf("[%v, %v]", low, high)
		}
		if low, high = ShareInterval(w, units, xc, xs, true, alpha, alpha); !(0 <= low && low <= high) {
			t.Errorf("ratio [%v, %v]", low, high)
		}
	})
}
