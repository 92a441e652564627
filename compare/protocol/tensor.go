package protocol

import (
	"strconv"

	"github.com/headgate/headgate/routing"
)

// tensor is an array of scalars in any number of dimensions, all rows of one
// length, however deep the JSON nests it.
type tensor struct {
	doc   *document
	node  int
	shape []int // as it is nested, or as the answer declares it
	dims  []int // shape without the ones: two servers that differ in those alone mean the same
	size  int
}

// maxRank is how many dimensions are looked for.
const maxRank = 16

// tensor returns the array at i as a tensor. ok is false for an array with
// objects or with rows of different lengths. A declared shape that does not
// fit the number of elements is not believed.
func (d *document) tensor(i int, declared []int) (t tensor, ok bool) {
	if d.nodes[i].kind != kindArray {
		return tensor{}, false
	}
	t = tensor{doc: d, node: i}
	for j := i; d.nodes[j].kind == kindArray; j++ {
		t.shape = append(t.shape, int(d.nodes[j].kids))
		if d.nodes[j].kids == 0 {
			break
		}
		if len(t.shape) > maxRank {
			return tensor{}, false
		}
	}
	if !d.rectangular(i, t.shape) {
		return tensor{}, false
	}
	t.size = product(t.shape)
	if declared != nil && product(declared) == t.size {
		t.shape = declared
	}
	for _, n := range t.shape {
		if n != 1 {
			t.dims = append(t.dims, n)
		}
	}
	return t, true
}

// rectangular tells whether the array at i has this shape all over.
func (d *document) rectangular(i int, shape []int) bool {
	if int(d.nodes[i].kids) != shape[0] {
		return false
	}
	for j := range d.kids(i) {
		if len(shape) == 1 {
			if !d.nodes[j].kind.scalar() {
				return false
			}
		} else if d.nodes[j].kind != kindArray || !d.rectangular(j, shape[1:]) {
			return false
		}
	}
	return true
}

// product returns the number of elements of a shape, -1 for one that is none.
func product(shape []int) int {
	n := 1
	for _, d := range shape {
		if d < 0 || d > 0 && n > maxBytes/d {
			return -1
		}
		n *= d
	}
	return n
}

// leaves goes over the elements in row-major order.
func (t *tensor) leaves() func(func(int) bool) {
	return func(yield func(int) bool) {
		for j := t.node + 1; j < int(t.doc.nodes[t.node].next); j++ {
			if t.doc.nodes[j].kind.scalar() && !yield(j) {
				return
			}
		}
	}
}

// place appends the indices of the nth element. There is always one, so that a
// number in a list keeps its path whether the batch is of one or of many.
func (t *tensor) place(path routing.Path, n int) routing.Path {
	if len(t.dims) == 0 {
		return append(path, routing.Segment{})
	}
	first := len(path)
	for range t.dims {
		path = append(path, routing.Segment{})
	}
	for i := len(t.dims) - 1; i >= 0; i-- {
		path[first+i].Index = n % t.dims[i]
		n /= t.dims[i]
	}
	return path
}

// row returns the length of the rows along the last axis.
func (t *tensor) row() int { return t.shape[len(t.shape)-1] }

// numbers returns the elements when all are numbers.
func (t *tensor) numbers() ([]float64, bool) {
	numbers := make([]float64, 0, t.size)
	for j := range t.leaves() {
		if t.doc.nodes[j].kind != kindNumber {
			return nil, false
		}
		numbers = append(numbers, t.doc.nodes[j].num)
	}
	return numbers, true
}

// maxShown is how many bytes of a value are shown.
const maxShown = 400

// show returns a value as JSON: as it stands in the answer, except that what
// JSON has no number for is a string, and that a long one is cut or described.
func (d *document) show(i int) []byte {
	n := d.nodes[i]
	switch n.kind {
	case kindNull:
		return []byte("null")
	case kindBool:
		return strconv.AppendBool(nil, n.num == 1)
	case kindNumber:
		if !finite(n.num) {
			return quote(strconv.FormatFloat(n.num, 'g', -1, 64))
		}
		if n.end > n.start && n.end-n.start <= maxShown {
			return append([]byte(nil), d.raw(i)...)
		}
		return strconv.AppendFloat(nil, n.num, 'g', -1, 64)
	case kindString:
		return quote(short(d.text(i)))
	case kindArray:
		return d.showAll(i, '[', ']', " elements")
	default:
		return d.showAll(i, '{', '}', " members")
	}
}

// showAll shows a container, or says how large it is.
func (d *document) showAll(i int, open, end byte, noun string) []byte {
	out := []byte{open}
	for j := range d.kids(i) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		if d.nodes[i].kind == kindObject {
			out = append(append(out, d.show(j)...), ':')
			j++
		}
		out = append(out, d.show(j)...)
		if len(out) > maxShown {
			return quote(strconv.Itoa(int(d.nodes[i].kids)) + noun)
		}
	}
	return append(out, end)
}
