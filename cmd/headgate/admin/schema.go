package admin

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/headgate/headgate/routing/rollout"
)

// schema is a JSON Schema (2020-12), as OpenAPI 3.1 has it.
type schema map[string]any

// enums are the values of string types.
var enums = map[reflect.Type][]string{
	reflect.TypeFor[Role](): {string(RoleViewer), string(RoleOperator), string(RoleAdmin)},
	reflect.TypeFor[rollout.Phase](): {
		string(rollout.PhaseIdle), string(rollout.PhaseProgressing), string(rollout.PhasePaused),
		string(rollout.PhaseRolledBack), string(rollout.PhaseCompleted), string(rollout.PhaseBlocked),
	},
}

// schemas collects the named types that answers and bodies are made of.
type schemas map[string]schema

// of returns the schema of a type as encoding/json writes it. Slices and maps
// are taken to be never nil.
func (c schemas) of(t reflect.Type) schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return schema{}
	case reflect.TypeFor[[]byte]():
		return schema{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return c.of(t.Elem())
	case reflect.String:
		if values, ok := enums[t]; ok {
			return schema{"type": "string", "enum": values}
		}
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Slice, reflect.Array:
		return schema{"type": "array", "items": c.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": c.of(t.Elem())}
	case reflect.Struct:
		return c.named(t)
	default: // an interface: anything
		return schema{}
	}
}

// named puts a struct among the components and returns a reference to it.
func (c schemas) named(t reflect.Type) schema {
	if _, done := c[t.Name()]; !done {
		c[t.Name()] = schema{} // a type can contain itself
		properties, required := schema{}, []string{}
		c.fields(t, properties, &required)
		c[t.Name()] = schema{"type": "object", "properties": properties, "required": required}
	}
	return schema{"$ref": "#/components/schemas/" + t.Name()}
}

func (c schemas) fields(t reflect.Type, properties schema, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			c.fields(f.Type, properties, required)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		property := c.of(f.Type)
		if doc := f.Tag.Get("doc"); doc != "" {
			property["description"] = doc
		}
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if !optional {
			*required = append(*required, name)
		}
		if f.Type.Kind() == reflect.Pointer && !optional {
			property = schema{"anyOf": []schema{property, {"type": "null"}}}
		}
		properties[name] = property
	}
}
