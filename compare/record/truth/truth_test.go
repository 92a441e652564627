package truth

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/stats"
)

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }

func TestConfusion(t *testing.T) {
	var c, d Confusion
	for i, m := range []struct{ predicted, actual bool }{
		{true, true}, {true, true}, {true, true}, {true, false}, {false, true}, {false, true}, {false, false}, {false, false}, {false, false}, {false, false},
	} {
		if i < 5 {
			c.Add(m.predicted, m.actual)
		} else {
			d.Add(m.predicted, m.actual)
		}
	}
	c.Merge(d)
	for name, m := range map[string]struct{ got, want Part }{
		"accuracy": {c.Accuracy(), Part{10, 7}}, "precision": {c.Precision(), Part{4, 3}}, "recall": {c.Recall(), Part{5, 3}},
	} {
		if m.got != m.want {
			t.Errorf("%s %+v, want %+v", name, m.got, m.want)
		}
	}
	if rate, ok := c.Precision().Estimate(); rate != 0.75 || !ok {
		t.Errorf("precision %v", rate)
	}
	if _, ok := (Confusion{}).Recall().Estimate(); ok {
		t.Error("a recall of nothing")
	}
	low, high := c.Recall().Interval(0.05, 0.05)
	if wantLow, wantHigh := stats.RateInterval(5, 3, 0.05, 0.05); low != wantLow || high != wantHigh {
		t.Errorf("interval [%v, %v]", low, high)
	}
	var a, b Accuracy
	a.Add(true)
	b.Add(false)
	a.Merge(b)
	if a.Part != (Part{2, 1}) {
		t.Errorf("%+v", a)
	}
}

// The capital of one comparison cannot be expected to grow at the limit, nor on
// its good side.
func TestBalanceExpectsNoGain(t *testing.T) {
	for _, limit := range []float64{-0.5, -0.02, 0, 0.1, 0.9} {
		for _, ties := range []float64{0, 0.5, 0.99} {
			wins := ((1 - ties) + limit) / 2
			losses := 1 - ties - wins
			if wins < 0 || losses < 0 {
				continue
			}
			for _, side := range []stats.Side{stats.Above, stats.Below} {
				expected := 0.0
				for _, c := range []struct {
					p float64
					b Balance
				}{{wins, Balance{Wins: 1}}, {losses, Balance{Losses: 1}}, {ties, Balance{Ties: 1}}} {
					logs := make([]float64, BalanceTest{}.Bets())
					NewBalanceTest(limit, side).Add(logs, c.b)
					expected += c.p * math.Exp(stats.LogMix(logs))
				}
				if !near(expected, 1, 1e-12) {
					t.Errorf("limit %v, ties %v, side %v: %v is expected, want 1", limit, ties, side, expected)
				}
			}
		}
	}
}

// The interval's ends are where the tests fire.
func TestBalanceIntervalInvertsItsTest(t *testing.T) {
	fires := func(b Balance, limit float64, side stats.Side, alpha float64) bool {
		logs := make([]float64, BalanceTest{}.Bets())
		NewBalanceTest(limit, side).Add(logs, b)
		return stats.LogMix(logs) >= stats.Threshold(alpha)
	}
	for _, b := range []Balance{{}, {1, 0, 0}, {0, 5, 0}, {30, 10, 1000}, {100, 400, 500}, {0, 0, 5000}, {5e5, 4e5, 1e8}, {1000, 0, 0}} {
		low, high := b.Interval(0.02, 0.05)
		estimate, _ := b.Estimate()
		if low < -1 || high > 1 || low > estimate || high < estimate {
			t.Errorf("%+v: [%v, %v] around %v", b, low, high, estimate)
		}
		const e = 1e-9
		if low > -1 && (!fires(b, low-e, stats.Above, 0.02) || fires(b, low+e, stats.Above, 0.02)) {
			t.Errorf("%+v: the test Above does not change at %v", b, low)
		}
		if high < 1 && (!fires(b, high+e, stats.Below, 0.05) || fires(b, high-e, stats.Below, 0.05)) {
			t.Errorf("%+v: the test Below does not change at %v", b, high)
		}
	}
	if low, high := (Balance{100, 400, 500}).Interval(0.05, 0.05); low < -0.4 || high > -0.2 {
		t.Errorf("1000 comparisons leave [%v, %v]", low, high)
	}
	if logs := make([]float64, 9); fires(Balance{Wins: 50}, math.NaN(), stats.Above, 0.05) || len(logs) != (BalanceTest{}).Bets() {
		t.Error("a limit that is no number was shown to be broken")
	}
}

