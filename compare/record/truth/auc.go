package truth

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
)

// maxCells is how many different cells an AUC has before they become wider.
const maxCells = 4096

// maxAlone is how many scores of one class wait for one of the other.
const maxAlone = 1024

// AUC is the area under the ROC curve of scores: the probability that a positive
// has a higher score than a negative, where equal scores count half (Hanley and
// McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982).
//
// Scores are counted in cells of which each is 0.4 % wide or narrower, in terms of
// the score and, between 0.5 and 1, of what is missing to 1; when there are more
// than 4,096, neighbours become one. So it takes at most some hundred kB, and says
// itself how exact it is. Scores of which all in a cell are equal are exact.
//
// An interval for all times is known of the average over disjoint pairs, not of
// the area of all pairs: see Interval.
type AUC struct {
	cells map[int64]cell
	level int // cells are this many powers of two wide
	pairs Balance
	alone []float64 // scores of one class that wait, oldest first
	// positive says of which.
	positive bool
}

type cell struct {
	Positive uint64  `json:"p"`
	Negative uint64  `json:"n"`
	Score    float64 `json:"s"`           // of the first
	Mixed    bool    `json:"m,omitempty"` // there are others
}

// Add counts the score of a positive or a negative. It returns false for NaN,
// which is not counted.
func (a *AUC) Add(score float64, positive bool) bool {
	if math.IsNaN(score) {
		return false
	}
	c := cell{Score: score}
	if positive {
		c.Positive = 1
	} else {
		c.Negative = 1
	}
	a.put(cellOf(score)>>a.level, c)
	a.narrow()
	a.pair(score, positive)
	return true
}

// cellOf numbers the cells of level 0 in the order of the scores.
func cellOf(score float64) int64 {
	const drop = 44 // of 52 bits of the mantissa
	ordered := func(f float64) int64 {
		if f == 0 {
			f = 0 // not -0
		}
		bits := int64(math.Float64bits(f))
		if bits < 0 {
			bits = math.MinInt64 - bits
		}
		return bits >> drop
	}
	half := ordered(0.5)
	switch {
	case score <= 0.5:
		return ordered(score)
	case score < 1:
		return 2*half + 1 - ordered(1-score)
	}
	return 2*half + 2 - ordered(0) + ordered(score) - ordered(1)
}

func (a *AUC) put(at int64, c cell) {
	if a.cells == nil {
		a.cells = map[int64]cell{}
	}
	if old, ok := a.cells[at]; ok {
		c.Mixed = c.Mixed || old.Mixed || c.Score != old.Score
		c.Score = old.Score
		c.Positive += old.Positive
		c.Negative += old.Negative
	}
	a.cells[at] = c
}

// narrow makes cells wider until there are few enough.
func (a *AUC) narrow() {
	for len(a.cells) > maxCells {
		a.widen(a.level + 1)
	}
}

func (a *AUC) widen(level int) {
	old, by := a.cells, level-a.level
	if by <= 0 {
		return
	}
	a.cells, a.level = make(map[int64]cell, len(old)), level
	for _, at := range slices.Sorted(maps.Keys(old)) { // in an order that does not change
		a.put(at>>by, old[at])
	}
}

// pair compares a score with the oldest that waits of the other class.
func (a *AUC) pair(score float64, positive bool) {
	if len(a.alone) == 0 || a.positive == positive {
		if len(a.alone) < maxAlone {
			a.alone, a.positive = append(a.alone, score), positive
		}
		return
	}
	other := a.alone[0]
	a.alone = a.alone[1:]
	switch order := cmp.Compare(score, other); {
	case order == 0:
		a.pairs.Ties++
	case (order > 0) == positive:
		a.pairs.Wins++
	default:
		a.pairs.Losses++
	}
}

// Merge adds what another has counted.
func (a *AUC) Merge(o *AUC) {
	level := max(a.level, o.level)
	a.widen(level)
	for _, at := range slices.Sorted(maps.Keys(o.cells)) {
		a.put(at>>(level-o.level), o.cells[at])
	}
	a.narrow()
	a.pairs.Merge(o.pairs)
	for _, score := range o.alone {
		a.pair(score, o.positive)
	}
}

// N is how many positives and negatives were counted.
func (a *AUC) N() (positives, negatives uint64) {
	for _, c := range a.cells {
		positives += c.Positive
		negatives += c.Negative
	}
	return positives, negatives
}

// Estimate is the area, and between what it lies since scores are in cells; ok is
// false without a positive and a negative.
func (a *AUC) Estimate() (area, least, most float64, ok bool) {
	p, n := a.N()
	if p == 0 || n == 0 {
		return 0, 0, 1, false
	}
	below, sum, unsure := 0.0, 0.0, 0.0
	for _, at := range slices.Sorted(maps.Keys(a.cells)) {
		c := a.cells[at]
		both := float64(c.Positive) * float64(c.Negative)
		sum += float64(c.Positive)*below + both/2
		if c.Mixed {
			unsure += both / 2
		}
		below += float64(c.Negative)
	}
	all := float64(p) * float64(n)
	return sum / all, (sum - unsure) / all, (sum + unsure) / all, true
}

// Interval is where the area lies, however often one looks: ever below low with
// probability at most alphaLow, ever above high with at most alphaHigh.
//
// Formula: the first positive is compared with the first negative, the second
// with the second and so on, which gives independent comparisons whose mean is
// the area; they are a [Balance], whose interval it is, from [-1, 1] to [0, 1].
// Of one class at most 1,024 wait for their partner, later ones are left out:
// which ones does not depend on their scores.
//
// Assumption: the scores of the positives are independent and have one
// distribution, and so have those of the negatives. A load whose mix of users
// changes in the course of the day breaks it; comparing two versions over the
// same time, by [stats.Relative], bears that better than a limit does.
//
// It is wider than intervals of all pairs for one fixed number of scores
// (DeLong), about as if a third to two thirds of the scores were there: those hold
// only for one look, and so must not be looked at again and again.
func (a *AUC) Interval(alphaLow, alphaHigh float64) (low, high float64) {
	low, high = a.pairs.Interval(alphaLow, alphaHigh)
	return (1 + low) / 2, (1 + high) / 2
}

// form is an AUC as JSON.
type form struct {
	Level    int            `json:"level"`
	Cells    map[int64]cell `json:"cells"`
	Pairs    Balance        `json:"pairs"`
	Alone    []float64      `json:"alone,omitempty"`
	Positive bool           `json:"positive,omitempty"`
}

// MarshalJSON gives all that it has counted. Infinite scores are kept as the
// largest number.
func (a *AUC) MarshalJSON() ([]byte, error) {
	f := form{Level: a.level, Cells: map[int64]cell{}, Pairs: a.pairs, Positive: a.positive}
	for at, c := range a.cells {
		c.Score = finite(c.Score)
		f.Cells[at] = c
	}
	for _, score := range a.alone {
		f.Alone = append(f.Alone, finite(score))
	}
	return json.Marshal(f)
}

func finite(f float64) float64 { return min(max(f, -math.MaxFloat64), math.MaxFloat64) }

// UnmarshalJSON takes what MarshalJSON gives.
func (a *AUC) UnmarshalJSON(b []byte) error {
	var f form
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*a = AUC{cells: f.Cells, level: min(max(f.Level, 0), 62), pairs: f.Pairs, alone: f.Alone, positive: f.Positive}
	return nil
}
