package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lognormals are n values whose logs have the mean mu and the deviation sigma.
func lognormals(seed uint64, n int, mu, sigma float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 77))
	values := make([]float64, n)
	for i := range values {
		values[i] = math.Exp(mu + sigma*rng.NormFloat64())
	}
	return values
}

func histogram(values ...float64) *Histogram {
	h := new(Histogram)
	for _, v := range values {
		h.Add(v, 1)
	}
	return h
}

func TestHistogramBins(t *testing.T) {
	for i := 1; i <= overflow; i++ {
		low, high := edge(i), edge(i+1)
		if binOf(low) != i || binOf(math.Nextafter(high, 0)) != i {
			t.Fatalf("bin %d from %v to %v: its ends are in bins %d and %d", i, low, high, binOf(low), binOf(math.Nextafter(high, 0)))
		}
		if width := high/low - 1; i < overflow && (width > 1.0/64 || width < 1.0/128) {
			t.Fatalf("bin %d from %v to %v is %v wide", i, low, high, width)
		}
	}
	if binOf(0) != underflow || binOf(1e-300) != underflow || binOf(math.MaxFloat64) != overflow || edge(underflow) != 0 {
		t.Error("the least and the greatest values are not in the first and the last bin")
	}
}

func TestHistogramTakesNoNonsense(t *testing.T) {
	var h Histogram
	for _, v := range []float64{-1, -1e-300, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if h.Add(v, 1) {
			t.Errorf("%v was counted", v)
		}
	}
	if h.N() != 0 || h.Quantile(0.5) != 0 || h.Mean(1) != 0 || h.CountAbove(0) != 0 {
		t.Errorf("an empty histogram has %d values", h.N())
	}
	for _, v := range []float64{0, 1e-300, 0.25, 86400, math.MaxFloat64} {
		if !h.Add(v, 2) {
			t.Errorf("%v was not counted", v)
		}
	}
	if h.N() != 10 || len(h.counts) > overflow+1 {
		t.Errorf("%d values in %d bins", h.N(), len(h.counts))
	}
}

func TestHistogramAgainstSortedValues(t *testing.T) {
	values := lognormals(1, 20000, -2, 1.2)
	h := histogram(values...)
	slices.Sort(values)
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[max(int(math.Ceil(q*20000)), 1)-1]
		if got := h.Quantile(q); math.Abs(got/want-1) > 0.008 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	sum := 0.0
	for _, v := range values {
		sum += min(v, 2)
	}
	if got, want := h.Mean(2), sum/20000; math.Abs(got/want-1) > 0.001 {
		t.Errorf("mean up to 2: %v, want %v", got, want)
	}
	for _, v := range []float64{0, 0.01, 0.125, 0.1301, 1, 3.3, 1e6} {
		above, from := 0, 0
		for _, x := range values {
			if x > v {
				above++
			}
			if x >= v {
				from++
			}
		}
		surely, maybe := h.CountAbove(v), h.CountMaybeAbove(v)
		if int(surely) > from || int(maybe) < above {
			t.Errorf("above %v: %d to %d, but %d are", v, surely, maybe, above)
		}
		if edge(binOf(v)) == v && int(surely) != from {
			t.Errorf("%v is an edge: %d at or above, want %d", v, surely, from)
		}
		if float64(maybe-surely) > 0.02*20000 {
			t.Errorf("above %v: %d to %d is too wide", v, surely, maybe)
		}
	}
	if h.CountAbove(math.NaN()) != 0 || h.CountMaybeAbove(math.NaN()) != 20000 || h.CountAbove(-1) != 20000 {
		t.Error("limits outside of what values can be")
	}
}

type binned struct {
	Low, High float64
	N         uint64
}

func bins(h *Histogram) []binned {
	var all []binned
	h.ForEach(func(low, high float64, n uint64) { all = append(all, binned{low, high, n}) })
	return all
}

