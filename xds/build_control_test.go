package xds_test

import (
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	logentryv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

const typePrefix = "type.googleapis.com/envoy."

// Types of resources, in the order in which they are handed out.
const (
	typeCluster  = typePrefix + "config.cluster.v3.Cluster"
	typeListener = typePrefix + "config.listener.v3.Listener"
	typeRoute    = typePrefix + "config.route.v3.RouteConfiguration"
	typeSecret   = typePrefix + "extensions.transport_sockets.tls.v3.Secret"
	typeRuntime  = typePrefix + "service.runtime.v3.Runtime"
)

// control is the least control plane that brings what was built to one Envoy:
// each subscription gets all resources of its type, again at every change.
type control struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	extprocv3.UnimplementedExternalProcessorServer
	accesslogv3.UnimplementedAccessLogServiceServer

	t       testing.TB
	addr    string
	builder *xds.Builder

	mu      sync.Mutex
	sets    map[string][]xds.Resource // by type
	acks    map[string]string         // type to nonce
	nacks   []string
	changed chan struct{}
	round   int
	plan    *routing.Plan
	logs    []*logentryv3.HTTPAccessLogEntry
	mute    bool // ext_proc does not answer
	streams int  // ext_proc streams that were opened
}

// newControl hands out a plan. An answer of the deciding service may take as
// long as a busy machine needs, unless options say otherwise.
func newControl(t testing.TB, plan *routing.Plan, options ...xds.Options) *control {
	t.Helper()
	options = append(options, xds.Options{DecideTimeout: 10 * time.Second})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &control{
		t: t, addr: l.Addr().String(), builder: xds.NewBuilder(options[0]),
		acks: make(map[string]string), changed: make(chan struct{}),
	}
	c.publish(plan)
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, c)
	extprocv3.RegisterExternalProcessorServer(server, c)
	accesslogv3.RegisterAccessLogServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return c
}

// publish builds a plan and hands it out. It returns the round, see applied.
func (c *control) publish(plan *routing.Plan) int {
	c.t.Helper()
	s, err := c.builder.Build(plan)
	if err != nil {
		c.t.Fatal(err)
	}
	sets := map[string][]xds.Resource{typeListener: s.Listeners, typeSecret: s.Secrets}
	for _, m := range s.Models {
		sets[typeCluster] = append(sets[typeCluster], m.Clusters...)
	}
	for _, l := range s.Listeners {
		table, err := xds.RouteTable(l.Name, s.Models)
		if err != nil {
			c.t.Fatal(err)
		}
		sets[typeRoute] = append(sets[typeRoute], table)
	}
	for shard := range xds.RuntimeShards {
		sets[typeRuntime] = append(sets[typeRuntime], xds.RuntimeLayer(shard, s.Models))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plan, c.sets = plan, sets
	c.round++
	close(c.changed)
	c.changed = make(chan struct{})
	return c.round
}

// await returns when Envoy has acknowledged a round, in every type it asked for.
func (c *control) await(round int) {
	c.t.Helper()
	envoytest.Eventually(c.t, 10*time.Second, "acknowledged", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.nacks) > 0 {
			c.t.Fatalf("Envoy refused: %v", c.nacks)
		}
		for _, typ := range []string{typeCluster, typeListener, typeRoute, typeRuntime} {
			if c.acks[typ] != fmt.Sprint(round) {
				return false
			}
		}
		return true
	})
}

func (c *control) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	sent := make(map[string]int) // round by type that was asked for
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-s.Context().Done():
				return
			}
		}
	}()
	for {
		c.mu.Lock()
		changed, round := c.changed, c.round
		c.mu.Unlock()
		for _, typ := range []string{typeRuntime, typeCluster, typeSecret, typeListener, typeRoute} {
			if old, asked := sent[typ]; asked && old < round {
				if err := c.send(s, typ); err != nil {
					return err
				}
				sent[typ] = round
			}
		}
		select {
		case <-changed:
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			c.note(r)
			if r.GetResponseNonce() == "" || len(r.GetResourceNamesSubscribe()) > 0 {
				sent[r.GetTypeUrl()] = 0
			}
		}
	}
}

func (c *control) note(r *discoveryv3.DeltaDiscoveryRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := r.GetErrorDetail(); d != nil {
		c.nacks = append(c.nacks, r.GetTypeUrl()+": "+d.GetMessage())
	} else if n := r.GetResponseNonce(); n != "" {
		c.acks[r.GetTypeUrl()] = n
	}
}

func (c *control) send(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, typ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ, Nonce: fmt.Sprint(c.round)}
	for _, x := range c.sets[typ] {
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: x.Name, Version: x.Version, Resource: x.Body})
	}
	return s.Send(r)
}

func (c *control) StreamAccessLogs(s accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.logs = append(c.logs, m.GetHttpLogs().GetLogEntry()...)
		c.mu.Unlock()
	}
}

