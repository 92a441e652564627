package record

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/compare/protocol"
)

// Prediction is what is kept of an answer that was read, in at most limit bytes,
// about: one number, text or boolean as it is, several that have only places in
// arrays as one array, others as an object by their paths. What has no number in
// JSON is a text, "NaN". Of what is too long the first part is kept, with "…"
// behind it. Nil: the answer is an error, or has nothing in it.
func Prediction(p *protocol.Prediction, limit int) json.RawMessage {
	var leaves []protocol.Leaf
	size, cut := 0, false
	for leaf := range p.Leaves() {
		if size += len(leaf.Text) + 4; size > limit && len(leaves) > 0 {
			cut = true
			break
		}
		leaves = append(leaves, leaf)
	}
	switch {
	case len(leaves) == 0:
		return nil
	case len(leaves) == 1 && !cut:
		return scalar(leaves[0], limit)
	}
	common := commonPath(leaves)
	for _, l := range leaves {
		for _, s := range l.Path[common:] {
			if s.Name != "" {
				return byPath(leaves, common, limit, cut)
			}
		}
	}
	b := []byte{'['}
	for i, l := range leaves {
		if i > 0 {
			b = append(b, ',')
		}
		if b = append(b, scalar(l, limit)...); len(b) > limit && i+1 < len(leaves) {
			cut = true
			break
		}
	}
	if cut {
		b = append(b, `,"…"`...)
	}
	return append(b, ']')
}

// commonPath is how many segments all paths have in common.
func commonPath(leaves []protocol.Leaf) int {
	common := len(leaves[0].Path)
	for _, l := range leaves[1:] {
		n := 0
		for n < min(common, len(l.Path)) && l.Path[n] == leaves[0].Path[n] {
			n++
		}
		common = n
	}
	return common
}

func byPath(leaves []protocol.Leaf, common, limit int, cut bool) json.RawMessage {
	b := []byte{'{'}
	for i, l := range leaves {
		if i > 0 {
			b = append(b, ',')
		}
		name := strings.TrimPrefix(strings.TrimPrefix(l.Path[common:].String(), "$"), ".")
		key, _ := json.Marshal(name)
		b = append(append(append(b, key...), ':'), scalar(l, limit)...)
		if len(b) > limit && i+1 < len(leaves) {
			cut = true
			break
		}
	}
	if cut {
		b = append(b, `,"…":null`...)
	}
	return append(b, '}')
}

// scalar is one leaf as JSON.
func scalar(l protocol.Leaf, limit int) json.RawMessage {
	switch l.Kind {
	case "number":
		if math.IsNaN(l.Number) || math.IsInf(l.Number, 0) {
			return strconv.AppendQuote(nil, strconv.FormatFloat(l.Number, 'g', -1, 64))
		}
		raw, _ := json.Marshal(l.Number)
		return raw
	case "boolean":
		return strconv.AppendBool(nil, l.Number != 0)
	case "string":
		text := l.Text
		if len(text) > limit {
			end := limit
			for end > 0 && !utf8.RuneStart(text[end]) {
				end--
			}
			text = text[:end] + "…"
		}
		raw, _ := json.Marshal(text)
		return raw
	}
	return json.RawMessage("null")
}

// Single reads a kept prediction that is one number, boolean or text.
func Single(prediction json.RawMessage) (Value, bool) {
	var v Value
	if prediction == nil || json.Unmarshal(prediction, &v) != nil {
		return Value{}, false
	}
	return v, true
}

// Largest reads a kept prediction that is a vector of numbers, and returns the
// place of the largest, the first of several: the class of a distribution. By
// path it is the name of the member, in an array its index.
func Largest(prediction json.RawMessage) (Value, bool) {
	var vector []float64
	if json.Unmarshal(prediction, &vector) == nil && len(vector) > 0 {
		best := 0
		for i, f := range vector {
			if f > vector[best] {
				best = i
			}
		}
		return Number(float64(best)), true
	}
	var named map[string]float64
	if json.Unmarshal(prediction, &named) != nil || len(named) == 0 {
		return Value{}, false
	}
	best, found := "", false
	for name, f := range named {
		if !found || f > named[best] || f == named[best] && name < best {
			best, found = name, true
		}
	}
	return Label(best), true
}
