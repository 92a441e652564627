package truth

import "github.com/headgate/headgate/stats"

// Part is how many of so many.
type Part struct {
	N uint64 `json:"n"` // all
	X uint64 `json:"x"` // those that are meant
}

// Add adds another part.
func (p *Part) Add(o Part) { p.N, p.X = p.N+o.N, p.X+o.X }

// Estimate is X/N; ok is false without any.
func (p Part) Estimate() (rate float64, ok bool) {
	if p.N == 0 {
		return 0, false
	}
	return float64(p.X) / float64(p.N), true
}

// Interval is a confidence sequence of the rate: see [stats.RateInterval].
func (p Part) Interval(alphaLow, alphaHigh float64) (low, high float64) {
	return stats.RateInterval(p.N, p.X, alphaLow, alphaHigh)
}

// Confusion counts predictions of yes or no by what was true.
//
// Each of its rates has an interval by itself, under the assumption of
// [stats.Rate] for the predictions in its denominator, taken in the order in
// which their truth came: given all before, the next one is right with a
// probability on the claimed side. For precision and recall these are
// subsets, which does no harm: what is not in the subset is a moment at which no
// bet is made. Two versions' rates are compared by [stats.Relative]; the accuracy
// of versions that answered the same requests better by [Balance].
type Confusion struct {
	TruePositive  uint64 `json:"tp"`
	FalsePositive uint64 `json:"fp"`
	TrueNegative  uint64 `json:"tn"`
	FalseNegative uint64 `json:"fn"`
}

// Add counts one prediction.
func (c *Confusion) Add(predicted, actual bool) {
	switch {
	case predicted && actual:
		c.TruePositive++
	case predicted:
		c.FalsePositive++
	case actual:
		c.FalseNegative++
	default:
		c.TrueNegative++
	}
}

// Merge adds what another has counted.
func (c *Confusion) Merge(o Confusion) {
	c.TruePositive += o.TruePositive
	c.FalsePositive += o.FalsePositive
	c.TrueNegative += o.TrueNegative
	c.FalseNegative += o.FalseNegative
}

// N is how many predictions were counted.
func (c Confusion) N() uint64 {
	return c.TruePositive + c.FalsePositive + c.TrueNegative + c.FalseNegative
}

// Accuracy is the part of all predictions that were right.
func (c Confusion) Accuracy() Part { return Part{N: c.N(), X: c.TruePositive + c.TrueNegative} }

// Precision is the part of the predicted positives that were true.
func (c Confusion) Precision() Part {
	return Part{N: c.TruePositive + c.FalsePositive, X: c.TruePositive}
}

// Recall is the part of the true positives that were predicted.
func (c Confusion) Recall() Part {
	return Part{N: c.TruePositive + c.FalseNegative, X: c.TruePositive}
}

// Accuracy counts predictions of any label, by whether they were right.
type Accuracy struct{ Part }

// Add counts one prediction.
func (a *Accuracy) Add(right bool) {
	a.N++
	if right {
		a.X++
	}
}

// Merge adds what another has counted.
func (a *Accuracy) Merge(o Accuracy) { a.Part.Add(o.Part) }
