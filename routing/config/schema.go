package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// Schema returns the JSON Schema (draft 2020-12) of a model's file, for
// editors. It is derived from the same types as the parser, and knows
// everything but the rules between values: what a schema accepts can still
// name a version that is not there.
func Schema() []byte { return publishedSchema() }

var publishedSchema = sync.OnceValue(func() []byte {
	s := schemaOf(reflect.TypeFor[file]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "headgate model"
	s["description"] = "One model served behind Envoy, and how its releases take over."
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("config: schema: %v", err))
	}
	return append(data, '\n')
})

func schemaOf(t reflect.Type) schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := reflect.New(t).Interface().(type) {
	case text:
		return v.schema()
	case keyed:
		names := v.key().schema()
		delete(names, "type")
		return schema{
			"type": "object", "minProperties": 1, "propertyNames": names,
			"additionalProperties": schemaOf(reflect.TypeOf(v.element())),
		}
	case shorthand:
		return schema{"oneOf": []schema{v.short().schema(), structSchema(t)}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return structSchema(t)
	case reflect.Slice:
		return schema{"type": "array", "minItems": 1, "items": schemaOf(t.Elem())}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Uint32:
		return schema{"type": "integer"}
	}
	panic("config: no schema for " + t.String())
}

func structSchema(t reflect.Type) schema {
	s := shapeOf(t)
	properties := schema{}
	var required []string
	for _, f := range s.fields {
		properties[f.name] = fieldSchema(f)
		if f.required {
			required = append(required, f.name)
		}
	}
	out := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	if rules := groupRules(s); len(rules) > 0 {
		out["allOf"] = rules
	}
	return out
}

func fieldSchema(f field) schema {
	out := schemaOf(f.typ)
	out["description"] = f.doc
	switch {
	case f.onlyTrue:
		out["const"] = true
	case out["type"] == "integer":
		out["minimum"], out["maximum"] = f.min, f.max
	}
	if f.fallback != "" {
		out["default"] = fallbackJSON(f)
	}
	return out
}

func fallbackJSON(f field) any {
	kind := f.typ.Kind()
	if reflect.PointerTo(f.typ).Implements(textType) || kind != reflect.Bool && kind != reflect.Uint32 {
		return f.fallback
	}
	return json.RawMessage(f.fallback)
}

// groupRules says of each group of fields that at most, or exactly, one of
// them is there.
func groupRules(s *shape) []schema {
	var rules []schema
	for _, group := range s.groups() {
		var each []schema
		for _, name := range s.group(group) {
			each = append(each, schema{"required": []string{name}})
		}
		needed := false
		for _, n := range s.needs {
			needed = needed || n == group
		}
		if !needed {
			each = append(each, schema{"not": schema{"anyOf": append([]schema(nil), each...)}})
		}
		rules = append(rules, schema{"oneOf": each})
	}
	return rules
}
