package protocol

import (
	"encoding/json"
	"strings"
)

// Kind is how two answers differ at a place.
type Kind string

// The kinds of differences.
const (
	KindStatus    Kind = "status"       // different status codes, or an error on one side only
	KindMissing   Kind = "missing"      // only stable has it
	KindExtra     Kind = "extra"        // only shadow has it
	KindType      Kind = "type_change"  // a number against a string, and such
	KindShape     Kind = "shape"        // arrays of different shapes, ones apart
	KindValue     Kind = "value"        // numbers beyond the tolerance
	KindThreshold Kind = "threshold"    // numbers on two sides of a threshold
	KindLabel     Kind = "label"        // different labels or booleans
	KindText      Kind = "text"         // different words
	KindTopK      Kind = "top_k"        // vectors with different largest classes
	KindVariation Kind = "distribution" // vectors beyond the total variation that is allowed
	KindCosine    Kind = "cosine"       // vectors that point in different directions
)

// maxDifferences is how many differences of one pair are listed.
const maxDifferences = 100

// Diff is how two answers to one request differ.
type Diff struct {
	// Comparable says that both answers were read. If not, Reason says why and
	// nothing else is known: neither agreement nor disagreement.
	Comparable bool
	Reason     string
	Agree      bool
	// Difference is the pair in one number: the largest of the differences at
	// all places that are compared, within tolerance or not. For numbers it is
	// |stable - shadow|, whatever the tolerance is; math.MaxFloat64 when one is
	// NaN or infinite and they are not equal. For vectors it is the total
	// variation, or 1 - cosine with MaxCosine alone. For all that has no size
	// (labels, texts, missing, types, shapes, status, top-k) it is 1, or 0 when
	// they are the same. Only comparable pairs have one.
	Difference  float64
	Differences []Difference // what disagrees; the first 100, in a fixed order
	More        int          // further ones
	// WithoutTolerance are the places at which numbers outside of [0, 1] differ
	// and no rule has a tolerance; they were compared exactly. The first ten.
	WithoutTolerance []string
}

// Difference is a place at which two answers disagree.
type Difference struct {
	Path string `json:"path"`
	Kind Kind   `json:"kind"`
	// The values, shortened when they are long; nil where there is none.
	Stable json.RawMessage `json:"stable"`
	Shadow json.RawMessage `json:"shadow"`
}

// MarshalJSON gives the form that scripts rely on. Difference is null for a
// pair that is not comparable.
func (d *Diff) MarshalJSON() ([]byte, error) { return json.Marshal(d.form()) }

type diffForm struct {
	Agree            bool         `json:"agree"`
	Comparable       bool         `json:"comparable"`
	Reason           string       `json:"reason,omitempty"`
	Difference       *float64     `json:"difference"`
	Differences      []Difference `json:"differences"`
	More             int          `json:"more,omitempty"`
	WithoutTolerance []string     `json:"without_tolerance,omitempty"`
}

func (d *Diff) form() diffForm {
	form := diffForm{Agree: d.Agree, Comparable: d.Comparable, Reason: d.Reason, Differences: d.Differences,
		More: d.More, WithoutTolerance: d.WithoutTolerance}
	if d.Comparable {
		form.Difference = &d.Difference
	}
	if form.Differences == nil {
		form.Differences = []Difference{}
	}
	return form
}

// NotComparable returns the result for a pair of which an answer could not be
// read; an error is nil for the one that could. It names the side.
func NotComparable(stable, shadow error) *Diff {
	var reasons []string
	if stable != nil {
		reasons = append(reasons, "stable: "+stable.Error())
	}
	if shadow != nil {
		reasons = append(reasons, "shadow: "+shadow.Error())
	}
	return &Diff{Reason: strings.Join(reasons, "; ")}
}
