package compare_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headgate/headgate/compare"
)

var quantiles = []float64{0, 0.01, 0.5, 0.9, 0.99, 1}

// durations draws latencies as they are met: from microseconds to minutes.
func durations() *rapid.Generator[[]time.Duration] {
	one := rapid.Custom(func(t *rapid.T) time.Duration {
		exponent := rapid.Float64Range(3, 11).Draw(t, "log10 of nanoseconds")
		return time.Duration(math.Pow(10, exponent))
	})
	return rapid.SliceOfN(one, 1, 300)
}

func TestSketchQuantilesAreWithinTheError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := durations().Draw(t, "durations")
		var s compare.Sketch
		var sum time.Duration
		for _, d := range values {
			s.Add(d)
			sum += d
		}
		slices.Sort(values)
		for _, q := range quantiles {
			want := values[int(q*float64(len(values)-1))].Seconds()
			got, ok := s.Quantile(q)
			// One nanosecond on top: a Duration has no fractions of it.
			if !ok || math.Abs(got.Seconds()-want) > want*compare.SketchError*1.0001+1e-9 {
				t.Fatalf("quantile %v of %v: got %v, want %vs within %v", q, values, got, want, compare.SketchError)
			}
		}
		if s.Count() != uint64(len(values)) || s.Sum() != sum {
			t.Fatalf("count %d, sum %v; want %d, %v", s.Count(), s.Sum(), len(values), sum)
		}
	})
}

func TestSketchMergeIsTheUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := durations().Draw(t, "durations")
		parts := make([]compare.Sketch, rapid.IntRange(1, 5).Draw(t, "parts"))
		var whole, merged compare.Sketch
		for _, d := range values {
			whole.Add(d)
			parts[rapid.IntRange(0, len(parts)-1).Draw(t, "part")].Add(d)
		}
		for i := range parts {
			before := parts[i].Count()
			merged.Merge(&parts[i])
			if parts[i].Count() != before {
				t.Fatal("merging changed what was merged")
			}
		}
		sameSketch(t, &merged, &whole)
	})
}

func sameSketch(t interface{ Fatalf(string, ...any) }, got, want *compare.Sketch) {
	if got.Count() != want.Count() || got.Sum() != want.Sum() {
		t.Fatalf("count %d, sum %v; want %d, %v", got.Count(), got.Sum(), want.Count(), want.Sum())
	}
	for _, q := range quantiles {
		a, okA := got.Quantile(q)
		b, okB := want.Quantile(q)
		if a != b || okA != okB {
			t.Fatalf("quantile %v: %v (%v), want %v (%v)", q, a, okA, b, okB)
		}
	}
	bounds := []float64{0.001, 0.1, 1, 10}
	if a, b := got.AtMost(bounds), want.AtMost(bounds); !slices.Equal(a, b) {
		t.Fatalf("at most %v: %v, want %v", bounds, a, b)
	}
}

func TestSketchAtMost(t *testing.T) {
	var s compare.Sketch
	for _, d := range []time.Duration{-1, 0, time.Millisecond, 20 * time.Millisecond, 3 * time.Second, 1 << 62} {
		s.Add(d)
	}
	got := s.AtMost([]float64{0.0001, 0.01, 1, 5})
	if want := []uint64{1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("at most: %v, want %v", got, want)
	}
	if s.Count() != 5 {
		t.Errorf("count %d, want 5: a negative duration is none, one of 146 years is clamped", s.Count())
	}
	if p100, _ := s.Quantile(1); p100 > 25*time.Hour {
		t.Errorf("largest is %v, want it clamped to a day", p100)
	}
}

func TestEmptySketch(t *testing.T) {
	var s, other compare.Sketch
	s.Merge(&other)
	if d, ok := s.Quantile(0.5); ok || d != 0 {
		t.Errorf("median of nothing: %v, %v", d, ok)
	}
	if got := s.AtMost([]float64{1}); !slices.Equal(got, []uint64{0}) {
		t.Errorf("at most of nothing: %v", got)
	}
}

// FuzzSketch feeds whatever a log may tell.
func FuzzSketch(f *testing.F) {
	f.Add(int64(-1), int64(0), int64(math.MaxInt64))
	f.Add(int64(1), int64(999), int64(1e9))
	f.Fuzz(func(t *testing.T, a, b, c int64) {
		var left, right, whole compare.Sketch
		for _, d := range []int64{a, b, c} {
			whole.Add(time.Duration(d))
		}
		left.Add(time.Duration(a))
		right.Add(time.Duration(b))
		right.Add(time.Duration(c))
		left.Merge(&right)
		sameSketch(t, &left, &whole)
		clone := left.Clone()
		left.Add(time.Second)
		sameSketch(t, &clone, &whole)
	})
}
