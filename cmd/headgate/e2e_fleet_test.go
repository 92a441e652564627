package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
	"github.com/headgate/headgate/xds"
)

// played is an xDS client that does what an Envoy does as long as all is
// well: it acknowledges everything, and comes back with what it has.
type played struct {
	node      string
	subscribe map[string][]string          // by type
	have      map[string]map[string]string // versions, by type and name
}

func playEnvoy(node, listener string) *played {
	const prefix = "type.googleapis.com/envoy."
	layers := make([]string, xds.RuntimeShards)
	for i := range layers {
		layers[i] = xds.RuntimeLayerName(i)
	}
	p := &played{node: node, have: map[string]map[string]string{}, subscribe: map[string][]string{
		prefix + "service.runtime.v3.Runtime":         layers,
		prefix + "config.cluster.v3.Cluster":          nil,
		prefix + "config.listener.v3.Listener":        nil,
		prefix + "config.route.v3.RouteConfiguration": {listener},
	}}
	for kind := range p.subscribe {
		p.have[kind] = map[string]string{}
	}
	return p
}

// run stays connected until ctx ends.
func (p *played) run(ctx context.Context, socket string) {
	for ctx.Err() == nil {
		p.connect(ctx, socket)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *played) connect(ctx context.Context, socket string) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return
	}
	for kind, names := range p.subscribe {
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: p.node}, TypeUrl: kind, ResourceNamesSubscribe: names, InitialResourceVersions: p.have[kind],
		})
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		for _, res := range r.Resources {
			p.have[r.TypeUrl][res.Name] = res.Version
		}
		for _, name := range r.RemovedResources {
			delete(p.have[r.TypeUrl], name)
		}
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce})
	}
}

// TestFaultFiftyEnvoys has 50 Envoys, three of them real, come back at once,
// and one of them freeze: the others go on, and status says who is waited for.
func TestFaultFiftyEnvoys(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "serve")
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i := range 47 {
		running.Go(func() {
			playEnvoy(fmt.Sprintf("played-%02d", i), fmt.Sprintf("127.0.0.1:%d", p.port)).run(ctx, filepath.Join(g.state, "grpc.sock"))
		})
	}
	g.envoyOf("real-1")
	g.listens(p.url())
	load := keepAlive(t, p.url()) // before the one that freezes listens, too
	goesOn(t, load, 100)
	clients := dialWires(t, fmt.Sprintf("127.0.0.1:%d", p.port), "/predict", 4)
	clean(t, load)
	g.envoyOf("real-2")
	frozen := g.envoyOf("frozen")
	all := func(envoys int, percent float64, waiting ...string) func(rollout.Status) bool {
		return func(s rollout.Status) bool {
			return s.Envoys == envoys && s.Weights["v2"] == percent && slices.Equal(s.Waiting, waiting)
		}
	}
	g.await("churn", "50 Envoys", all(50, 0))
	g.write("churn.yaml", p.file("v2", "{traffic: 10%}", "{traffic: 20%}", "{traffic: 100%}"))
	g.await("churn", "50 Envoys with 10 %", all(50, 10))

	g.kill()
	g.start()
	g.await("churn", "50 Envoys again", all(50, 10))

	frozen.Pause()
	defer frozen.Resume()
	g.must("skip", "churn")
	st := g.await("churn", "49 Envoys with 20 %", all(50, 20, "frozen"))
	if st.Acknowledged || !strings.Contains(st.Reason, "waits for frozen") {
		t.Errorf("status while one is frozen: %+v", st)
	}
	if out := g.must("envoys"); !strings.Contains(lineWith(out, "frozen"), "behind by 1 model") {
		t.Errorf("headgate envoys:\n%s", out)
	}
	if soak() {
		g.eventually(time.Minute, "the frozen one is late", func() bool { return slices.Equal(g.status("churn").Late, []string{"frozen"}) })
	}
	frozen.Resume()
	g.await("churn", "the frozen one", all(50, 20))
	if err := clients.end(); err != nil {
		t.Errorf("clients: %v", err)
	}
}

func soak() bool { return times(0, 1) == 1 }

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

