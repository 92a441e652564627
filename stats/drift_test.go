package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// number is a number in a file of known answers, where "Inf" is one too.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == `"Inf"` {
		*n = number(math.Inf(1))
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

func TestDivergencesKnown(t *testing.T) {
	var file struct {
		Cases []struct {
			ID string
			In struct {
				Expected []uint64 `json:"expected_counts"`
				Actual   []uint64 `json:"actual_counts"`
			}
			Out struct {
				Raw     number `json:"psi_raw"`
				Floor   number `json:"psi_eps_1e4"`
				Laplace number `json:"psi_laplace1"`
				JS      number `json:"js_divergence_ln"`
				KL      number `json:"kl_actual_from_expected_ln"`
				Reverse number `json:"kl_expected_from_actual_ln"`
			}
		}
	}
	readCases(t, "psi_js_kl_from_counts.json", &file)
	if len(file.Cases) < 3 {
		t.Fatal("no cases")
	}
	for _, c := range file.Cases {
		e, a := c.In.Expected, c.In.Actual
		for name, v := range map[string]struct {
			got  float64
			want number
		}{
			"psi raw":     {PSI(e, a, ZeroRaw), c.Out.Raw},
			"psi floor":   {PSI(e, a, ZeroFloor), c.Out.Floor},
			"psi laplace": {PSI(e, a, ZeroLaplace), c.Out.Laplace},
			"psi swapped": {PSI(a, e, ZeroLaplace), c.Out.Laplace},
			"js":          {JensenShannon(e, a), c.Out.JS},
			"js swapped":  {JensenShannon(a, e), c.Out.JS},
			"kl":          {KL(e, a, ZeroRaw), c.Out.KL},
			"kl reversed": {KL(a, e, ZeroRaw), c.Out.Reverse},
		} {
			want := float64(v.want)
			if v.got != want && !(math.Abs(v.got-want) <= 1e-12+1e-9*math.Abs(want)) {
				t.Errorf("%s: %s %.15g, want %.15g", c.ID, name, v.got, want)
			}
		}
	}
}

func TestBinsKnown(t *testing.T) {
	var file struct {
		Cases []struct {
			ID string
			In struct {
				Reference, Current []float64
				Bins               int
			}
			Out struct {
				Edges    []float64 `json:"inner_edges"`
				Expected []uint64  `json:"expected_counts"`
				Actual   []uint64  `json:"actual_counts"`
				Floor    float64   `json:"psi_eps_1e4"`
				Laplace  float64   `json:"psi_laplace1"`
			}
		}
	}
	readCases(t, "psi_from_samples_quantile_bins.json", &file)
	if len(file.Cases) < 3 {
		t.Fatal("no cases")
	}
	for _, c := range file.Cases {
		bins := NewBins(c.In.Reference, c.In.Bins)
		if diff := cmp.Diff(c.Out.Edges, bins.Edges, cmpopts.EquateApprox(1e-12, 0)); diff != "" {
			t.Errorf("%s: edges: %s", c.ID, diff)
		}
		expected, actual := bins.Count(c.In.Reference), bins.Count(c.In.Current)
		if diff := cmp.Diff([][]uint64{c.Out.Expected, c.Out.Actual}, [][]uint64{expected, actual}); diff != "" {
			t.Errorf("%s: counts: %s", c.ID, diff)
		}
		if got := PSI(expected, actual, ZeroFloor); !near(got, c.Out.Floor, 1e-9) {
			t.Errorf("%s: PSI %.15g, want %.15g", c.ID, got, c.Out.Floor)
		}
		if got := PSI(expected, actual, ZeroLaplace); !near(got, c.Out.Laplace, 1e-9) {
			t.Errorf("%s: PSI with one more in each bin %.15g, want %.15g", c.ID, got, c.Out.Laplace)
		}
	}
}

