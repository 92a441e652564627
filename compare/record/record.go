package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/headgate/headgate/compare/protocol"
)

// Served is one request and the answers to it that are known. The same request
// may be told several times, with further answers.
type Served struct {
	Model     string
	RequestID string    // unique in its model; of a request that has the id of an earlier one nothing is kept
	Time      time.Time // of the request
	User      uint64    // keyed hash of the user's key
	HasUser   bool
	// Drawn says that the split's hash chose the version of the primary answer.
	Drawn   bool
	Answers []Answer
}

// Answer is what one version answered.
type Answer struct {
	Version string
	Shadow  bool // nobody saw it. One answer to a request is no shadow's, at most
	// Prediction is JSON, as [Prediction] gives it. Nil: none, the version failed
	// or could not be read.
	Prediction json.RawMessage
}

// Pair is two answers to one request and how they differ.
type Pair struct {
	Model         string
	RequestID     string
	Time          time.Time
	StableVersion string
	ShadowVersion string
	Stable        json.RawMessage // predictions, as in an Answer
	Shadow        json.RawMessage
	Difference    *float64 // nil: not comparable
	Agree         bool
	Kinds         []protocol.Kind // of the differences, each once
	Reason        string          // why it is not comparable
	Features      json.RawMessage // of the request, where they may be kept; nil: none

	id int64
}

// SetDiff takes over what a comparison has found.
func (p *Pair) SetDiff(d *protocol.Diff) {
	p.Agree, p.Reason, p.Difference, p.Kinds = d.Agree, d.Reason, nil, nil
	if d.Comparable {
		difference := d.Difference
		p.Difference = &difference
	}
	for i := range d.Differences {
		kind, known := d.Differences[i].Kind, false
		for _, k := range p.Kinds {
			known = known || k == kind
		}
		if !known {
			p.Kinds = append(p.Kinds, kind)
		}
	}
}

// Outcome is what is told of a request later.
//
// Its identity is the model, the request id or the user, the name and the time.
// The same identity with the same value again is no news; with another value it
// is a correction, which replaces the value: whoever has already been told of
// the outcome by [Store.Joined] is not told again, since evidence cannot be taken
// back. With another time it is another outcome: [Joined.Nth] counts them, so
// that a metric of truth can take the first alone and a sum of purchases all.
type Outcome struct {
	Model string
	// RequestID is the request that it belongs to. Empty: it belongs to the newest
	// request of User at or before Time, within the horizon.
	RequestID string
	User      uint64
	Time      time.Time // when it became true
	Name      string
	Value     Value
}

// What an outcome may have.
const (
	maxText   = 512            // bytes of a model, an id, a name, a label
	maxFuture = 24 * time.Hour // how far ahead of the clock its time may be
)

// Check tells what is wrong with an outcome: `name: "": must not be empty`.
func (o *Outcome) Check(now time.Time) error {
	for _, f := range []struct{ name, value string }{{"model", o.Model}, {"name", o.Name}} {
		if f.value == "" {
			return fmt.Errorf("%s: %q: must not be empty", f.name, f.value)
		}
	}
	for _, f := range []struct{ name, value string }{{"model", o.Model}, {"request_id", o.RequestID}, {"name", o.Name}, {"value", o.Value.Label}} {
		if len(f.value) > maxText {
			return fmt.Errorf("%s: %.20q…: must have at most %d bytes", f.name, f.value, maxText)
		}
	}
	switch {
	case !o.Value.IsLabel && (math.IsNaN(o.Value.Number) || math.IsInf(o.Value.Number, 0)):
		return fmt.Errorf("value: %v: must be finite", o.Value.Number)
	case o.Time.Before(time.Unix(0, 0)):
		return errors.New("time: must be given")
	case o.Time.After(now.Add(maxFuture)):
		return fmt.Errorf("time: %s: must not be in the future", o.Time.UTC().Format(time.RFC3339))
	}
	return nil
}

// Value is a number or a label. Of JSON it takes numbers, texts and booleans;
// true is 1.
type Value struct {
	Number  float64
	Label   string
	IsLabel bool
}

// Number is a value that is a number.
func Number(f float64) Value { return Value{Number: f} }

// Label is a value that is a text.
func Label(s string) Value { return Value{Label: s, IsLabel: true} }

// String is a label as it is, and a number in its shortest form.
func (v Value) String() string {
	if v.IsLabel {
		return v.Label
	}
	return strconv.FormatFloat(v.Number, 'g', -1, 64)
}

// MarshalJSON gives a number or a text.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.IsLabel {
		return json.Marshal(v.Label)
	}
	return json.Marshal(v.Number)
}

// UnmarshalJSON takes a number, a text or a boolean.
func (v *Value) UnmarshalJSON(b []byte) error {
	var any any
	if err := json.Unmarshal(b, &any); err != nil {
		return err
	}
	switch x := any.(type) {
	case float64:
		*v = Number(x)
	case string:
		*v = Label(x)
	case bool:
		*v = Number(0)
		if x {
			*v = Number(1)
		}
	default:
		return fmt.Errorf("value: %.20s: must be a number, a text or a boolean", b)
	}
	return nil
}

// Joined is an answer whose truth, or what else became of it, is known.
type Joined struct {
	Cursor Cursor // of this one: what comes after it has not been told

	Model      string
	RequestID  string
	Time       time.Time // of the request
	User       uint64
	HasUser    bool
	Drawn      bool // see [Served]
	Version    string
	Shadow     bool
	Prediction json.RawMessage // nil: the version gave none

	Name  string
	Value Value
	At    time.Time // of the outcome
	Nth   int       // how many outcomes of that name the request had before; 0: this is the first
}

// Cursor is a position among what was joined. 0 is before the first. It grows,
// also over restarts and from one file to the next; keep it with what was
// counted.
type Cursor int64
