package compare

import (
	"math"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

// SketchError is the largest relative error of a [Sketch]'s quantiles.
const SketchError = 0.01

// Durations outside of these bounds are counted as the bound. They keep a
// sketch below 1,300 bins (about 10 kB) whatever it is fed.
const (
	minLatency = time.Microsecond
	maxLatency = 24 * time.Hour
)

var latencyMapping = newLatencyMapping()

// noNegatives is the store of negative values in every sketch. Nothing is ever
// written to it, so all of them share one.
var noNegatives = store.NewSparseStore()

func newLatencyMapping() mapping.IndexMapping {
	m, err := mapping.NewLogarithmicMapping(SketchError)
	if err != nil {
		panic("compare: sketch error out of (0, 1): " + err.Error())
	}
	return m
}

// Sketch summarises durations, so that any quantile can be asked later within
// [SketchError]. It is a DDSketch (Masson, Rim, Lee: "DDSketch: a fast and
// fully-mergeable quantile sketch with relative-error guarantees", 2019):
// merging two sketches gives the sketch of the union, exactly. It assumes
// nothing of the distribution. The zero value is empty and ready. A Sketch must
// not be used by two goroutines at once, not even to read it.
type Sketch struct {
	bins *ddsketch.DDSketch // nil: empty
	n    uint64
	sum  time.Duration
}

// Add counts one duration. A negative one is not a duration and is left out.
func (s *Sketch) Add(d time.Duration) {
	if d < 0 {
		return
	}
	d = min(max(d, minLatency), maxLatency)
	if s.bins == nil {
		s.bins = newBins()
	}
	// Within the bounds above Add has no error to return.
	_ = s.bins.Add(d.Seconds())
	s.n++
	s.sum = addDurations(s.sum, d)
}

// Merge adds all that other has counted. Other stays as it is.
func (s *Sketch) Merge(other *Sketch) {
	if other.n == 0 {
		return
	}
	if s.bins == nil {
		s.bins = newBins()
	}
	// Both have the same mapping, the only thing that could be refused.
	_ = s.bins.MergeWith(other.bins)
	s.n += other.n
	s.sum = addDurations(s.sum, other.sum)
}

// Clone returns a copy that shares nothing with s.
func (s *Sketch) Clone() Sketch {
	c := Sketch{n: s.n, sum: s.sum}
	if s.bins != nil {
		c.bins = s.bins.Copy()
	}
	return c
}

// Count returns how many durations were counted.
func (s *Sketch) Count() uint64 { return s.n }

// Sum returns the sum of the durations. It is exact, apart from durations that
// were clamped.
func (s *Sketch) Sum() time.Duration { return s.sum }

// Quantile returns the duration that a part q of the counted ones does not
// exceed, q in [0, 1], within [SketchError]. It is the one of rank
// floor(q·(n−1)). There is none in an empty sketch.
func (s *Sketch) Quantile(q float64) (d time.Duration, ok bool) {
	if s.n == 0 {
		return 0, false
	}
	v, err := s.bins.GetValueAtQuantile(q)
	if err != nil {
		return 0, false
	}
	return time.Duration(math.Round(v * float64(time.Second))), true
}

// AtMost returns for each bound how many durations do not exceed it. Bounds
// ascend and are in seconds. A duration within SketchError of a bound can count
// on either side, but always on the same, so the figures never decrease.
func (s *Sketch) AtMost(bounds []float64) []uint64 {
	counts := make([]uint64, len(bounds))
	if s.n == 0 {
		return counts
	}
	s.bins.ForEach(func(value, count float64) bool {
		for i := len(bounds) - 1; i >= 0 && value <= bounds[i]; i-- {
			counts[i] += uint64(count)
		}
		return false
	})
	return counts
}

func newBins() *ddsketch.DDSketch {
	return ddsketch.NewDDSketch(latencyMapping, store.NewBufferedPaginatedStore(), noNegatives)
}

func addDurations(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
