package protocol

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// As is what the values at a place are compared as.
type As string

// The ways to compare. The zero value goes by what stands there: numbers,
// labels, and text in the answers of language models.
const (
	AsNumber As = "number" // within a tolerance, on the same side of thresholds
	AsLabel  As = "label"  // the same or not; also for numbers that are names of classes
	AsVector As = "vector" // a distribution over classes, or an embedding, along the last axis
	AsText   As = "text"   // the same words: white space and Unicode forms do not count
	AsIgnore As = "ignore" // not at all
)

// Tolerance is how far apart two numbers may be: within Absolute, or within
// Relative of the stable one's size. Both 0: not at all.
type Tolerance struct {
	Absolute float64
	Relative float64 // 0.02 is 2 %
}

// Rule says how the values at a place are compared. Of several that cover a
// value the one whose pattern says most counts, and it alone; of two that say
// equally much the later one.
type Rule struct {
	Path Pattern
	As   As
	// Tolerance of numbers. Nil: numbers of which both are in [0, 1] may differ
	// by 0.1, unless there are thresholds; others must be the same, and the
	// result says that a tolerance was missing.
	Tolerance  *Tolerance
	Thresholds []float64 // both numbers must be at or above, or both below
	NaNEqual   bool      // NaN equals NaN
	Fold       bool      // text without regard to case
	// Of vectors; with none of them MaxVariation is 0.1.
	TopK         int     // the TopK largest must be the same classes, in any order; ties count for whoever needs them
	MaxVariation float64 // total variation: half the sum of |p - q|, in [0, 1] for distributions
	MaxCosine    float64 // 1 - cosine of the angle between them, in [0, 2]
}

// defaultTolerance is for numbers in [0, 1] on both sides.
const defaultTolerance = 0.1

// Comparer compares predictions. It is safe for concurrent use.
type Comparer struct{ rules []Rule }

// NewComparer returns a comparer by rules; with none the defaults of [Rule]
// hold.
func NewComparer(rules []Rule) (*Comparer, error) {
	c := &Comparer{rules: slices.Clone(rules)}
	var errs []error
	for i := range c.rules {
		if err := c.rules[i].complete(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.rules[i].Path, err))
		}
	}
	slices.Reverse(c.rules)
	slices.SortStableFunc(c.rules, func(a, b Rule) int { return b.Path.more(a.Path) })
	return c, errors.Join(errs...)
}

// complete checks a rule and fills in what it leaves open.
func (r *Rule) complete() error {
	if r.Tolerance != nil && !(r.Tolerance.Absolute >= 0 && r.Tolerance.Relative >= 0) {
		return errors.New("tolerance: must not be negative")
	}
	for _, t := range r.Thresholds {
		if !finite(t) {
			return errors.New("threshold: must be finite")
		}
	}
	if r.TopK < 0 || !(r.MaxVariation >= 0) || !(r.MaxCosine >= 0) {
		return errors.New("vector: limits must not be negative")
	}
	vector := r.TopK > 0 || r.MaxVariation > 0 || r.MaxCosine > 0
	switch r.As {
	case "":
		if vector {
			r.As = AsVector
		}
	case AsVector:
		if !vector {
			r.MaxVariation = defaultTolerance
		}
	case AsNumber, AsLabel, AsText, AsIgnore:
		if vector {
			return fmt.Errorf("limits of vectors: must not be given for %s", r.As)
		}
	default:
		return fmt.Errorf("as: %q: must be number, label, vector, text or ignore", r.As)
	}
	return nil
}

// number tells how far apart two numbers are and whether the rule allows it.
// Kind is empty when it does.
func (r *Rule) number(a, b *node, left, right []byte) (distance float64, kind Kind, untold bool) {
	x, y := a.num, b.num
	if math.IsNaN(x) && math.IsNaN(y) && r.NaNEqual || x == y && math.IsInf(x, 0) {
		return 0, "", false
	}
	if !finite(x) || !finite(y) {
		return math.MaxFloat64, KindValue, false
	}
	distance = min(math.Abs(x-y), math.MaxFloat64)
	if distance == 0 && a.integer && b.integer && math.Abs(x) >= 1<<53 {
		distance = integerDistance(left, right)
	}
	for _, t := range r.Thresholds {
		if (x >= t) != (y >= t) {
			return distance, KindThreshold, false
		}
	}
	tolerance := r.Tolerance
	if tolerance == nil {
		switch {
		case len(r.Thresholds) > 0 || distance == 0:
			return distance, "", false
		case x >= 0 && x <= 1 && y >= 0 && y <= 1:
			tolerance = &Tolerance{Absolute: defaultTolerance}
		default:
			return distance, KindValue, true
		}
	}
	// 0.4 - 0.3 is a bit more than 0.1 in binary.
	slack := 1e-12 * max(math.Abs(x), math.Abs(y))
	if allowed := max(tolerance.Absolute, tolerance.Relative*math.Abs(x)); allowed > 0 && distance <= allowed+slack || distance == 0 {
		return distance, "", false
	}
	return distance, KindValue, false
}
