package stats

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// The bins of a histogram: 64 of equal width between each power of two and the
// next, so 0.8 to 1.6 % wide, from 2^-30 (a nanosecond, in seconds) to 2^30 (34
// years).
const (
	subBits   = 6
	minExp    = -30
	maxExp    = 30
	shift     = 52 - subBits
	firstBin  = (1023 + minExp) << subBits
	binCount  = (maxExp - minExp) << subBits
	underflow = 0 // values below 2^-30, with 0
	overflow  = binCount + 1
)

// Histogram counts values that are not negative in bins of which each begins at
// most 1.6 % above the one before. What is told of the values holds for every
// value that the bins allow. It takes 8 bytes for each bin between the least and
// the greatest value, and at most 31 kB. The zero value is empty. It is not
// safe for use by several goroutines.
type Histogram struct {
	from   int // index of counts[0]
	counts []uint64
	n      uint64
}

// Add counts n values v. Values that are negative, infinite or no number are
// not counted; it tells whether v was.
func (h *Histogram) Add(v float64, n uint64) bool {
	if !(v >= 0) || math.IsInf(v, 1) {
		return false
	}
	if n > 0 {
		h.addBin(binOf(v), n)
	}
	return true
}

// binOf is the index of the bin of v.
func binOf(v float64) int {
	i := int(math.Float64bits(v)>>shift) - firstBin + 1
	return min(max(i, underflow), overflow)
}

// edge is the lower end of a bin.
func edge(i int) float64 {
	switch {
	case i <= underflow:
		return 0
	case i > overflow:
		return math.Inf(1)
	}
	return math.Float64frombits(uint64(i-1+firstBin) << shift)
}

func (h *Histogram) addBin(i int, n uint64) {
	at := i - h.from
	if uint(at) >= uint(len(h.counts)) {
		h.grow(i)
		at = i - h.from
	}
	h.counts[at] += n
	h.n += n
}

// grow makes room for a bin, and for some around it.
func (h *Histogram) grow(i int) {
	const spare = 1 << subBits
	from, to := i, i+1
	if len(h.counts) > 0 {
		from, to = min(from, h.from), max(to, h.from+len(h.counts))
	}
	if i == from {
		from = max(from-spare, underflow)
	}
	if i+1 == to {
		to = min(to+spare, overflow+1)
	}
	counts := make([]uint64, to-from)
	if len(h.counts) > 0 {
		copy(counts[h.from-from:], h.counts)
	}
	h.from, h.counts = from, counts
}

// Merge adds the counts of another.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		if n > 0 {
			h.addBin(o.from+i, n)
		}
	}
}

// Reset takes all counts away and keeps the memory.
func (h *Histogram) Reset() {
	clear(h.counts)
	h.n = 0
}

// Clone is a copy that shares nothing.
func (h *Histogram) Clone() *Histogram {
	return &Histogram{from: h.from, counts: slices.Clone(h.counts), n: h.n}
}

// N is the number of values.
func (h *Histogram) N() uint64 { return h.n }

// CountAbove is how many values are surely at or above v: those in bins that
// begin there or later.
func (h *Histogram) CountAbove(v float64) uint64 {
	if math.IsNaN(v) {
		return 0
	}
	if v <= 0 {
		return h.n
	}
	i := binOf(v)
	if edge(i) < v {
		i++
	}
	return h.countFrom(i)
}

// CountMaybeAbove is how many values may be above v: those in bins that end
// above it.
func (h *Histogram) CountMaybeAbove(v float64) uint64 {
	if math.IsNaN(v) || v < 0 {
		return h.n
	}
	return h.countFrom(binOf(v))
}

func (h *Histogram) countFrom(i int) uint64 {
	var sum uint64
	for j := max(i-h.from, 0); j < len(h.counts); j++ {
		sum += h.counts[j]
	}
	return sum
}

// Quantile is the estimate of the q-quantile, q in [0, 1]: the middle of the bin
// with the value of rank ceil(q n). No values give 0.
func (h *Histogram) Quantile(q float64) float64 {
	if h.n == 0 {
		return 0
	}
	rank := uint64(1)
	if r := math.Ceil(q * float64(h.n)); r > 1 {
		rank = min(uint64(r), h.n)
	}
	var sum uint64
	for i, n := range h.counts {
		if sum += n; sum >= rank {
			return middle(h.from + i)
		}
	}
	return 0
}

// middle stands for the values of a bin.
func middle(i int) float64 {
	if i >= overflow {
		return edge(overflow)
	}
	return (edge(i) + edge(i+1)) / 2
}

// Mean is the estimate of the mean of min(value, bound). No values give 0.
func (h *Histogram) Mean(bound float64) float64 {
	if h.n == 0 {
		return 0
	}
	sum := 0.0
	for i, n := range h.counts {
		if n > 0 {
			sum += float64(n) * min(middle(h.from+i), bound)
		}
	}
	return sum / float64(h.n)
}

// ForEach calls f for each bin with values, from the least: n of them are at
// least low and below high. The last bin has no end: high is +Inf.
func (h *Histogram) ForEach(f func(low, high float64, n uint64)) {
	for i, n := range h.counts {
		if n > 0 {
			f(edge(h.from+i), edge(h.from+i+1), n)
		}
	}
}

// histogramVersion is the first byte of the binary form.
const histogramVersion = 1

// AppendBinary appends the binary form: a version, then for each bin with
// values how many bins were skipped and how many values there are, as varints.
func (h *Histogram) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, histogramVersion)
	next := 0
	for i, n := range h.counts {
		if n > 0 {
			b = binary.AppendUvarint(b, uint64(h.from+i-next))
			b = binary.AppendUvarint(b, n)
			next = h.from + i + 1
		}
	}
	return b, nil
}

// MarshalBinary is the binary form, about three bytes for each bin with values.
func (h *Histogram) MarshalBinary() ([]byte, error) { return h.AppendBinary(nil) }

// UnmarshalBinary reads what MarshalBinary wrote; h is as before when it fails.
func (h *Histogram) UnmarshalBinary(b []byte) error {
	if len(b) == 0 || b[0] != histogramVersion {
		return errors.New("read histogram: version: not known")
	}
	var read Histogram
	next := 0
	for b = b[1:]; len(b) > 0; {
		skip, k := binary.Uvarint(b)
		if k <= 0 || skip > overflow {
			return errors.New("read histogram: bin: not a number within the range")
		}
		n, l := binary.Uvarint(b[k:])
		if l <= 0 || n == 0 || n > math.MaxUint64-read.n {
			return errors.New("read histogram: count: not a number within the range")
		}
		i := next + int(skip)
		if i > overflow {
			return fmt.Errorf("read histogram: bin: %d: must be at most %d", i, overflow)
		}
		read.addBin(i, n)
		next = i + 1
		b = b[k+l:]
	}
	*h = read
	return nil
}

// MarshalText is the binary form in base64, which JSON can hold.
func (h *Histogram) MarshalText() ([]byte, error) {
	b, err := h.MarshalBinary()
	return base64.RawStdEncoding.AppendEncode(nil, b), err
}

// UnmarshalText reads what MarshalText wrote.
func (h *Histogram) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read histogram: %w", err)
	}
	return h.UnmarshalBinary(b)
}
