package xds

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// Names of the clusters that every bootstrap defines. Each reaches headgate's
// one gRPC server.
const (
	ClusterXDS     = "headgate_xds"
	ClusterExtProc = "headgate_ext_proc"
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
}

func (o Options) withDefaults() Options {
	o.DecideTimeout = cmp.Or(o.DecideTimeout, 20*time.Millisecond)
	o.MaxBody = cmp.Or(o.MaxBody, 512<<10)
	o.CookieAge = cmp.Or(o.CookieAge, 30*24*time.Hour)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 15*time.Minute)
	o.LogFlush = cmp.Or(o.LogFlush, 200*time.Millisecond)
	o.SystemCA = cmp.Or(o.SystemCA, "/etc/ssl/certs/ca-certificates.crt")
	return o
}

// Builder compiles plans. Its results depend on the options and the plan
// alone: it only remembers what it made of each [routing.ModelPlan], by
// pointer, so that a plan in which one model changed costs one model. It is
// not for concurrent use.
type Builder struct {
	options   Options
	models    map[*routing.ModelPlan]*compiled
	listeners map[*routing.Listener]*compiledListener
}

// compiled is a model's resources and what they were made for.
type compiled struct {
	resources *ModelResources
	claim     string // listener, domain and match: no two models may have it
	tls       bool
}

// NewBuilder returns a Builder that remembers nothing.
func NewBuilder(opts Options) *Builder {
	return &Builder{options: opts.withDefaults()}
}

// Build compiles a plan. It reports everything that is wrong in one error,
// and then returns no snapshot at all.
func (b *Builder) Build(plan *routing.Plan) (*Snapshot, error) {
	snapshot := &Snapshot{Models: make([]*ModelResources, 0, len(plan.Models))}
	listeners, errs := b.buildListeners(plan, snapshot)
	models := make(map[*routing.ModelPlan]*compiled, len(plan.Models))
	claims := make(map[string]string, len(plan.Models))
	for _, p := range plan.Models {
		name := listenerName(p.Model.Listen)
		listener, ok := listeners[name]
		if !ok {
			errs = append(errs, fmt.Errorf("models.%s: listen: %s: is no listener of the configuration", p.Model.Name, name))
			continue
		}
		c, err := b.model(p, listener.TLS != nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, taken := claims[c.claim]; taken {
			errs = append(errs, fmt.Errorf("models.%s: match: model %s has the same", p.Model.Name, other))
			continue
		}
		claims[c.claim] = p.Model.Name
		models[p] = c
		snapshot.Models = append(snapshot.Models, c.resources)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	b.models = models
	slices.SortFunc(snapshot.Models, func(x, y *ModelResources) int { return cmp.Compare(x.Model, y.Model) })
	if i := duplicate(snapshot.Models); i >= 0 {
		return nil, fmt.Errorf("models.%s: stands in the plan twice", snapshot.Models[i].Model)
	}
	return snapshot, nil
}

func duplicate(sorted []*ModelResources) int {
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Model == sorted[i-1].Model {
			return i
		}
	}
	return -1
}

// model returns the resources of one model, remembered or new.
func (b *Builder) model(p *routing.ModelPlan, tls bool) (*compiled, error) {
	if c, ok := b.models[p]; ok && c.tls == tls {
		return c, nil
	}
	c, err := b.compile(p, tls)
	if err != nil {
		return nil, fmt.Errorf("models.%s: %w", p.Model.Name, err)
	}
	return c, nil
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
	var err error
	if r.Clusters, err = b.clusters(p); err != nil {
		return nil, err
	}
	c := &routeCompiler{plan: p, options: b.options, secure: tls}
	if r.Routes, err = c.routes(); err != nil {
		return nil, err
	}
	if err := checkRoutes(p, r.Routes); err != nil {
		return nil, err
	}
	if r.RouteVersion, err = routeVersion(r.Domain, r.Routes); err != nil {
		return nil, err
	}
	return &compiled{resources: r, claim: claim(r), tls: tls}, nil
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

// claim identifies which requests a model takes.
func claim(r *ModelResources) string {
	m := r.Routes[len(r.Routes)-1].GetMatch()
	parts := []string{r.Listener, r.Domain, prefixOf(m)}
	for _, h := range m.GetHeaders() {
		parts = append(parts, h.String())
	}
	return strings.Join(parts, "\x00")
}
