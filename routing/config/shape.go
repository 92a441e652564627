package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The language is a set of Go types, see file.go: each struct is a mapping,
// and the tags of its fields say the rest. Decoder and JSON Schema read the
// same tags.
//
//	field:"name"           the field's name in a file; ",required" when it must be there
//	default:"60s"          the value when it is absent, as it would be written
//	one:"group"            of a group's fields, at most one may be there
//	min:"1" max:"10"       bounds of a number
//	const:"true"           the only value of a boolean
//	doc:"..."              a sentence for editors
//
// A blank field carries what concerns the whole struct:
//
//	needs:"group,..."      one field of each of these groups must be there
//	planned:"name,..."     names that are known and not implemented
//	like:"{name: value}"   how a value is written, for who writes another kind
//	hint:"name|name=sentence;…"
//	                       what to say of names that people are likely to try;
//	                       {percent} is the value as a percentage, {rest} what
//	                       it lacks to 100%
type shape struct {
	like    string
	fields  []field
	needs   []string
	planned []string
	hints   map[string]string
}

type field struct {
	name     string
	index    []int // for reflect.Value.FieldByIndex
	typ      reflect.Type
	required bool
	fallback string
	group    string
	min, max uint64
	onlyTrue bool
	doc      string
}

// text is a value written as one word. Set's error is the rule that the word
// breaks.
type text interface {
	set(word string) error
	schema() schema
}

// shorthand is a mapping that can be written as one word, its main field.
type shorthand interface {
	short() text
}

// keyed is a mapping whose keys are names that people choose.
type keyed interface {
	key() text        // a zero key, to check a name
	add(k string) any // where the value of a new name goes
	element() any     // a zero value
	doc() string
}

var (
	textType      = reflect.TypeFor[text]()
	shorthandType = reflect.TypeFor[shorthand]()
	keyedType     = reflect.TypeFor[keyed]()
	shapes        sync.Map // of *shape by reflect.Type
)

// shapeOf returns the shape of a struct type.
func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{hints: map[string]string{}}
	s.collect(t, nil)
	shapes.Store(t, s)
	return s
}

func (s *shape) collect(t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clone(index), i)
		switch {
		case f.Anonymous:
			s.collect(f.Type, at)
		case f.Name == "_":
			s.collectBlank(f.Tag)
		case f.Tag.Get("field") != "":
			s.fields = append(s.fields, fieldOf(f, at))
		}
	}
}

func (s *shape) collectBlank(tag reflect.StructTag) {
	s.like = cmp.Or(s.like, tag.Get("like"))
	s.needs = append(s.needs, words(tag.Get("needs"))...)
	s.planned = append(s.planned, words(tag.Get("planned"))...)
	for _, hint := range strings.Split(tag.Get("hint"), ";") {
		names, sentence, _ := strings.Cut(hint, "=")
		for _, name := range strings.Split(names, "|") {
			s.hints[name] = sentence
		}
	}
}

func words(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func fieldOf(f reflect.StructField, index []int) field {
	name, options, _ := strings.Cut(f.Tag.Get("field"), ",")
	out := field{
		name: name, index: index, typ: f.Type,
		required: options == "required",
		fallback: f.Tag.Get("default"),
		group:    f.Tag.Get("one"),
		doc:      f.Tag.Get("doc"),
		onlyTrue: f.Tag.Get("const") == "true",
		max:      1<<32 - 1,
	}
	if v := f.Tag.Get("min"); v != "" {
		out.min, _ = strconv.ParseUint(v, 10, 32)
	}
	if v := f.Tag.Get("max"); v != "" {
		out.max, _ = strconv.ParseUint(v, 10, 32)
	}
	return out
}

func (s *shape) field(name string) *field {
	for i := range s.fields {
		if s.fields[i].name == name {
			return &s.fields[i]
		}
	}
	return nil
}

func (s *shape) names() []string {
	var names []string
	for _, f := range s.fields {
		names = append(names, f.name)
	}
	return names
}

func (s *shape) group(name string) []string {
	var names []string
	for _, f := range s.fields {
		if f.group == name {
			names = append(names, f.name)
		}
	}
	return names
}

// groups returns the names of the groups in the order of their first fields.
func (s *shape) groups() []string {
	var names []string
	for _, f := range s.fields {
		if f.group != "" && !slices.Contains(names, f.group) {
			names = append(names, f.group)
		}
	}
	return names
}

// unknown says what is wrong with a name that is no field, and has a value.
func (s *shape) unknown(name, value string) string {
	if slices.Contains(s.planned, name) {
		return "is not implemented in this version of headgate"
	}
	if hint, ok := s.hints[name]; ok {
		percent, rest := complement(value)
		return "unknown field; " + strings.NewReplacer("{percent}", percent, "{rest}", rest).Replace(hint)
	}
	if n := nearest(name, s.names()); n != "" {
		return fmt.Sprintf("unknown field; did you mean %s?", n)
	}
	return "unknown field; known are " + list(s.names(), "and")
}

// complement returns a percentage and what it lacks to 100%. A part of one is a
// percentage too; 99% stands for what is neither.
func complement(word string) (percent, rest string) {
	digits, isPercent := strings.CutSuffix(word, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if !isPercent && n <= 1 {
		n *= 100
	}
	if err != nil || !(n > 0 && n < 100) || decimals(100-n) == "0" {
		n = 99
	}
	return decimals(n) + "%", decimals(100-n) + "%"
}

// fill sets the defaults of a struct: of its fields, and of structs in it.
func fill(v reflect.Value) {
	if !v.CanAddr() || v.Kind() != reflect.Struct {
		return
	}
	for _, f := range shapeOf(v.Type()).fields {
		at := v.FieldByIndex(f.index)
		if f.fallback == "" {
			fill(at)
			continue
		}
		if err := setDefault(at, f.fallback); err != nil {
			panic(fmt.Sprintf("default of %s: %v", f.name, err))
		}
	}
}

func setDefault(v reflect.Value, word string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if t, ok := v.Addr().Interface().(text); ok {
		return t.set(word)
	}
	switch v.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(word)
		v.SetBool(b)
		return err
	case reflect.Uint32:
		n, err := strconv.ParseUint(word, 10, 32)
		v.SetUint(n)
		return err
	}
	return fmt.Errorf("a %s has no default", v.Kind())
}
