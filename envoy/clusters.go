package envoy

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// How Envoy watches the ext_proc service. A frozen one is taken out after at
// most probeInterval + probeTimeout and is back within probeInterval of its
// recovery.
const (
	probeInterval = 500 * time.Millisecond
	probeTimeout  = 250 * time.Millisecond
)

const (
	// capturedBytes is how much Envoy holds for a connection to the ext_proc
	// service. With the usual 1 MiB a frozen service holds users' uploads up.
	capturedBytes = 64 << 20
	// capturedStreams bounds the requests that wait for the ext_proc service
	// at a time. One more and it is left out, at once.
	capturedStreams = 128
)

func xdsCluster(o BootstrapOptions) *clusterv3.Cluster {
	return grpcCluster(ClusterXDS, o.Server, o.TLS)
}

// alsCluster has no limits of its own: each worker of Envoy opens one stream
// per log, and what waits for a server that is away is bounded by the log's
// own buffer.
func alsCluster(o BootstrapOptions) *clusterv3.Cluster {
	return grpcCluster(ClusterALS, o.ALS, o.TLS)
}

// extProcCluster is built so that a user never waits for the service: what is
// too much is left out, and a service that answers no probe is not asked.
func extProcCluster(o BootstrapOptions) *clusterv3.Cluster {
	return watched(grpcCluster(ClusterExtProc, o.ExtProc, o.TLS))
}

// captureCluster is the ext_proc service again, with limits of its own: what is
// captured of a slow answer waits as long as the answer takes, and must keep
// nobody from being decided on. No user waits for it, so it is given more time to
// answer a probe.
func captureCluster(o BootstrapOptions) *clusterv3.Cluster {
	c := watched(grpcCluster(ClusterCapture, o.ExtProc, o.TLS))
	c.HealthChecks[0].Timeout = durationpb.New(4 * probeTimeout)
	c.HealthChecks[0].UnhealthyThreshold = wrapperspb.UInt32(2)
	return c
}

func watched(c *clusterv3.Cluster) *clusterv3.Cluster {
	c.ConnectTimeout = durationpb.New(probeTimeout)
	c.PerConnectionBufferLimitBytes = wrapperspb.UInt32(capturedBytes)
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxRequests:        wrapperspb.UInt32(capturedStreams),
		MaxPendingRequests: wrapperspb.UInt32(capturedStreams),
	}}}
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
		// In a panic Envoy sends to hosts that it knows to be ill. There is one.
		HealthyPanicThreshold: &typev3.Percent{Value: 0},
		// By default workers learn of a failed check up to a second late.
		UpdateMergeWindow: durationpb.New(0),
	}
	c.HealthChecks = []*corev3.HealthCheck{{
		Timeout:                  durationpb.New(probeTimeout),
		Interval:                 durationpb.New(probeInterval),
		NoTrafficInterval:        durationpb.New(probeInterval), // else 60 s
		NoTrafficHealthyInterval: durationpb.New(probeInterval),
		UnhealthyThreshold:       wrapperspb.UInt32(1),
		HealthyThreshold:         wrapperspb.UInt32(1),
		HealthChecker:            &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}}
	return c
}

// grpcCluster is one gRPC server at one address.
func grpcCluster(name string, at Address, security *TLS) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(time.Second),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at.proto(0)}},
			}}}},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": toAny(http2(at)),
		},
	}
	if at.Unix == "" {
		if _, err := netip.ParseAddr(at.Host); err != nil {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		}
		if security != nil {
			c.TransportSocket = transportSocket(at, security)
		}
	}
	return c
}

// http2 are the protocol options towards a. Over a network a peer can be gone
// without a word, which only a ping finds out; over a unix socket it cannot.
func http2(a Address) *httpv3.HttpProtocolOptions {
	h2 := &corev3.Http2ProtocolOptions{}
	if a.Unix == "" {
		h2.ConnectionKeepalive = &corev3.KeepaliveSettings{
			Interval: durationpb.New(10 * time.Second),
			Timeout:  durationpb.New(10 * time.Second),
		}
	}
	return &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: h2},
			},
		},
	}
}

// transportSocket is mutual TLS: the server must have a certificate of the
// authority for its name, and gets one itself.
func transportSocket(at Address, t *TLS) *corev3.TransportSocket {
	name := t.ServerName
	if name == "" {
		name = at.Host
	}
	kind, sni := tlsv3.SubjectAltNameMatcher_DNS, name
	if _, err := netip.ParseAddr(name); err == nil {
		kind, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, "" // SNI carries names only
	}
	config := toAny(&tlsv3.UpstreamTlsContext{
		Sni: sni,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, // else 1.2 for what Envoy calls
			},
			TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: file(t.Certificate), PrivateKey: file(t.Key)}},
			AlpnProtocols:   []string{"h2"},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa: file(t.CA),
				MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
					SanType: kind,
					Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
				}},
			}},
		},
	})
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
