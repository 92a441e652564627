package protocol

import (
	"math"
	"slices"
)

// vectors compares the rows of two tensors of one shape as vectors, along the
// last axis. done is false when they are not numbers.
func (x *comparison) vectors(rule *Rule, t, u *tensor) (done bool) {
	p, isP := t.numbers()
	q, isQ := u.numbers()
	if !isP || !isQ {
		return false
	}
	// Of [1, 3] and [3] the first tells which axis the classes are on.
	row := t.row()
	if len(u.shape) > len(t.shape) {
		row = u.row()
	}
	if row < 2 {
		return false
	}
	depth := len(x.path)
	for n := 0; n+row <= len(p); n += row {
		if row < len(p) {
			x.path = t.place(x.path[:depth], n)
			x.path = x.path[:len(x.path)-1]
		}
		x.vector(rule, p[n:n+row], q[n:n+row])
		x.path = x.path[:depth]
	}
	return true
}

// labelled compares two objects of numbers as vectors, {"cat": 0.9, "dog":
// 0.1}. A class that one does not name has 0 there. done is false when they are
// not numbers.
func (x *comparison) labelled(left, right []field) (done bool) {
	var p, q []float64
	for i, j := 0, 0; i < len(left) || j < len(right); {
		a, b := 0.0, 0.0
		ok := true
		inLeft := j == len(right) || i < len(left) && left[i].name <= right[j].name
		inRight := i == len(left) || j < len(right) && right[j].name <= left[i].name
		if inLeft {
			a, ok = x.a.number(left[i].value)
			i++
		}
		if inRight && ok {
			b, ok = x.b.number(right[j].value)
			j++
		}
		if !ok {
			return false
		}
		p, q = append(p, a), append(q, b)
	}
	x.vector(x.rule(), p, q)
	return true
}

// vector compares two vectors of one length.
func (x *comparison) vector(rule *Rule, p, q []float64) {
	if same(p, q, rule.NaNEqual) {
		return
	}
	for i := range p {
		if !finite(p[i]) || !finite(q[i]) {
			x.differVector(KindVariation, math.MaxFloat64, p, q)
			return
		}
	}
	variation, angle := variation(p, q), cosine(p, q)
	distance := variation
	if rule.MaxCosine > 0 && rule.MaxVariation == 0 && rule.TopK == 0 {
		distance = angle
	}
	x.apart(distance)
	const slack = 1e-12
	if rule.MaxVariation > 0 && variation > rule.MaxVariation+slack {
		x.differVector(KindVariation, distance, p, q)
	}
	if rule.MaxCosine > 0 && angle > rule.MaxCosine+slack {
		x.differVector(KindCosine, distance, p, q)
	}
	if rule.TopK > 0 && !sameTop(p, q, rule.TopK) {
		x.differVector(KindTopK, 1, p, q)
	}
}

func (x *comparison) differVector(k Kind, distance float64, p, q []float64) {
	x.differ(k, distance, showVector(p), showVector(q))
}

// showVector shows a vector, or how long it is.
func showVector(p []float64) []byte {
	doc := document{nodes: []node{{kind: kindArray, kids: uint32(len(p)), next: uint32(len(p) + 1)}}}
	for i, f := range p {
		doc.nodes = append(doc.nodes, node{kind: kindNumber, num: f, next: uint32(i + 2)})
	}
	return doc.show(0)
}

func same(p, q []float64, nan bool) bool {
	return slices.EqualFunc(p, q, func(a, b float64) bool { return a == b || nan && a != a && b != b })
}

// variation returns the total variation distance, half the sum of |p - q|.
func variation(p, q []float64) float64 {
	sum := 0.0
	for i := range p {
		sum += math.Abs(p[i]/2 - q[i]/2)
	}
	return min(sum, math.MaxFloat64)
}

// cosine returns 1 - cos of the angle between two vectors, 1 when one of them
// is zero.
func cosine(p, q []float64) float64 {
	scaleP, scaleQ := largest(p), largest(q)
	if scaleP == 0 || scaleQ == 0 {
		return 1
	}
	var dot, pp, qq float64
	for i := range p {
		a, b := p[i]/scaleP, q[i]/scaleQ // so that no square is beyond a float64
		dot, pp, qq = dot+a*b, pp+a*a, qq+b*b
	}
	return max(0, 1-dot/math.Sqrt(pp*qq))
}

func largest(p []float64) (size float64) {
	for _, f := range p {
		size = max(size, math.Abs(f))
	}
	return size
}

// sameTop tells whether one set of k classes is among the k largest of both p
// and q, ties broken as it suits.
func sameTop(p, q []float64, k int) bool {
	if k >= len(p) {
		return true
	}
	limitP, limitQ := kth(p, k), kth(q, k)
	must, may := 0, 0
	for i := range p {
		needed := p[i] > limitP || q[i] > limitQ
		allowed := p[i] >= limitP && q[i] >= limitQ
		if needed && !allowed {
			return false
		}
		if needed {
			must++
		}
		if allowed {
			may++
		}
	}
	return must <= k && k <= may
}

// kth returns the kth largest element.
func kth(p []float64, k int) float64 {
	sorted := slices.Clone(p)
	slices.Sort(sorted)
	return sorted[len(sorted)-k]
}