func TestIntervalsHoldAtAllTimes(t *testing.T) {
	const runs, steps, every, alpha = 60, 20, 100, 0.1
	r := rand.New(rand.NewPCG(7, 8))
	missed := map[string]int{}
	for range runs {
		var b Balance
		var a AUC
		e := NewErrors(1)
		miss := map[string]bool{}
		for range steps {
			for range every {
				u := r.Float64()
				b.Add(u < 0.07, u > 0.04 && u < 0.06 || u > 0.9) // 0.05 win, 0.1 lose
				// Positives are normal around 1, negatives around 0: the area is Phi(1/sqrt 2).
				positive := r.Float64() < 0.3
				score := r.NormFloat64()
				if positive {
					score++
				}
				a.Add(score, positive)
				e.Add(r.ExpFloat64(), 0)
			}
			check := func(name string, low, high, truth float64) {
				miss[name] = miss[name] || truth < low || truth > high
			}
			low, high := b.Interval(alpha/2, alpha/2)
			check("balance", low, high, -0.05)
			low, high = a.Interval(alpha/2, alpha/2)
			check("auc", low, high, 0.5*math.Erfc(-0.5))
			low, high = e.MAEInterval(10, alpha/2, alpha/2)
			check("mae", low, high, 1-math.Exp(-10))
			low, high = e.RMSEInterval(10, alpha/2, alpha/2)
			check("rmse", low, high, math.Sqrt(2-math.Exp(-10)*(2*10+2)))
		}
		for name, m := range miss {
			if m {
				missed[name]++
			}
		}
		if low, high := b.Interval(alpha/2, alpha/2); high-low > 0.15 {
			t.Fatalf("2000 comparisons leave [%v, %v]", low, high)
		}
		if low, high := a.Interval(alpha/2, alpha/2); high-low > 0.2 {
			t.Fatalf("600 positives leave an area in [%v, %v]", low, high)
		}
	}
	for name, n := range missed {
		if n > runs*alpha {
			t.Errorf("%s: missed in %d of %d runs at alpha %v", name, n, runs, alpha)
		}
	}
}

// naive is the area by comparing each with each.
func naive(positives, negatives []float64) float64 {
	sum := 0.0
	for _, p := range positives {
		for _, n := range negatives {
			if p > n {
				sum++
			} else if p == n {
				sum += 0.5
			}
		}
	}
	return sum / float64(len(positives)) / float64(len(negatives))
}

func TestAUCKnown(t *testing.T) {
	for name, c := range map[string]struct {
		positives, negatives []float64
		want                 float64
	}{
		"scikit-learn's example": {[]float64{0.35, 0.8}, []float64{0.1, 0.4}, 0.75},
		"all tie":                {[]float64{0.5, 0.5}, []float64{0.5}, 0.5},
		"apart":                  {[]float64{2, 3}, []float64{-1, 1}, 1},
		"the wrong way":          {[]float64{-1}, []float64{0, math.Inf(1)}, 0},
		"half tie":               {[]float64{0.3, 0.7}, []float64{0.3}, 0.75},
	} {
		var a AUC
		for _, p := range c.positives {
			a.Add(p, true)
		}
		for _, n := range c.negatives {
			a.Add(n, false)
		}
		area, least, most, ok := a.Estimate()
		if !ok || area != c.want || least != area || most != area {
			t.Errorf("%s: %v in [%v, %v], want %v", name, area, least, most, c.want)
		}
	}
	var a AUC
	if a.Add(math.NaN(), true) {
		t.Error("NaN is a score")
	}
	a.Add(1, true)
	if _, _, _, ok := a.Estimate(); ok {
		t.Error("an area without negatives")
	}
	if low, high := a.Interval(0.05, 0.05); low != 0 || high != 1 {
		t.Errorf("interval [%v, %v]", low, high)
	}
}