// TestFaultNoName brings models whose name servers do not answer or know no
// such name, and shows that no other model waits for them.
func TestFaultNoName(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	a := modelFile{name: "weights", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1), at("v2", v2)}}
	b := modelFile{name: "routes", port: a.port, release: "v1", versions: []string{at("v1", v1), at("v2", v2)}}
	g := newGate(t, "run")
	a.release, a.steps = "v1", []string{"{traffic: 10%}", "{traffic: 20%}", "{traffic: 100%}"}
	b.steps = a.steps
	g.put(a, b)
	g.start().ready()
	g.serving("weights", "v1", 100)
	g.listens(a.url())
	loads := []*envoytest.Loader{keepAlive(t, a.url()), keepAlive(t, b.url())}
	a.release = "v2"
	g.put(a)
	g.serving("weights", "v2", 10)

	for i := range 5 {
		name := fmt.Sprintf("nowhere-%d", i)
		g.put(modelFile{name: name, port: a.port, release: "v1", versions: []string{
			fmt.Sprintf("v1: {dns: \"%s.headgate.invalid:80\"}", name),
		}})
	}
	g.must("skip", "weights")
	g.serving("weights", "v2", 20)
	b.release = "v2"
	g.put(b)
	g.serving("routes", "v2", 10)
	for _, l := range loads {
		goesOn(t, l, 100)
		clean(t, l)
	}
	// A model without an endpoint answers so, by itself.
	g.serving("nowhere-0", "v1", 100)
	if code := statusOf(t, modelFile{name: "nowhere-0", port: a.port}.url()); code != 503 {
		t.Errorf("a model without an endpoint answers %d, want 503", code)
	}
}

// TestFaultRefusedByEnvoy publishes what passes every check and what Envoy
// does not take: its words are in the status, the last accepted state serves,
// and another model goes on.
func TestFaultRefusedByEnvoy(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	g := newGate(t, "serve")
	odd := newAuthority(t, "odd")
	odd.curve = p224 // Go takes it, Envoy does not
	odd.issue(t, g.conf, "client", "client")
	a := modelFile{name: "ill", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1), at("v2", v2)}}
	a.steps = []string{"{traffic: 10%}", "{traffic: 20%}", "{traffic: 100%}"}
	b := a
	b.name = "well"
	g.put(a, b)
	g.start().up()
	g.envoyOf("one")
	g.serving("ill", "v1", 100)
	g.serving("well", "v1", 100)
	g.listens(a.url())
	loads := []*envoytest.Loader{keepAlive(t, a.url()), keepAlive(t, b.url())}

	good := a
	good.release = "v2"
	a.release = "v2"
	a.versions = []string{at("v1", v1), fmt.Sprintf("v2: {endpoints: [%q], tls: {sni: v2.test, cert: client.pem, key: client.key, insecure: true}}", v2.Addr)}
	b.release = "v2"
	g.put(a, b)
	g.serving("well", "v2", 10)
	const words = "Failed to load certificate chain"
	st := g.await("ill", "Envoy's words", func(s rollout.Status) bool { return strings.Contains(s.Rejected, words) })
	if st.Acknowledged || !strings.Contains(st.Reason, words) {
		t.Errorf("status: %+v", st)
	}
	if out := g.must("status", "ill"); !strings.Contains(out, words) {
		t.Errorf("headgate status:\n%s", out)
	}
	if out := lineWith(g.must("envoys"), "one"); !strings.Contains(out, "refused") || !strings.Contains(out, words) {
		t.Errorf("headgate envoys: %s", out)
	}
	g.must("skip", "well")
	g.serving("well", "v2", 20)
	if n := g.metric(`headgate_xds_nacks_total{type="cluster"}`); n < 1 || n > 5 {
		t.Errorf("%v NACKs, want a handful", n)
	}
	second := g.envoyOf("two") // starts from the last accepted state
	g.await("well", "a second Envoy", func(s rollout.Status) bool { return s.Envoys == 2 && s.Acknowledged })
	if listeners := second.Admin("/listeners"); !strings.Contains(listeners, fmt.Sprint(a.port)) {
		t.Errorf("the second Envoy listens on %q", listeners)
	}
	g.put(good)
	g.serving("ill", "v2", 10)
	for _, l := range loads {
		goesOn(t, l, 100)
		clean(t, l)
	}
}

// TestFaultPortTaken publishes a listener on a port that somebody else has:
// Envoy says so, other listeners serve, and the model serves when the port is
// free.
func TestFaultPortTaken(t *testing.T) {
	t.Parallel()
	v1 := envoytest.NewUpstream(t, "v1")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer taken.Close()
	a := modelFile{name: "free", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1)}}
	b := modelFile{name: "taken", port: taken.Addr().(*net.TCPAddr).Port, release: "v1", versions: a.versions}
	g := newGate(t, "run")
	g.put(a)
	g.start().ready()
	g.serving("free", "v1", 100)
	g.listens(a.url())
	load := keepAlive(t, a.url())
	g.put(b)
	g.await("taken", "Envoy's words", func(s rollout.Status) bool {
		return strings.Contains(s.Rejected, "Address already in use") && !s.Acknowledged
	})
	noError(t, taken.Close())
	if soak() { // it is tried again every half minute
		g.eventually(2*time.Minute, "the model serves", func() bool { return g.status("taken").Acknowledged && tryStatusOf(b.url()) == 200 })
	}
	undrained(t, g.envoyStats())
	clean(t, load)
}
