package xds

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	keyfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/headgate/headgate/routing"
)

// Names of the HTTP filters that stand in every listener, disabled, until a
// route enables them.
const (
	filterDecide  = "headgate.decide"  // asks the ext_proc service
	filterKey     = "headgate.key"     // keeps the hashed key for the access log
	filterCapture = "headgate.capture" // sends request and answer to the capture service
)

// compiledListener is what was made of a listener.
type compiledListener struct {
	listener Resource
	secrets  []Resource
}

// listenerName is the name of a listener and of its route configuration.
func listenerName(address netip.AddrPort) string { return address.String() }

// buildListeners adds the listeners and their secrets to the snapshot and
// returns which listeners there are, and whether they have TLS.
func (b *Builder) buildListeners(plan *routing.Plan, s *Snapshot) (map[string]bool, []error) {
	var errs []error
	tls := make(map[string]bool)
	remembered := make(map[*routing.Listener]*compiledListener)
	for _, l := range plan.Config.Listeners {
		name := listenerName(l.Address)
		if _, twice := tls[name]; twice {
			errs = append(errs, fmt.Errorf("listeners.%s: stands in the configuration twice", name))
			continue
		}
		tls[name] = l.TLS != nil
		c := b.listeners[l]
		if c == nil {
			var err error
			if c, err = b.compileListener(l); err != nil {
				errs = append(errs, fmt.Errorf("listeners.%s: %w", name, err))
				continue
			}
		}
		remembered[l] = c
		s.Listeners = append(s.Listeners, c.listener)
		s.Secrets = append(s.Secrets, c.secrets...)
	}
	byResourceName := func(x, y Resource) int { return cmp.Compare(x.Name, y.Name) }
	slices.SortFunc(s.Listeners, byResourceName)
	slices.SortFunc(s.Secrets, byResourceName)
	b.listeners = remembered
	return tls, errs
}

func (b *Builder) compileListener(l *routing.Listener) (_ *compiledListener, err error) {
	defer caught(&err)
	name := listenerName(l.Address)
	r, err := resource(name, listener(l, b.options))
	if err != nil {
		return nil, err
	}
	c := &compiledListener{listener: r}
	if l.TLS == nil {
		return c, nil
	}
	for _, secret := range secrets(l) {
		r, err := resource(secret.GetName(), secret)
		if err != nil {
			return nil, err
		}
		c.secrets = append(c.secrets, r)
	}
	return c, nil
}

// listener is an address with everything that a request passes on its way to
// a route. A listener that changes closes its connections, so nothing in it
// depends on models, weights or the contents of certificates.
func listener(l *routing.Listener, o Options) *listenerv3.Listener {
	name := listenerName(l.Address)
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config(connectionManager(name, o))},
	}}}
	if l.TLS != nil {
		chain.TransportSocket = downstreamTLS(l)
	}
	out := &listenerv3.Listener{
		Name:                          name,
		Address:                       socketAddress(l.Address.Addr().String(), l.Address.Port()),
		FilterChains:                  []*listenerv3.FilterChain{chain},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit(o)),
		EnableReusePort:               wrapperspb.Bool(o.SharePorts),
	}
	if !o.SharePorts {
		// Workers that wait on one socket take connections as they wake up, and
		// few clients with long connections could all be with one of them.
		out.ConnectionBalanceConfig = &listenerv3.Listener_ConnectionBalanceConfig{
			BalanceType: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance_{
				ExactBalance: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{},
			},
		}
	}
	return out
}

// bufferLimit leaves room for a body that is held while it is decided on:
// beyond the limit Envoy answers 413.
func bufferLimit(o Options) uint32 { return max(1<<20, 2*o.MaxBody) }

