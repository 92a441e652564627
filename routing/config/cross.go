package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// crossCheck finds what is wrong between files. The files are in the order of
// their names; a mistake is reported in the later one and names the earlier.
func crossCheck(files []*compiled) []Error {
	var errs []Error
	errs = append(errs, sameNames(files)...)
	errs = append(errs, sharedListeners(files)...)
	errs = append(errs, overlappingListeners(files)...)
	return append(errs, sameRoutes(files)...)
}

// comparesAs tells whether one file can stand for another in the checks
// between files.
func comparesAs(a, b *compiled) bool {
	return a.name == b.name && a.listen == b.listen && sameTLS(a.tls, b.tls) &&
		a.model.Match.Host == b.model.Match.Host && a.model.Match.Prefix == b.model.Match.Prefix &&
		slices.Equal(a.model.Match.Methods, b.model.Match.Methods) &&
		slices.EqualFunc(a.model.Match.Headers, b.model.Match.Headers, func(x, y routing.Condition) bool { return sameCondition(&x, &y) })
}

func (f *compiled) place(key string) routing.Position {
	if p, ok := f.places[key]; ok {
		return p
	}
	return f.places["listen"]
}

func placed(at routing.Position, path, value, message string) Error {
	return Error{File: at.File, Line: at.Line, Column: at.Column, Path: path, Value: value, Message: message}
}

func where(p routing.Position) string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

func sameNames(files []*compiled) []Error {
	var errs []Error
	first := make(map[string]*compiled, len(files))
	for _, f := range files {
		if f.name == "" {
			continue
		}
		if other := first[f.name]; other != nil {
			errs = append(errs, placed(f.namePlace, "model", f.name, "is already the model of "+where(other.namePlace)))
			continue
		}
		first[f.name] = f
	}
	return errs
}

func sharedListeners(files []*compiled) []Error {
	var errs []Error
	first := make(map[netip.AddrPort]*compiled)
	for _, f := range files {
		if !f.listen.IsValid() {
			continue
		}
		other := first[f.listen]
		if other == nil {
			first[f.listen] = f
			continue
		}
		if !sameTLS(f.tls, other.tls) {
			errs = append(errs, placed(f.place("listen.tls"), "listen.tls", "",
				fmt.Sprintf("differs from %s: all models of the listener %s must give the same", where(other.place("listen.tls")), f.listen)))
		}
	}
	return errs
}

func sameTLS(a, b *routing.ServerTLS) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.CertificateChain, b.CertificateChain) &&
		bytes.Equal(a.PrivateKey, b.PrivateKey) &&
		bytes.Equal(a.ClientCA, b.ClientCA)
}

// overlappingListeners finds addresses that cannot be bound side by side: one
// of them is all addresses of its family.
func overlappingListeners(files []*compiled) []Error {
	var errs []Error
	type port struct {
		number uint16
		v4     bool
	}
	everywhere := map[port]*compiled{}
	for _, f := range files {
		if f.listen.IsValid() && f.listen.Addr().IsUnspecified() {
			at := port{f.listen.Port(), f.listen.Addr().Is4()}
			if everywhere[at] == nil {
				everywhere[at] = f
			}
		}
	}
	for _, f := range files {
		if !f.listen.IsValid() || f.listen.Addr().IsUnspecified() {
			continue
		}
		if other := everywhere[port{f.listen.Port(), f.listen.Addr().Is4()}]; other != nil {
			errs = append(errs, placed(f.place("listen"), "listen", f.listen.String(),
				fmt.Sprintf("overlaps %s of %s", other.listen, where(other.place("listen")))))
		}
	}
	return errs
}

// sameRoutes finds models of which one request could belong to both.
func sameRoutes(files []*compiled) []Error {
	type route struct {
		listen       netip.AddrPort
		host, prefix string
	}
	var order []route
	groups := make(map[route][]*compiled, len(files))
	for _, f := range files {
		if f.model == nil {
			continue
		}
		r := route{f.model.Listen, f.model.Match.Host, f.model.Match.Prefix}
		if groups[r] == nil {
			order = append(order, r)
		}
		groups[r] = append(groups[r], f)
	}
	var errs []Error
	for _, r := range order {
		errs = append(errs, claims(groups[r])...)
	}
	return errs
}

