package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// hits are the numbers of units after which runs of a test reached its
// threshold, sorted, with looks each step; +Inf when not within 8 times needed.
func hits(runs int, needed float64, seed uint64, bets int, threshold float64, add func(rng *rand.Rand, logs []float64, units uint64)) []float64 {
	step := uint64(max(needed/100, 1))
	logs := make([]float64, bets)
	found := make([]float64, runs)
	for run := range runs {
		rng := rand.New(rand.NewPCG(seed, uint64(run)))
		clear(logs)
		found[run] = math.Inf(1)
		for n := step; float64(n) < 8*needed && needed < most; n += step {
			if add(rng, logs, step); Reached(logs, threshold) {
				found[run] = float64(n)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

// draw is a Poisson number, which is what rare events among many units are.
func draw(rng *rand.Rand, mean float64) uint64 {
	if mean <= 0 {
		return 0
	}
	return uint64(distuv.Poisson{Lambda: mean, Src: rng}.Rand())
}

func (s *Share) hits(runs int, alpha, w, pc, ps float64) (needed float64, found []float64) {
	needed = s.Needed(alpha, w, pc, ps)
	return needed, hits(runs, needed, 1, s.Bets(), Threshold(alpha), func(rng *rand.Rand, logs []float64, units uint64) {
		s.Add(logs, w, units, draw(rng, float64(units)*w*pc), draw(rng, float64(units)*(1-w)*ps))
	})
}

func (r *Rate) hits(runs int, alpha, p float64) (needed float64, found []float64) {
	needed = r.Needed(alpha, p)
	return needed, hits(runs, needed, 2, r.Bets(), Threshold(alpha), func(rng *rand.Rand, logs []float64, n uint64) {
		r.Add(logs, n, draw(rng, float64(n)*p))
	})
}

// comparisons are what a test of shares is measured with: rates that break or
// keep a margin.
func comparisons(ps float64) []struct {
	margin Margin
	side   Side
	pc     float64
} {
	return []struct {
		margin Margin
		side   Side
		pc     float64
	}{
		{Margin{}, Above, 2 * ps},
		{Margin{Points: 0.005}, Above, ps + 0.015},
		{Margin{Ratio: 1.5}, Above, 3 * ps},
		{Margin{Points: 0.005}, Below, ps},
		{Margin{Ratio: 1.5}, Below, ps},
	}
}

func level(side Side) float64 {
	if side == Below {
		return 0.05
	}
	return 0.01
}

func TestNeededIsWhatIsNeeded(t *testing.T) {
	const runs = 150
	check := func(name string, needed, more float64, found []float64) {
		t.Helper()
		median := found[runs/2]
		late, _ := slices.BinarySearch(found, more)
		t.Logf("%s: needed %.0f, median %.0f; within %.0f found %.2f", name, needed, median, more, float64(late)/runs)
		if median > 1.25*needed || median < 0.6*needed {
			t.Errorf("%s: needed %v, but the median is %v", name, needed, median)
		}
		if part := float64(late) / runs; part < 0.8 {
			t.Errorf("%s: within %v found %v, promised 0.9", name, more, part)
		}
	}
	for _, ps := range []float64{0.001, 0.05} {
		for _, w := range []float64{0.1, 0.9} {
			for _, c := range comparisons(ps) {
				s := NewShare(c.margin, c.side)
				alpha := level(c.side)
				needed, found := s.hits(runs, alpha, w, c.pc, ps)
				name := fmt.Sprintf("share %v of %v at %v, %+v side %v", w, ps, c.pc, c.margin, c.side)
				check(name, needed, s.NeededFor(alpha, w, c.pc, ps, 0.9), found)
			}
		}
	}
	for _, c := range []struct {
		limit, p float64
		side     Side
	}{{0.01, 0.02, Above}, {0.01, 0.04, Above}, {0.001, 0.05, Above}, {0.01, 0.005, Below}, {0.05, 0.04, Below}} {
		r := NewRate(c.limit, c.side)
		alpha := level(c.side)
		needed, found := r.hits(runs, alpha, c.p)
		check(fmt.Sprintf("rate %v against %v", c.p, c.limit), needed, r.NeededFor(alpha, c.p, 0.9), found)
	}
}

func TestNeededKnown(t *testing.T) {
	inf := math.Inf(1)
	rate := NewRate(0.01, Below)
	// Without bad requests the capital is the mean of (1 + (r-1) m)^-n.
	n := rate.Needed(0.05, 0)
	if logRate(0.01, Below, uint64(n), 0) < Threshold(0.05) || logRate(0.01, Below, uint64(n)-1, 0) >= Threshold(0.05) {
		t.Errorf("a clean candidate needs %v requests: it is not the first count", n)
	}
	for name, got := range map[string]float64{
		"a rate at the limit":        NewRate(0.01, Above).Needed(0.01, 0.01),
		"a rate that keeps it":       NewRate(0.01, Above).Needed(0.01, 0.002),
		"a rate that breaks it":      rate.Needed(0.01, 0.02),
		"no level":                   rate.Needed(0, 0),
		"equal rates":                NewShare(Margin{}, Above).Needed(0.01, 0.1, 0.02, 0.02),
		"equal rates without margin": NewShare(Margin{}, Below).Needed(0.01, 0.1, 0.02, 0.02),
		"no share":                   NewShare(Margin{}, Above).Needed(0.01, 0, 1, 0),
		"the whole share":            NewShare(Margin{}, Above).Needed(0.01, 1, 1, 0),
		"no values":                  QuantileNeeded(new(Histogram), 0.5, 1, 0.05, Below),
		"a mean of no values":        MeanNeeded(new(Histogram), 10, 1, 0.05, Below),
	} {
		if got != inf {
			t.Errorf("%s: needed %v, want +Inf", name, got)
		}
	}
	if got := rate.Needed(1, 0); got != 1 {
		t.Errorf("at level 1: needed %v", got)
	}
}

// A test that may be looked at all the time needs more than one that is looked
// at once, but not many times more.
func TestNeededAgainstOneLook(t *testing.T) {
	var file struct {
		Cases []struct {
			ID string
			In struct {
				Baseline, P2, Alpha, Power float64
				Ratio                      float64 `json:"ratio_n2_over_n1"`
			}
			Out struct {
				N1 float64 `json:"n1_pooled"`
			}
		}
	}
	readCases(t, "sample_size_two_proportions.json", &file)
	for _, c := range file.Cases {
		once := c.Out.N1 * (1 + c.In.Ratio)
		w := c.In.Ratio / (1 + c.In.Ratio) // the second group is the candidate
		s := NewShare(Margin{}, Above)
		got := s.NeededFor(c.In.Alpha/2, w, c.In.P2, c.In.Baseline, c.In.Power)
		// Only events count: the variance is 1/(1-p) of the least.
		times := got / once * (1 - c.In.Baseline)
		t.Logf("%s: %.0f units looking always, %.0f looking once", c.ID, got, once)
		if times < 0.9 || times > 3 {
			t.Errorf("%s: %v units, %v times those of one look", c.ID, got, times)
		}
	}
}

func TestSmallestIsWhatNeededSays(t *testing.T) {
	for _, power := range []float64{0.5, 0.9} {
		for _, n := range []float64{2000, 1e5, 1e8} {
			for _, side := range []Side{Above, Below} {
				r := NewRate(0.01, side)
				p := r.Smallest(0.01, n, power)
				if got := r.NeededFor(0.01, p, power); math.Abs(got/n-1) > 0.01 {
					t.Errorf("rate, side %v: %v needs %v requests, want %v", side, p, got, n)
				}
				s := NewShare(Margin{Points: 0.005}, side)
				pc := s.Smallest(0.01, 0.25, 20*n, 0.01, power)
				if got := s.NeededFor(0.01, 0.25, pc, 0.01, power); math.Abs(got/(20*n)-1) > 0.01 {
					t.Errorf("share, side %v: %v needs %v units, want %v", side, pc, got, 20*n)
				}
			}
		}
	}
	if got := NewRate(0.01, Below).Smallest(0.01, 10, 0.5); !math.IsNaN(got) {
		t.Errorf("ten requests show that a rate is below 1 %%, if it is %v", got)
	}
	if got := NewShare(Margin{}, Above).Smallest(0.01, 1, 1000, 0.01, 0.5); !math.IsNaN(got) {
		t.Errorf("without stable %v is found", got)
	}
}

func TestQuantilesAndMeansNeeded(t *testing.T) {
	h := histogram(lognormals(5, 20000, -2, 0.7)...)
	q := h.Quantile(0.99)
	for _, c := range []struct {
		name        string
		needed      float64
		shown       func(scale float64) bool
		least, most float64
	}{
		{"p99 below 1.3 of it", QuantileNeeded(h, 0.99, 1.3*q, 0.05, Below), func(s float64) bool {
			_, high := h.quantileInterval(0.99, 0, 0.05, s)
			return high < 1.3*q
		}, 300, 20000},
		{"p99 above 0.7 of it", QuantileNeeded(h, 0.99, 0.7*q, 0.01, Above), func(s float64) bool {
			low, _ := h.quantileInterval(0.99, 0.01, 0, s)
			return low > 0.7*q
		}, 300, 20000},
		{"mean below 1.1 of it", MeanNeeded(h, 2, 1.1*h.Mean(2), 0.05, Below), func(s float64) bool {
			_, high := h.meanInterval(2, 0, 0.05, s)
			return high < 1.1*h.Mean(2)
		}, 100, 20000},
		{"mean above 0.9 of it", MeanNeeded(h, 2, 0.9*h.Mean(2), 0.01, Above), func(s float64) bool {
			low, _ := h.meanInterval(2, 0.01, 0, s)
			return low > 0.9*h.Mean(2)
		}, 100, 20000},
	} {
		t.Logf("%s: %.0f values", c.name, c.needed)
		if c.needed < c.least || c.needed > c.most {
			t.Errorf("%s: needed %v, want %v to %v", c.name, c.needed, c.least, c.most)
		}
		if !c.shown(1.1*c.needed/20000) || c.shown(0.9*c.needed/20000) {
			t.Errorf("%s: needed %v, but the intervals do not say so", c.name, c.needed)
		}
	}
	if got := QuantileNeeded(h, 0.99, q/2, 0.05, Below); !math.IsInf(got, 1) {
		t.Errorf("p99 below half of it: needed %v", got)
	}
}

func TestRelativeNeeded(t *testing.T) {
	s := histogram(lognormals(6, 30000, -2, 0.7)...)
	slow := histogram(lognormals(7, 30000, -2+math.Log(1.5), 0.7)...)
	m := Margin{Ratio: 1.1}
	for name, c := range map[string]struct{ got, least, most float64 }{
		"p99 safe":          {RelativeQuantileNeeded(s, s, 0.25, 0.99, m, 0.05, Below), 3e4, 3e6},
		"p99 breach":        {RelativeQuantileNeeded(slow, s, 0.25, 0.99, m, 0.01, Above), 5e3, 3e5},
		"p50 breach":        {RelativeQuantileNeeded(slow, s, 0.25, 0.5, m, 0.01, Above), 300, 1e4},
		"mean safe":         {RelativeMeanNeeded(s, s, 0.25, 2, m, 0.05, Below), 1e3, 1e5},
		"mean breach":       {RelativeMeanNeeded(slow, s, 0.25, 2, m, 0.01, Above), 300, 1e4},
		"smallest p99 harm": {SmallestQuantileHarm(s, 0.25, 1e5, 0.99, m, 0.01), 1.15, 1.6},
		"smallest mean":     {SmallestMeanHarm(s, 0.25, 1e5, 2, m, 0.01), 1.11, 1.25},
	} {
		t.Logf("%s: %.4g", name, c.got)
		if c.got < c.least || c.got > c.most {
			t.Errorf("%s: %v, want %v to %v", name, c.got, c.least, c.most)
		}
	}
	inf := math.Inf(1)
	for name, got := range map[string]float64{
		"equal, breach":   RelativeMeanNeeded(s, s, 0.25, 2, m, 0.01, Above),
		"slow, safe":      RelativeQuantileNeeded(slow, s, 0.25, 0.99, m, 0.05, Below),
		"no stable":       RelativeQuantileNeeded(s, s, 1, 0.99, m, 0.05, Below),
		"harm, no values": SmallestMeanHarm(new(Histogram), 0.25, 1e5, 2, m, 0.01),
		"harm, too few":   SmallestQuantileHarm(s, 0.25, 10, 0.99, m, 0.01),
	} {
		if got != inf {
			t.Errorf("%s: %v, want +Inf", name, got)
		}
	}
}

// TestRelativeNeededIsWhatTheIntervalsSay asks two intervals, each at half the
// level, just before and just after the number that is needed.
func TestRelativeNeededIsWhatTheIntervalsSay(t *testing.T) {
	const w, q, alpha = 0.25, 0.99, 0.05
	s := histogram(lognormals(6, 30000, -2, 0.7)...)
	slow := histogram(lognormals(7, 30000, -2+math.Log(1.5), 0.7)...)
	m := Margin{Ratio: 1.1}
	breach := func(n float64) bool {
		low, _ := slow.quantileInterval(q, alpha/2, 0, n*w/30000)
		_, high := s.quantileInterval(q, 0, alpha/2, n*(1-w)/30000)
		return low > 1.1*high
	}
	safe := func(n float64) bool {
		_, high := s.meanInterval(2, 0, alpha/2, n*w/30000)
		low, _ := s.meanInterval(2, alpha/2, 0, n*(1-w)/30000)
		return high <= 1.1*low
	}
	n := RelativeQuantileNeeded(slow, s, w, q, m, alpha, Above)
	if breach(0.99*n) || !breach(1.01*n) {
		t.Errorf("breach: needed %v, but the intervals do not say so", n)
	}
	n = RelativeMeanNeeded(s, s, w, 2, m, alpha, Below)
	if safe(0.99*n) || !safe(1.01*n) {
		t.Errorf("safe: needed %v, but the intervals do not say so", n)
	}
}

func TestRelative(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		ratio     bool
		in        [4]float64
		low, high float64
	}{
		{true, [4]float64{2, 3, 1, 4}, 0.5, 3},
		{false, [4]float64{2, 3, 1, 4}, -2, 2},
		{true, [4]float64{0, 3, 0, 4}, 0, inf},
		{true, [4]float64{0, inf, 0, inf}, 0, inf},
		{false, [4]float64{0, inf, 0, inf}, -inf, inf},
		{true, [4]float64{2, inf, 1, inf}, 0, inf},
	} {
		if low, high := Relative(c.ratio, c.in[0], c.in[1], c.in[2], c.in[3]); low != c.low || high != c.high {
			t.Errorf("%+v: [%v, %v]", c, low, high)
		}
	}
}
