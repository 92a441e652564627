package xds

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/routing"
)

// Names of the clusters that every bootstrap defines. Each reaches headgate's
// one gRPC server.
const (
	ClusterXDS     = "headgate_xds"
	ClusterExtProc = "headgate_ext_proc"
	ClusterCapture = "headgate_capture"
	ClusterALS     = "headgate_als"
)

// Options are what resources depend on besides the plan. The zero value means
// the defaults.
type Options struct {
	// DecideTimeout bounds the wait for each answer of the ext_proc service;
	// then the request goes on undecided. 20 ms by default.
	DecideTimeout time.Duration
	// MaxBody is the largest body, in bytes, that the ext_proc service gets to
	// see when a model's key or override is in the body. 512 KiB by default.
	MaxBody uint32
	// CookieAge is how long an anonymous user's browser keeps our cookie. 30
	// days by default.
	CookieAge time.Duration
	// IdleTimeout ends a request on which no byte moved in either direction
	// for this long. 15 minutes by default, so that a slow stream survives.
	IdleTimeout time.Duration
	// LogFlush is how long an Envoy keeps access log entries before it sends
	// them. 200 ms by default.
	LogFlush time.Duration
	// SystemCA is the file, on Envoy's machine, with the authorities that
	// verify a version whose TLS names none. Debian's by default.
	SystemCA string
	// NameServers resolve the versions' names. Those of Envoy's machine by
	// default.
	NameServers []netip.AddrPort
	// MirrorRequests is how many copies for one version may be under way at a
	// time. What comes on top is dropped, never queued. 64 by default.
	MirrorRequests uint32
	// MirrorBody is the largest body, in bytes, of a request that is copied. 1
	// MiB by default.
	MirrorBody uint32
	// SharePorts lets several Envoys on one machine listen on the same address,
	// as when one replaces another. The kernel spreads connections over all of
	// them, also over those of another headgate.
	SharePorts bool
}

func (o Options) withDefaults() Options {
	o.DecideTimeout = cmp.Or(o.DecideTimeout, 20*time.Millisecond)
	o.MaxBody = cmp.Or(o.MaxBody, 512<<10)
	o.CookieAge = cmp.Or(o.CookieAge, 30*24*time.Hour)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 15*time.Minute)
	o.LogFlush = cmp.Or(o.LogFlush, 200*time.Millisecond)
	o.MirrorRequests = cmp.Or(o.MirrorRequests, 64)
	o.MirrorBody = cmp.Or(o.MirrorBody, 1<<20)
	o.SystemCA = cmp.Or(o.SystemCA, "/etc/ssl/certs/ca-certificates.crt")
	return o
}

// Builder compiles plans. Its results depend on the options and the plan
// alone: it only remembers what it made of the last plan, so that a plan in
// which one model changed costs one model. It is not for concurrent use.
type Builder struct {
	options   Options
	listeners map[*routing.Listener]*compiledListener
	last      remembered
}

// remembered is the last plan, model by model, and what was made of it. The
// slices run in parallel, because with 10,000 models it counts what is read.
type remembered struct {
	tls       map[string]bool // of each listener
	plans     []*routing.ModelPlan
	models    []*compiled
	resources []*ModelResources
}

// compiled is a model's resources and what they were made of.
type compiled struct {
	plan      *routing.ModelPlan
	tls       bool // the listener has TLS
	resources *ModelResources
	claim     string // listener, domain and match: no two models may have it
}

// NewBuilder returns a Builder that remembers nothing.
func NewBuilder(opts Options) *Builder {
	return &Builder{options: opts.withDefaults()}
}

// Build compiles a plan. It reports everything that is wrong in one error,
// and then returns no snapshot at all.
func (b *Builder) Build(plan *routing.Plan) (*Snapshot, error) {
	snapshot := new(Snapshot)
	tls, errs := b.buildListeners(plan, snapshot)
	next := remembered{
		tls: tls, plans: plan.Models,
		models: make([]*compiled, len(plan.Models)), resources: make([]*ModelResources, len(plan.Models)),
	}
	moved, err := b.compileAll(&next)
	if errs = append(errs, err); errors.Join(errs...) != nil {
		return nil, errors.Join(errs...)
	}
	if moved {
		if err := checkClaims(next.models); err != nil {
			return nil, err
		}
	}
	b.last, snapshot.Models = next, next.resources
	return snapshot, nil
}

// compileAll makes the models of next, and tells whether any of them has
// another place or another claim than in the last plan.
func (b *Builder) compileAll(next *remembered) (moved bool, err error) {
	last := &b.last
	moved = len(next.plans) != len(last.plans)
	same := maps.Equal(next.tls, last.tls)
	var errs []error
	before := sync.OnceValue(last.byPlan)
	for i, p := range next.plans {
		if same && i < len(last.plans) && last.plans[i] == p {
			next.models[i], next.resources[i] = last.models[i], last.resources[i]
			continue
		}
		var here *compiled
		if i < len(last.models) {
			here = last.models[i]
		}
		c, err := b.model(p, next.tls, here, before)
		if err != nil {
			errs = append(errs, fmt.Errorf("models.%s: %w", p.Model.Name, err))
			continue
		}
		moved = moved || here == nil || here.claim != c.claim || here.plan.Model.Name != p.Model.Name
		next.models[i], next.resources[i] = c, c.resources
	}
	return moved, errors.Join(errs...)
}

