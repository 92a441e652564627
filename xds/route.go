package xds

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"

	"github.com/headgate/headgate/routing"
)

// Why a route serves, as the second part of its name. See [ParseRouteName].
const (
	routeDecided   = "decided"   // the ext_proc service chose the version
	routeUndecided = "undecided" // it should have, and the route before it did not hear of it
	routeCopied    = "copied"    // of a share of the requests copies are made
	routeMirror    = "mirror"    // it is a copy
)

// ParseRouteName splits the name of a route, which the access log has:
// "churn/key" was the bucket of a key, "churn/override/2" the third override
// (see [routing.Reason] for the words), "churn/decided" was decided by the
// ext_proc service, and "churn/undecided/key" should have been, but Envoy had
// to do without an answer. In "churn/copied/key" the rest says the same of
// requests of which the mirrors get their shares, and "churn/mirror" is a copy.
func ParseRouteName(name string) (model, why string, ok bool) { return strings.Cut(name, "/") }

// routeCompiler compiles the routes of one model.
type routeCompiler struct {
	plan    *routing.ModelPlan
	options Options
	secure  bool // the listener has TLS
	base    *routev3.RouteMatch
	out     []*routev3.Route
}

// routes returns the model's routes in the order in which they must be tried.
// The last one matches all of the model's requests and nothing else, so its
// match says what the model claims.
func (c *routeCompiler) routes() (_ []*routev3.Route, err error) {
	defer caught(&err)
	if c.base, err = match(c.plan.Model.Match); err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	if c.asks() {
		c.decided()
	}
	if err := c.overrides(); err != nil {
		return nil, err
	}
	c.split()
	return c.out, nil
}

// match compiles which requests are the model's.
func match(m routing.Match) (*routev3.RouteMatch, error) {
	compiled := &routev3.RouteMatch{}
	switch {
	case !strings.HasPrefix(m.Prefix, "/"):
		return nil, fmt.Errorf("prefix: %q: must begin with /", m.Prefix)
	case strings.ContainsAny(m.Prefix, "?#"):
		return nil, fmt.Errorf("prefix: %q: must not contain ? or #", m.Prefix)
	case strings.HasSuffix(m.Prefix, "/"):
		compiled.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.Prefix}
	default:
		compiled.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Prefix}
	}
	if len(m.Methods) > 0 {
		sorted := slices.Sorted(slices.Values(m.Methods))
		methods, err := matchers(&routing.Condition{
			Source: routing.SourceHeader, Name: ":method", Op: routing.OpIn, Values: sorted,
		})
		if err != nil {
			return nil, fmt.Errorf("methods: %w", err)
		}
		compiled.Headers = append(compiled.Headers, methods...)
	}
	for i := range m.Headers {
		headers, err := matchers(&m.Headers[i])
		if err != nil {
			return nil, fmt.Errorf("headers[%d]: %w", i, err)
		}
		compiled.Headers = append(compiled.Headers, headers...)
	}
	return compiled, nil
}

// prefixOf returns the path prefix of a match.
func prefixOf(m *routev3.RouteMatch) string {
	if p := m.GetPathSeparatedPrefix(); p != "" {
		return p
	}
	return m.GetPrefix()
}

// domain is the virtual host's domain for a host as configured.
func domain(host string) string {
	if host == "" {
		return "*"
	}
	return strings.ToLower(host)
}

// overrides adds a route for each rule that Envoy can check, in their order.
// Those that stand after one that reads the body ask the ext_proc service.
func (c *routeCompiler) overrides() error {
	ask := c.plan.Model.Decide == routing.DecideExtProc
	for i := range c.plan.Model.Overrides {
		o := &c.plan.Model.Overrides[i]
		if o.Condition.Source == routing.SourceBody {
			ask = true
			continue
		}
		conditions, err := matchers(&o.Condition)
		if errors.Is(err, errNever) {
			continue
		}
		if err != nil {
			return fmt.Errorf("overrides[%d]: %w", i, err)
		}
		r := c.toVersion(string(routing.ReasonOverride)+"/"+strconv.Itoa(i), o.Version, conditions...)
		c.add(r, ask)
	}
	return nil
}

// split adds the routes of those that no override takes.
func (c *routeCompiler) split() {
	ask := c.asks()
	if len(c.plan.Split.Ranges) == 1 {
		c.add(c.toVersion(string(routing.ReasonOnly), c.plan.Split.Ranges[0].Version), ask)
		return
	}
	key := c.plan.Model.Key
	if key.Source == routing.SourceBody {
		c.add(c.heaviest(), ask)
		return
	}
	if key.Source != "" {
		for _, r := range c.byKey(routing.ReasonKey, placeOf(key.Source, key.Name)) {
			c.add(r, ask)
		}
	}
	switch key.Absent {
	case routing.AbsentCookie:
		for _, r := range c.byKey(routing.ReasonCookie, placeOf(routing.SourceCookie, routing.CookieName)) {
			c.add(r, ask)
		}
		r := c.byDraw()
		r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, c.setCookie(drawnByEnvoy))
		c.add(r, ask)
	case routing.AbsentRequest:
		c.add(c.byDraw(), ask)
	case routing.AbsentCurrent:
		c.add(c.toVersion(string(routing.ReasonCurrent), c.plan.Stable), ask)
	default:
		c.add(c.heaviest(), ask)
	}
}

