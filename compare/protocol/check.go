package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/routing"
)

// Requirement is what a prediction must be to be valid, at a place and beneath
// it. Each field that is set is a rule of its own.
type Requirement struct {
	Path Pattern
	// Present: there is something at the path. Without it a place that is not
	// there breaks no rule.
	Present bool
	// Finite: no number is NaN or infinite.
	Finite bool
	// Min and Max bound every number. Nil: no bound. NaN is outside of any.
	Min, Max *float64
	// Labels are the texts that are allowed, and numbers and booleans as they
	// are written in JSON.
	Labels []string
	// Shape of an array, outermost dimension first; -1 is any length. Ones
	// count: [1, 3] is not [3].
	Shape []int
	// SumsToOne: the numbers along the last axis of an array, or of an object's
	// members, add up to 1 within this. 0: no such rule.
	SumsToOne float64
	// NotEmpty: no text is empty or white space only; of a language model's
	// answer, none without a tool call.
	NotEmpty bool
	// Complete: the answer of a language model did not end at the limit of
	// tokens, or without its end.
	Complete bool
	// Schema is a JSON Schema. With the path $ it sees the whole answer, a
	// streamed one as it was put together; else the value at the path.
	Schema *Schema
}

// Rule names of violations.
const (
	RulePresent   = "present"
	RuleNaN       = "nan"
	RuleInfinite  = "infinite"
	RuleRange     = "range"
	RuleLabels    = "labels"
	RuleShape     = "shape"
	RuleSumsToOne = "sums_to_one"
	RuleEmpty     = "empty"
	RuleTruncated = "truncated"
	RuleSchema    = "schema"
)

// Violation says which rule is broken, and where.
type Violation struct {
	Rule   string          `json:"rule"`
	Path   string          `json:"path"`
	Value  json.RawMessage `json:"value"`            // shortened when it is long; nil when there is none
	Detail string          `json:"detail,omitempty"` // the limit that is broken, in words
}

// maxViolations is how many violations of one answer are listed.
const maxViolations = 20

// Checker tells which answers are invalid. It is safe for concurrent use.
type Checker struct{ requirements []Requirement }

// NewChecker returns a checker. An answer must meet all requirements.
func NewChecker(requirements []Requirement) (*Checker, error) {
	var errs []error
	for _, r := range requirements {
		var err error
		switch {
		case r.SumsToOne < 0 || math.IsNaN(r.SumsToOne):
			err = errors.New("sums to one: must not be negative")
		case r.Min != nil && r.Max != nil && !(*r.Min <= *r.Max):
			err = errors.New("range: min must not be above max")
		case slices.ContainsFunc(r.Shape, func(n int) bool { return n < -1 }):
			err = errors.New("shape: a length must be 0 or more, or -1 for any")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Path, err))
		}
	}
	return &Checker{requirements: slices.Clone(requirements)}, errors.Join(errs...)
}

// Check returns what is invalid in a prediction, at most the first twenty
// things; none when it is valid. A failure is not a prediction and breaks no
// rule: errors are counted by their status.
func (c *Checker) Check(p *Prediction) []Violation {
	if p.Failure != "" {
		return nil
	}
	var all []Violation
	for i := range c.requirements {
		k := check{Requirement: &c.requirements[i], found: all}
		k.prediction(p)
		all = k.found
	}
	return all
}

// check is one requirement under way through one prediction.
type check struct {
	*Requirement
	walk
	found   []Violation
	matched bool // something is at the path
	texts   bool // texts must not be empty
}

func (k *check) prediction(p *Prediction) {
	if k.Complete && p.LLM != nil && p.LLM.Truncated {
		k.violated(RuleTruncated, -1, fmt.Sprintf("finish reasons %q", p.LLM.FinishReasons))
	}
	if k.Schema != nil && len(k.Path.steps) == 0 {
		k.wholeSchema(p)
	}
	k.texts = k.NotEmpty && p.LLM == nil // with an LLM a tool call may stand alone
	if k.NotEmpty && p.LLM != nil && p.LLM.Empty {
		k.violated(RuleEmpty, -1, "neither text nor a tool call")
	}
	for i := range p.outputs {
		o := &p.outputs[i]
		k.doc, k.path = o.doc, slices.Clone(o.path)
		k.value(o.node, o)
	}
	if k.Present && !k.matched {
		k.path = nil
		k.violated(RulePresent, -1, k.Path.String()+" is not in the answer")
	}
}

// violated notes a violation at the node i; below 0 there is no value.
func (k *check) violated(rule string, i int, detail string) {
	if len(k.found) >= maxViolations {
		return
	}
	v := Violation{Rule: rule, Path: k.path.String(), Detail: detail}
	if i >= 0 {
		v.Value = k.doc.show(i)
	}
	k.found = append(k.found, v)
}

// value checks what is at and beneath a node. The output is given for its root
// only.
func (k *check) value(i int, o *output) {
	if len(k.found) >= maxViolations {
		return
	}
	covered := k.Path.covers(k.path)
	if !covered && !k.Path.beneath(k.path) {
		return
	}
	k.matched = k.matched || covered
	exact := covered && len(k.path) == len(k.Path.steps) || covered && o != nil
	if exact {
		k.whole(i, o)
	}
	n := k.doc.nodes[i]
	if n.kind.scalar() {
		if covered {
			k.scalar(i)
		}
		return
	}
	var declared []int
	if o != nil {
		declared = o.shape
	}
	if covered && k.SumsToOne > 0 {
		k.sums(i, declared)
	}
	k.children(i, declared)
}

