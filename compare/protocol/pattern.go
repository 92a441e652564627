package protocol

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/headgate/headgate/routing"
)

// Pattern is a set of places in predictions: a path in which a step may be
// every member or every element, "$.predictions[*].score". It covers what it
// names and all beneath. The zero value is "$", which covers all.
type Pattern struct{ steps []step }

type step struct {
	routing.Segment
	any bool // every member and every element
}

// ParsePattern reads a pattern: "$", then ".name", "[index]", `["any name"]`,
// "[*]" or ".*".
func ParsePattern(s string) (Pattern, error) {
	rest, ok := strings.CutPrefix(s, "$")
	if !ok {
		return Pattern{}, errors.New("must begin with $, like $.predictions[*].score")
	}
	var p Pattern
	for rest != "" {
		if tail, ok := cutWildcard(rest); ok {
			p.steps, rest = append(p.steps, step{any: true}), tail
			continue
		}
		end := wildcard(rest)
		path, err := routing.ParsePath("$" + rest[:end])
		if err != nil {
			return Pattern{}, err
		}
		for _, segment := range path {
			p.steps = append(p.steps, step{Segment: segment})
		}
		rest = rest[end:]
	}
	return p, nil
}

func cutWildcard(s string) (tail string, ok bool) {
	if tail, ok := strings.CutPrefix(s, "[*]"); ok {
		return tail, true
	}
	tail, ok = strings.CutPrefix(s, ".*")
	return tail, ok && (tail == "" || tail[0] == '.' || tail[0] == '[')
}

// wildcard returns where the next step for all begins, the length of s when
// there is none. What stands in quotes is a name.
func wildcard(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case quoted:
		default:
			if _, ok := cutWildcard(s[i:]); ok && i > 0 {
				return i
			}
		}
	}
	return len(s)
}

// String returns the pattern as it is written.
func (p Pattern) String() string {
	var b strings.Builder
	b.WriteByte('$')
	for _, s := range p.steps {
		if s.any {
			b.WriteString("[*]")
		} else {
			b.WriteString(routing.Path{s.Segment}.String()[1:])
		}
	}
	return b.String()
}

// MarshalText and UnmarshalText make a pattern a string in files.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a pattern.
func (p *Pattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePattern(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	*p = parsed
	return nil
}

// covers tells whether path is at or beneath a place of the pattern.
func (p Pattern) covers(path routing.Path) bool {
	return len(p.steps) <= len(path) && p.agrees(path)
}

// beneath tells whether a place of the pattern can be deeper than path.
func (p Pattern) beneath(path routing.Path) bool {
	return len(p.steps) > len(path) && p.agrees(path)
}

func (p Pattern) agrees(path routing.Path) bool {
	for i := range min(len(p.steps), len(path)) {
		if s := p.steps[i]; !s.any && s.Segment != path[i] {
			return false
		}
	}
	return true
}

// more tells whether p says more about a place than q: it is longer, or has
// fewer steps for all.
func (p Pattern) more(q Pattern) int {
	if len(p.steps) != len(q.steps) {
		return len(p.steps) - len(q.steps)
	}
	return q.wildcards() - p.wildcards()
}

func (p Pattern) wildcards() (n int) {
	for _, s := range p.steps {
		if s.any {
			n++
		}
	}
	return n
}

// places goes over the values at the places of a pattern. The path is good
// until the next one.
func (d *document) places(p Pattern) iter.Seq2[routing.Path, int] {
	return func(yield func(routing.Path, int) bool) {
		d.place(make(routing.Path, 0, len(p.steps)), 0, p.steps, yield)
	}
}

func (d *document) place(path routing.Path, i int, steps []step, yield func(routing.Path, int) bool) bool {
	if len(steps) == 0 {
		return yield(path, i)
	}
	s, rest := steps[0], steps[1:]
	if !s.any {
		j := d.element(i, s.Index)
		if s.Name != "" {
			j = d.member(i, s.Name)
		}
		return j < 0 || d.place(append(path, s.Segment), j, rest, yield)
	}
	if d.nodes[i].kind == kindObject {
		for _, f := range d.fields(i) {
			if !d.place(append(path, routing.Segment{Name: f.name}), f.value, rest, yield) {
				return false
			}
		}
		return true
	}
	n := 0
	for j := range d.kids(i) {
		if !d.place(append(path, routing.Segment{Index: n}), j, rest, yield) {
			return false
		}
		n++
	}
	return true
}