// model returns what is made of a model: the same as before, what stood in its
// place with other weights, or new.
func (b *Builder) model(
	p *routing.ModelPlan, listeners map[string]bool, here *compiled, before func() map[*routing.ModelPlan]*compiled,
) (*compiled, error) {
	tls, ok := listeners[listenerName(p.Model.Listen)]
	if !ok {
		return nil, fmt.Errorf("listen: %s: is no listener of the configuration", p.Model.Listen)
	}
	if here != nil && here.plan != p && here.sameStructure(p, tls) {
		return here.withWeights(p), nil
	}
	if c := before()[p]; c != nil && c.tls == tls {
		return c, nil
	}
	return b.compile(p, tls)
}

// sameStructure tells whether a plan differs from the one that was compiled in
// its weights alone.
func (c *compiled) sameStructure(p *routing.ModelPlan, tls bool) bool {
	return c.plan.Model == p.Model && c.tls == tls && c.plan.Stable == p.Stable &&
		c.plan.Split.Salt == p.Split.Salt && p.Split.Validate() == nil &&
		slices.EqualFunc(c.plan.Mirrors, p.Mirrors, sameMirror) && sameCapture(c.plan.Capture, p.Capture) &&
		slices.EqualFunc(c.plan.Split.Ranges, p.Split.Ranges, func(x, y routing.Range) bool { return x.Version == y.Version })
}

func sameMirror(x, y routing.Mirror) bool {
	return x.Version == y.Version && x.Credentials == y.Credentials && y.Share <= routing.Whole
}

func sameCapture(x, y *routing.Capture) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.MaxBody == y.MaxBody && y.Share <= routing.Whole
}

// withWeights is what was compiled, with the weights of another plan.
func (c *compiled) withWeights(p *routing.ModelPlan) *compiled {
	resources := *c.resources
	resources.Weights = weights(p)
	resources.layer = layerOf(resources.Weights)
	return &compiled{plan: p, tls: c.tls, resources: &resources, claim: c.claim}
}

func (r *remembered) byPlan() map[*routing.ModelPlan]*compiled {
	m := make(map[*routing.ModelPlan]*compiled, len(r.models))
	for _, c := range r.models {
		m[c.plan] = c
	}
	return m
}

// checkClaims reports models that are there twice or take the same requests.
func checkClaims(models []*compiled) error {
	var errs []error
	claims := make(map[string]string, len(models))
	for i, c := range models {
		name := c.plan.Model.Name
		if i > 0 && name <= models[i-1].plan.Model.Name {
			errs = append(errs, fmt.Errorf("models.%s: stands after %s: must be sorted by name, each once", name, models[i-1].plan.Model.Name))
			continue
		}
		if other, taken := claims[c.claim]; taken {
			errs = append(errs, fmt.Errorf("models.%s: match: model %s has the same", name, other))
		}
		claims[c.claim] = name
	}
	return errors.Join(errs...)
}

func (b *Builder) compile(p *routing.ModelPlan, tls bool) (*compiled, error) {
	if err := checkPlan(p); err != nil {
		return nil, err
	}
	r := &ModelResources{
		Model:    p.Model.Name,
		Listener: listenerName(p.Model.Listen),
		Domain:   domain(p.Model.Match.Host),
		Weights:  weights(p),
		Shard:    shardOf(p.Model.Name),
	}
	r.layer = layerOf(r.Weights)
	var err error
	if r.Clusters, err = b.clusters(p); err != nil {
		return nil, err
	}
	if err = b.mirror(p, r); err != nil {
		return nil, err
	}
	c := &routeCompiler{plan: p, options: b.options, secure: tls}
	if r.Routes, err = c.routes(); err != nil {
		return nil, err
	}
	if err := checkRoutes(p, r.Routes); err != nil {
		return nil, err
	}
	if r.routes, err = encodeRoutes(r.Routes); err != nil {
		return nil, err
	}
	r.RouteVersion = version(append([]byte(r.Domain+"\x00"), r.routes...))
	return &compiled{plan: p, tls: tls, resources: r, claim: claim(r)}, nil
}

func (b *Builder) clusters(p *routing.ModelPlan) ([]Resource, error) {
	var resources []Resource
	for _, v := range p.Uses() {
		c, err := cluster(p.Model, v, b.options)
		if err != nil {
			return nil, fmt.Errorf("versions.%s: %w", v.Name, err)
		}
		r, err := resource(c.GetName(), c)
		if err != nil {
			return nil, fmt.Errorf("versions.%s: %w", v.Name, err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// mirror adds what copies of the model's requests pass on their way.
func (b *Builder) mirror(p *routing.ModelPlan, r *ModelResources) error {
	for _, m := range p.Mirrors {
		v := p.Model.Version(m.Version)
		c, err := mirrorCluster(p.Model, v, b.options)
		if err != nil {
			return fmt.Errorf("mirrors.%s: %w", v.Name, err)
		}
		cluster, err := resource(c.GetName(), c)
		if err != nil {
			return fmt.Errorf("mirrors.%s: %w", v.Name, err)
		}
		l, err := mirrorListener(p, v, b.options)
		if err != nil {
			return fmt.Errorf("mirrors.%s: %w", v.Name, err)
		}
		listener, err := resource(l.GetName(), l)
		if err != nil {
			return fmt.Errorf("mirrors.%s: %w", v.Name, err)
		}
		r.Clusters, r.Internal = append(r.Clusters, cluster), append(r.Internal, listener)
	}
	return nil
}

// claim identifies which requests a model takes.
func claim(r *ModelResources) string {
	m := r.Routes[len(r.Routes)-1].GetMatch()
	parts := []string{r.Listener, r.Domain, prefixOf(m)}
	for _, h := range m.GetHeaders() {
		parts = append(parts, h.String())
	}
	return strings.Join(parts, "\x00")
}
