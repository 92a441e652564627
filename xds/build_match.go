package xds

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/headgate/headgate/routing"
)

// errNever is a condition that no request can satisfy.
var errNever = errors.New("no request can satisfy it")

// place is where in a request a value is read: a header of Envoy, and, for a
// cookie or a query parameter, the part of it. Envoy's own matchers for
// cookies and parameters decode and take the first, so the part is found by
// regular expressions that read as package routing does: raw, and of several
// the last that is not empty.
type place struct {
	header string
	before string // expression of what stands before the value; empty: the value is the header
	after  string // of what may follow, if nothing of the same name follows
	stop   rune   // ends the value
}

func placeOf(source routing.Source, name string) place {
	quoted := regexp.QuoteMeta(name)
	switch source {
	case routing.SourceCookie:
		return place{
			header: "cookie", before: `(?:.*;\s*)?` + quoted + `=`,
			after: `(?:;\s*` + otherParts(name, `;\s`, ';') + `)*`, stop: ';',
		}
	case routing.SourceQuery:
		return place{
			header: ":path", before: `[^?]*\?(?:.*&)?` + quoted + `=`,
			after: `(?:&` + otherParts(name, `&`, '&') + `)*`, stop: '&',
		}
	}
	return place{header: strings.ToLower(name)}
}

// otherParts is an expression for every part that is not "name=" and a value:
// RE2 cannot look ahead, so it spells out where such a part leaves the name.
func otherParts(name, notFirst string, stop rune) string {
	rest := "[^" + string(stop) + "]*"
	runes := []rune(name + "=")
	expression := "" // of what follows the first i runes of the name
	for i := len(runes) - 1; i >= 0; i-- {
		not := notFirst
		if i > 0 {
			not = string(stop)
		}
		differs := "[^" + not + class(runes[i]) + "]" + rest
		expression = "(?:" + differs + "|" + regexp.QuoteMeta(string(runes[i])) + expression + ")?"
	}
	return expression
}