func connectionManager(name string, o Options) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: statName.Replace(name),
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: name, ConfigSource: overADS(),
		}},
		HttpFilters: []*hcmv3.HttpFilter{
			disabled(filterDecide, config(decideFilter(o))),
			disabled(filterKey, config(&keyfilterv3.Config{})),
			disabled(filterCapture, config(captureFilter())),
			router(),
		},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(time.Hour)},
		HttpProtocolOptions:       &corev3.Http1ProtocolOptions{EnableTrailers: true},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        wrapperspb.UInt32(1000),
			InitialStreamWindowSize:     wrapperspb.UInt32(256 << 10),
			InitialConnectionWindowSize: wrapperspb.UInt32(1 << 20),
		},
		StreamIdleTimeout:     durationpb.New(o.IdleTimeout),
		RequestHeadersTimeout: durationpb.New(time.Minute),
		AccessLog:             []*accesslogv3.AccessLog{accessLog(name, o)},
		// The peer's address is the client's: a forged x-forwarded-for makes
		// nobody internal.
		UseRemoteAddress: yes(),
		// A client's own request id is kept, people search their logs by it.
		// Nothing is decided by it.
		PreserveExternalRequestId:     true,
		NormalizePath:                 yes(),
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_PASS_THROUGH,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{earlyMutation()},
		UpgradeConfigs:                []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
	}
}

// mirrorListener takes the copies for a version and sends them on to it.
func mirrorListener(p *routing.ModelPlan, v *routing.Version, o Options) (l *listenerv3.Listener, err error) {
	defer caught(&err)
	name := mirrorName(p.Model.Name, v.Name)
	return &listenerv3.Listener{
		Name:              name,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config(
				mirrorManager(p, name, mirrorRoutes(p, v, o), o))},
		}}}},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(mirrorBuffer(o)),
	}, nil
}

// mirrorManager passes copies on as they are: what the first listener has done
// to a request is not done again.
func mirrorManager(p *routing.ModelPlan, name string, routes []*routev3.Route, o Options) *hcmv3.HttpConnectionManager {
	filters := []*hcmv3.HttpFilter{keepKey(), router()}
	if p.Capture != nil {
		filters = slices.Insert(filters, 1, disabled(filterCapture, config(captureFilter())))
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "mirror_" + statName.Replace(strings.TrimSuffix(name, mirrorSuffix)),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:             name,
			ValidateClusters: wrapperspb.Bool(false), // listeners and clusters come in any order
			VirtualHosts:     []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: routes}},
		}},
		HttpFilters: filters,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     durationpb.New(time.Hour),
			MaxHeadersCount: wrapperspb.UInt32(200), // what was added to a request must not make it too large
		},
		MaxRequestHeadersKb:        wrapperspb.UInt32(128),
		HttpProtocolOptions:        &corev3.Http1ProtocolOptions{EnableTrailers: true},
		StreamIdleTimeout:          durationpb.New(o.IdleTimeout),
		AccessLog:                  []*accesslogv3.AccessLog{accessLog("mirror", o)},
		GenerateRequestId:          wrapperspb.Bool(false),
		PreserveExternalRequestId:  true,
		SkipXffAppend:              true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
}

func router() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name:       "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config(&routerv3.Router{SuppressEnvoyHeaders: true})},
	}
}

// statName leaves out dots, which would end the name in Envoy's statistics.
var statName = strings.NewReplacer(".", "_", ":", "_", "[", "", "]", "", "/", "_")

func disabled(name string, c *anypb.Any) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: name, Disabled: true,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: c},
	}
}

// earlyMutation takes away what only Envoy and headgate may say, before the
// first route is looked up, and adds the draw: a fresh id that no client can
// choose.
func earlyMutation() *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{
		Name: "headgate.strip",
		TypedConfig: config(&earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
			removePrefix(routing.HeaderPrefix),
			removePrefix("x-envoy-"),
			{Action: &mutationv3.HeaderMutation_Append{Append: set(routing.HeaderDraw, "%UNIQUE_ID%")}},
		}}),
	}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix},
		}},
	}}
}

// accessLog tells headgate of every request when it has ended.
func accessLog(name string, o Options) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.http_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: config(&grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
				LogName:             name,
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService:         grpcService(ClusterALS),
				BufferFlushInterval: durationpb.New(o.LogFlush),
				BufferSizeBytes:     wrapperspb.UInt32(64 << 10),
			},
			AdditionalRequestHeadersToLog: []string{routing.HeaderVersion, routing.HeaderKey},
			// A failure at once has its status in the headers, a later one in the trailers.
			AdditionalResponseHeadersToLog:  []string{grpcStatus},
			AdditionalResponseTrailersToLog: []string{grpcStatus},
		})},
	}
}

const grpcStatus = "grpc-status"
