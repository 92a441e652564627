package routing

import "strings"

// Key is what identifies a user, so that the same user gets the same version.
type Key struct {
	Source Source // empty: there is no key, all requests are anonymous
	Name   string
	Path   Path // compiled Name, for SourceBody
	Absent Absent
}

// Absent says what happens to a request without a key.
type Absent string

// The ways to treat a request without a key.
const (
	AbsentCookie  Absent = "cookie"  // the first answer sets a cookie that keeps the version
	AbsentRequest Absent = "request" // each request draws anew
	AbsentCurrent Absent = "current" // the stable version
)

// Reason says why a request got its version.
type Reason string

// The reasons.
const (
	ReasonOverride  Reason = "override"  // a rule of `overrides`
	ReasonOnly      Reason = "only"      // there is no other version
	ReasonKey       Reason = "key"       // the bucket of the key
	ReasonCookie    Reason = "cookie"    // the bucket of our cookie
	ReasonDraw      Reason = "draw"      // the bucket of a fresh draw
	ReasonCurrent   Reason = "current"   // no key, and the file says stable
	ReasonUndecided Reason = "undecided" // a key should be there but could not be read
)

// Drawn tells whether the split's hash chose the version: who else might have
// been sent there is then known, and requests of two versions can be compared.
func (r Reason) Drawn() bool { return r == ReasonKey || r == ReasonCookie || r == ReasonDraw }

// Decision is the answer to which version a request gets, and why.
type Decision struct {
	Version string
	Reason  Reason
	Rule    int    // index of the override, with ReasonOverride
	Key     string // what was hashed; empty for reasons without a bucket
	Bucket  int    // in [0, Whole); -1 for reasons without a bucket
}

// Decide returns the version of a request. It is total, deterministic, and
// allocates nothing (a header that is sent twice aside). What package xds
// compiles into Envoy's routes answers the same for every request.
func Decide(p *ModelPlan, s Subject) Decision {
	for i := range p.Model.Overrides {
		if o := &p.Model.Overrides[i]; o.Condition.Holds(s) {
			return Decision{Version: o.Version, Reason: ReasonOverride, Rule: i, Bucket: -1}
		}
	}
	if len(p.Split.Ranges) == 1 {
		return Decision{Version: p.Split.Ranges[0].Version, Reason: ReasonOnly, Bucket: -1}
	}
	key := &p.Model.Key
	if key.Source == SourceBody {
		if v, _ := s.Body(key.Path); v != "" {
			return p.byBucket(v, ReasonKey)
		}
	} else if d, ok := p.byValue(s, key.Source, key.Name, ReasonKey); ok {
		return d
	}
	return p.withoutKey(s)
}

func (p *ModelPlan) byBucket(key string, why Reason) Decision {
	b := Bucket(p.Split.Salt, key)
	return Decision{Version: p.Split.Version(b), Reason: why, Key: key, Bucket: b}
}

func (p *ModelPlan) withoutKey(s Subject) Decision {
	switch p.Model.Key.Absent {
	case AbsentCookie:
		if d, ok := p.byValue(s, SourceCookie, CookieName, ReasonCookie); ok {
			return d
		}
		if v, _ := s.Header(HeaderDraw, 0); v != "" {
			return p.byBucket(v, ReasonDraw)
		}
	case AbsentRequest:
		if v, _ := s.Header(HeaderDraw, 0); v != "" {
			return p.byBucket(v, ReasonDraw)
		}
	case AbsentCurrent:
		return Decision{Version: p.Stable, Reason: ReasonCurrent, Bucket: -1}
	}
	return Decision{Version: p.Split.Heaviest(), Reason: ReasonUndecided, Bucket: -1}
}

// byValue decides on a value of the request, if there is one.
func (p *ModelPlan) byValue(s Subject, source Source, name string, why Reason) (Decision, bool) {
	header := headerOf(source, name)
	line, ok := s.Header(header, 0)
	if !ok || source == "" {
		return Decision{}, false
	}
	if _, repeated := s.Header(header, 1); repeated {
		return p.byRepeated(s, source, name, why)
	}
	v := part(source, name, line)
	if v == "" {
		return Decision{}, false
	}
	return p.byBucket(v, why), true
}

// byRepeated decides on a header that came more than once, as Envoy does: each
// value is rewritten to "salt/value", or stays as it is when there is nothing
// in it to rewrite.
func (p *ModelPlan) byRepeated(s Subject, source Source, name string, why Reason) (Decision, bool) {
	var found, rewritten []string
	for i := 0; ; i++ {
		line, ok := s.Header(headerOf(source, name), i)
		if !ok {
			break
		}
		if v := part(source, name, line); v != "" {
			found = append(found, v)
			line = p.Split.Salt + "/" + v
		}
		rewritten = append(rewritten, line)
	}
	if len(found) == 0 {
		return Decision{}, false
	}
	b := bucketOf(rewritten)
	return Decision{Version: p.Split.Version(b), Reason: why, Key: strings.Join(found, ","), Bucket: b}, true
}
