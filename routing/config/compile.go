package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// compiled is what one file says.
type compiled struct {
	file  string
	model *routing.Model // nil when anything in the file is wrong
	errs  []Error
	// What other files are compared with; it can be known of a wrong file too.
	name       string
	listen     netip.AddrPort
	tls        *routing.ServerTLS
	namePlace  routing.Position
	places     map[string]routing.Position // of listen, listen.tls and match
	references []string                    // names of the files that were read
}

// compiler turns a decoded file into a model.
type compiler struct {
	d     *decoder
	name  string // of the file
	files references
	used  []string
}

// compile reads one model's file. The files that it names are read through
// files.
func compile(name string, data []byte, files references) *compiled {
	out := &compiled{file: name, places: map[string]routing.Position{}}
	root, errs := document(data)
	if root == nil {
		out.fail(errs)
		return out
	}
	var f file
	c := &compiler{d: decode(root, &f), name: name, files: files}
	model := c.model(&f)
	out.name, out.listen = c.known(&f)
	out.namePlace = c.position((*path)(nil).in("model"))
	for _, key := range []string{"listen", "match"} {
		out.places[key] = c.position((*path)(nil).in(key))
	}
	if f.Listen.TLS != nil {
		out.tls = c.serverTLS(f.Listen.TLS, (*path)(nil).in("listen").in("tls"))
		out.places["listen.tls"] = c.position((*path)(nil).in("listen").in("tls"))
	}
	out.references = c.used
	if out.fail(c.d.errs); c.d.more {
		last := c.d.errs[len(c.d.errs)-1]
		out.errs = append(out.errs, Error{File: name, Line: last.Line, Column: last.Column + 1, Message: "there are more mistakes"})
	}
	if len(out.errs) == 0 {
		out.model = model
	}
	return out
}

func (out *compiled) fail(errs []Error) {
	for _, e := range errs {
		e.File = out.file
		out.errs = append(out.errs, e)
	}
}

// known returns what can be believed of a file that may have mistakes.
func (c *compiler) known(f *file) (string, netip.AddrPort) {
	modelName, listen := string(f.Model), f.Listen.Address.AddrPort
	if c.d.failed["model"] {
		modelName = ""
	}
	if c.d.failed["listen"] || c.d.failed["listen.address"] {
		listen = netip.AddrPort{}
	}
	return modelName, listen
}

func (c *compiler) position(p *path) routing.Position {
	n := find(c.d.root, p)
	return routing.Position{File: c.name, Line: n.Line, Column: n.Column}
}

func (c *compiler) model(f *file) *routing.Model {
	var top *path
	m := &routing.Model{
		Name:        string(f.Model),
		Listen:      f.Listen.Address.AddrPort,
		Match:       c.match(&f.Match),
		Protocol:    string(f.Protocol),
		Repeatable:  f.Repeatable,
		Release:     string(f.Release),
		Timeout:     time.Duration(f.Timeout.duration),
		Decide:      routing.DecideMode(f.Decide),
		HideVersion: !f.VersionHeader,
		Source:      c.position(top.in("model")),
	}
	if f.Prediction != nil {
		m.Prediction = f.Prediction.path
	}
	for i := range f.Versions {
		m.Versions = append(m.Versions, c.version(&f.Versions[i], top.in("versions").in(f.Versions[i].name)))
	}
	c.knownVersion(f, top.in("release"), string(f.Release))
	if f.From != nil {
		m.From = string(*f.From)
		c.knownVersion(f, top.in("from"), m.From)
	}
	m.Key = c.key(&f.Key, top.in("key"))
	for i := range f.Overrides {
		m.Overrides = append(m.Overrides, c.override(f, i, top.in("overrides").at(i)))
	}
	m.Steps = c.steps(f.Rollout, top.in("rollout"))
	m.Shadows = c.shadows(f, m.Steps)
	m.Policy = c.policy(f, m.Steps)
	m.Retry = c.retries(f, top.in("retries"))
	m.Places = c.places(m, f)
	return m
}

// written returns a value as it stands in the file.
func (c *compiler) written(p *path) string { return shown(find(c.d.root, p).Value) }

// places are those for which a rollout can refuse an edit of a file that is
// right in itself, or of which there can be a warning. What the file does not
// say has none.
func (c *compiler) places(m *routing.Model, f *file) []routing.Place {
	var top *path
	rollout := top.in("rollout")
	all := []*path{top.in("release"), top.in("versions"), top.in("key"), rollout}
	for _, key := range []string{"strategy", "promise", "at_most", "on_timeout", "mode", "max_excess", "steps", "gates"} {
		all = append(all, rollout.in(key))
	}
	for i := range m.Steps {
		all = append(all, rollout.in("steps").at(i))
	}
	for i := range m.Policy.Gates {
		all = append(all, rollout.in("gates").at(i))
	}
	if f.Listen.TLS != nil {
		all = append(all, top.in("listen").in("tls"))
	}
	for i := range f.Versions {
		if f.Versions[i].TLS != nil {
			all = append(all, top.in("versions").in(f.Versions[i].name).in("tls"))
		}
	}
	var places []routing.Place
	for _, p := range all {
		if find(c.d.root, p) != find(c.d.root, p.up) {
			places = append(places, routing.Place{Path: p.String(), At: c.position(p)})
		}
	}
	return places
}

