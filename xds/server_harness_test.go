package xds

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// adsServer is a Publisher behind a real gRPC server, which can be killed and
// started again on the same port.
type adsServer struct {
	t      testing.TB
	addr   string
	server *grpc.Server
}

func startADS(t testing.TB, p *Publisher, addr string) *adsServer {
	t.Helper()
	s := &adsServer{t: t}
	var l net.Listener
	envoytest.Eventually(t, 5*time.Second, "the port is free", func() bool {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	s.addr = l.Addr().String()
	s.server = grpc.NewServer(ServerOptions()...)
	p.Register(s.server)
	go func() { _ = s.server.Serve(l) }()
	t.Cleanup(s.server.Stop)
	return s
}

// tamper changes what a real Builder makes.
type tamper func(*Snapshot)

func tampered(t testing.TB, change tamper) *Publisher {
	builder := NewBuilder(Options{SharePorts: true}) // some tests have two Envoys
	seen := map[*ModelResources]*ModelResources{}
	return newPublisher(PublisherOptions{RemovalDelay: 500 * time.Millisecond}, func(plan *routing.Plan) (*Snapshot, error) {
		s, err := builder.Build(plan)
		if err != nil {
			t.Error(err)
			return nil, err
		}
		models := slices.Clone(s.Models)
		for i, m := range models {
			if seen[m] == nil {
				clone := *m
				clone.Clusters = slices.Clone(m.Clusters)
				seen[m] = &clone
				change(&Snapshot{Models: []*ModelResources{&clone}})
			}
			models[i] = seen[m]
		}
		return &Snapshot{Models: models, Listeners: s.Listeners, Secrets: s.Secrets}, nil
	}, newComposer())
}

func bootstrapFor(t testing.TB, node, addr string) string {
	t.Helper()
	server, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	o := envoy.BootstrapOptions{
		NodeID: node,
		Server: envoy.Address{Host: server.Addr().String(), Port: server.Port()},
		Admin:  envoy.Address{Host: "127.0.0.1", Port: uint16(envoytest.FreePort(t))},
	}
	for i := range RuntimeShards {
		o.RuntimeLayers = append(o.RuntimeLayers, RuntimeLayerName(i))
	}
	b, err := envoy.Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func startEnvoy(t testing.TB, node, addr string) *envoytest.Envoy {
	t.Helper()
	return envoytest.Start(t, bootstrapFor(t, node, addr))
}

// delivered waits until the models are with every Envoy.
func delivered(t testing.TB, p *Publisher, within time.Duration, models ...string) {
	t.Helper()
	var last Delivery
	deadline := time.Now().Add(within)
	for _, m := range models {
		for {
			last = p.Delivery(m)
			if last.Envoys > 0 && len(last.Waiting) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not delivered within %s: %+v\n%+v", m, within, last, p.Nodes())
			}
			select {
			case <-p.Changed():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// freeListener is an address on which an Envoy can listen.
func freeListener(t testing.TB) string {
	return fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t))
}

// served is a model whose versions are real servers.
func served(t testing.TB, name, listen string, versions map[string]*envoytest.Upstream) modelSpec {
	t.Helper()
	m := modelSpec{name: name, listen: listen, endpoints: map[string]string{}, stable: "v1"}
	for v, u := range versions {
		m.endpoints[v] = u.Addr
	}
	return m
}

func upstreams(t testing.TB, names ...string) map[string]*envoytest.Upstream {
	us := map[string]*envoytest.Upstream{}
	for _, n := range names {
		us[n] = envoytest.NewUpstream(t, n)
	}
	return us
}

// difference tells what was sent between two looks at the metrics.
func difference(before, after Metrics) string {
	var parts []string
	for _, k := range kindNames {
		if n := after.Resources[k] - before.Resources[k]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, n))
		}
	}
	return strings.Join(parts, ", ")
}
