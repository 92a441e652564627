package protocol

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is what stands at a node.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

func (k kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[k]
}

func (k kind) scalar() bool { return k <= kindString }

// node is one value of a document, or the name of a member.
type node struct {
	num        float64 // of a number; 1 for true
	start, end uint32  // where its text is in the document's src: a string without quotes, a number as written
	next       uint32  // index of the node behind the whole value
	kids       uint32  // elements of an array, members of an object
	kind       kind
	escaped    bool // a string with escapes
	integer    bool // a number without fraction and exponent
}

// document is a JSON text as nodes in the order of the text: a container's
// first child stands right behind it, the next child at its next. In an object
// names and values take turns.
type document struct {
	src   []byte
	nodes []node
}

var (
	errSyntax = errors.New("not JSON")
	errEnd    = errors.New("ends too early")
	errUTF8   = errors.New("not UTF-8")
	errDepth  = errors.New("nested too deep")
	errValues = errors.New("too many values")
)

// parse reads the JSON value at the beginning of src and returns where it
// ends. NaN and the infinities are read as Python writes them, and as C does; a
// number too large for a float64 is an infinity. Names that come twice are
// kept: the last one counts.
func parse(src []byte, limits Limits) (*document, int, error) {
	p := parser{src: src, limits: limits}
	// A value takes two bytes at least, and most take more.
	p.nodes = make([]node, 0, min(len(src)/8+8, limits.Values))
	if err := p.value(0); err != nil {
		if errors.Is(err, errSyntax) && p.pos >= len(src) {
			err = errEnd
		}
		return nil, 0, err
	}
	if !utf8.Valid(src[:p.pos]) {
		return nil, 0, errUTF8
	}
	return &document{src: src, nodes: p.nodes}, p.pos, nil
}

// parseAll reads src as one JSON value with nothing behind it.
func parseAll(src []byte, limits Limits) (*document, error) {
	doc, end, err := parse(src, limits)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimLeft(src[end:], " \t\r\n")) > 0 {
		if !utf8.Valid(src) {
			return nil, errUTF8
		}
		return nil, errSyntax
	}
	return doc, nil
}

type parser struct {
	src    []byte
	pos    int
	nodes  []node
	limits Limits
}

func (p *parser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *parser) add(n node) error {
	if len(p.nodes) >= p.limits.Values {
		return errValues
	}
	n.next = uint32(len(p.nodes)) + 1
	p.nodes = append(p.nodes, n)
	return nil
}

func (p *parser) value(depth int) error {
	p.space()
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if depth >= p.limits.Depth {
			return errDepth
		}
		return p.container(c, depth+1)
	case c == '"':
		return p.text()
	case c >= '0' && c <= '9':
		return p.number()
	default:
		return p.word()
	}
}

// container reads an array or an object. The end is two bytes behind the
// beginning in ASCII: '[' and ']', '{' and '}'.
func (p *parser) container(open byte, depth int) error {
	self := len(p.nodes)
	k := kindArray
	if open == '{' {
		k = kindObject
	}
	if err := p.add(node{kind: k, start: uint32(p.pos)}); err != nil {
		return err
	}
	p.pos++
	p.space()
	if p.peek() == open+2 {
		return p.close(self, 0)
	}
	for kids := uint32(1); ; kids++ {
		if k == kindObject {
			if err := p.name(); err != nil {
				return err
			}
		}
		if err := p.value(depth); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case open + 2:
			return p.close(self, kids)
		default:
			return errSyntax
		}
	}
}

func (p *parser) close(self int, kids uint32) error {
	p.pos++
	n := &p.nodes[self]
	n.kids, n.end, n.next = kids, uint32(p.pos), uint32(len(p.nodes))
	return nil
}

func (p *parser) name() error {
	p.space()
	if p.peek() != '"' {
		return errSyntax
	}
	if err := p.text(); err != nil {
		return err
	}
	p.space()
	if p.peek() != ':' {
		return errSyntax
	}
	p.pos++
	return nil
}

func (p *parser) text() error {
	p.pos++
	n := node{kind: kindString, start: uint32(p.pos)}
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == '"':
			n.end = uint32(p.pos)
			p.pos++
			return p.add(n)
		case c == '\\':
			n.escaped = true
			if !p.escape() {
				return errSyntax
			}
		case c < ' ':
			return errSyntax
		default:
			p.pos++
		}
	}
	return errSyntax
}