// logged waits for the log entry of a request and returns it.
func (c *control) logged(requestID string) *logentryv3.HTTPAccessLogEntry {
	c.t.Helper()
	var found *logentryv3.HTTPAccessLogEntry
	envoytest.Eventually(c.t, 5*time.Second, "log entry of "+requestID, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e := range c.logs {
			if e.GetRequest().GetRequestId() == requestID {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// subject is what the ext_proc service knows of a request.
type subject struct {
	headers *corev3.HeaderMap
	body    map[string]any
}

func (s subject) Header(name string, i int) (string, bool) {
	for _, h := range s.headers.GetHeaders() {
		if h.GetKey() != name {
			continue
		}
		if i == 0 {
			return string(h.GetRawValue()), true
		}
		i--
	}
	return "", false
}

func (s subject) Body(path routing.Path) (string, bool) {
	v, ok := s.body[path[0].Name]
	if !ok {
		return "", false
	}
	return fmt.Sprint(v), true
}

// Process answers as package doc says.
func (c *control) Process(s extprocv3.ExternalProcessor_ProcessServer) error {
	names := metadata.ValueFromIncomingContext(s.Context(), routing.HeaderModel)
	c.mu.Lock()
	mute, plan := c.mute, c.plan
	c.streams++
	c.mu.Unlock()
	if mute {
		<-s.Context().Done()
		return s.Context().Err()
	}
	if len(names) != 1 || plan.Model(names[0]) == nil {
		return fmt.Errorf("unknown model %v", names)
	}
	var who subject
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		r := &extprocv3.ProcessingResponse{}
		switch {
		case m.GetRequestHeaders() != nil:
			who.headers = m.GetRequestHeaders().GetHeaders()
			withBody := m.GetProtocolConfig().GetRequestBodyMode().String() == "BUFFERED"
			response := &extprocv3.CommonResponse{}
			if !withBody {
				response = decide(plan.Model(names[0]), who, r, !m.GetRequestHeaders().GetEndOfStream())
			}
			r.Response = &extprocv3.ProcessingResponse_RequestHeaders{
				RequestHeaders: &extprocv3.HeadersResponse{Response: response},
			}
		case m.GetRequestBody() != nil:
			_ = json.Unmarshal(m.GetRequestBody().GetBody(), &who.body)
			r.Response = &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{
				Response: decide(plan.Model(names[0]), who, r, false),
			}}
		}
		if err := s.Send(r); err != nil {
			return err
		}
	}
}

func decide(p *routing.ModelPlan, who subject, r *extprocv3.ProcessingResponse, unseen bool) *extprocv3.CommonResponse {
	d := routing.Decide(p, who)
	if unseen && p.Model.NeedsBody() {
		return &extprocv3.CommonResponse{}
	}
	told := map[string]any{routing.MetadataReason: string(d.Reason)}
	if d.Key != "" {
		told[routing.MetadataKey] = d.Key
	}
	r.DynamicMetadata, _ = structpb.NewStruct(map[string]any{routing.MetadataNamespace: told})
	put := func(name, value string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(value)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	return &extprocv3.CommonResponse{ClearRouteCache: true, HeaderMutation: &extprocv3.HeaderMutation{
		SetHeaders: []*corev3.HeaderValueOption{
			put(routing.HeaderDecision, d.Version), put(routing.HeaderReason, string(d.Reason)),
		},
	}}
}

// start runs a real Envoy that takes everything from c.
func (c *control) start() *envoytest.Envoy {
	c.t.Helper()
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	var clusters, layers string
	for _, name := range []string{xds.ClusterXDS, xds.ClusterExtProc, xds.ClusterCapture, xds.ClusterALS} {
		clusters += fmt.Sprintf(`
  - name: %[1]s
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: %[1]s
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %[2]s, port_value: %[3]s}}}}]}]`,
			name, host, port)
	}
	for shard := range xds.RuntimeShards {
		layers += fmt.Sprintf(`
  - name: %[1]s
    rtds_layer: {name: %[1]s, rtds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}}`,
			xds.RuntimeLayerName(shard))
	}
	return envoytest.Start(c.t, fmt.Sprintf(`
node: {id: test, cluster: test}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: %s}}]
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
layered_runtime:
  layers:%s
static_resources:
  clusters:%s
`, xds.ClusterXDS, layers, clusters))
}

// silence makes the ext_proc service take requests and never answer.
func (c *control) silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = true
}

// asked returns how many requests the ext_proc service has been asked about.
func (c *control) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams
}

// loggedAfter sends a request and returns its log entry.
func (c *control) loggedAfter(w *wire, r request) *logentryv3.HTTPAccessLogEntry {
	c.t.Helper()
	id := fmt.Sprintf("logged-%s", r.path)
	r.headers = append(r.headers, [2]string{"x-request-id", id})
	if a := w.send(r); a.err != nil {
		c.t.Fatal(a.err)
	}
	return c.logged(id)
}
