package extproc

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/headgate/headgate/routing"
)

// maxDepth is the deepest nesting of a body that is read.
const maxDepth = 10_000

// lookup returns the scalar at a path of a JSON document as text: a string's
// content, numbers and booleans as written. ok is false when there is nothing,
// null, an object or an array. valid is false when body is not one whole JSON
// document in UTF-8 of at most [maxDepth] levels; then nothing is found. Of
// several members of one name the last counts, as in the parsers of most
// languages. NaN and Infinity are taken for values, because Python writes
// them. It reads the document at most once for each segment of the path and
// once more, and allocates only for a string with escapes.
func lookup(body []byte, path routing.Path) (value string, ok, valid bool) {
	if !utf8.Valid(body) {
		return "", false, false
	}
	s := scanner{data: body}
	s.space()
	start := s.pos
	if !s.value() || !s.end() {
		return "", false, false
	}
	s.pos = start
	for _, seg := range path {
		if seg.Name != "" {
			ok = s.member(seg.Name)
		} else {
			ok = s.element(seg.Index)
		}
		if !ok {
			return "", false, true
		}
	}
	value, ok = s.scalar()
	return value, ok, true
}

// scanner reads a JSON document. Its methods leave pos behind what they read,
// and return false when it is not there.
type scanner struct {
	data []byte
	pos  int
	// kinds has a bit for each open level: set for an object.
	kinds [maxDepth/64 + 1]uint64
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() == c && s.pos < len(s.data) {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) end() bool {
	s.space()
	return s.pos == len(s.data)
}

// value reads one value of any kind, with loops and not by recursion.
func (s *scanner) value() bool {
	depth := 0
	for {
		opened, ok := s.begin(&depth)
		if !ok {
			return false
		}
		if opened {
			continue
		}
		if more, ok := s.after(&depth); !ok || !more {
			return ok
		}
	}
}

// begin reads a scalar, an empty object or array, or what stands before the
// first value of one that is not empty.
func (s *scanner) begin(depth *int) (opened, ok bool) {
	s.space()
	switch c := s.peek(); c {
	case '{', '[':
		s.pos++
		s.space()
		if s.take(c + 2) { // '}' and ']' are two behind '{' and '['
			return false, true
		}
		if *depth == maxDepth {
			return false, false
		}
		s.push(*depth, c == '{')
		*depth++
		if c == '{' {
			return true, s.name()
		}
		return true, true
	case '"':
		_, ok := s.string()
		return false, ok
	default:
		return false, s.literal()
	}
}

// after reads what stands behind a value: the ends of what is complete, and
// what comes before the next value. more says that there is one.
func (s *scanner) after(depth *int) (more, ok bool) {
	for *depth > 0 {
		s.space()
		object := s.object(*depth - 1)
		if s.take(',') {
			return true, !object || s.name()
		}
		if object && !s.take('}') || !object && !s.take(']') {
			return false, false
		}
		*depth--
	}
	return false, true
}

func (s *scanner) push(depth int, object bool) {
	bit := uint64(1) << (depth % 64)
	if object {
		s.kinds[depth/64] |= bit
	} else {
		s.kinds[depth/64] &^= bit
	}
}

func (s *scanner) object(depth int) bool { return s.kinds[depth/64]>>(depth%64)&1 == 1 }

// name reads a member's name and the colon.
func (s *scanner) name() bool {
	s.space()
	if _, ok := s.string(); !ok {
		return false
	}
	s.space()
	return s.take(':')
}

// string reads a string and returns it with its quotes.
func (s *scanner) string() (raw []byte, ok bool) {
	start := s.pos
	if !s.take('"') {
		return nil, false
	}
	for {
		s.pos += plain(s.data[s.pos:])
		switch s.peek() {
		case '"':
			s.pos++
			return s.data[start:s.pos], true
		case '\\':
			s.pos++
			if !s.escape() {
				return nil, false
			}
		default:
			return nil, false
		}
	}
}

// plain returns the length of what stands for itself at the start of a string.
func plain(b []byte) int {
	for i, c := range b {
		if c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return len(b)
}

// escape reads what follows a backslash.
func (s *scanner) escape() bool {
	c := s.peek()
	s.pos++
	if c != 'u' {
		return c != 0 && bytes.IndexByte([]byte(`"\/bfnrt`), c) >= 0
	}
	for range 4 {
		if !hexDigit(s.peek()) {
			return false
		}
		s.pos++
	}
	return true
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// words are the literals. The last three are not JSON.
var words = [...]string{"true", "false", "null", "NaN", "Infinity", "-Infinity"}

// literal reads a number or a word.
func (s *scanner) literal() bool {
	rest := s.data[s.pos:]
	if n := numberLength(rest); n > 0 {
		s.pos += n
		return true
	}
	for _, w := range words {
		if len(rest) >= len(w) && string(rest[:len(w)]) == w {
			s.pos += len(w)
			return true
		}
	}
	return false
}

// numberLength returns the length of the number at the start of b, or 0.
func numberLength(b []byte) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch n := digitsLength(b[i:]); {
	case n == 0:
		return 0
	case b[i] == '0':
		i++
	default:
		i += n
	}
	if i < len(b) && b[i] == '.' {
		n := digitsLength(b[i+1:])
		if n == 0 {
			return 0
		}
		i += 1 + n
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		n := digitsLength(b[i:])
		if n == 0 {
			return 0
		}
		i += n
	}
	return i
}

func digitsLength(b []byte) int {
	for i, c := range b {
		if c-'0' > 9 {
			return i
		}
	}
	return len(b)
}

// skip goes behind a value in a document that is known to be valid, which is
// faster than reading it.
func (s *scanner) skip() {
	for depth := 0; s.pos < len(s.data); {
		switch s.data[s.pos] {
		case '"':
			_, _ = s.string()
		case '{', '[':
			depth++
			s.pos++
		case '}', ']':
			if depth--; depth < 0 {
				return
			}
			s.pos++
		case ',':
			if depth == 0 {
				return
			}
			s.pos++
		default:
			s.pos++
		}
	}
}

// member goes to the value of the last member of that name, from the start of
// a value in a document that is known to be valid.
func (s *scanner) member(name string) (found bool) {
	if !s.take('{') {
		return false
	}
	at := 0
	for s.space(); s.peek() == '"'; s.space() {
		raw, _ := s.string()
		s.space()
		s.take(':')
		s.space()
		if isName(raw, name) {
			found, at = true, s.pos
		}
		s.skip()
		s.take(',')
	}
	s.pos = at
	return found
}

// element goes to the i-th value of an array, likewise.
func (s *scanner) element(i int) bool {
	if !s.take('[') {
		return false
	}
	for s.space(); s.peek() != ']'; s.space() {
		if i == 0 {
			return true
		}
		i--
		s.skip()
		s.take(',')
	}
	return false
}

func isName(raw []byte, name string) bool {
	inner := raw[1 : len(raw)-1]
	i := bytes.IndexByte(inner, '\\')
	if i < 0 {
		return string(inner) == name
	}
	// Most that differ do so before the first escape, or in length: an escape
	// of six bytes stands for one at least.
	if i > len(name) || string(inner[:i]) != name[:i] || len(inner) > 6*len(name) {
		return false
	}
	return unquote(raw) == name
}

// scalar returns the scalar that begins here, likewise.
func (s *scanner) scalar() (string, bool) {
	start := s.pos
	switch s.peek() {
	case '"':
		raw, _ := s.string()
		if bytes.IndexByte(raw, '\\') < 0 {
			return text(raw[1 : len(raw)-1]), true
		}
		return unquote(raw), true
	case 't', 'f':
		s.literal()
	default:
		s.pos += numberLength(s.data[start:])
	}
	return text(s.data[start:s.pos]), s.pos > start
}

// unquote returns the content of a string with escapes.
func unquote(raw []byte) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
