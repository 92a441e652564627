package xds

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpckeepalive "google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// maxRequest bounds what an Envoy may send at once, in bytes. One that comes
// back reports name and version of everything that it has.
const maxRequest = 64 << 20

// ServerOptions are the options that a gRPC server for Envoys needs: a frozen
// Envoy is noticed by its missing answers to pings, and large reports fit.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.KeepaliveParams(grpckeepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(grpckeepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// Register adds the aggregated discovery service to a gRPC server.
func (p *Publisher) Register(s grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, &ads{publisher: p})
}

// ads is the aggregated discovery service, as deltas only.
type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	publisher *Publisher
}

var errStateOfTheWorld = status.Error(codes.Unimplemented,
	"state-of-the-world xDS is not served: set api_type: DELTA_GRPC in ads_config, as `headgate bootstrap` does")

// StreamAggregatedResources refuses: with state-of-the-world a rejected
// resource would take all others with it.
func (a *ads) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	p := a.publisher
	p.counts.stateOfTheWorld.Add(1)
	id := first.GetNode().GetId()
	p.mu.Lock()
	told := p.refusedSW[id]
	if len(p.refusedSW) < maxRemembered {
		p.refusedSW[id] = true
	}
	p.mu.Unlock()
	if !told {
		p.log.Warn("an Envoy asks for state-of-the-world xDS and is refused: set api_type: DELTA_GRPC in its ads_config", "node", id)
	}
	return errStateOfTheWorld
}

// DeltaAggregatedResources serves one Envoy until its stream ends.
func (a *ads) DeltaAggregatedResources(conn discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := conn.Recv()
	if err != nil {
		return err
	}
	p := a.publisher
	node := identityOf(first.GetNode())
	if node.id == "" {
		p.Refuse(node.id, errors.New("its node has no id"))
		return status.Error(codes.InvalidArgument, "node.id: must be set")
	}
	if check := p.options.NodeIDFromPeer; check != nil {
		if err := check(conn.Context(), node.id); err != nil {
			p.Refuse(node.id, err)
			return status.Errorf(codes.PermissionDenied, "node %q: %v", node.id, err)
		}
	}
	return p.serve(conn, node, first)
}

// RequireCertificate checks that the peer's client certificate was issued for
// id: as its common name, or one of its DNS or URI names. It is meant for
// [PublisherOptions.NodeIDFromPeer] on a server with mutual TLS.
func RequireCertificate(ctx context.Context, id string) error {
	pr, ok := peer.FromContext(ctx)
	if !ok {
		return errors.New("the connection has no peer")
	}
	info, ok := pr.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return errors.New("the connection has no client certificate")
	}
	names := certificateNames(info.State.PeerCertificates[0])
	if !slices.Contains(names, id) {
		return fmt.Errorf("the client certificate is for %q", names)
	}
	return nil
}

func certificateNames(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	if c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// Metrics are counts since the start of the process, and the state of now.
type Metrics struct {
	Streams         int               // Envoys with a live stream
	StreamsOpened   uint64            // accepted streams
	Refused         uint64            // Envoys refused for their identity
	StateOfTheWorld uint64            // state-of-the-world streams refused
	Stalled         uint64            // streams ended because the Envoy read nothing
	BuildErrors     uint64            // plans that could not be published
	NACKs           map[string]uint64 // by kind of resource
	Responses       map[string]uint64 // responses sent, by kind of resource
	Resources       map[string]uint64 // resources sent, removals included, by kind
}

type counters struct {
	opened, refused, stateOfTheWorld, stalled, buildErrors atomic.Uint64
	nacks, responses, resources                            [kinds]atomic.Uint64
}

// Metrics returns the counts.
func (p *Publisher) Metrics() Metrics {
	c := &p.counts
	m := Metrics{
		StreamsOpened:   c.opened.Load(),
		Refused:         c.refused.Load(),
		StateOfTheWorld: c.stateOfTheWorld.Load(),
		Stalled:         c.stalled.Load(),
		BuildErrors:     c.buildErrors.Load(),
		NACKs:           map[string]uint64{},
		Responses:       map[string]uint64{},
		Resources:       map[string]uint64{},
	}
	for k, name := range kindNames {
		m.NACKs[name] = c.nacks[k].Load()
		m.Responses[name] = c.responses[k].Load()
		m.Resources[name] = c.resources[k].Load()
	}
	for _, st := range p.allStreams() {
		if !st.gone() {
			m.Streams++
		}
	}
	return m
}