func (k *check) children(i int, declared []int) {
	depth := len(k.path)
	if t, ok := k.doc.tensor(i, declared); ok {
		n := 0
		for j := range t.leaves() {
			k.path = t.place(k.path[:depth], n)
			if n++; k.Path.covers(k.path) {
				k.matched = true
				k.scalar(j)
			}
		}
		k.path = k.path[:depth]
		return
	}
	n := 0
	for j := range k.doc.kids(i) {
		segment := routing.Segment{Index: n}
		if n++; k.doc.nodes[i].kind == kindObject {
			segment = routing.Segment{Name: k.doc.text(j)}
			j++
		}
		k.path = append(k.path[:depth], segment)
		k.value(j, nil)
	}
	k.path = k.path[:depth]
}

// whole checks what concerns a place as a whole.
func (k *check) whole(i int, o *output) {
	if k.Shape != nil {
		var declared []int
		if o != nil {
			declared = o.shape
			if o.fault != "" {
				k.violated(RuleShape, i, o.fault)
			}
		}
		k.shape(i, declared)
	}
	if k.Schema != nil && len(k.Path.steps) > 0 {
		if err := k.Schema.check(k.doc, i); err != nil {
			k.violated(RuleSchema, i, err.Error())
		}
	}
}

func (k *check) shape(i int, declared []int) {
	t, ok := k.doc.tensor(i, declared)
	switch {
	case k.doc.nodes[i].kind.scalar() && len(k.Shape) == 0:
	case !ok:
		k.violated(RuleShape, i, "not an array with shape "+shapeText(k.Shape))
	case !slices.EqualFunc(k.Shape, t.shape, func(want, got int) bool { return want == -1 || want == got }):
		k.violated(RuleShape, i, shapeText(t.shape)+" is not "+shapeText(k.Shape))
	}
}

func (k *check) scalar(i int) {
	n := k.doc.nodes[i]
	switch n.kind {
	case kindNumber:
		k.number(i, n.num)
	case kindString:
		if k.texts && strings.TrimSpace(k.doc.text(i)) == "" {
			k.violated(RuleEmpty, i, "")
		}
	}
	if k.Labels != nil && !slices.Contains(k.Labels, k.label(i)) {
		k.violated(RuleLabels, i, "not one of "+short(strings.Join(k.Labels, ", ")))
	}
}

// label is a scalar as a label: 1.0 is the same as 1.
func (k *check) label(i int) string {
	switch n := k.doc.nodes[i]; n.kind {
	case kindString:
		return k.doc.text(i)
	case kindNumber:
		if n.integer && n.end > n.start {
			return string(k.doc.raw(i))
		}
		return strconv.FormatFloat(n.num, 'f', -1, 64)
	default:
		return string(k.doc.show(i))
	}
}

func (k *check) number(i int, f float64) {
	bounded := k.Min != nil || k.Max != nil
	switch {
	case math.IsNaN(f) && (k.Finite || bounded):
		k.violated(RuleNaN, i, "")
	case math.IsInf(f, 0) && k.Finite:
		k.violated(RuleInfinite, i, "")
	case k.Min != nil && f < *k.Min:
		k.violated(RuleRange, i, fmt.Sprintf("must be at least %v", *k.Min))
	case k.Max != nil && f > *k.Max:
		k.violated(RuleRange, i, fmt.Sprintf("must be at most %v", *k.Max))
	}
}

// sums checks the rows of a tensor of numbers, or an object of numbers.
func (k *check) sums(i int, declared []int) {
	if k.doc.nodes[i].kind == kindObject {
		sum, all := 0.0, k.doc.nodes[i].kids > 0
		for _, f := range k.doc.fields(i) {
			n, ok := k.doc.number(f.value)
			sum, all = sum+n, all && ok
		}
		if all {
			k.sum(i, sum)
		}
		return
	}
	t, ok := k.doc.tensor(i, declared)
	if !ok || t.row() == 0 {
		return
	}
	numbers, ok := t.numbers()
	if !ok {
		return
	}
	depth := len(k.path)
	for n := 0; n < len(numbers); n += t.row() {
		sum := 0.0
		for _, f := range numbers[n : n+t.row()] {
			sum += f
		}
		if t.row() < len(numbers) {
			k.path = t.place(k.path[:depth], n)
			if t.row() > 1 {
				k.path = k.path[:len(k.path)-1]
			}
		}
		k.sum(i, sum)
		k.path = k.path[:depth]
	}
}

func (k *check) sum(i int, sum float64) {
	if !(math.Abs(sum-1) <= k.SumsToOne+1e-12) {
		k.violated(RuleSumsToOne, i, fmt.Sprintf("the sum is %v, not 1 within %v", sum, k.SumsToOne))
	}
}

func (k *check) wholeSchema(p *Prediction) {
	doc := p.whole
	if doc == nil && len(p.outputs) > 0 {
		doc = p.outputs[0].doc
	}
	if doc == nil {
		return
	}
	k.matched = true
	if err := k.Schema.check(doc, 0); err != nil {
		k.doc = doc
		k.violated(RuleSchema, 0, err.Error())
	}
}