// knownVersion checks that a name is one of the file's versions.
func (c *compiler) knownVersion(f *file, p *path, name string) {
	if len(f.Versions) == 0 {
		return
	}
	var known []string
	for _, v := range f.Versions {
		if v.name == name {
			return
		}
		known = append(known, v.name)
	}
	rule := "is not one of the versions " + list(known, "and")
	if len(known) > 10 {
		rule = "is not one of the versions"
	}
	if n := nearest(name, known); n != "" && len(known) > 1 {
		rule += "; did you mean " + n + "?"
	}
	c.d.reject(p, shown(name), rule)
}

func (c *compiler) match(m *match) routing.Match {
	out := routing.Match{Host: string(m.Host.orEmpty()), Prefix: string(m.Prefix)}
	for i, method := range m.Methods {
		if slices.Contains(out.Methods, string(method)) {
			c.d.reject((*path)(nil).in("match").in("methods").at(i), string(method), "is there twice")
		}
		out.Methods = append(out.Methods, string(method))
	}
	slices.Sort(out.Methods)
	for i := range m.Headers {
		h := &m.Headers[i]
		condition := routing.Condition{Source: routing.SourceHeader, Name: string(h.Header)}
		h.compile(c.d, (*path)(nil).in("match").in("headers").at(i), &condition)
		out.Headers = append(out.Headers, condition)
	}
	return out
}

func (h *host) orEmpty() host {
	if h == nil {
		return ""
	}
	return *h
}

func (c *compiler) key(k *key, p *path) routing.Key {
	from, name, jsonPath := k.read()
	if from == "" && k.Absent == absent(routing.AbsentCurrent) {
		c.d.reject(p.in("absent"), string(k.Absent), "needs a key: without one, nobody would ever get the candidate")
	}
	return routing.Key{Source: from, Name: name, Path: jsonPath, Absent: routing.Absent(k.Absent)}
}

func (c *compiler) override(f *file, i int, p *path) routing.Override {
	o := &f.Overrides[i]
	out := routing.Override{Version: string(o.Version)}
	out.Condition.Source, out.Condition.Name, out.Condition.Path = o.read()
	o.compile(c.d, p, &out.Condition)
	c.knownVersion(f, p.in("version"), out.Version)
	return out
}

var defaultRetryOn = []string{"connect-failure", "refused-stream"}

func (c *compiler) retries(f *file, p *path) routing.Retry {
	r := routing.Retry{Attempts: f.Retries.Attempts, On: defaultRetryOn}
	if f.Retries.PerTry != nil {
		r.PerTry = time.Duration(*f.Retries.PerTry)
		if whole := time.Duration(f.Timeout.duration); whole > 0 && r.PerTry > whole {
			c.d.reject(p.in("per_try_timeout"), r.PerTry.String(), "must be at most timeout, "+whole.String())
		}
	}
	if f.Retries.On == nil {
		return r
	}
	r.On = nil
	harmless := retryConditions.words[:harmlessRetries]
	for i, on := range f.Retries.On {
		if !f.Repeatable && !slices.Contains(harmless, string(on)) {
			c.d.reject(p.in("on").at(i), string(on), "can send a request to a version twice, which needs repeatable: true")
		}
		r.On = append(r.On, string(on))
	}
	return r
}

func (c *compiler) version(v *namedVersion, p *path) *routing.Version {
	out := &routing.Version{Name: v.name, HTTP2: v.HTTP2, Connect: time.Duration(v.Connect)}
	for i, e := range v.Endpoints {
		if e.IsValid() && slices.Contains(out.Endpoints, e.AddrPort) {
			c.d.reject(p.in("endpoints").at(i), e.String(), "is there twice")
		}
		out.Endpoints = append(out.Endpoints, e.AddrPort)
	}
	if v.DNS != nil {
		out.DNS = routing.HostPort(*v.DNS)
	}
	if v.TLS != nil {
		out.TLS = c.clientTLS(v, p.in("tls"))
	}
	if h := v.Health; h != nil {
		out.Health = &routing.HealthCheck{
			Path:     string(h.Path),
			Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
			Healthy: h.Healthy, Unhealthy: h.Unhealthy,
		}
	}
	if o := v.Outlier; o != nil {
		out.Outlier = &routing.OutlierDetection{
			Consecutive5xx: o.Consecutive5xx, Interval: time.Duration(o.Interval),
			BaseEjection: time.Duration(o.BaseEjection), MaxEjection: uint32(o.MaxEjection),
		}
	}
	out.Definition = definition(out, v.TLS)
	return out
}

func (f *filename) orEmpty() string {
	if f == nil {
		return ""
	}
	return strings.TrimSpace(string(*f))
}
