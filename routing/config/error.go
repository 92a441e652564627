package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error is one mistake in a configuration directory.
type Error struct {
	File    string // relative to the directory; empty: the directory itself
	Line    int    // from 1; 0: the whole file
	Column  int    // from 1; 0: unknown
	Path    string // "rollout.steps[2].traffic"; empty: the whole file
	Value   string // as written, shortened; empty: the place has no single value
	Message string // the rule that is broken
}

// Error returns "file:line: path: value: message", without the parts that are
// not known.
func (e Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			b.WriteString(":" + strconv.Itoa(e.Line))
		}
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.rule())
	return b.String()
}

func (e Error) rule() string {
	if e.Value == "" {
		return e.Message
	}
	return e.Value + ": " + e.Message
}

// MarshalJSON writes the form that scripts rely on: file, line, path, message.
// The message includes the value.
func (e Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Path    string `json:"path"`
		Message string `json:"message"`
	}{e.File, e.Line, e.Path, e.rule()})
}

// Errors is all that is wrong with a directory, sorted by file and place.
type Errors []Error

// Error returns one line for each error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

func (es Errors) sort() {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Message, b.Message),
		)
	})
}

// shown returns a value as an error shows it: short, on one line, in quotes
// where it could be taken for something else.
func shown(s string) string {
	const longest = 60
	cut := s
	if utf8.RuneCountInString(s) > longest {
		cut = string([]rune(s)[:longest]) + "…"
	}
	if cut == "" || cut != strings.TrimSpace(cut) || !printable(cut) {
		return strconv.Quote(cut)
	}
	return cut
}

func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// list writes "a, b or c".
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return fmt.Sprintf("%s %s %s", strings.Join(words[:len(words)-1], ", "), last, words[len(words)-1])
}

// nearest returns the known word that a person probably meant, or "".
func nearest(word string, known []string) string {
	best, distance := "", max(1, len(word)/3)+1
	for _, k := range known {
		if d := edits(strings.ToLower(word), k, distance); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two words, or limit when it is larger.
func edits(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
		}
	}
	return min(row[len(b)], limit)
}
