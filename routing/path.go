package routing

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Path is a place in a JSON document: "$.user.id", "$.inputs[0].data".
type Path []Segment

// Segment is one step of a path: a member's name, or an index when Name is
// empty.
type Segment struct {
	Name  string
	Index int
}

// String returns the path as it is written.
func (p Path) String() string {
	var b strings.Builder
	b.WriteByte('$')
	for _, s := range p {
		if s.Name == "" {
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
		} else if plainName(s.Name) {
			b.WriteString("." + s.Name)
		} else {
			b.WriteString("[" + strconv.Quote(s.Name) + "]")
		}
	}
	return b.String()
}

// ParsePath reads a path: "$", then ".name", "[index]" or `["any name"]`.
func ParsePath(s string) (Path, error) {
	rest, ok := strings.CutPrefix(s, "$")
	if !ok {
		return nil, errors.New("must begin with $, like $.user.id")
	}
	var p Path
	for rest != "" {
		seg, tail, err := nextSegment(rest)
		if err != nil {
			return nil, err
		}
		p, rest = append(p, seg), tail
	}
	if len(p) == 0 {
		return nil, errors.New("must name a member, like $.user.id")
	}
	return p, nil
}

func nextSegment(s string) (Segment, string, error) {
	switch {
	case s[0] == '.':
		end := strings.IndexAny(s[1:], ".[")
		if end < 0 {
			end = len(s) - 1
		}
		name := s[1 : 1+end]
		if !plainName(name) {
			return Segment{}, "", fmt.Errorf("%q is not a member name; write [\"...\"] for names with other characters", name)
		}
		return Segment{Name: name}, s[1+end:], nil
	case strings.HasPrefix(s, `["`):
		quoted, err := strconv.QuotedPrefix(s[1:])
		if err != nil || !strings.HasPrefix(s[1+len(quoted):], "]") {
			return Segment{}, "", fmt.Errorf("%s: a name in brackets must end with \"]", s)
		}
		name, err := strconv.Unquote(quoted)
		if err != nil || name == "" {
			return Segment{}, "", fmt.Errorf("%s is not a member name", quoted)
		}
		return Segment{Name: name}, s[2+len(quoted):], nil
	case s[0] == '[':
		end := strings.IndexByte(s, ']')
		if end < 0 || !digits(s[1:end]) {
			return Segment{}, "", fmt.Errorf("%s: an index must be a number in brackets", s)
		}
		n, err := strconv.Atoi(s[1:end])
		if err != nil {
			return Segment{}, "", fmt.Errorf("%s: index is too large", s)
		}
		return Segment{Index: n}, s[end+1:], nil
	}
	return Segment{}, "", fmt.Errorf("%q: must be .name or [index]", s)
}

func plainName(s string) bool {
	for _, c := range s {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c < 0x80 {
			return false
		}
	}
	return s != ""
}
