package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills a value of the language's types from a document, and collects
// every mistake.
type decoder struct {
	root   *yaml.Node
	errs   []Error
	failed map[string]bool // paths at which something was wrong
	more   bool            // there were more than maxErrors
}

func decode(root *yaml.Node, into any) *decoder {
	d := &decoder{root: root, failed: map[string]bool{}}
	d.value(root, nil, reflect.ValueOf(into).Elem())
	return d
}

// fail records a mistake at a node.
func (d *decoder) fail(n *yaml.Node, p *path, value, message string) {
	at := p.String()
	d.failed[at] = true
	if len(d.errs) >= maxErrors {
		d.more = true
		return
	}
	d.errs = append(d.errs, Error{Line: n.Line, Column: n.Column, Path: at, Value: value, Message: message})
}

// reject records a mistake that was found later, in what the value means. What
// could not be decoded, or is in it, is not reported again.
func (d *decoder) reject(p *path, value, message string) {
	for up := p; up != nil; up = up.up {
		if d.failed[up.String()] {
			return
		}
	}
	d.fail(find(d.root, p), p, value, message)
}

func (d *decoder) value(n *yaml.Node, p *path, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	ptr := v.Addr().Type()
	switch {
	case ptr.Implements(textType):
		d.text(n, p, v.Addr().Interface().(text))
	case ptr.Implements(keyedType):
		d.keyed(n, p, v.Addr().Interface().(keyed))
	case ptr.Implements(shorthandType) && n.Kind == yaml.ScalarNode:
		fill(v)
		d.text(n, p, v.Addr().Interface().(shorthand).short())
	case v.Kind() == reflect.Struct:
		d.mapping(n, p, v)
	case v.Kind() == reflect.Slice:
		d.sequence(n, p, v)
	case v.Kind() == reflect.Bool:
		d.boolean(n, p, v)
	case v.Kind() == reflect.Uint32:
		d.number(n, p, v)
	default:
		panic("config: no way to decode a " + v.Type().String())
	}
}

func (d *decoder) sequence(n *yaml.Node, p *path, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		want := "a list"
		if of := v.Type().Elem(); of.Kind() == reflect.Struct && shapeOf(of).like != "" {
			want += " like [" + shapeOf(of).like + "]"
		}
		d.wrongKind(n, p, want)
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, p, "", "is an empty list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, p.at(i), v.Index(i))
	}
}

func (d *decoder) mapping(n *yaml.Node, p *path, v reflect.Value) {
	fill(v)
	s := shapeOf(v.Type())
	if n.Kind != yaml.MappingNode {
		want := "a mapping"
		if s.like != "" {
			want += " like " + s.like
		}
		d.wrongKind(n, p, want)
		return
	}
	present := map[string]*yaml.Node{} // the nodes of the names
	strange := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		at := p.in(key.Value)
		if d.duplicate(key, present, at) {
			continue
		}
		f := s.field(key.Value)
		if f == nil {
			d.fail(key, at, "", s.unknown(key.Value, item.Value))
			strange = true
			continue
		}
		d.value(item, at, v.FieldByIndex(f.index))
		d.limits(item, at, f, v.FieldByIndex(f.index))
	}
	for _, f := range s.fields {
		if f.required && present[f.name] == nil {
			d.fail(n, p.in(f.name), "", "is missing")
		}
	}
	d.groups(n, p, s, present, strange)
}

// groups checks that fields which exclude each other are not both there. With
// unknown fields it does not ask for what is missing: one of them may be meant.
func (d *decoder) groups(n *yaml.Node, p *path, s *shape, present map[string]*yaml.Node, strange bool) {
	for _, group := range s.groups() {
		var found []string
		for _, name := range s.group(group) {
			if present[name] != nil {
				found = append(found, name)
			}
		}
		switch {
		case len(found) > 1:
			slices.SortFunc(found, func(a, b string) int {
				return cmp.Or(cmp.Compare(present[a].Line, present[b].Line), cmp.Compare(present[a].Column, present[b].Column))
			})
			d.fail(present[found[1]], p.in(found[1]), "", "excludes "+found[0])
		case len(found) == 0 && !strange && slices.Contains(s.needs, group):
			d.fail(n, p, "", "needs "+oneOf(s.group(group)))
		}
	}
}

func oneOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return "one of " + list(names, "or")
}

func (d *decoder) duplicate(key *yaml.Node, present map[string]*yaml.Node, at *path) bool {
	if first := present[key.Value]; first != nil {
		d.fail(key, at, "", fmt.Sprintf("is already in line %d", first.Line))
		return true
	}
	present[key.Value] = key
	return false
}

