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

// Holds tells whether the request satisfies the condition. It does not
// allocate.
func (c *Condition) Holds(s Subject) bool {
	v, ok := value(s, c.Source, c.Name, c.Path)
	return ok && c.matches(v)
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

// value reads one value; absent and empty are the same.
func value(s Subject, source Source, name string, path Path) (string, bool) {
	var v string
	switch source {
	case SourceHeader:
		v = joined(s, name)
	case SourceCookie:
		v = lastCookie(s, name)
	case SourceQuery:
		p, _ := s.Header(":path", 0)
		v = lastParameter(p, name)
	case SourceBody:
		v, _ = s.Body(path)
	}
	return v, v != ""
}

// joined returns the header's values the way Envoy's matchers see them: with
// commas between. Only a repeated header costs an allocation.
func joined(s Subject, name string) string {
	v, ok := s.Header(name, 0)
	if !ok {
		return ""
	}
	for i := 1; ; i++ {
		next, ok := s.Header(name, i)
		if !ok {
			return v
		}
		v += "," + next
	}
}

// lastCookie equals the pattern `^(?:.*;\s*)?name=([^;]+).*$`.
func lastCookie(s Subject, name string) string {
	header, _ := s.Header("cookie", 0)
	for i := 1; ; i++ {
		next, ok := s.Header("cookie", i)
		if !ok {
			break
		}
		header += "; " + next
	}
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
