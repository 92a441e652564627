package protocol

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/headgate/headgate/routing"
)

// Compare compares what two versions predicted for the same request.
//
// When both gave errors there is no prediction to compare: with the same 4xx
// they agree that the request is bad, otherwise the pair is not comparable,
// unless the status differs.
func (c *Comparer) Compare(stable, shadow *Prediction) *Diff {
	x := &comparison{rules: c.rules, diff: &Diff{Comparable: true}}
	x.text = stable.Protocol == OpenAI || shadow.Protocol == OpenAI
	if !x.status(stable, shadow) {
		x.outputs(stable.outputs, shadow.outputs)
	}
	x.diff.Agree = x.diff.Comparable && len(x.diff.Differences) == 0
	return x.diff
}

// status compares how the answers ended, and tells whether that was all.
func (x *comparison) status(stable, shadow *Prediction) (done bool) {
	failed := stable.Failure != "" || shadow.Failure != ""
	if stable.Status != shadow.Status || (stable.Failure == "") != (shadow.Failure == "") {
		x.path = nil
		x.differ(KindStatus, 1, statusText(stable), statusText(shadow))
		return failed
	}
	if failed && (stable.Status < 400 || stable.Status >= 500) {
		x.diff.Comparable, x.diff.Reason = false, "both answers are errors: "+stable.Failure
	}
	return failed
}

func statusText(p *Prediction) []byte {
	if p.Failure != "" && p.Status < 300 {
		return quote("error: " + p.Failure)
	}
	return fmt.Appendf(nil, "%d", p.Status)
}

// comparison is one comparison under way.
type comparison struct {
	rules []Rule
	diff  *Diff
	text  bool         // the answers of language models
	path  routing.Path // where it is
	a, b  *document    // of the output at hand; stable and shadow
	all   bool         // it is the whole answer
}

var noRule Rule

// rule returns the rule for the place at hand.
func (x *comparison) rule() *Rule {
	for i := range x.rules {
		if x.rules[i].Path.covers(x.path) {
			return &x.rules[i]
		}
	}
	return &noRule
}

// deeper tells whether a rule may hold for a part of what is at hand.
func (x *comparison) deeper() bool {
	return slices.ContainsFunc(x.rules, func(r Rule) bool { return r.Path.beneath(x.path) })
}

// differ notes a disagreement.
func (x *comparison) differ(k Kind, distance float64, stable, shadow []byte) {
	x.apart(distance)
	if len(x.diff.Differences) == maxDifferences {
		x.diff.More++
		return
	}
	path := x.path.String()
	if k == KindStatus {
		path = "status"
	}
	x.diff.Differences = append(x.diff.Differences, Difference{Path: path, Kind: k, Stable: stable, Shadow: shadow})
}

// full tells whether no further difference is listed, so that showing its
// values is of no use.
func (x *comparison) full() bool { return len(x.diff.Differences) == maxDifferences }

// apart notes a distance, of what agrees too.
func (x *comparison) apart(distance float64) { x.diff.Difference = max(x.diff.Difference, distance) }

// differAt notes a disagreement of two values; an index below 0 is none.
func (x *comparison) differAt(k Kind, distance float64, i, j int) {
	var stable, shadow []byte
	if !x.full() {
		if i >= 0 {
			stable = x.a.show(i)
		}
		if j >= 0 {
			shadow = x.b.show(j)
		}
	}
	x.differ(k, distance, stable, shadow)
}

// outputs compares outputs by their paths.
func (x *comparison) outputs(stable, shadow []output) {
	if len(stable) == 1 && len(shadow) == 1 && slices.Equal(stable[0].path, shadow[0].path) {
		x.output(&stable[0], &shadow[0])
		return
	}
	byPath := make(map[string]*output, len(shadow))
	for i := range shadow {
		byPath[shadow[i].path.String()] = &shadow[i]
	}
	for i := range stable {
		path := stable[i].path.String()
		x.output(&stable[i], byPath[path])
		delete(byPath, path)
	}
	for i := range shadow {
		if o := &shadow[i]; byPath[o.path.String()] == o {
			x.output(nil, o)
		}
	}
}

// output compares one output; nil is one that is not there.
func (x *comparison) output(a, b *output) {
	some := a
	if a == nil {
		some = b
	}
	x.path, x.all = append(x.path[:0], some.path...), some.all
	switch {
	case (a == nil || b == nil) && x.rule().As == AsIgnore:
	case b == nil:
		x.a = a.doc
		x.differAt(KindMissing, 1, a.node, -1)
	case a == nil:
		x.b = b.doc
		x.differAt(KindExtra, 1, -1, b.node)
	default:
		x.a, x.b = a.doc, b.doc
		x.value(a.node, b.node, a.shape, b.shape)
	}
}