func TestHistogramMerge(t *testing.T) {
	a, b := lognormals(1, 3000, -2, 1), lognormals(2, 2000, 3, 0.5)
	got := histogram(a...)
	got.Merge(histogram(b...))
	got.Merge(new(Histogram))
	whole := histogram(append(slices.Clone(a), b...)...)
	if diff := cmp.Diff(bins(whole), bins(got)); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	clone := got.Clone()
	clone.Add(1, 1)
	if got.N() != 5000 || clone.N() != 5001 {
		t.Errorf("%d values, and %d in the clone", got.N(), clone.N())
	}
	got.Reset()
	if got.N() != 0 || len(bins(got)) != 0 {
		t.Errorf("%d values after Reset", got.N())
	}
}

func TestHistogramGoesThroughBinaryAndJSON(t *testing.T) {
	for name, h := range map[string]*Histogram{
		"empty": new(Histogram),
		"ends":  histogram(0, math.MaxFloat64, 1),
		"many":  histogram(lognormals(3, 10000, -2, 1)...),
	} {
		b, err := h.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var binary Histogram
		if err := binary.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var read Histogram
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		for form, got := range map[string]*Histogram{"binary": &binary, "JSON": &read} {
			if diff := cmp.Diff(bins(h), bins(got)); diff != "" || got.N() != h.N() {
				t.Errorf("%s through %s, %d of %d values (-want +got):\n%s", name, form, got.N(), h.N(), diff)
			}
		}
		if len(b) > 3000 {
			t.Errorf("%s takes %d bytes", name, len(b))
		}
	}
}

func TestHistogramRefusesWhatItDidNotWrite(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":               {},
		"another version":       {2},
		"a bin without a count": {1, 5},
		"an endless number":     {1, 0x80},
		"a count of none":       {1, 5, 0},
		"a bin beyond the last": {1, 0xff, 0xff, 0x03, 1},
		"bins beyond the last":  {1, 0xff, 0x1d, 1, 0xff, 0x1d, 1},
		"counts beyond 2^64":    {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1},
	} {
		h := histogram(1, 2, 3)
		if err := h.UnmarshalBinary(b); err == nil {
			t.Errorf("%s was read", name)
		}
		if h.N() != 3 {
			t.Errorf("%s: %d values afterwards", name, h.N())
		}
	}
	if err := new(Histogram).UnmarshalText([]byte("&")); err == nil {
		t.Error("text that is not base64 was read")
	}
}

func FuzzHistogram(f *testing.F) {
	b, _ := histogram(0, 1, 2, 3, 1e9).MarshalBinary()
	f.Add(b, 0.5, 1.0, 0.01)
	f.Add([]byte{1}, math.NaN(), math.Inf(1), 0.0)
	f.Fuzz(func(t *testing.T, b []byte, v, bound, alpha float64) {
		var h Histogram
		if h.UnmarshalBinary(b) == nil {
			again, _ := h.MarshalBinary()
			var read Histogram
			if err := read.UnmarshalBinary(again); err != nil || !slices.Equal(bins(&h), bins(&read)) {
				t.Errorf("read again: %v", err)
			}
		}
		if h.n > 1<<60 {
			return // counts that cannot come together
		}
		h.Add(v, 3)
		if h.CountAbove(v) > h.N() || h.CountMaybeAbove(v) < h.CountAbove(v) {
			t.Errorf("above %v: %d to %d", v, h.CountAbove(v), h.CountMaybeAbove(v))
		}
		for _, q := range []float64{v, 0.5, 0.99, math.NaN()} {
			low, high := QuantileInterval(&h, q, alpha, alpha)
			if e := h.Quantile(q); !(low <= high) || math.IsNaN(e) || alpha < 0.3 && q > 0 && q < 1 && !(low <= e && e <= high) {
				t.Errorf("quantile %v: %v in [%v, %v]", q, e, low, high)
			}
		}
		low, high := MeanInterval(&h, bound, alpha, alpha)
		if bound > 0 && !(low <= high && high <= bound) {
			t.Errorf("mean up to %v: [%v, %v]", bound, low, high)
		}
		for _, side := range []Side{Above, Below} {
			logs := make([]float64, maxBets)
			NewMean(v, bound, side).Add(logs, &h)
			if e := LogMix(logs); math.IsNaN(e) || math.IsInf(e, 0) {
				t.Errorf("mean against %v up to %v: log capital %v", v, bound, e)
			}
		}
	})
}