// claims compares the models of one host and prefix, each with those before
// it. Where thousands of them are told apart by the value of one header, only
// those of the same value are compared.
func claims(group []*compiled) []Error {
	header := ""
	if len(group) > 16 {
		header = commonHeader(group)
	}
	var errs []Error
	byValue, others := map[string][]*compiled{}, []*compiled(nil)
	for i, f := range group {
		candidates := group[:i]
		value, ok := wanted(f, header)
		if ok {
			candidates = slices.Concat(byValue[value], others)
			byValue[value] = append(byValue[value], f)
		} else {
			others = append(others, f)
		}
		for _, other := range candidates {
			if !told(&f.model.Match, &other.model.Match) {
				errs = append(errs, placed(f.place("match"), "match", "",
					fmt.Sprintf("claims requests that model %s claims in %s: %s", other.model.Name, where(other.place("match")), claim(f.model))))
				break
			}
		}
	}
	return errs
}

// commonHeader returns the header of which most of the group want one value.
func commonHeader(group []*compiled) string {
	counts, best := map[string]int{}, ""
	for _, f := range group {
		for i := range f.model.Match.Headers {
			h := &f.model.Match.Headers[i]
			if h.Op != routing.OpEquals {
				continue
			}
			if counts[h.Name]++; counts[h.Name] > counts[best] {
				best = h.Name
			}
		}
	}
	return best
}

func wanted(f *compiled, header string) (string, bool) {
	for i := range f.model.Match.Headers {
		if h := &f.model.Match.Headers[i]; header != "" && h.Name == header && h.Op == routing.OpEquals {
			return h.Value, true
		}
	}
	return "", false
}

func claim(m *routing.Model) string {
	return fmt.Sprintf("%s, host %s, prefix %s", m.Listen, orAny(m.Match.Host), m.Match.Prefix)
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}

// told tells whether two matches of one host and prefix can be told apart: no
// request fulfils both, or one of them asks for all that the other asks for
// and more, and is tried first.
func told(a, b *routing.Match) bool {
	if disjointMethods(a.Methods, b.Methods) || disjointHeaders(a.Headers, b.Headers) {
		return true
	}
	ab, ba := narrower(a, b), narrower(b, a)
	return ab != ba
}

func disjointMethods(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	return !slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}

// disjointHeaders looks for a header of which the two want different values.
func disjointHeaders(a, b []routing.Condition) bool {
	for i := range a {
		for j := range b {
			if a[i].Name == b[j].Name && (excludes(&a[i], &b[j]) || excludes(&b[j], &a[i])) {
				return true
			}
		}
	}
	return false
}

// excludes tells whether none of the values that a lists fulfils b.
func excludes(a, b *routing.Condition) bool {
	var values []string
	switch a.Op {
	case routing.OpEquals:
		values = []string{a.Value}
	case routing.OpIn:
		values = a.Values
	case routing.OpPrefix:
		return b.Op == routing.OpPrefix && !strings.HasPrefix(a.Value, b.Value) && !strings.HasPrefix(b.Value, a.Value)
	default:
		return false
	}
	return !slices.ContainsFunc(values, func(v string) bool { return b.Holds(oneHeader{b.Name, v}) })
}

// oneHeader is a request of which one header is known.
type oneHeader struct{ name, value string }

// Header implements routing.Subject.
func (h oneHeader) Header(name string, i int) (string, bool) {
	return h.value, name == h.name && i == 0
}

// Body implements routing.Subject.
func (oneHeader) Body(routing.Path) (string, bool) { return "", false }

// narrower tells whether every request of a is one of b, and a is recognised as
// the narrower by the number of its conditions.
func narrower(a, b *routing.Match) bool {
	if len(b.Methods) > 0 && !slices.Equal(a.Methods, b.Methods) {
		return false
	}
	for i := range b.Headers {
		if !slices.ContainsFunc(a.Headers, func(c routing.Condition) bool { return sameCondition(&c, &b.Headers[i]) }) {
			return false
		}
	}
	return true
}

func sameCondition(a, b *routing.Condition) bool {
	return a.Name == b.Name && a.Op == b.Op && a.Value == b.Value && slices.Equal(a.Values, b.Values)
}