// value compares two values, i of stable and j of shadow.
func (x *comparison) value(i, j int, shapeI, shapeJ []int) {
	m, n := x.a.nodes[i].kind, x.b.nodes[j].kind
	switch {
	case m.scalar() && n.scalar():
		x.scalar(x.rule(), i, j)
	case x.rule().As == AsIgnore && (m != n || !x.deeper()):
	case m != n:
		x.differAt(KindType, 1, i, j)
	case m == kindObject:
		x.object(i, j)
	default:
		t, isT := x.a.tensor(i, shapeI)
		u, isU := x.b.tensor(j, shapeJ)
		if isT && isU {
			x.tensors(&t, &u)
		} else {
			x.list(i, j)
		}
	}
}

// volatile are members that name an answer or a model, not a prediction. They
// do not count at the top of an answer that is compared as a whole.
var volatile = []string{
	"id", "uuid", "request_id", "requestId", "response_id", "responseId", "prediction_id", "predictionId",
	"trace_id", "traceId", "correlation_id", "correlationId", "model", "model_name", "modelName",
	"model_version", "modelVersion", "version", "created", "created_at", "createdAt", "timestamp",
}

// object compares members by name. One that is null is as good as absent, and
// so is an object of parameters that is empty.
func (x *comparison) object(i, j int) {
	vector := x.rule().As == AsVector
	if !vector && x.sameNames(i, j) {
		x.inStep(i, j)
		return
	}
	left, right := x.a.fields(i), x.b.fields(j)
	if vector && x.labelled(left, right) {
		return
	}
	depth := len(x.path)
	for len(left) > 0 || len(right) > 0 {
		f, g := field{value: -1}, field{value: -1}
		switch {
		case len(right) == 0 || len(left) > 0 && left[0].name < right[0].name:
			f, left = left[0], left[1:]
		case len(left) == 0 || right[0].name < left[0].name:
			g, right = right[0], right[1:]
		default:
			f, left = left[0], left[1:]
			g, right = right[0], right[1:]
		}
		name := f.name
		if f.value < 0 {
			name = g.name
		}
		x.member(depth, name, f.value, g.value)
	}
	x.path = x.path[:depth]
}

// sameNames tells whether two objects name the same members in the same order,
// as two versions of a model mostly do.
func (x *comparison) sameNames(i, j int) bool {
	if x.a.nodes[i].kids != x.b.nodes[j].kids {
		return false
	}
	end := int(x.a.nodes[i].next)
	for i, j = i+1, j+1; i < end; i, j = int(x.a.nodes[i+1].next), int(x.b.nodes[j+1].next) {
		if x.a.nodes[i].escaped || x.b.nodes[j].escaped || string(x.a.raw(i)) != string(x.b.raw(j)) {
			return false
		}
	}
	return true
}

// inStep compares the members of two objects one by one. It needs no memory.
// One that comes twice is compared twice.
func (x *comparison) inStep(i, j int) {
	depth, end := len(x.path), int(x.a.nodes[i].next)
	for i, j = i+1, j+1; i < end; i, j = int(x.a.nodes[i+1].next), int(x.b.nodes[j+1].next) {
		x.member(depth, x.a.text(i), notNull(x.a, i+1), notNull(x.b, j+1))
	}
	x.path = x.path[:depth]
}

// notNull returns i, or -1 when there is null.
func notNull(d *document, i int) int {
	if d.nodes[i].kind == kindNull {
		return -1
	}
	return i
}

// member compares two members of one name; an index below 0 is none.
func (x *comparison) member(depth int, name string, i, j int) {
	if i < 0 && j < 0 || x.all && depth == 0 && slices.Contains(volatile, name) {
		return
	}
	x.path = append(x.path[:depth], routing.Segment{Name: name})
	x.pair(i, j)
}

// pair compares two members or elements; an index below 0 is none.
func (x *comparison) pair(i, j int) {
	switch {
	case i >= 0 && j >= 0:
		x.value(i, j, nil, nil)
	case x.rule().As == AsIgnore:
	case i >= 0:
		if !x.emptyParameters(x.a, i) {
			x.differAt(KindMissing, 1, i, -1)
		}
	default:
		if !x.emptyParameters(x.b, j) {
			x.differAt(KindExtra, 1, -1, j)
		}
	}
}

func (x *comparison) emptyParameters(d *document, i int) bool {
	return x.path[len(x.path)-1].Name == "parameters" && d.nodes[i].kind == kindObject && d.nodes[i].kids == 0
}

// list compares arrays that are not tensors, element by element.
func (x *comparison) list(i, j int) {
	depth := len(x.path)
	end, endJ := int(x.a.nodes[i].next), int(x.b.nodes[j].next)
	i, j = i+1, j+1
	for n := 0; i < end || j < endJ; n++ {
		x.path = append(x.path[:depth], routing.Segment{Index: n})
		left, right := -1, -1
		if i < end {
			left, i = i, int(x.a.nodes[i].next)
		}
		if j < endJ {
			right, j = j, int(x.b.nodes[j].next)
		}
		x.pair(left, right)
	}
	x.path = x.path[:depth]
}

