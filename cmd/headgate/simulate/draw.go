package simulate

import (
	"math"
	"math/bits"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"
)

// source is where all randomness of a run comes from.
type source struct{ pcg *rand.PCG }

// newSource derives a source from what identifies it. Different words give
// independent sources.
func newSource(words ...uint64) source {
	a, b := uint64(0x9e3779b97f4a7c15), uint64(0xd1b54a32d192ed03)
	for _, w := range words {
		a = mix(a ^ w)
		b = mix(b + w*0xff51afd7ed558ccd)
	}
	return source{rand.NewPCG(a, b)}
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// uniform is in [0, 1).
func (s source) uniform() float64 { return unit(s.pcg.Uint64()) }

// unit makes a number in [0, 1) of 64 random bits.
func unit(x uint64) float64 { return float64(x>>11) * 0x1p-53 }

// below is a whole number in [0, n).
func (s source) below(n int) int {
	high, _ := bits.Mul64(s.pcg.Uint64(), uint64(n))
	return int(high)
}

// exponential has the given mean.
func (s source) exponential(mean float64) float64 { return -mean * math.Log1p(-s.uniform()) }

// poisson draws a count of independent arrivals.
func (s source) poisson(mean float64) uint64 {
	switch {
	case mean <= 0:
		return 0
	case mean < 12: // products of uniforms; most counts are small
		limit, p := math.Exp(-mean), s.uniform()
		var n uint64
		for p > limit {
			p *= s.uniform()
			n++
		}
		return n
	}
	return uint64(distuv.Poisson{Lambda: mean, Src: s.pcg}.Rand())
}

// binomial draws how many of n are chosen, each with probability p.
func (s source) binomial(n uint64, p float64) uint64 {
	switch {
	case n == 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case n <= 16:
		var k uint64
		for range n {
			if s.uniform() < p {
				k++
			}
		}
		return k
	}
	return uint64(distuv.Binomial{N: float64(n), P: p, Src: s.pcg}.Rand())
}

// alias draws an index in proportion to weights in constant time (Walker 1977,
// built as by Vose 1991).
type alias struct {
	keep  []float64 // probability to stay at the index drawn
	other []int32
}

func newAlias(weights []float64) *alias {
	n := len(weights)
	a := &alias{make([]float64, n), make([]int32, n)}
	var sum float64
	for _, w := range weights {
		sum += w
	}
	var small, large []int32
	for i, w := range weights {
		a.keep[i], a.other[i] = w*float64(n)/sum, int32(i)
		if a.keep[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.other[s] = l
		if a.keep[l] -= 1 - a.keep[s]; a.keep[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) {
		a.keep[i] = 1
	}
	return a
}

func (a *alias) draw(s source) int {
	i := s.below(len(a.keep))
	if s.uniform() < a.keep[i] {
		return i
	}
	return int(a.other[i])
}
