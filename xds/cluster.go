package xds

import (
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/headgate/headgate/routing"
)

const (
	// A connection that is idle for longer is closed by us. Servers close
	// theirs after two seconds (gunicorn), five (uvicorn, node) and more; were
	// they first, a request could meet a connection that is just being closed.
	upstreamIdle = time.Second
	// The breaker bounds what one version can pile up, far above what a
	// healthy one needs. Envoy's own default of 1,024 is in the way of a model
	// that answers slowly.
	breakerLimit = 16_384
)

// cluster is the cluster of one version.
func cluster(m *routing.Model, v *routing.Version, o Options) (c *clusterv3.Cluster, err error) {
	defer caught(&err)
	name := routing.ClusterName(m.Name, v.Name)
	c = &clusterv3.Cluster{
		Name:                      name,
		ConnectTimeout:            durationpb.New(v.Connect),
		LbPolicy:                  clusterv3.Cluster_LEAST_REQUEST,
		IgnoreHealthOnHostRemoval: true,
		CircuitBreakers:           breakers(o),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: keepalive()},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": config(protocol(v)),
		},
		OutlierDetection: outlier(v.Outlier),
	}
	if v.Connect <= 0 {
		c.ConnectTimeout = durationpb.New(time.Second)
	}
	if err := discover(c, v, o); err != nil {
		return nil, err
	}
	if v.Health != nil {
		c.HealthChecks = []*corev3.HealthCheck{healthCheck(v)}
	}
	if v.TLS != nil {
		c.TransportSocket = upstreamTLS(v, o)
	}
	return c, nil
}

// discover says where the endpoints are.
func discover(c *clusterv3.Cluster, v *routing.Version, o Options) error {
	var endpoints []*endpointv3.LbEndpoint
	switch {
	case len(v.Endpoints) > 0:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		for _, e := range v.Endpoints {
			endpoints = append(endpoints, endpoint(e.Addr().String(), e.Port()))
		}
	case v.DNS.Host != "":
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dns", TypedConfig: config(dnsCluster(o)),
		}}
		endpoints = append(endpoints, endpoint(v.DNS.Host, v.DNS.Port))
	default:
		return errors.New("endpoints: there are none, and no dns")
	}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: c.GetName(),
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
	return nil
}

func endpoint(host string, port uint16) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
		Endpoint: &endpointv3.Endpoint{Address: socketAddress(host, port)},
	}}
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// dnsCluster resolves a name again and again, into one endpoint per address.
// While a new cluster waits for its first answer Envoy serves the others, but
// acknowledges none of them. So a silent name server is given up after a
// second, two with the query for IPv6 (by Envoy's defaults it is forty); the
// next attempt follows soon.
func dnsCluster(o Options) *dnsclusterv3.DnsCluster {
	resolver := &caresv3.CaresDnsResolverConfig{
		QueryTimeoutSeconds: wrapperspb.UInt64(1),
		QueryTries:          wrapperspb.UInt32(1),
	}
	for _, s := range o.NameServers {
		resolver.Resolvers = append(resolver.Resolvers, socketAddress(s.Addr().String(), s.Port()))
	}
	return &dnsclusterv3.DnsCluster{
		DnsRefreshRate: durationpb.New(5 * time.Second),
		DnsFailureRefreshRate: &dnsclusterv3.DnsCluster_RefreshRate{
			BaseInterval: durationpb.New(time.Second), MaxInterval: durationpb.New(5 * time.Second),
		},
		DnsLookupFamily: dnsv3.DnsLookupFamily_V4_PREFERRED,
		TypedDnsResolverConfig: &corev3.TypedExtensionConfig{
			Name:        "envoy.network.dns_resolver.cares",
			TypedConfig: config(resolver),
		},
	}
}

// breakers bound users' requests, and those of copies, which have a priority of
// their own: here it is not a rank, only a second set of limits and connections.
func breakers(o Options) *clusterv3.CircuitBreakers {
	limit := wrapperspb.UInt32(breakerLimit)
	budget := &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: 20},
		MinRetryConcurrency: wrapperspb.UInt32(10),
	}
	copies := wrapperspb.UInt32(o.MirrorRequests)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
		{MaxConnections: limit, MaxPendingRequests: limit, MaxRequests: limit, RetryBudget: budget},
		{
			Priority: corev3.RoutingPriority_HIGH,
			// A copy waits for a connection that is being opened, never for
			// another copy to end: there are more connections than requests.
			MaxConnections: limit, MaxPendingRequests: copies, MaxRequests: copies, RetryBudget: budget,
		},
	}}
}

func keepalive() *corev3.TcpKeepalive {
	return &corev3.TcpKeepalive{
		KeepaliveProbes:   wrapperspb.UInt32(3),
		KeepaliveTime:     wrapperspb.UInt32(60),
		KeepaliveInterval: wrapperspb.UInt32(10),
	}
}

// protocol is how requests are spoken to a version.
func protocol(v *routing.Version) *httpv3.HttpProtocolOptions {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		},
	}
	idle := upstreamIdle
	if v.HTTP2 {
		idle = time.Hour // GOAWAY tells in advance what HTTP/1.1 cannot
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{
					Interval: durationpb.New(30 * time.Second), Timeout: durationpb.New(5 * time.Second),
				},
			},
		}
	}
	return &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(idle)},
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: explicit,
		},
	}
}

func healthCheck(v *routing.Version) *corev3.HealthCheck {
	h := v.Health
	http := &corev3.HealthCheck_HttpHealthCheck{Path: h.Path}
	if v.HTTP2 {
		http.CodecClientType = typev3.CodecClientType_HTTP2
	}
	return &corev3.HealthCheck{
		Timeout:            durationpb.New(h.Timeout),
		Interval:           durationpb.New(h.Interval),
		NoTrafficInterval:  durationpb.New(h.Interval), // else 60 s, and a new version has no traffic yet
		UnhealthyThreshold: wrapperspb.UInt32(h.Unhealthy),
		HealthyThreshold:   wrapperspb.UInt32(h.Healthy),
		HealthChecker:      &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: http},
	}
}

func outlier(o *routing.OutlierDetection) *clusterv3.OutlierDetection {
	if o == nil {
		return nil
	}
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:          wrapperspb.UInt32(o.Consecutive5xx),
		EnforcingConsecutive_5Xx: wrapperspb.UInt32(100),
		Interval:                 durationpb.New(o.Interval),
		BaseEjectionTime:         durationpb.New(o.BaseEjection),
		MaxEjectionTime:          durationpb.New(max(5*time.Minute, o.BaseEjection)),
		MaxEjectionPercent:       wrapperspb.UInt32(o.MaxEjection),
		// What the file asks for and nothing else: an ejection moves load.
		EnforcingSuccessRate:               wrapperspb.UInt32(0),
		EnforcingConsecutiveGatewayFailure: wrapperspb.UInt32(0),
	}
}