// tensors compares two arrays of scalars. Dimensions of size one do not count.
func (x *comparison) tensors(t, u *tensor) {
	depth := len(x.path)
	rule, deeper := x.rule(), x.deeper()
	if deeper && t.size > 0 {
		x.path = t.place(x.path, 0)
		if r := x.rule(); r.As == AsVector {
			rule, deeper = r, false
		}
		x.path = x.path[:depth]
	}
	if !slices.Equal(t.dims, u.dims) {
		if rule.As != AsIgnore {
			x.differ(KindShape, 1, []byte(shapeText(t.shape)), []byte(shapeText(u.shape)))
		}
		return
	}
	if rule.As == AsVector && x.vectors(rule, t, u) {
		return
	}
	n, j := 0, u.node+1
	for i := range t.leaves() {
		for !u.doc.nodes[j].kind.scalar() {
			j++
		}
		x.element(rule, t, n, i, j, deeper)
		n, j = n+1, j+1
	}
	x.path = x.path[:depth]
}

// element compares the nth element of two tensors. Its path is made only when
// somebody wants to know it.
func (x *comparison) element(rule *Rule, t *tensor, n, i, j int, deeper bool) {
	depth := len(x.path)
	defer func() { x.path = x.path[:depth] }()
	if deeper {
		x.path = t.place(x.path, n)
		x.scalar(x.rule(), i, j)
		return
	}
	a, b := &x.a.nodes[i], &x.b.nodes[j]
	if a.kind == kindNumber && b.kind == kindNumber && rule.As != AsLabel && rule.As != AsIgnore {
		distance, kind, _ := rule.number(a, b, x.a.raw(i), x.b.raw(j))
		if kind == "" {
			x.apart(distance)
			return
		}
	}
	x.path = t.place(x.path, n)
	x.scalar(rule, i, j)
}

// scalar compares two values that are neither arrays nor objects.
func (x *comparison) scalar(rule *Rule, i, j int) {
	a, b := &x.a.nodes[i], &x.b.nodes[j]
	switch {
	case rule.As == AsIgnore:
	case a.kind != b.kind:
		x.differAt(KindType, 1, i, j)
	case a.kind == kindString:
		x.strings(rule, i, j)
	case a.kind == kindBool && a.num != b.num:
		x.differAt(KindLabel, 1, i, j)
	case a.kind == kindNumber:
		distance, kind, untold := rule.number(a, b, x.a.raw(i), x.b.raw(j))
		if rule.As == AsLabel {
			if kind, untold = "", false; distance != 0 {
				kind, distance = KindLabel, 1
			}
		}
		x.apart(distance)
		if kind != "" {
			x.differAt(kind, distance, i, j)
		}
		if untold && len(x.diff.WithoutTolerance) < 10 {
			x.diff.WithoutTolerance = append(x.diff.WithoutTolerance, x.path.String())
		}
	}
}

// prose are the members of a language model's answer that are free text.
var prose = []string{"content", "text", "refusal"}

func (x *comparison) strings(rule *Rule, i, j int) {
	if string(x.a.raw(i)) == string(x.b.raw(j)) && x.a.nodes[i].escaped == x.b.nodes[j].escaped {
		return
	}
	s, t := x.a.text(i), x.b.text(j)
	kind := KindLabel
	if rule.As == AsText || x.text && rule.As == "" && len(x.path) > 0 && slices.Contains(prose, x.path[len(x.path)-1].Name) {
		kind, s, t = KindText, normal(s, rule.Fold), normal(t, rule.Fold)
	}
	if s != t {
		x.differAt(kind, 1, i, j)
	}
}

// integerDistance returns the distance of two integers that a float64 cannot
// tell apart.
func integerDistance(a, b []byte) float64 {
	if string(a) == string(b) || len(a) > 400 || len(b) > 400 {
		return 0
	}
	x, okX := new(big.Int).SetString(string(a), 10)
	y, okY := new(big.Int).SetString(string(b), 10)
	if !okX || !okY {
		return 0
	}
	distance, _ := new(big.Float).SetInt(x.Sub(x, y)).Float64()
	return math.Abs(distance)
}

// Pair reads two answers to one request and compares them.
func Pair(r *Reader, c *Comparer, stable, shadow *Answer) *Diff {
	p, errP := r.Read(stable)
	q, errQ := r.Read(shadow)
	return c.pair(p, q, errP, errQ)
}

func (c *Comparer) pair(p, q *Prediction, errP, errQ error) *Diff {
	if errors.Join(errP, errQ) != nil {
		return NotComparable(errP, errQ)
	}
	return c.Compare(p, q)
}
