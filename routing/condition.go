package routing

import (
	"regexp"
	"slices"
	"strings"
)

// Source names the part of a request that a key or a condition reads.
type Source string

// The sources. A header's name may be a pseudo-header (":method"). A cookie
// and a query parameter are read raw, undecoded; of several of one name the
// last that is not empty counts.
const (
	SourceHeader Source = "header"
	SourceCookie Source = "cookie"
	SourceQuery  Source = "query"
	SourceBody   Source = "body" // a path into a JSON body
)

// Op is how a condition compares.
type Op string

// The operators. Regular expressions are RE2 and match the whole value.
const (
	OpEquals   Op = "equals"
	OpPrefix   Op = "prefix"
	OpSuffix   Op = "suffix"
	OpContains Op = "contains"
	OpRegex    Op = "regex"
	OpIn       Op = "in"
	OpPresent  Op = "present" // there and not empty
)

// Condition is one test on a request. Values that are absent or empty satisfy
// no condition.
type Condition struct {
	Source Source
	Name   string // header and cookie names; the parameter; the path as written
	Path   Path   // compiled Name, for SourceBody
	Op     Op
	Value  string
	Values []string       // OpIn
	Regex  *regexp.Regexp // OpRegex, anchored
}

// Holds tells whether the request satisfies the condition. Of a header that
// came several times (cookie is one), a single value is enough, which is how
// Envoy's matchers see it. It does not allocate.
func (c *Condition) Holds(s Subject) bool {
	if c.Source == SourceBody {
		v, _ := s.Body(c.Path)
		return v != "" && c.matches(v)
	}
	header := headerOf(c.Source, c.Name)
	for i := 0; ; i++ {
		line, ok := s.Header(header, i)
		if !ok {
			return false
		}
		if v := part(c.Source, c.Name, line); v != "" && c.matches(v) {
			return true
		}
	}
}

func (c *Condition) matches(v string) bool {
	switch c.Op {
	case OpEquals:
		return v == c.Value
	case OpPrefix:
		return strings.HasPrefix(v, c.Value)
	case OpSuffix:
		return strings.HasSuffix(v, c.Value)
	case OpContains:
		return strings.Contains(v, c.Value)
	case OpRegex:
		return c.Regex.MatchString(v)
	case OpIn:
		return slices.Contains(c.Values, v)
	case OpPresent:
		return true
	}
	return false
}

// Override sends the requests that satisfy a condition to a version, whatever
// the weights.
type Override struct {
	Condition Condition
	Version   string
}

// Subject is a request as seen by a decision.
type Subject interface {
	// Header returns the i-th value of a header by its lower-case name.
	// Pseudo-headers are headers: ":path", ":authority", ":method".
	Header(name string, i int) (value string, ok bool)
	// Body returns the scalar at a path of the JSON body as text: strings as
	// they are, numbers and booleans as written. It is not ok when there is
	// none, or the body is not known.
	Body(path Path) (value string, ok bool)
}

// headerOf names the header in which a value stands.
func headerOf(source Source, name string) string {
	switch source {
	case SourceCookie:
		return "cookie"
	case SourceQuery:
		return ":path"
	}
	return name
}

// part reads the value out of a header's value; absent and empty are the same.
func part(source Source, name, line string) string {
	switch source {
	case SourceCookie:
		return lastCookie(line, name)
	case SourceQuery:
		return lastParameter(line, name)
	}
	return line
}

// lastCookie equals the pattern `^(?:.*;\s*)?name=([^;]+).*$`.
func lastCookie(header, name string) string {
	for {
		i := strings.LastIndexByte(header, ';')
		part := header[i+1:]
		if i >= 0 {
			part = strings.TrimLeft(part, "\t\n\f\r ")
		}
		if v, ok := strings.CutPrefix(part, name); ok && len(v) > 1 && v[0] == '=' {
			return v[1:]
		}
		if i < 0 {
			return ""
		}
		header = header[:i]
	}
}

// lastParameter equals the pattern `^[^?]*\?(?:.*&)?name=([^&]+).*$`.
func lastParameter(path, name string) string {
	_, query, ok := strings.Cut(path, "?")
	if !ok {
		return ""
	}
	for {
		i := strings.LastIndexByte(query, '&')
		if v, ok := strings.CutPrefix(query[i+1:], name); ok && len(v) > 1 && v[0] == '=' {
			return v[1:]
		}
		if i < 0 {
			return ""
		}
		query = query[:i]
	}
}