func TestAUCOfMany(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for name, draw := range map[string]func(positive bool) float64{
		"near one": func(positive bool) float64 { // as of a model that is very sure
			if positive {
				return 1 - 1e-4*r.ExpFloat64()
			}
			return max(0, 1-2e-4*r.ExpFloat64())
		},
		"near zero": func(positive bool) float64 {
			if positive {
				return 2e-7 * r.ExpFloat64()
			}
			return 1e-7 * r.ExpFloat64()
		},
		"steps": func(positive bool) float64 { return float64(r.IntN(20)+map[bool]int{true: 4}[positive]) / 24 },
		"wide": func(positive bool) float64 { // more cells than there may be
			return math.Exp(20*r.NormFloat64()) * float64(r.IntN(3)-1+map[bool]int{true: 1}[positive])
		},
	} {
		var whole AUC
		parts := [3]AUC{}
		var positives, negatives []float64
		for i := range 3000 {
			positive := r.Float64() < 0.4
			score := draw(positive)
			whole.Add(score, positive)
			parts[i%3].Add(score, positive)
			if positive {
				positives = append(positives, score)
			} else {
				negatives = append(negatives, score)
			}
		}
		want := naive(positives, negatives)
		merged := AUC{}
		for i := range parts {
			merged.Merge(&parts[i])
		}
		var saved AUC
		raw, err := json.Marshal(&merged)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &saved); err != nil {
			t.Fatal(err)
		}
		for which, a := range map[string]*AUC{"whole": &whole, "merged": &merged, "saved": &saved} {
			area, least, most, _ := a.Estimate()
			if want < least-1e-9 || want > most+1e-9 || most-least > 0.02 || !near(area, want, 0.001) {
				t.Errorf("%s, %s: %v in [%v, %v], want %v", name, which, area, least, most, want)
			}
			if p, n := a.N(); int(p) != len(positives) || int(n) != len(negatives) {
				t.Errorf("%s, %s: %d positives, %d negatives", name, which, p, n)
			}
			if len(a.cells) > maxCells || len(a.alone) > maxAlone {
				t.Errorf("%s, %s: %d cells, %d alone", name, which, len(a.cells), len(a.alone))
			}
		}
		if saved.pairs != merged.pairs || merged.pairs.N() < uint64(len(positives)-maxAlone) || merged.pairs.N() == 0 {
			t.Errorf("%s: pairs %+v and %+v", name, saved.pairs, merged.pairs)
		}
	}
}

// Cells are in the order of the scores.
func TestCellsAreInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	scores := []float64{math.Inf(-1), -math.MaxFloat64, -1, -0.5, -5e-324, 0, math.Copysign(0, -1), 5e-324, 0.25, 0.5, math.Nextafter(0.5, 1), 0.75,
		math.Nextafter(1, 0), 1, 2, math.MaxFloat64, math.Inf(1)}
	for range 10_000 {
		scores = append(scores, r.NormFloat64(), r.Float64(), 1-r.Float64()/1000)
	}
	slices.Sort(scores)
	for i := 1; i < len(scores); i++ {
		if a, b := cellOf(scores[i-1]), cellOf(scores[i]); a > b {
			t.Fatalf("%v is in cell %d, %v in %d", scores[i-1], a, scores[i], b)
		}
	}
	if cellOf(0) != cellOf(math.Copysign(0, -1)) || cellOf(0.9990) == cellOf(0.9991) || cellOf(-1) == cellOf(1) {
		t.Error("wrong cells")
	}
}

func TestErrors(t *testing.T) {
	e, o := NewErrors(1000), NewErrors(1000)
	for _, v := range []struct{ predicted, actual float64 }{{1000, 4000}, {5, 5}, {-1000, 3000}} {
		e.Add(v.predicted, v.actual)
	}
	o.Add(9, 2)
	if o.Add(math.NaN(), 1) || o.Add(math.Inf(1), 1) || o.Add(1e300, -1e300) {
		t.Error("an error that is no number was counted")
	}
	if err := e.Merge(o); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	saved := new(Errors)
	if err := json.Unmarshal(raw, saved); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*Errors{"merged": e, "saved": saved} {
		mae, _ := e.MAE()
		rmse, _ := e.RMSE()
		if want := math.Sqrt((9e6 + 16e6 + 49) / 4); !near(mae, 7007.0/4, 1e-9) || !near(rmse, want, 1e-9) || e.N() != 4 {
			t.Errorf("%s: MAE %v, RMSE %v", name, mae, rmse)
		}
		low, high := e.MAEInterval(10_000, 0.1, 0.1)
		lowR, highR := e.RMSEInterval(10_000, 0.1, 0.1)
		if !(low < mae && mae < high && high < 10_000 && lowR < rmse && rmse < highR && highR < 10_000) {
			t.Errorf("%s: [%v, %v] and [%v, %v]", name, low, high, lowR, highR)
		}
	}
	if _, ok := NewErrors(0).MAE(); ok {
		t.Error("a mean of nothing")
	}
	other := NewErrors(1)
	other.Add(1, 2)
	if err := e.Merge(other); err == nil || err.Error() != "unit: 1: must be 1000" {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(uint64(4), e.N()); diff != "" {
		t.Error(diff)
	}
}
