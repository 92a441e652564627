package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/headgate/headgate/routing"
)

// source is where a key or a condition reads.
type source struct {
	Header *headerName    `field:"header" one:"source" doc:"Name of a request header."`
	Cookie *cookieName    `field:"cookie" one:"source" doc:"Name of a cookie."`
	Query  *parameterName `field:"query" one:"source" doc:"Name of a query parameter."`
	Body   *jsonPath      `field:"body" one:"source" doc:"Path into a JSON request body, like $.user.id."`
}

// read returns the source in the domain's words; it is empty when the file
// names none.
func (s *source) read() (from routing.Source, name string, p routing.Path) {
	switch {
	case s.Header != nil:
		return routing.SourceHeader, string(*s.Header), nil
	case s.Cookie != nil:
		return routing.SourceCookie, string(*s.Cookie), nil
	case s.Query != nil:
		return routing.SourceQuery, string(*s.Query), nil
	case s.Body != nil:
		return routing.SourceBody, s.Body.path.String(), s.Body.path
	}
	return "", "", nil
}

// comparison is how a condition compares.
type comparison struct {
	Equals   *operand  `field:"equals" one:"comparison" doc:"The whole value."`
	Prefix   *operand  `field:"prefix" one:"comparison" doc:"The beginning of the value."`
	Suffix   *operand  `field:"suffix" one:"comparison" doc:"The end of the value."`
	Contains *operand  `field:"contains" one:"comparison" doc:"A part of the value."`
	Regex    *regex    `field:"regex" one:"comparison" doc:"A regular expression (RE2) that matches the whole value."`
	In       []operand `field:"in" one:"comparison" doc:"A list, one of which is the whole value."`
	Present  bool      `field:"present" one:"comparison" const:"true" doc:"There, and not empty."`
}

// compile fills in the comparison, and checks that it can be fulfilled.
func (c *comparison) compile(d *decoder, p *path, into *routing.Condition) {
	set := func(op routing.Op, v *operand) {
		into.Op, into.Value = op, string(*v)
		d.possible(p.in(string(op)), into.Source, into.Value)
	}
	switch {
	case c.Equals != nil:
		set(routing.OpEquals, c.Equals)
	case c.Prefix != nil:
		set(routing.OpPrefix, c.Prefix)
	case c.Suffix != nil:
		set(routing.OpSuffix, c.Suffix)
	case c.Contains != nil:
		set(routing.OpContains, c.Contains)
	case c.Regex != nil:
		into.Op, into.Value, into.Regex = routing.OpRegex, c.Regex.source, c.Regex.compiled
		if part(into.Source) && anchoredInside(into.Value) {
			d.reject(p.in("regex"), shown(into.Value), "^ and $ can only stand at the ends of an expression for a "+string(into.Source))
		}
	case c.Present:
		into.Op = routing.OpPresent
	case c.In != nil:
		into.Op = routing.OpIn
		c.compileIn(d, p.in("in"), into)
	}
}

// maxListed bounds the characters of a list: Envoy compiles it to one
// expression.
const maxListed = 500

func (c *comparison) compileIn(d *decoder, p *path, into *routing.Condition) {
	length := 0
	for i, v := range c.In {
		into.Values = append(into.Values, string(v))
		d.possible(p.at(i), into.Source, string(v))
		length += len(v) + 1
	}
	if length > maxListed {
		d.reject(p, "", fmt.Sprintf("must be at most %d characters in all", maxListed))
	}
}

// part tells whether a source is a part of a header.
func part(s routing.Source) bool {
	return s == routing.SourceCookie || s == routing.SourceQuery
}

// possible checks that a cookie or a parameter can contain a value.
func (d *decoder) possible(p *path, s routing.Source, value string) {
	switch {
	case s == routing.SourceCookie && strings.Contains(value, ";"):
		d.reject(p, shown(value), "a cookie cannot contain ;")
	case s == routing.SourceQuery && strings.Contains(value, "&"):
		d.reject(p, shown(value), "a query parameter cannot contain &")
	}
}

// operand is what a value is compared with.
type operand string

// Envoy compiles many comparisons to regular expressions, whose size is
// limited.
var operandForm = form(`^[^\x00-\x1f\x7f]{1,128}$`, "must be 1 to 128 characters without control characters")

