package admin

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

// openAPI describes the routes as an OpenAPI 3.1 document.
func (s *Server) openAPI() map[string]any {
	components := schemas{}
	paths := map[string]map[string]any{}
	for _, r := range s.routes {
		if paths[r.Path] == nil {
			paths[r.Path] = map[string]any{}
		}
		paths[r.Path][strings.ToLower(r.Method)] = components.operation(r)
	}
	version := s.opts.Version
	if version == "" {
		version = "unknown"
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":   "headgate admin",
			"version": version,
			"license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths": paths,
		"components": map[string]any{
			"schemas":         components,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
		},
	}
}

func (c schemas) operation(r Route) map[string]any {
	answers := map[string]any{
		strconv.Itoa(http.StatusOK): map[string]any{"description": "Done.", "content": c.answer(r)},
		"default": map[string]any{
			"description": "A problem (RFC 9457).",
			"content":     media("application/problem+json", c.of(reflect.TypeFor[Problem]())),
		},
	}
	op := map[string]any{
		"operationId": operationID(r),
		"summary":     r.Summary,
		"description": "Needs the role " + string(r.Role) + ".",
		"responses":   answers,
		"security":    []map[string][]string{{"token": {}}},
	}
	if r.Role == RoleNone {
		op["description"] = "Needs no token."
		op["security"] = []map[string][]string{}
	}
	if len(r.Params) > 0 {
		op["parameters"] = c.params(r.Params)
	}
	if r.Body != nil {
		op["requestBody"] = map[string]any{
			"required": false,
			"content":  media("application/json", c.of(reflect.TypeOf(r.Body))),
		}
	}
	return op
}

func (c schemas) answer(r Route) map[string]any {
	if r.Answer == nil {
		return media(r.Media, schema{"type": "string"})
	}
	return media("application/json", c.of(reflect.TypeOf(r.Answer)))
}

func (c schemas) params(params []Param) []map[string]any {
	list := make([]map[string]any, 0, len(params))
	for _, p := range params {
		list = append(list, map[string]any{
			"name": p.Name, "in": p.In, "description": p.Doc,
			"required": p.In == "path",
			"schema":   c.of(reflect.TypeOf(p.Type)),
		})
	}
	return list
}

func media(name string, s schema) map[string]any {
	return map[string]any{name: map[string]any{"schema": s}}
}

// operationID names a route for generated clients, e.g. postV1ModelsModelPause.
func operationID(r Route) string {
	var id strings.Builder
	id.WriteString(strings.ToLower(r.Method))
	for part := range strings.FieldsFuncSeq(r.Path, func(c rune) bool { return strings.ContainsRune("/{}._-", c) }) {
		id.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return id.String()
}
