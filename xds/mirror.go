package xds

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/headgate/headgate/routing"
)

// A copy of a request passes no filter of the listener that took the request,
// and Envoy drops its answer without a word in any log. So copies go to a
// cluster whose one endpoint is a listener inside Envoy, which has everything
// that a listener has, and sends them on to the version.

const mirrorSuffix = "/mirror"

// mirrorName is the name of the cluster that copies for a version are sent to,
// and of the listener behind it.
func mirrorName(model, version string) string {
	return routing.ClusterName(model, version) + mirrorSuffix
}

// isMirror tells whether a cluster or a listener is for copies.
func isMirror(name string) bool { return strings.HasSuffix(name, mirrorSuffix) }

// mirrorKeys begin the runtime keys of the shares that are copied.
const mirrorKeys = "headgate-mirror."

func mirrorKey(model, version string) string { return mirrorKeys + routing.ClusterName(model, version) }

// mirrorCluster leads to the internal listener. What is beyond its breaker is
// not copied, and nobody is told; the breaker of the version's own cluster
// comes first, whose refusals are logged.
func mirrorCluster(m *routing.Model, v *routing.Version, o Options) (c *clusterv3.Cluster, err error) {
	defer caught(&err)
	name := mirrorName(m.Name, v.Name)
	limit := wrapperspb.UInt32(2 * o.MirrorRequests)
	return &clusterv3.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: limit, MaxPendingRequests: limit, MaxRequests: limit,
		}}},
		// A whole body fits: a version that does not read holds no upload up.
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(mirrorBuffer(o)),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: internalAddress(name)}},
			}}}},
		},
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.internal_upstream",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config(&internalv3.InternalUpstreamTransport{
				TransportSocket: &corev3.TransportSocket{
					Name:       "envoy.transport_sockets.raw_buffer",
					ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config(&rawv3.RawBuffer{})},
				},
			})},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": config(mirrorProtocol()),
		},
	}, nil
}

func mirrorProtocol() *httpv3.HttpProtocolOptions {
	return &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(time.Minute)},
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
				},
			},
		},
	}
}

func internalAddress(listener string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener},
		EndpointId:           "0",
	}}}
}

func mirrorBuffer(o Options) uint32 { return max(1<<20, 2*o.MirrorBody) }

// mirrorRoute sends every copy to the version, and treats it as a user's
// request would be: the same tries and timeouts. It has a breaker of its own in
// the version's cluster, by priority, so that copies take nothing away from
// users. Nobody is slow to read an answer here, so silence is the version's.
func mirrorRoute(m *routing.Model, v *routing.Version, o Options) *routev3.Route {
	policy := tries(m)
	if policy == nil {
		policy = &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(0)}
	}
	idle := o.IdleTimeout
	if m.Timeout >= idle {
		idle = m.Timeout + time.Minute
	}
	policy.PerTryIdleTimeout = durationpb.New(idle)
	return &routev3.Route{
		Name:  m.Name + "/" + routeMirror,
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: routing.ClusterName(m.Name, v.Name)},
			Timeout:          durationpb.New(0),
			RetryPolicy:      policy,
			Priority:         corev3.RoutingPriority_HIGH,
			IdleTimeout:      durationpb.New(idle + time.Minute), // the route's own, which would call it the client's silence
		}},
		RequestHeadersToAdd:    []*corev3.HeaderValueOption{set(routing.HeaderVersion, v.Name)},
		RequestHeadersToRemove: []string{routing.HeaderKey}, // it is kept for the log, see keepKey
	}
}

// keepKey keeps the key that comes with a copy for the access log. The version
// is not told: the key may be a part of what copies have no right to.
func keepKey() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: filterKey,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: keyOnRoute(
			placeOf(routing.SourceHeader, routing.HeaderKey))},
	}
}

// mirrors are what makes copies of the requests of r.
func (c *routeCompiler) mirrors(r *routev3.Route) []*routev3.RouteAction_RequestMirrorPolicy {
	var policies []*routev3.RouteAction_RequestMirrorPolicy
	model := c.plan.Model.Name
	for _, m := range c.plan.Mirrors {
		policies = append(policies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster: mirrorName(model, m.Version),
			// By default nothing is copied.
			RuntimeFraction:               shareOf(mirrorKey(model, m.Version)),
			DisableShadowHostSuffixAppend: true,
			RequestHeadersMutations:       copyMutations(m, r),
		})
	}
	return policies
}

// secretHeaders are not copied unless the plan says so: a shadow has no business
// with the users' credentials.
var secretHeaders = []string{"authorization", "proxy-authorization", "cookie", "x-api-key"}

// copyMutations make a copy of a request of r. Of our headers it has the key,
// which goes as far as the internal listener, and the version, which that
// replaces; the table has removed all others.
func copyMutations(m routing.Mirror, r *routev3.Route) []*mutationv3.HeaderMutation {
	var mutations []*mutationv3.HeaderMutation
	add := func(h *corev3.HeaderValueOption) {
		mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: h}})
	}
	for _, name := range secretHeaders {
		if m.Credentials {
			break
		}
		mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	if r.GetTypedPerFilterConfig()[filterKey] != nil || strings.HasSuffix(r.GetName(), "/"+routeDecided) {
		add(set(routing.HeaderKey, keyInMetadata))
	}
	add(set(routing.HeaderShadow, "true"))
	return mutations
}

// copied are the routes, to be tried before r, that serve as r does and make
// copies: one for requests that say how long their body is, one for those
// without a body. What else there is (chunked, too long, upgrades) is left to
// r, because Envoy holds an upload up when its copy is not read. Only GET with a
// chunked body cannot be told from GET without any: Envoy removes the header
// that says so first.
func (c *routeCompiler) copied(r *routev3.Route) []*routev3.Route {
	if len(c.plan.Mirrors) == 0 {
		return nil
	}
	var routes []*routev3.Route
	for _, conditions := range c.bounded(c.plan.Model.Repeatable) {
		twin := proto.CloneOf(r)
		twin.Name = strings.Replace(r.GetName(), "/", "/"+routeCopied+"/", 1)
		twin.Match.Headers = append(twin.Match.Headers, conditions...)
		twin.GetRoute().RequestMirrorPolicies = c.mirrors(r)
		routes = append(routes, twin)
	}
	return routes
}

// bounded are the conditions, one of which is true for a request whose body is
// known to be short: those with a length, and those without a body. repeatable
// says that methods that change something are among them.
func (c *routeCompiler) bounded(repeatable bool) [][]*routev3.HeaderMatcher {
	reads := matchRegex(":method", "GET|HEAD")
	sized := []*routev3.HeaderMatcher{lengthWithin(0, c.options.MirrorBody), absent("upgrade")}
	if !repeatable {
		sized = append(sized, reads)
	}
	return [][]*routev3.HeaderMatcher{sized, {reads, absent("content-length"), absent("upgrade")}}
}

func absent(header string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: false}}
}