func (p *parser) escape() bool {
	rest := p.src[p.pos+1:]
	if len(rest) == 0 || rest[0] == 'u' && len(rest) < 5 {
		p.pos = len(p.src)
		return false
	}
	switch rest[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.pos += 2
		return true
	case 'u':
		for _, c := range rest[1:5] {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
		p.pos += 6
		return true
	}
	return false
}

// number reads a number, the minus excepted: word does that.
func (p *parser) number() error {
	start := p.pos
	if start > 0 && p.src[start-1] == '-' {
		start--
	}
	n := node{kind: kindNumber, start: uint32(start), integer: true}
	if p.peek() == '0' {
		p.pos++
	} else if !p.digits() {
		return errSyntax
	}
	if p.peek() == '.' {
		n.integer = false
		p.pos++
		if !p.digits() {
			return errSyntax
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		n.integer = false
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if !p.digits() {
			return errSyntax
		}
	}
	n.end = uint32(p.pos)
	// Out of range gives an infinity, which is what is wanted.
	n.num, _ = strconv.ParseFloat(string(p.src[n.start:n.end]), 64)
	return p.add(n)
}

func (p *parser) digits() bool {
	start := p.pos
	for p.pos < len(p.src) && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}

var words = []struct {
	text string
	node node
}{
	{"null", node{kind: kindNull}},
	{"true", node{kind: kindBool, num: 1}},
	{"false", node{kind: kindBool}},
	{"NaN", node{kind: kindNumber, num: math.NaN()}},
	{"-NaN", node{kind: kindNumber, num: math.NaN()}},
	{"nan", node{kind: kindNumber, num: math.NaN()}},
	{"-nan", node{kind: kindNumber, num: math.NaN()}},
	{"Infinity", node{kind: kindNumber, num: math.Inf(1)}},
	{"-Infinity", node{kind: kindNumber, num: math.Inf(-1)}},
	{"inf", node{kind: kindNumber, num: math.Inf(1)}},
	{"-inf", node{kind: kindNumber, num: math.Inf(-1)}},
}

// word reads null, a boolean, what is not finite, or a negative number.
func (p *parser) word() error {
	rest := p.src[p.pos:]
	if len(rest) > 1 && rest[0] == '-' && rest[1] >= '0' && rest[1] <= '9' {
		p.pos++
		return p.number()
	}
	for i := range words {
		w := &words[i]
		if len(rest) < len(w.text) && strings.HasPrefix(w.text, string(rest)) {
			p.pos = len(p.src)
			return errSyntax
		}
		if len(rest) < len(w.text) || string(rest[:len(w.text)]) != w.text {
			continue
		}
		if len(rest) > len(w.text) && wordy(rest[len(w.text)]) {
			return errSyntax
		}
		n := w.node
		n.start, n.end = uint32(p.pos), uint32(p.pos+len(w.text))
		p.pos += len(w.text)
		return p.add(n)
	}
	return errSyntax
}

func wordy(c byte) bool { return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }

// raw returns the text of a node as it stands in the document.
func (d *document) raw(i int) []byte { return d.src[d.nodes[i].start:d.nodes[i].end] }

// text returns the content of a string.
func (d *document) text(i int) string {
	raw := d.raw(i)
	if !d.nodes[i].escaped {
		return string(raw)
	}
	var s string
	quoted := d.src[d.nodes[i].start-1 : d.nodes[i].end+1]
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(raw) // parse has read it, so this cannot be
	}
	return s
}

// is tells whether the string at i is s.
func (d *document) is(i int, s string) bool {
	if d.nodes[i].escaped {
		return d.text(i) == s
	}
	return string(d.raw(i)) == s
}

// member returns the index of a member's value, -1 when there is none.
func (d *document) member(i int, name string) int {
	if i < 0 || d.nodes[i].kind != kindObject {
		return -1
	}
	found := -1
	for j := range d.kids(i) {
		if d.is(j, name) {
			found = j + 1
		}
	}
	return found
}

// element returns the index of an array's element, -1 when there is none.
func (d *document) element(i, index int) int {
	if i < 0 || d.nodes[i].kind != kindArray || index >= int(d.nodes[i].kids) {
		return -1
	}
	j := i + 1
	for range index {
		j = int(d.nodes[j].next)
	}
	return j
}

// kids goes over an array's elements, or over the names of an object's
// members: the value stands one behind.
func (d *document) kids(i int) func(func(int) bool) {
	return func(yield func(int) bool) {
		n := d.nodes[i]
		if n.kind < kindArray {
			return
		}
		for j := i + 1; j < int(n.next); {
			if !yield(j) {
				return
			}
			if n.kind == kindObject {
				j++
			}
			j = int(d.nodes[j].next)
		}
	}
}

// field is a member of an object.
type field struct {
	name  string
	value int
}

// fields returns an object's members sorted by name, those that are null left
// out, and of several with one name the last one.
func (d *document) fields(i int) []field {
	fields := make([]field, 0, d.nodes[i].kids)
	for j := range d.kids(i) {
		fields = append(fields, field{d.text(j), j + 1})
	}
	slices.SortFunc(fields, func(a, b field) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.value, b.value))
	})
	kept := fields[:0]
	for n, f := range fields {
		if n+1 < len(fields) && fields[n+1].name == f.name {
			continue
		}
		if d.nodes[f.value].kind != kindNull {
			kept = append(kept, f)
		}
	}
	return kept
}

// string returns the content of the string at i; "" when there is none.
func (d *document) string(i int) string {
	if i < 0 || d.nodes[i].kind != kindString {
		return ""
	}
	return d.text(i)
}

// number returns the number at i.
func (d *document) number(i int) (float64, bool) {
	if i < 0 || d.nodes[i].kind != kindNumber {
		return 0, false
	}
	return d.nodes[i].num, true
}

// isKind tells whether there is a value of kind k at i.
func (d *document) isKind(i int, k kind) bool { return i >= 0 && d.nodes[i].kind == k }
