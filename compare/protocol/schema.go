package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Schema is a compiled JSON Schema. It is safe for concurrent use.
type Schema struct{ schema *jsonschema.Schema }

// CompileSchema compiles a JSON Schema of any draft from 4 on; without $schema
// it is draft 2020-12. References may lead to other places of the same schema
// only: nothing is fetched.
func CompileSchema(text []byte) (*Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read JSON Schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{})
	const name = "schema:model"
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("read JSON Schema: %w", err)
	}
	s, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("compile JSON Schema: %w", err)
	}
	return &Schema{s}, nil
}

// nothing is a loader that refuses.
type nothing struct{}

// Load implements jsonschema.URLLoader.
func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema must not refer to others", url)
}

// check validates the value at i. The error names the first place that is
// wrong.
func (s *Schema) check(doc *document, i int) error {
	value, ok := doc.native(i)
	if !ok {
		return errors.New("NaN and the infinities are not JSON")
	}
	err := s.schema.Validate(value)
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	for len(invalid.Causes) > 0 {
		invalid = invalid.Causes[0]
	}
	text := invalid.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	return fmt.Errorf("at /%s: %s", strings.Join(invalid.InstanceLocation, "/"), short(text))
}

// native returns a value in the types of encoding/json. Of numbers only whole
// ones keep their digits: the library makes a fraction of a number's text, and
// 1e-99999999 would be a fraction of a hundred million digits. ok is false for
// a number that JSON does not have.
func (d *document) native(i int) (value any, ok bool) {
	n := d.nodes[i]
	switch n.kind {
	case kindNull:
		return nil, true
	case kindBool:
		return n.num == 1, true
	case kindNumber:
		if n.integer && n.end > n.start && n.end-n.start <= 40 {
			return json.Number(d.raw(i)), true
		}
		return n.num, finite(n.num)
	case kindString:
		return d.text(i), true
	}
	object, list := map[string]any{}, []any{}
	for j := range d.kids(i) {
		at := j
		if n.kind == kindObject {
			at++
		}
		v, ok := d.native(at)
		if !ok {
			return nil, false
		}
		if n.kind == kindObject {
			object[d.text(j)] = v
		} else {
			list = append(list, v)
		}
	}
	if n.kind == kindObject {
		return object, true
	}
	return list, true
}