func TestKSKnown(t *testing.T) {
	var file struct {
		Cases []struct {
			ID  string
			In  struct{ A, B []float64 }
			Out struct {
				D     float64
				Exact *float64 `json:"p_exact"`
				Limit float64  `json:"p_kolmogorov_limit"`
			}
		}
	}
	readCases(t, "ks_2samp.json", &file)
	if len(file.Cases) < 3 {
		t.Fatal("no cases")
	}
	for _, c := range file.Cases {
		d, n, m := KS(c.In.A, c.In.B), uint64(len(c.In.A)), uint64(len(c.In.B))
		if !near(d, c.Out.D, 1e-12) {
			t.Errorf("%s: D %v, want %v", c.ID, d, c.Out.D)
		}
		if got := KSLimit(d, n, m); !near(got, c.Out.Limit, 1e-8) {
			t.Errorf("%s: limit %.12g, want %.12g", c.ID, got, c.Out.Limit)
		}
		if got := KSP(d, n, m); c.Out.Exact != nil && !near(got, *c.Out.Exact, 1e-8) {
			t.Errorf("%s: exact %.12g, want %.12g", c.ID, got, *c.Out.Exact)
		}
	}
}

// Every order of up to five and five values, counted one by one.
func TestKSExactCountsOrders(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for m := 1; m <= 5; m++ {
			ds, orders := map[float64]int{}, 0
			for mask := range 1 << (n + m) {
				var a, b []float64
				for i := range n + m {
					if mask>>i&1 == 1 {
						a = append(a, float64(i))
					} else {
						b = append(b, float64(i))
					}
				}
				if len(a) == n {
					ds[KS(a, b)]++
					orders++
				}
			}
			for d := range ds {
				atLeast := 0
				for other, count := range ds {
					if other >= d {
						atLeast += count
					}
				}
				if got, want := KSP(d, uint64(n), uint64(m)), float64(atLeast)/float64(orders); !near(got, want, 1e-12) {
					t.Errorf("%d and %d values, D %v: p %v, want %v", n, m, d, got, want)
				}
			}
		}
	}
}

// Where counting paths ends, the limit goes on.
func TestKSMeetsItsLimit(t *testing.T) {
	for _, n := range []uint64{100, 1000} {
		m := exactPaths / n
		for t1 := 0.3; t1 < 3; t1 += 0.3 {
			d := t1 * math.Sqrt(1/float64(n)+1/float64(m))
			exact, limit := KSP(d, n, m), KSLimit(d, n, m)
			if math.Abs(exact-limit) > 0.03 {
				t.Errorf("%d and %d values, D %v: exact %v, limit %v", n, m, d, exact, limit)
			}
		}
	}
	if p := KSP(1, 400, 400); !(p > 0 && p < 1e-200) {
		t.Errorf("400 and 400 values wholly apart: p %v", p)
	}
	if p := KSP(0.01, 1e12, 1e12); p != 0 {
		t.Errorf("a hundredth apart after 10^12: p %v", p)
	}
}

func TestDriftOfNothing(t *testing.T) {
	nan := math.NaN()
	for name, v := range map[string]float64{
		"psi": PSI(nil, []uint64{1}, ZeroFloor), "kl": KL([]uint64{0}, []uint64{1}, ZeroLaplace), "js": JensenShannon(nil, nil),
		"ks": KS([]float64{nan}, []float64{1}), "ks of counts": KSCounts(nil, []uint64{1}), "p": KSP(0.5, 0, 3),
	} {
		if !math.IsNaN(v) {
			t.Errorf("%s without values: %v, want NaN", name, v)
		}
	}
	if low, high := PSIInterval(nil, []uint64{3}, 0.05, 0.05); low != 0 || !math.IsInf(high, 1) {
		t.Errorf("interval [%v, %v]", low, high)
	}
	if low, high := KSInterval(0.3, 0, 4, 0.05); low != 0 || high != 1 {
		t.Errorf("interval [%v, %v]", low, high)
	}
	if b := NewBins([]float64{nan, nan}, 10); b.N() != 1 || b.Bin(3) != 0 || b.Bin(nan) != -1 {
		t.Errorf("bins of nothing: %+v", b)
	}
	inf := math.Inf(1)
	if b := NewBins([]float64{-inf, -inf, 0, inf, inf}, 4); b.Bin(-inf) < 0 || b.Bin(inf) != b.N()-1 {
		t.Errorf("bins with infinite ends: %+v", b)
	}
	// Bins that one side does not have are empty there.
	if got, want := PSI([]uint64{5, 5}, []uint64{5}, ZeroFloor), PSI([]uint64{5, 5}, []uint64{5, 0}, ZeroFloor); got != want || !(got > 0) {
		t.Errorf("PSI %v, want %v", got, want)
	}
}