func (d *decoder) keyed(n *yaml.Node, p *path, v keyed) {
	if n.Kind != yaml.MappingNode {
		d.wrongKind(n, p, "a mapping")
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, p, "", "is an empty mapping")
		return
	}
	present := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		at := p.in(key.Value)
		if d.duplicate(key, present, at) {
			continue
		}
		if rule := textRule(key, v.key()); rule != "" {
			d.fail(key, at, "", rule)
		}
		d.value(item, at, reflect.ValueOf(v.add(key.Value)).Elem())
	}
}

func (d *decoder) text(n *yaml.Node, p *path, t text) {
	if n.Kind != yaml.ScalarNode {
		d.wrongKind(n, p, "text")
		return
	}
	if n.Tag == "!!null" {
		d.noValue(n, p)
		return
	}
	if rule := textRule(n, t); rule != "" {
		d.fail(n, p, shown(n.Value), rule)
	}
}

const maxText = 1024

// textRule sets a text from a scalar and returns the rule that it breaks.
func textRule(n *yaml.Node, t text) string {
	if len(n.Value) > maxText {
		return fmt.Sprintf("must be at most %d characters long", maxText)
	}
	for _, r := range n.Value {
		if r < ' ' {
			return "must be one line without control characters"
		}
	}
	if err := t.set(n.Value); err != nil {
		return err.Error()
	}
	return ambiguous(n)
}

var (
	numeric = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	yaml11  = regexp.MustCompile(`^(y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)$`)
)

func looksNumeric(n *yaml.Node) bool {
	return n.Tag == "!!int" || n.Tag == "!!float" || numeric.MatchString(n.Value)
}

// ambiguous tells of a plain scalar that a YAML reader takes, or some take, for
// something else than text.
func ambiguous(n *yaml.Node) string {
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return ""
	}
	quoted := strconv.Quote(n.Value)
	switch {
	case n.Tag == "!!null":
		return "has no value"
	case n.Tag == "!!bool":
		return "is true or false, not text; write " + quoted
	case looksNumeric(n):
		return "is a number, not text; write " + quoted
	case yaml11.MatchString(n.Value):
		return "means true or false to some YAML readers; write " + quoted
	}
	return ""
}

func (d *decoder) boolean(n *yaml.Node, p *path, v reflect.Value) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.wrongKind(n, p, "true or false")
	case n.Tag == "!!null":
		d.noValue(n, p)
	case n.Tag != "!!bool" || n.Value != strings.ToLower(n.Value):
		d.fail(n, p, shown(n.Value), "must be true or false")
	default:
		v.SetBool(n.Value == "true")
	}
}

var (
	plainNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	octalNumber = regexp.MustCompile(`^0[0-9]+$`)
)

func (d *decoder) number(n *yaml.Node, p *path, v reflect.Value) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.wrongKind(n, p, "a whole number")
	case n.Tag == "!!null":
		d.noValue(n, p)
	case n.Tag == "!!str" && !numeric.MatchString(n.Value), !plainNumber.MatchString(n.Value):
		rule := "must be a whole number like 3"
		if octalNumber.MatchString(n.Value) {
			rule = "must not begin with 0: some YAML readers take it for an octal number"
		}
		d.fail(n, p, shown(n.Value), rule)
	case n.Tag == "!!str":
		d.fail(n, p, strconv.Quote(n.Value), "must be a whole number, without quotes")
	default:
		i, err := strconv.ParseUint(n.Value, 10, 32)
		if err != nil {
			i = 1<<32 - 1 // over every bound
		}
		v.SetUint(i)
	}
}

// limits checks what a field's tags say of its value.
func (d *decoder) limits(n *yaml.Node, p *path, f *field, v reflect.Value) {
	if d.failed[p.String()] {
		return
	}
	switch {
	case f.onlyTrue && !v.Bool():
		d.fail(n, p, shown(n.Value), "can only be true")
	case v.Kind() != reflect.Uint32 || f.typ.Implements(textType) || reflect.PointerTo(f.typ).Implements(textType):
	case v.Uint() < f.min:
		d.fail(n, p, shown(n.Value), fmt.Sprintf("must be at least %d", f.min))
	case v.Uint() > f.max:
		d.fail(n, p, shown(n.Value), fmt.Sprintf("must be at most %d", f.max))
	}
}

func (d *decoder) noValue(n *yaml.Node, p *path) {
	d.fail(n, p, "", "has no value")
}

func (d *decoder) wrongKind(n *yaml.Node, p *path, want string) {
	switch {
	case n.Kind == yaml.MappingNode:
		d.fail(n, p, "", "is a mapping, must be "+want)
	case n.Kind == yaml.SequenceNode:
		d.fail(n, p, "", "is a list, must be "+want)
	case n.Tag == "!!null":
		d.noValue(n, p)
	default:
		d.fail(n, p, shown(n.Value), "must be "+want)
	}
}
