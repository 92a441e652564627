package stats

import (
	"math"
	"slices"
)

// Zero is what becomes of a bin of which one side has nothing, where a formula
// would divide by 0.
type Zero int

// The rules. ZeroFloor is the zero value.
const (
	ZeroFloor   Zero = iota // a share of 0 becomes 0.0001, without scaling the others
	ZeroLaplace             // every bin counts one more than it has, on both sides
	ZeroRaw                 // nothing: empty on both sides adds 0, on one side +Inf
)

// leastShare is the share that ZeroFloor gives an empty bin.
const leastShare = 1e-4

// PSI is the population stability index of counts in the same bins.
//
// Formula: the sum over the bins of (a - e) ln(a / e), where a and e are the
// shares of actual and expected. It is the sum of both Kullback-Leibler
// divergences, so the sides may be swapped. What is not in bins of the same
// number counts as a bin that is empty on that side. Without any count on one
// side there is nothing to compare: NaN.
//
// By itself it is no test: of n and m values that have one distribution it is
// about (bins - 1) (1/n + 1/m), see [PSIExpected], and its usual limits 0.1 and
// 0.25 mean something only far above that. [PSIInterval] says what is shown.
// Bins come from the reference: [NewBins].
//
// Papers: Lewis, "An Introduction to Credit Scoring", 1992, gives the index and
// its limits; Yurdakul and Naranjo, "Statistical properties of the population
// stability index", Journal of Risk Model Validation 2020, its distribution.
func PSI(expected, actual []uint64, zero Zero) float64 {
	e, a, ok := shares(expected, actual, zero)
	if !ok {
		return math.NaN()
	}
	sum := 0.0
	for i := range e {
		sum += psiTerm(e[i], a[i])
	}
	return sum
}

func psiTerm(e, a float64) float64 {
	if e == a { // also 0 on both sides
		return 0
	}
	if e == 0 || a == 0 {
		return math.Inf(1)
	}
	return (a - e) * math.Log(a/e)
}

// PSIExpected is about what [PSI] is of n and m values of one distribution that
// fills all bins.
func PSIExpected(bins int, n, m uint64) float64 {
	if n == 0 || m == 0 {
		return math.Inf(1)
	}
	return float64(max(bins-1, 0)) * (1/float64(n) + 1/float64(m))
}

// PSIInterval is where the PSI of the two distributions lies, however often one
// looks while the counts grow: it is ever below low with probability at most
// alphaLow, ever above high with at most alphaHigh.
//
// Formula: each share of each side has the confidence sequence [RateInterval],
// at an equal part of the level (a union bound over both sides' bins and, where
// both are asked for, their two ends); low is the least that [PSI] can be with
// all shares in theirs, high the most, with shares below 0.0001 taken as that.
// What is sharp about it is the order of size: it needs some hundred values a
// bin, and is at its best with few bins.
//
// Assumption: that of [Rate] for every bin, and that the bins were chosen before
// the first value that is counted. A reference that is taken as it is, without
// error, is one of very large counts.
func PSIInterval(expected, actual []uint64, alphaLow, alphaHigh float64) (low, high float64) {
	expected, actual = padded(expected, actual)
	n, m := total(expected), total(actual)
	high = math.Inf(1)
	if n == 0 || m == 0 {
		return 0, high
	}
	parts := 4 * float64(len(expected)) // bins of two sides, two ends each
	if alphaLow > 0 {
		for i := range expected {
			low += psiApart(expected[i], n, actual[i], m, alphaLow/parts, false)
		}
	}
	if alphaHigh > 0 {
		high = 0
		for i := range expected {
			high += psiApart(expected[i], n, actual[i], m, alphaHigh/parts, true)
		}
	}
	return low, high
}

// psiApart is the least or the most that one bin adds.
func psiApart(x, n, y, m uint64, alpha float64, most bool) float64 {
	lowE, highE := RateInterval(n, x, alpha, alpha)
	lowA, highA := RateInterval(m, y, alpha, alpha)
	for _, end := range []*float64{&lowE, &highE, &lowA, &highA} {
		*end = max(*end, leastShare)
	}
	if most {
		return max(psiTerm(lowE, highA), psiTerm(highE, lowA))
	}
	switch {
	case highE < lowA:
		return psiTerm(highE, lowA)
	case highA < lowE:
		return psiTerm(lowE, highA)
	}
	return 0
}