// KSCounts is KS when every value has a bin of its own.
func TestKSCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := make([]float64, 300), make([]float64, 200)
	for i := range a {
		a[i] = float64(r.IntN(50))
	}
	for i := range b {
		b[i] = float64(r.IntN(60))
	}
	var bins Bins
	for i := range 60 {
		bins.Edges = append(bins.Edges, float64(i))
	}
	if got, want := KSCounts(bins.Count(a), bins.Count(b)), KS(a, b); !near(got, want, 1e-12) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Of streams that are looked at after every hundred values, the intervals miss
// the truth in far fewer than alpha, and shut out what is far from it.
func TestDriftIntervalsHoldAtAllTimes(t *testing.T) {
	const runs, looks, alpha = 80, 30, 0.1
	from, to := []float64{0.1, 0.2, 0.3, 0.4}, []float64{0.16, 0.26, 0.28, 0.3}
	psi, ks := 0.0, 0.0
	sum := 0.0
	for i := range from {
		psi += psiTerm(from[i], to[i])
		sum += to[i] - from[i]
		ks = max(ks, math.Abs(sum))
	}
	r := rand.New(rand.NewPCG(3, 4))
	draw := func(p []float64) int {
		u := r.Float64()
		for i, q := range p {
			if u -= q; u < 0 {
				return i
			}
		}
		return len(p) - 1
	}
	missedPSI, missedKS, lastPSI, lastKS := 0, 0, 0.0, 0.0
	for range runs {
		e, a := make([]uint64, 4), make([]uint64, 4)
		missPSI, missKS := false, false
		for range looks {
			for range 100 {
				e[draw(from)]++
				a[draw(to)]++
			}
			low, high := PSIInterval(e, a, alpha/2, alpha/2)
			missPSI = missPSI || low > psi || high < psi
			lastPSI += low / runs / looks
			low, high = KSInterval(KSCounts(e, a), total(e), total(a), alpha/2)
			missKS = missKS || low > ks || high < ks
			lastKS += low / runs / looks
		}
		if missPSI {
			missedPSI++
		}
		if missKS {
			missedKS++
		}
	}
	if missedPSI > runs*alpha || missedKS > runs*alpha {
		t.Errorf("missed in %d (PSI) and %d (KS) of %d runs at alpha %v", missedPSI, missedKS, runs, alpha)
	}
	if lastPSI <= 0 || lastKS <= 0 {
		t.Errorf("nothing is ever shown: mean lower ends %v of %v, %v of %v", lastPSI, psi, lastKS, ks)
	}
}

// One distribution gives about as much as PSIExpected says.
func TestPSIExpected(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	bins := Bins{Edges: []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}}
	sum := 0.0
	const runs = 400
	for range runs {
		e, a := make([]float64, 1000), make([]float64, 500)
		for i := range e {
			e[i] = r.Float64()
		}
		for i := range a {
			a[i] = r.Float64()
		}
		sum += PSI(bins.Count(e), bins.Count(a), ZeroFloor)
	}
	if got, want := sum/runs, PSIExpected(bins.N(), 1000, 500); math.Abs(got/want-1) > 0.1 {
		t.Errorf("mean PSI %v, want about %v", got, want)
	}
}

func FuzzDrift(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{3, 2, 1, 0})
	f.Fuzz(func(t *testing.T, x, y []byte) {
		values := func(raw []byte) []float64 {
			vs := make([]float64, len(raw))
			for i, b := range raw {
				vs[i] = map[byte]float64{0: math.NaN(), 1: math.Inf(1), 2: math.Inf(-1), 3: math.MaxFloat64, 4: -math.MaxFloat64}[b]
				if b > 4 {
					vs[i] = float64(b) / 16
				}
			}
			return vs
		}
		a, b := values(x), values(y)
		bins := NewBins(a, 10)
		e, c := bins.Count(a), bins.Count(b)
		js, psi, d := JensenShannon(e, c), PSI(e, c, ZeroFloor), KS(a, b)
		if js < 0 || js > math.Ln2 || psi < 0 || d < 0 || d > 1 {
			t.Errorf("js %v, psi %v, ks %v", js, psi, d)
		}
		if p := KSP(d, uint64(len(a)), uint64(len(b))); p < 0 || p > 1 {
			t.Errorf("p %v", p)
		}
	})
}
