package record

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// row is a pair in the form that scripts rely on.
type row struct {
	Time          string          `json:"time"`
	RequestID     string          `json:"request_id"`
	StableVersion string          `json:"stable_version"`
	ShadowVersion string          `json:"shadow_version"`
	Stable        json.RawMessage `json:"stable"` // null: no prediction
	Shadow        json.RawMessage `json:"shadow"`
	Difference    *float64        `json:"difference"` // null: not comparable
	Features      json.RawMessage `json:"features"`   // null: none kept
}

func (p *Pair) row() row {
	return row{
		Time: p.Time.UTC().Format(time.RFC3339Nano), RequestID: p.RequestID,
		StableVersion: p.StableVersion, ShadowVersion: p.ShadowVersion,
		Stable: p.Stable, Shadow: p.Shadow, Difference: p.Difference, Features: p.Features,
	}
}

// MarshalJSON gives the form that scripts rely on.
func (p *Pair) MarshalJSON() ([]byte, error) { return json.Marshal(p.row()) }

// WriteJSONLines writes one JSON object for each pair, each in a line. It stops
// at the first error, of the pairs or of w. It holds one pair at a time.
func WriteJSONLines(w io.Writer, pairs iter.Seq2[*Pair, error]) error {
	b := bufio.NewWriter(w)
	encoder := json.NewEncoder(b)
	for p, err := range pairs {
		if err != nil {
			return err
		}
		if err := encoder.Encode(p); err != nil {
			return err
		}
	}
	return b.Flush()
}

// WriteJSON writes one JSON array of the pairs, in the same manner. After an
// error what was written is no JSON.
func WriteJSON(w io.Writer, pairs iter.Seq2[*Pair, error]) error {
	b := bufio.NewWriter(w)
	separator := "[\n"
	for p, err := range pairs {
		if err != nil {
			return err
		}
		raw, err := json.Marshal(p)
		if err != nil {
			return err
		}
		_, _ = b.WriteString(separator) // a buffer keeps its error until Flush
		if _, err := b.Write(raw); err != nil {
			return err
		}
		separator = ",\n"
	}
	if separator == "[\n" {
		_, _ = b.WriteString("[")
	}
	_, _ = b.WriteString("]\n")
	return b.Flush()
}

// Columns are the names in the first line of what [WriteCSV] writes.
var Columns = []string{"time", "request_id", "stable_version", "shadow_version", "stable", "shadow", "difference", "features"}

// WriteCSV writes the pairs as a table, in the same manner. A prediction that is
// one text stands there without quotes, one that is missing is empty, others are
// JSON. A cell that a spreadsheet would run as a formula begins with an
// apostrophe: what clients and models say comes from anywhere. JSON lines lose
// nothing.
func WriteCSV(w io.Writer, pairs iter.Seq2[*Pair, error]) error {
	c := csv.NewWriter(w)
	if err := c.Write(Columns); err != nil {
		return err
	}
	for p, err := range pairs {
		if err != nil {
			return err
		}
		r := p.row()
		difference := ""
		if r.Difference != nil {
			difference = strconv.FormatFloat(*r.Difference, 'g', -1, 64)
		}
		if err := c.Write([]string{r.Time, harmless(r.RequestID), harmless(r.StableVersion), harmless(r.ShadowVersion),
			cell(r.Stable), cell(r.Shadow), difference, cell(r.Features)}); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// cell is JSON as a cell has it.
func cell(raw json.RawMessage) string {
	if raw == nil {
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return harmless(text)
	}
	return harmless(string(raw))
}

// formula are the characters with which a cell is taken for a formula, the full
// width ones of Japanese keyboards among them.
const formula = "=+-@\t\r\n\x00＝＋－＠"

// separators begin another cell in a spreadsheet that does not take the comma
// for one, and so not the quotes for what they are.
const separators = ";|\t\r\n"

// harmless puts an apostrophe before what a spreadsheet would take for a formula:
// at the beginning of a cell, or of what may be read as one. Plain numbers stay.
func harmless(text string) string {
	if !strings.ContainsAny(text, formula) {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil && strings.Trim(text, "0123456789.eE+-") == "" {
		return text
	}
	var b strings.Builder
	fresh := true // at the beginning of what may be a cell
	for _, r := range text {
		if fresh && strings.ContainsRune(formula, r) {
			b.WriteByte('\'')
			fresh = false
		}
		b.WriteRune(r)
		switch {
		case strings.ContainsRune(separators, r):
			fresh = true
		case r != ' ' && r != '"' && r != '\'' && r != '\u00a0' && r != '\ufeff':
			fresh = false
		}
	}
	return b.String()
}
