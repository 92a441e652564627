package routing

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
	if key.Source == SourceHeader {
		if d, ok := p.byRepeatedHeader(s); ok {
			return d
		}
	}
	if v, ok := value(s, key.Source, key.Name, key.Path); ok {
		return p.byBucket(v, ReasonKey)
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
		if v := lastCookie(s, CookieName); v != "" {
			return p.byBucket(v, ReasonCookie)
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

// byRepeatedHeader decides on a key header that came more than once.
func (p *ModelPlan) byRepeatedHeader(s Subject) (Decision, bool) {
	name := p.Model.Key.Name
	if _, repeated := s.Header(name, 1); !repeated {
		return Decision{}, false
	}
	var values []string
	for i := 0; ; i++ {
		v, ok := s.Header(name, i)
		if !ok {
			break
		}
		values = append(values, v)
	}
	b := bucketOf(p.Split.Salt, values)
	return Decision{Version: p.Split.Version(b), Reason: ReasonKey, Key: joined(s, name), Bucket: b}, true
}