// class quotes a rune for use in a character class.
func class(r rune) string {
	if strings.ContainsRune(`\]^-[`, r) {
		return `\` + string(r)
	}
	return string(r)
}

// any is the expression of a value that is there and not empty.
func (p place) any() string { return "[^" + string(p.stop) + "]+" }

// present matches requests with a value that is not empty.
func (p place) present() *routev3.HeaderMatcher {
	if p.before == "" {
		return notEmpty(p.header)
	}
	return matchRegex(p.header, p.before+p.any()+".*")
}

// capture is an expression for the whole header whose first group is the
// value.
func (p place) capture() string {
	if p.before == "" {
		return "^(.+)$"
	}
	return "^" + p.before + "(" + p.any() + ").*$"
}

// matchers compiles a condition. All of them must match.
func matchers(c *routing.Condition) ([]*routev3.HeaderMatcher, error) {
	if c.Source == routing.SourceBody {
		return nil, errors.New("source: body: Envoy cannot read it")
	}
	p := placeOf(c.Source, c.Name)
	switch {
	case c.Op == routing.OpPresent, c.Value == "" && slices.Contains(affixes, c.Op):
		return []*routev3.HeaderMatcher{p.present()}, nil
	case c.Op == routing.OpEquals && c.Value == "":
		return nil, errNever
	case p.before != "":
		return partMatchers(p, c)
	}
	return headerMatchers(p.header, c)
}

var affixes = []routing.Op{routing.OpPrefix, routing.OpSuffix, routing.OpContains}

func headerMatchers(name string, c *routing.Condition) ([]*routev3.HeaderMatcher, error) {
	switch c.Op {
	case routing.OpEquals:
		return one(matchString(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: c.Value}}))
	case routing.OpPrefix:
		return one(matchString(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: c.Value}}))
	case routing.OpSuffix:
		return one(matchString(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: c.Value}}))
	case routing.OpContains:
		return one(matchString(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: c.Value}}))
	case routing.OpRegex:
		// An expression may match nothing, an absent value may not.
		return []*routev3.HeaderMatcher{notEmpty(name), matchRegex(name, c.Regex.String())}, nil
	case routing.OpIn:
		expression, err := oneOf(c.Values)
		if err != nil {
			return nil, err
		}
		return one(matchRegex(name, expression))
	}
	return nil, fmt.Errorf("op: %q: is not known", c.Op)
}

func one(m *routev3.HeaderMatcher) ([]*routev3.HeaderMatcher, error) {
	return []*routev3.HeaderMatcher{m}, nil
}

// partMatchers compiles a condition on a cookie or a query parameter.
func partMatchers(p place, c *routing.Condition) ([]*routev3.HeaderMatcher, error) {
	value, err := partValue(p, c)
	if err != nil {
		return nil, err
	}
	return one(matchRegex(p.header, p.before+value+p.after))
}

// partValue is the expression of the values that satisfy a condition.
func partValue(p place, c *routing.Condition) (string, error) {
	some := "[^" + string(p.stop) + "]*"
	quoted := regexp.QuoteMeta(c.Value)
	if c.Op != routing.OpRegex && c.Op != routing.OpIn && strings.ContainsRune(c.Value, p.stop) {
		return "", errNever
	}
	switch c.Op {
	case routing.OpEquals:
		return quoted, nil
	case routing.OpPrefix:
		return quoted + some, nil
	case routing.OpSuffix:
		return some + quoted, nil
	case routing.OpContains:
		return some + quoted + some, nil
	case routing.OpIn:
		return oneOf(slices.DeleteFunc(slices.Clone(c.Values), func(v string) bool { return strings.ContainsRune(v, p.stop) }))
	case routing.OpRegex:
		return within(c.Regex, p.stop)
	}
	return "", fmt.Errorf("op: %q: is not known", c.Op)
}

func oneOf(values []string) (string, error) {
	var quoted []string
	for _, v := range values {
		if v != "" {
			quoted = append(quoted, regexp.QuoteMeta(v))
		}
	}
	if len(quoted) == 0 {
		return "", errNever
	}
	return "(?:" + strings.Join(quoted, "|") + ")", nil
}

// within returns the expression for those values of re that do not contain
// stop, so that it can stand in the middle of a larger one.
func within(re *regexp.Regexp, stop rune) (string, error) {
	if re.MatchString("") {
		return "", errors.New("regex: must not match the empty value, write + for *: an empty value counts as absent")
	}
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("regex: %w", err)
	}
	tree = exclude(trimAnchors(tree), stop)
	if anchored(tree) {
		return "", errors.New("regex: ^ and $ can only stand at its ends")
	}
	return "(?:" + tree.String() + ")", nil
}

// trimAnchors removes ^ and $ at the ends: the value is matched whole anyway.
func trimAnchors(t *syntax.Regexp) *syntax.Regexp {
	switch t.Op {
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case syntax.OpCapture:
		return trimAnchors(t.Sub[0])
	case syntax.OpConcat:
		sub := slices.Clone(t.Sub)
		for len(sub) > 0 && (sub[0].Op == syntax.OpBeginText || sub[0].Op == syntax.OpBeginLine) {
			sub = sub[1:]
		}
		for len(sub) > 0 && (sub[len(sub)-1].Op == syntax.OpEndText || sub[len(sub)-1].Op == syntax.OpEndLine) {
			sub = sub[:len(sub)-1]
		}
		if len(sub) == 1 {
			return trimAnchors(sub[0])
		}
		return &syntax.Regexp{Op: syntax.OpConcat, Sub: sub}
	}
	return t
}

func anchored(t *syntax.Regexp) bool {
	switch t.Op {
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return true
	}
	return slices.ContainsFunc(t.Sub, anchored)
}

// exclude returns the expression without the rune stop.
func exclude(t *syntax.Regexp, stop rune) *syntax.Regexp {
	never := &syntax.Regexp{Op: syntax.OpNoMatch}
	switch t.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return &syntax.Regexp{Op: syntax.OpCharClass, Rune: []rune{0, stop - 1, stop + 1, 0x10FFFF}}
	case syntax.OpLiteral:
		if slices.Contains(t.Rune, stop) {
			return never
		}
	case syntax.OpCharClass:
		var ranges []rune
		for i := 0; i < len(t.Rune); i += 2 {
			from, to := t.Rune[i], t.Rune[i+1]
			if stop < from || stop > to {
				ranges = append(ranges, from, to)
				continue
			}
			if from < stop {
				ranges = append(ranges, from, stop-1)
			}
			if stop < to {
				ranges = append(ranges, stop+1, to)
			}
		}
		if len(ranges) == 0 {
			return never
		}
		return &syntax.Regexp{Op: syntax.OpCharClass, Rune: ranges, Flags: t.Flags}
	}
	c := *t
	c.Sub = make([]*syntax.Regexp, len(t.Sub))
	for i, s := range t.Sub {
		c.Sub[i] = exclude(s, stop)
	}
	return &c
}

func matchString(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
	}
}

// matchRegex matches when the expression matches the whole value.
func matchRegex(name, expression string) *routev3.HeaderMatcher {
	return matchString(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: expression},
	}})
}

// notEmpty matches when the header is there and not empty. It has to be an
// expression: of a header that came twice, Envoy matches each value by itself,
// so that "not the empty value" is false when one of them is empty.
func notEmpty(name string) *routev3.HeaderMatcher { return matchRegex(name, ".+") }

// bodyWithin matches requests that announce a body of at most limit bytes.
func bodyWithin(limit uint32) *routev3.HeaderMatcher { return lengthWithin(1, limit) }

// lengthWithin matches requests that announce a body of least to most bytes.
func lengthWithin(least, most uint32) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: "content-length",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_RangeMatch{
			RangeMatch: &typev3.Int64Range{Start: int64(least), End: int64(most) + 1},
		},
	}
}
