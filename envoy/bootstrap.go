package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
)

// BootstrapVersion is in the metadata of every node, as
// {"headgate": {"bootstrap": 1}}. It stands for what the rest of the bootstrap
// gives the control plane to work with: the runtime layers, the clusters by
// name and the internal listeners. A change that the control plane has to know
// of raises it.
const BootstrapVersion = 1

// The clusters that every bootstrap has. Resources sent by the control plane
// refer to them by name.
const (
	ClusterXDS     = "headgate_xds"
	ClusterExtProc = "headgate_ext_proc"
	ClusterCapture = "headgate_capture"
	ClusterALS     = "headgate_als"
)

// BootstrapOptions describe one Envoy and the headgate that it belongs to.
type BootstrapOptions struct {
	NodeID  string // who this Envoy is; unique among those of one headgate
	Cluster string // the group it belongs to; empty: "headgate"

	// Server is where headgate listens for all of xDS, ext_proc and access
	// logs. ExtProc and ALS are their own addresses where they differ.
	Server  Address
	ExtProc Address
	ALS     Address
	TLS     *TLS // needed when an address is not local

	// Admin is a unix socket or a port of loopback: Envoy's admin interface
	// asks nobody for a password.
	Admin Address

	// RuntimeLayers are the names of the layers by which the control plane
	// sends weights, see xds.RuntimeLayerName.
	RuntimeLayers []string
}

// TLS is how Envoy proves who it is to headgate, and knows it. The fields name
// PEM files on Envoy's machine, which it reads when it starts.
type TLS struct {
	CA          string // signs headgate's certificate
	Certificate string // of this Envoy, with its chain
	Key         string
	ServerName  string // DNS name in headgate's certificate; empty: the host of each address
}

// Limits of what one Envoy takes on.
const (
	// maxConnections bounds clients' connections, so that Envoy refuses new
	// ones before it runs out of memory or file descriptors.
	maxConnections = 50_000
	// regexProgram bounds compiled patterns. Envoy's own limit, 100, is less
	// than a cookie's part with a long name needs.
	regexProgram = 1000
)

// Bootstrap returns what Envoy has to be started with. The result is valid: it
// passed Envoy's own rules for the message. All problems of o come at once.
func Bootstrap(o BootstrapOptions) (*bootstrapv3.Bootstrap, error) {
	o = o.filled()
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node:             node(o),
		Admin:            &bootstrapv3.Admin{Address: o.Admin.proto(0o600), IgnoreGlobalConnLimit: true},
		DynamicResources: dynamicResources(),
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{xdsCluster(o), extProcCluster(o), captureCluster(o), alsCluster(o)}},
		LayeredRuntime:   layeredRuntime(o.RuntimeLayers),
		BootstrapExtensions: []*corev3.TypedExtensionConfig{
			extension("envoy.bootstrap.internal_listener", &internallistenerv3.InternalListener{}),
		},
		OverloadManager: &overloadv3.OverloadManager{
			ResourceMonitors: []*overloadv3.ResourceMonitor{{
				Name: "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: toAny(
					&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections})},
			}},
		},
		// With thousands of clusters most of them see no traffic on one Envoy.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
		StatsFlush:          &bootstrapv3.Bootstrap_StatsFlushOnAdmin{StatsFlushOnAdmin: true},
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return b, nil
}

func (o BootstrapOptions) filled() BootstrapOptions {
	if o.Cluster == "" {
		o.Cluster = "headgate"
	}
	if o.ExtProc == (Address{}) {
		o.ExtProc = o.Server
	}
	if o.ALS == (Address{}) {
		o.ALS = o.Server
	}
	return o
}

func (o BootstrapOptions) check() error {
	var problems []error
	if o.NodeID == "" {
		problems = append(problems, errors.New("bootstrap: node id: must not be empty"))
	}
	if o.Server == (Address{}) {
		problems = append(problems, errors.New("bootstrap: server: must not be empty"))
	}
	if !o.Admin.Local() {
		problems = append(problems, fmt.Errorf("bootstrap: admin: %s: must be a unix socket or a port of loopback, because Envoy's admin interface has no authentication", o.Admin))
	}
	if o.Admin.Unix == "" && o.Admin.Host != "" {
		if _, err := netip.ParseAddr(o.Admin.Host); err != nil {
			problems = append(problems, fmt.Errorf("bootstrap: admin: %s: must be an IP address, not a name", o.Admin))
		}
	}
	seen := map[Address]bool{{}: true}
	for _, a := range []Address{o.Server, o.ExtProc, o.ALS} {
		if !seen[a] && !a.Local() && o.TLS == nil {
			problems = append(problems, fmt.Errorf("bootstrap: server: %s: beyond loopback only with mutual TLS", a))
		}
		seen[a] = true
	}
	if t := o.TLS; t != nil && (t.CA == "" || t.Certificate == "" || t.Key == "") {
		problems = append(problems, errors.New("bootstrap: tls: an authority, a certificate and a key are needed"))
	}
	return errors.Join(problems...)
}

func node(o BootstrapOptions) *corev3.Node {
	return &corev3.Node{
		Id:      o.NodeID,
		Cluster: o.Cluster,
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"headgate": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"bootstrap": structpb.NewNumberValue(BootstrapVersion),
			}}),
		}},
	}
}

// dynamicResources asks headgate for clusters and listeners, for as long as it
// takes: with a timeout a fresh Envoy whose headgate is away would call itself
// ready without a single listener.
func dynamicResources() *bootstrapv3.Bootstrap_DynamicResources {
	return &bootstrapv3.Bootstrap_DynamicResources{
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: ClusterXDS,
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: durationpb.New(100 * time.Millisecond),
						MaxInterval:  durationpb.New(time.Second),
					}},
				}},
			}},
		},
		CdsConfig: adsSource(),
		LdsConfig: adsSource(),
	}
}

// adsSource is the ADS stream, waited for without a limit.
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// layeredRuntime has the control plane's layers above fixed values and below
// the admin interface, so that a person has the last word. Envoy fetches the
// layers before it asks for a listener; it would open one without the weights
// if this had a timeout.
func layeredRuntime(names []string) *bootstrapv3.LayeredRuntime {
	layers := make([]*bootstrapv3.RuntimeLayer, 0, len(names)+2)
	layers = append(layers, &bootstrapv3.RuntimeLayer{
		Name: "base",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"re2.max_program_size.error_level": structpb.NewNumberValue(regexProgram),
		}}},
	})
	for _, name := range names {
		layers = append(layers, &bootstrapv3.RuntimeLayer{
			Name: name,
			LayerSpecifier: &bootstrapv3.RuntimeLayer_RtdsLayer_{RtdsLayer: &bootstrapv3.RuntimeLayer_RtdsLayer{
				Name:       name,
				RtdsConfig: adsSource(),
			}},
		})
	}
	layers = append(layers, &bootstrapv3.RuntimeLayer{
		Name:           "admin",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}},
	})
	return &bootstrapv3.LayeredRuntime{Layers: layers}
}

func extension(name string, config proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: toAny(config)}
}

// toAny packs a message that this package built, which cannot fail.
func toAny(m proto.Message) *anypb.Any {
	packed := &anypb.Any{}
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return packed
}