// add adds a route. One that asks is what remains when the ext_proc service
// gives no answer; where the body has to be read it stands twice, first for
// the requests whose body can be held.
func (c *routeCompiler) add(r *routev3.Route, ask bool) {
	r = c.named(r)
	if !ask {
		c.emit(r)
		return
	}
	r.Name = strings.Replace(r.GetName(), "/", "/"+routeUndecided+"/", 1)
	if c.plan.Model.NeedsBody() {
		held := proto.CloneOf(r)
		held.Match.Headers = append(held.Match.Headers, bodyWithin(c.options.MaxBody))
		enable(held, filterDecide, decideOnRoute(c.plan.Model.Name, true))
		c.emit(held)
	}
	enable(r, filterDecide, decideOnRoute(c.plan.Model.Name, false))
	c.emit(r)
}

// named puts the model before the name of a route.
func (c *routeCompiler) named(r *routev3.Route) *routev3.Route {
	r.Name = c.plan.Model.Name + "/" + r.GetName()
	return r
}

// emit appends a finished route, and before it those that make copies. Of what
// an override sent to its version none are made: such a request says nothing
// about all others.
func (c *routeCompiler) emit(r *routev3.Route) {
	if !strings.Contains(r.GetName(), "/"+string(routing.ReasonOverride)) {
		copied := c.copied(r)
		c.out = append(c.out, c.captured(r, copied)...)
		c.out = append(c.out, copied...)
	}
	c.out = append(c.out, r)
}

// route is a route of the model to be completed with a cluster.
func (c *routeCompiler) route(why string, conditions ...*routev3.HeaderMatcher) (*routev3.Route, *routev3.RouteAction) {
	m := proto.CloneOf(c.base)
	m.Headers = append(m.Headers, conditions...)
	action := &routev3.RouteAction{
		// It counts to the end of an answer, and would cut a stream that
		// flows. The tries have one that ends when the answer begins.
		Timeout:     durationpb.New(0),
		RetryPolicy: tries(c.plan.Model),
	}
	if c.plan.Model.Timeout >= c.options.IdleTimeout {
		// The listener would end the request first.
		action.IdleTimeout = durationpb.New(c.plan.Model.Timeout + time.Minute)
	}
	r := &routev3.Route{Name: why, Match: m, Action: &routev3.Route_Route{Route: action}}
	if c.plan.Model.HideVersion {
		// Not for the whole table: Envoy would then drop what the routes
		// of other models add, too.
		r.ResponseHeadersToRemove = []string{routing.HeaderVersion}
	}
	return r, action
}

// toVersion is a route to one version.
func (c *routeCompiler) toVersion(why, version string, conditions ...*routev3.HeaderMatcher) *routev3.Route {
	r, action := c.route(why, conditions...)
	action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: routing.ClusterName(c.plan.Model.Name, version)}
	r.RequestHeadersToAdd, r.ResponseHeadersToAdd = c.tell(version)
	return r
}

// tell says which version answers, to the model and to the client.
func (c *routeCompiler) tell(version string) (request, response []*corev3.HeaderValueOption) {
	request = []*corev3.HeaderValueOption{set(routing.HeaderVersion, version)}
	if !c.plan.Model.HideVersion {
		response = []*corev3.HeaderValueOption{set(routing.HeaderVersion, version)}
	}
	return request, response
}

var previousHosts = config(&previousv3.PreviousHostsPredicate{})

// tries says how often a request is sent, and how long each try waits for the
// beginning of an answer. Later silence is not measured here: Envoy's idle
// timeout of a try also fires when a client does not read, and calls that the
// version's failure.
func tries(m *routing.Model) *routev3.RetryPolicy {
	r := m.Retry
	wait := cmp.Or(r.PerTry, m.Timeout)
	if r.Attempts == 0 && wait == 0 {
		return nil
	}
	p := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(r.Attempts)}
	if wait > 0 {
		p.PerTryTimeout = durationpb.New(wait)
	}
	if r.Attempts == 0 {
		return p
	}
	p.RetryOn = strings.Join(r.On, ",")
	// Another endpoint than the one that just failed, if there is one.
	p.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
		Name:       "envoy.retry_host_predicates.previous_hosts",
		ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: previousHosts},
	}}
	p.HostSelectionRetryMaxAttempts = 3
	return p
}

// enable turns a filter of the listener on for a route.
func enable(r *routev3.Route, filter string, c *anypb.Any) {
	if r.TypedPerFilterConfig == nil {
		r.TypedPerFilterConfig = make(map[string]*anypb.Any)
	}
	r.TypedPerFilterConfig[filter] = config(&routev3.FilterConfig{Config: c})
}