// KL is the Kullback-Leibler divergence of actual from expected, in nats: the
// sum of a ln(a / e). It has no upper end and its sides may not be swapped.
// Without any count on one side it is NaN.
//
// Paper: Kullback and Leibler, "On information and sufficiency", Annals of
// Mathematical Statistics 1951.
func KL(expected, actual []uint64, zero Zero) float64 {
	e, a, ok := shares(expected, actual, zero)
	if !ok {
		return math.NaN()
	}
	sum := 0.0
	for i := range e {
		sum += klTerm(a[i], e[i])
	}
	return sum
}

func klTerm(a, e float64) float64 {
	switch {
	case a == 0:
		return 0
	case e == 0:
		return math.Inf(1)
	}
	return a * math.Log(a/e)
}

// JensenShannon is the divergence of two sides from what they have in common, in
// nats: the mean of both [KL] divergences from the mean of the shares. It lies
// in [0, ln 2], its sides may be swapped, empty bins need no rule, and its root
// is a distance. Without any count on one side it is NaN.
//
// Paper: Lin, "Divergence measures based on the Shannon entropy", IEEE
// Transactions on Information Theory 1991.
func JensenShannon(expected, actual []uint64) float64 {
	e, a, ok := shares(expected, actual, ZeroRaw)
	if !ok {
		return math.NaN()
	}
	sum := 0.0
	for i := range e {
		mid := (e[i] + a[i]) / 2
		sum += (klTerm(e[i], mid) + klTerm(a[i], mid)) / 2
	}
	return min(max(sum, 0), math.Ln2)
}

func shares(expected, actual []uint64, zero Zero) (e, a []float64, ok bool) {
	expected, actual = padded(expected, actual)
	n, m := total(expected), total(actual)
	if n == 0 || m == 0 {
		return nil, nil, false
	}
	return share(expected, n, zero), share(actual, m, zero), true
}

func share(counts []uint64, n uint64, zero Zero) []float64 {
	s := make([]float64, len(counts))
	for i, c := range counts {
		switch {
		case zero == ZeroLaplace:
			s[i] = (float64(c) + 1) / (float64(n) + float64(len(counts)))
		case c == 0 && zero == ZeroFloor:
			s[i] = leastShare
		default:
			s[i] = float64(c) / float64(n)
		}
	}
	return s
}

// padded gives both sides as many bins.
func padded(a, b []uint64) (longA, longB []uint64) {
	n := max(len(a), len(b))
	pad := func(s []uint64) []uint64 {
		if len(s) == n {
			return s
		}
		return append(slices.Clone(s), make([]uint64, n-len(s))...)
	}
	return pad(a), pad(b)
}

func total(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// Bins cut the numbers where a reference has its quantiles, so that each bin has
// about as many values of the reference. They do not change, and keep only the
// inner edges: Edges[i-1] <= v < Edges[i] is bin i, the first and the last have
// no end.
type Bins struct {
	Edges []float64 `json:"edges"` // ascending, each once
}

// NewBins cuts at the quantiles 1/bins, 2/bins … of a reference, interpolated
// between its two nearest values as R's type 7 and NumPy do. Edges that would
// stand twice, of a reference with many equal values, stand once: then there are
// fewer bins. What is no number is left out. A reference without numbers, or
// bins below 2, give one bin.
func NewBins(reference []float64, bins int) Bins {
	sorted := numbers(reference)
	var b Bins
	for i := 1; i < bins && len(sorted) > 0; i++ {
		at := float64(i) / float64(bins) * float64(len(sorted)-1)
		j := int(at)
		edge := sorted[j]
		if part := at - float64(j); part > 0 && sorted[j+1] > edge {
			edge = sorted[j]*(1-part) + sorted[j+1]*part
		}
		if math.IsNaN(edge) { // between -Inf and +Inf
			edge = sorted[j]
		}
		if len(b.Edges) == 0 || edge > b.Edges[len(b.Edges)-1] {
			b.Edges = append(b.Edges, edge)
		}
	}
	return b
}

// N is the number of bins.
func (b Bins) N() int { return len(b.Edges) + 1 }

// Bin is the bin of a number, -1 of NaN.
func (b Bins) Bin(v float64) int {
	if math.IsNaN(v) {
		return -1
	}
	i, found := slices.BinarySearch(b.Edges, v)
	if found {
		return i + 1
	}
	return i
}

// Count counts values by bin, without those that are NaN.
func (b Bins) Count(values []float64) []uint64 {
	counts := make([]uint64, b.N())
	for _, v := range values {
		if i := b.Bin(v); i >= 0 {
			counts[i]++
		}
	}
	return counts
}

// numbers are the values that are numbers, sorted.
func numbers(values []float64) []float64 {
	sorted := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(sorted)
	return sorted
}
