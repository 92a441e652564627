package truth

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/headgate/headgate/stats"
)

// Errors counts how far predicted numbers were from the truth.
//
// The means themselves are exact. Their intervals come from histograms, whose
// bins are at most 1.6 % wide, of errors in a unit: one between a millionth and a
// million times the usual error is right, the limit of a gate for one.
type Errors struct {
	unit     float64
	n        uint64
	absolute float64 // sums, in units
	squared  float64
	sizes    stats.Histogram
	squares  stats.Histogram
}

// NewErrors counts errors in a unit, which must be above 0 and finite; else it is
// 1.
func NewErrors(unit float64) *Errors {
	if !(unit > 0) || math.IsInf(unit, 1) {
		unit = 1
	}
	return &Errors{unit: unit}
}

// scale is the unit; 1 of the zero value.
func (e *Errors) scale() float64 {
	if e.unit == 0 {
		return 1
	}
	return e.unit
}

// Add counts one prediction. It returns false when the error is no finite number,
// which is not counted: a version that answers NaN is invalid, see the metric of
// that.
func (e *Errors) Add(predicted, actual float64) bool {
	size := math.Abs(predicted-actual) / e.scale()
	if math.IsNaN(size) || math.IsInf(size*size, 1) {
		return false
	}
	e.n++
	e.absolute += size
	e.squared += size * size
	e.sizes.Add(size, 1)
	e.squares.Add(size*size, 1)
	return true
}

// Merge adds what another has counted, which must have the same unit.
func (e *Errors) Merge(o *Errors) error {
	if e.n == 0 {
		e.unit = o.unit
	}
	if o.n > 0 && e.scale() != o.scale() {
		return fmt.Errorf("unit: %v: must be %v", o.scale(), e.scale())
	}
	e.n += o.n
	e.absolute += o.absolute
	e.squared += o.squared
	e.sizes.Merge(&o.sizes)
	e.squares.Merge(&o.squares)
	return nil
}

// N is how many predictions were counted.
func (e *Errors) N() uint64 { return e.n }

// MAE is the mean absolute error; ok is false without any.
func (e *Errors) MAE() (mae float64, ok bool) {
	if e.n == 0 {
		return 0, false
	}
	return e.absolute / float64(e.n) * e.scale(), true
}

// RMSE is the root of the mean squared error; ok is false without any.
func (e *Errors) RMSE() (rmse float64, ok bool) {
	if e.n == 0 {
		return 0, false
	}
	return math.Sqrt(e.squared/float64(e.n)) * e.scale(), true
}

// MAEInterval is a confidence sequence of the mean of min(error, bound): see
// [stats.MeanInterval]. The bound, in the unit of the predictions, keeps a few
// wild errors from saying everything; about ten times what is usual serves.
func (e *Errors) MAEInterval(bound, alphaLow, alphaHigh float64) (low, high float64) {
	low, high = stats.MeanInterval(&e.sizes, bound/e.scale(), alphaLow, alphaHigh)
	return low * e.scale(), high * e.scale()
}

// RMSEInterval is the same of the root of the mean of min(error, bound) squared.
func (e *Errors) RMSEInterval(bound, alphaLow, alphaHigh float64) (low, high float64) {
	b := bound / e.scale()
	low, high = stats.MeanInterval(&e.squares, b*b, alphaLow, alphaHigh)
	return math.Sqrt(low) * e.scale(), math.Sqrt(high) * e.scale()
}

type errorsForm struct {
	Unit     float64          `json:"unit"`
	N        uint64           `json:"n"`
	Absolute float64          `json:"absolute"`
	Squared  float64          `json:"squared"`
	Sizes    *stats.Histogram `json:"sizes"`
	Squares  *stats.Histogram `json:"squares"`
}

// MarshalJSON gives all that it has counted.
func (e *Errors) MarshalJSON() ([]byte, error) {
	return json.Marshal(errorsForm{e.scale(), e.n, e.absolute, e.squared, &e.sizes, &e.squares})
}

// UnmarshalJSON takes what MarshalJSON gives.
func (e *Errors) UnmarshalJSON(b []byte) error {
	f := errorsForm{Sizes: new(stats.Histogram), Squares: new(stats.Histogram)}
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*e = *NewErrors(f.Unit)
	e.n, e.absolute, e.squared = f.N, f.Absolute, f.Squared
	if f.Sizes != nil && f.Squares != nil {
		e.sizes, e.squares = *f.Sizes, *f.Squares
	}
	return nil
}
