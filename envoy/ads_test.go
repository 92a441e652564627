package envoy_test

import (
	"context"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/headgate/headgate/envoy"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// controlPlane is as much of headgate as a bootstrap needs to be tried: one
// gRPC server on a unix socket that sends fixed resources by delta ADS and
// answers health checks. It can be stopped, started again and frozen.
type controlPlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	grpc_health_v1.UnimplementedHealthServer

	address envoy.Address
	options []grpc.ServerOption
	server  *grpc.Server
	served  chan struct{}

	mu        sync.Mutex
	resources map[string][]*discoveryv3.Resource // by type
	held      map[string]bool                    // types that are not answered
	changed   chan struct{}                      // closed when one of the two changes
	asked     map[string]bool                    // types that were subscribed to
	nodes     []*discoveryv3.DeltaDiscoveryRequest
	opened    []time.Time   // of each stream
	frozen    chan struct{} // not nil: health checks wait until it is closed
}

func newControlPlane(t *testing.T, address envoy.Address, options ...grpc.ServerOption) *controlPlane {
	t.Helper()
	c := &controlPlane{
		address:   address,
		options:   options,
		resources: map[string][]*discoveryv3.Resource{},
		held:      map[string]bool{},
		asked:     map[string]bool{},
		changed:   make(chan struct{}),
	}
	t.Cleanup(c.stop)
	return c
}

func (c *controlPlane) start(t *testing.T) {
	t.Helper()
	network, target := "tcp", net.JoinHostPort(c.address.Host, strconv.Itoa(int(c.address.Port)))
	if c.address.Unix != "" {
		network, target = "unix", c.address.Unix
		_ = os.Remove(target)
	}
	listener, err := net.Listen(network, target)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(c.options...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, c)
	grpc_health_v1.RegisterHealthServer(server, c)
	c.server, c.served = server, make(chan struct{})
	go func() {
		defer close(c.served)
		_ = server.Serve(listener)
	}()
}

func (c *controlPlane) stop() {
	c.freeze(false)
	if c.server != nil {
		c.server.Stop()
		<-c.served
		c.server = nil
	}
}

// set gives a type its resources.
func (c *controlPlane) set(t *testing.T, resources map[string]proto.Message) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, message := range resources {
		body, err := anypb.New(message)
		if err != nil {
			t.Fatal(err)
		}
		c.resources[body.TypeUrl] = append(c.resources[body.TypeUrl], &discoveryv3.Resource{Name: name, Version: "1", Resource: body})
	}
}

// hold keeps a type back, or sends it now.
func (c *controlPlane) hold(typeURL string, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[typeURL] = on
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *controlPlane) freeze(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen != nil {
		close(c.frozen)
		c.frozen = nil
	}
	if on {
		c.frozen = make(chan struct{})
	}
}

func (c *controlPlane) hasAsked(typeURL string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[typeURL]
}

// streams tells when each stream was opened.
func (c *controlPlane) streams() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.opened)
}

func (c *controlPlane) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	c.mu.Lock()
	frozen := c.frozen
	c.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func (c *controlPlane) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	c.mu.Lock()
	c.opened = append(c.opened, time.Now())
	c.mu.Unlock()
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- request:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	var waiting []*discoveryv3.DeltaDiscoveryRequest
	for {
		c.mu.Lock()
		changed := c.changed
		var later, ready []*discoveryv3.DeltaDiscoveryRequest
		for _, request := range waiting {
			if c.held[request.TypeUrl] {
				later = append(later, request)
			} else {
				ready = append(ready, request)
			}
		}
		c.mu.Unlock()
		waiting = later
		for i, request := range ready {
			if err := stream.Send(c.answer(request, i)); err != nil {
				return err
			}
		}
		select {
		case request, ok := <-requests:
			if !ok {
				return nil
			}
			if request.ResponseNonce == "" || len(request.ResourceNamesSubscribe) > 0 { // not an ACK
				c.mu.Lock()
				c.asked[request.TypeUrl] = true
				c.nodes = append(c.nodes, request)
				c.mu.Unlock()
				waiting = append(waiting, request)
			}
		case <-changed:
		}
	}
}

func (c *controlPlane) answer(request *discoveryv3.DeltaDiscoveryRequest, n int) *discoveryv3.DeltaDiscoveryResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: request.TypeUrl, Nonce: strconv.FormatInt(time.Now().UnixNano()+int64(n), 10)}
	for _, resource := range c.resources[request.TypeUrl] {
		if len(request.ResourceNamesSubscribe) == 0 || slices.Contains(request.ResourceNamesSubscribe, resource.Name) ||
			slices.Contains(request.ResourceNamesSubscribe, "*") {
			response.Resources = append(response.Resources, resource)
		}
	}
	for _, name := range request.ResourceNamesSubscribe {
		if name != "*" && !slices.ContainsFunc(response.Resources, func(r *discoveryv3.Resource) bool { return r.Name == name }) {
			response.RemovedResources = append(response.RemovedResources, name)
		}
	}
	return response
}