func (o *operand) set(word string) error {
	if word == "" {
		return errors.New("must not be empty: an empty value counts as absent and fulfils no condition")
	}
	*o = operand(word)
	return operandForm.check(word)
}

func (*operand) schema() schema { return operandForm.schema() }

// headerName is the name of a request header, in lower case.
type headerName string

var headerForm = form(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,63})$`, "must be the name of a header: up to 64 letters, digits, '-' or '_'")

func (h *headerName) set(word string) error {
	lower := strings.ToLower(word)
	*h = headerName(lower)
	switch {
	case strings.HasPrefix(lower, ":"):
		return errors.New("pseudo-headers cannot be read; use match, or another source")
	case strings.HasPrefix(lower, routing.HeaderPrefix):
		return errors.New("is headgate's own header, which is removed from what clients send")
	case lower == "cookie":
		return errors.New("a cookie is read by its own name; write cookie: NAME")
	case lower == "host":
		return errors.New("the host cannot be read as a header; use match.host")
	}
	return headerForm.check(word)
}

func (*headerName) schema() schema {
	s := headerForm.schema()
	s["not"] = schema{"pattern": "^([Xx]-[Hh][Ee][Aa][Dd][Gg][Aa][Tt][Ee]-.*|[Cc][Oo][Oo][Kk][Ii][Ee]|[Hh][Oo][Ss][Tt])$"}
	return s
}

// cookieName is the name of a cookie.
type cookieName string

var cookieForm = form(`^[A-Za-z0-9_.-]{1,64}$`, "must be the name of a cookie: up to 64 letters, digits, '.', '_' or '-'")

func (c *cookieName) set(word string) error {
	*c = cookieName(word)
	if word == routing.CookieName {
		return errors.New("is headgate's own cookie")
	}
	return cookieForm.check(word)
}

func (*cookieName) schema() schema {
	s := cookieForm.schema()
	s["not"] = schema{"const": routing.CookieName}
	return s
}

// parameterName is the name of a query parameter, as it is written in a URL.
type parameterName string

var parameterForm = form(`^[A-Za-z0-9_.~-]{1,64}$`, "must be the name of a query parameter: up to 64 letters, digits, '.', '_', '~' or '-'")

func (p *parameterName) set(word string) error {
	*p = parameterName(word)
	return parameterForm.check(word)
}

func (*parameterName) schema() schema { return parameterForm.schema() }

// jsonPath is a place in a JSON document.
type jsonPath struct{ path routing.Path }

const maxPathSegments = 16

func (j *jsonPath) set(word string) error {
	p, err := routing.ParsePath(word)
	if err != nil {
		return err
	}
	if len(p) > maxPathSegments {
		return fmt.Errorf("must have at most %d parts", maxPathSegments)
	}
	j.path = p
	return nil
}

func (*jsonPath) schema() schema {
	return schema{"type": "string", "pattern": `^\$(\.[^.\[\]"\s]+|\[[0-9]+\]|\["([^"\\]|\\.)+"\])+$`}
}

// regex is a regular expression that matches a whole value.
type regex struct {
	source   string
	compiled *regexp.Regexp
}

const maxRegex = 128

func (r *regex) set(word string) error {
	if word == "" || len(word) > maxRegex {
		return fmt.Errorf("must be a regular expression of 1 to %d characters", maxRegex)
	}
	compiled, err := regexp.Compile("^(?:" + word + ")$")
	if _, alone := regexp.Compile(word); err != nil || alone != nil {
		return errors.New("is not a regular expression (RE2)" + regexDetail(word))
	}
	if !ascii(word) {
		return errors.New("must be ASCII: Envoy matches other characters byte by byte")
	}
	if compiled.MatchString("") {
		return errors.New("matches the empty value, which counts as absent; write + for *, or present: true")
	}
	if size := programSize(word); size > maxProgramSize {
		return fmt.Errorf("is too large a regular expression for Envoy: size %d, must be at most %d", size, maxProgramSize)
	}
	r.source, r.compiled = word, compiled
	return nil
}

func regexDetail(word string) string {
	_, err := regexp.Compile(word)
	if err == nil {
		return ""
	}
	return ": " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

func (*regex) schema() schema {
	return schema{"type": "string", "format": "regex", "minLength": 1, "maxLength": maxRegex}
}
