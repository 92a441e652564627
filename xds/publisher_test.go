package xds

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

func nodeProto(id string) *corev3.Node {
	metadata, _ := structpb.NewStruct(map[string]any{"headgate": map[string]any{"bootstrap": 1}})
	return &corev3.Node{
		Id: id, Metadata: metadata,
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
			UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}},
		},
	}
}

// client is an xDS client that acknowledges everything, over real gRPC.
type client struct {
	t      testing.TB
	id     string
	cancel context.CancelFunc

	mu   sync.Mutex
	have [kinds]map[string]string
	got  int // resources received
	err  error
}

func dialADS(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func connectClient(t testing.TB, addr, id string, have *[kinds]map[string]string) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dialADS(t, addr)).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, id: id, cancel: cancel}
	for k := range c.have {
		c.have[k] = map[string]string{}
		if have != nil {
			c.have[k] = have[k]
		}
	}
	t.Cleanup(cancel)
	go c.run(stream)
	return c
}

func (c *client) run(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	for k := range kinds {
		if k == kindSecret {
			continue
		}
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], Node: nodeProto(c.id), InitialResourceVersions: c.have[k]}
		switch k {
		case kindRuntime:
			for i := range RuntimeShards {
				r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, RuntimeLayerName(i))
			}
		case kindTable:
			r.ResourceNamesSubscribe = []string{at8080}
		}
		_ = stream.Send(r)
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			return
		}
		k, _ := kindOf(r.TypeUrl)
		c.mu.Lock()
		for _, res := range r.Resources {
			c.have[k][res.Name] = res.Version
		}
		for _, name := range r.RemovedResources {
			delete(c.have[k], name)
		}
		c.got += len(r.Resources) + len(r.RemovedResources)
		c.mu.Unlock()
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce})
	}
}

func (c *client) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got
}

func TestFiftyReconnectAtOnce(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	plans := newPlanner(t)
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("m%03d", i))
		plans.set(rolling(names[i], 1000))
	}
	p.Publish(plans.plan(), nil)
	// One of them never reads: its stream is open, nothing is taken from it.
	stuck, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dialADS(t, ads.addr)).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stuck.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[kindCluster], Node: nodeProto("stuck")}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	clients := make([]*client, 50)
	for i := range clients {
		clients[i] = connectClient(t, ads.addr, fmt.Sprintf("envoy-%02d", i), nil)
	}
	all := func(models ...string) func() bool {
		return func() bool {
			for _, m := range models {
				if d := p.Delivery(m); d.Envoys != 51 || len(d.Waiting) != 1 || d.Waiting[0] != "stuck" {
					return false
				}
			}
			return true
		}
	}
	envoytest.Eventually(t, 20*time.Second, "all have everything", all(names...))
	t.Logf("50 new clients, 60 models: %s", time.Since(begin))

	begin = time.Now()
	p.Publish(plans.weight("m030", 2000).plan(), nil)
	envoytest.Eventually(t, 5*time.Second, "all have the weight", all("m030"))
	t.Logf("a weight to 50 clients: %s", time.Since(begin))

	ads.server.Stop()
	next := NewPublisher(PublisherOptions{})
	startADS(t, next, ads.addr)
	next.Publish(plans.plan(), nil)
	for i, old := range clients {
		clients[i] = connectClient(t, ads.addr, old.id, &old.have)
	}
	envoytest.Eventually(t, 20*time.Second, "all are back", func() bool {
		d := next.Delivery("m030")
		return d.Envoys == 50 && len(d.Waiting) == 0
	})
	for _, c := range clients {
		if n := c.received(); n != 0 {
			t.Fatalf("%s had everything and was sent %d resources", c.id, n)
		}
	}
}

func TestStateOfTheWorldIsRefused(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dialADS(t, ads.addr)).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{Node: nodeProto("old"), TypeUrl: typeURLs[kindCluster]}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "DELTA_GRPC") {
		t.Errorf("refused with %v", err)
	}
	if n := p.Metrics().StateOfTheWorld; n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestIdentityOfEnvoys(t *testing.T) {
	p := NewPublisher(PublisherOptions{NodeIDFromPeer: func(_ context.Context, id string) error {
		if id == "intruder" {
			return errors.New(`the client certificate is for ["one"]`)
		}
		return nil
	}})
	ads := startADS(t, p, "127.0.0.1:0")
	for id, want := range map[string]codes.Code{"intruder": codes.PermissionDenied, "": codes.InvalidArgument} {
		c := connectClient(t, ads.addr, id, nil)
		envoytest.Eventually(t, 5*time.Second, "the stream ends", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.err != nil
		})
		if got := status.Code(c.err); got != want {
			t.Errorf("%q: %v", id, c.err)
		}
	}
	if r := p.Refusals(); len(r) != 2 || p.Metrics().Refused != 2 {
		t.Errorf("refusals %v", r)
	}
	if n := p.Nodes(); len(n) != 0 {
		t.Errorf("nodes %+v", n)
	}
}

func TestNodes(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	p.Publish(newPlanner(t).set(simple("a")).plan(), nil)
	connectClient(t, ads.addr, "twin", nil)
	second := connectClient(t, ads.addr, "twin", nil)
	envoytest.Eventually(t, 5*time.Second, "both have it", func() bool {
		d := p.Delivery("a")
		return d.Envoys == 2 && len(d.Waiting) == 0
	})
	for _, n := range p.Nodes() {
		if !n.Duplicate || n.Version != "1.40.0" || n.Bootstrap != 1 || n.Warning != "" || n.Behind != 0 {
			t.Errorf("node %+v", n)
		}
	}
	second.cancel()
	envoytest.Eventually(t, 5*time.Second, "one is left", func() bool {
		n := p.Nodes()
		return len(n) == 2 && n[0].Gone != n[1].Gone && !n[0].Duplicate
	})
	// It still counts, for a while, and what it acknowledged with it.
	if d := p.Delivery("a"); d.Envoys != 2 || len(d.Waiting) != 0 {
		t.Errorf("delivery %+v", d)
	}
}

func TestEmptyPlanIsNotPublished(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	plans := newPlanner(t).set(simple("a"))
	p.Publish(plans.plan(), nil)
	c := connectClient(t, ads.addr, "one", nil)
	delivered(t, p, 5*time.Second, "a")
	p.Publish(newPlanner(t).plan(), nil)
	if err := p.Err(); !errors.Is(err, errEmpty) {
		t.Errorf("published: %v", err)
	}
	if d := p.Delivery("a"); d.Unpublished == "" || d.Rejected != "" {
		t.Errorf("delivery %+v", d)
	}
	p.Publish(plans.plan(), nil)
	delivered(t, p, 5*time.Second, "a")
	if d := p.Delivery("a"); d.Unpublished != "" || p.Err() != nil {
		t.Errorf("delivery %+v, %v", d, p.Err())
	}
	p.Clear()
	envoytest.Eventually(t, 10*time.Second, "everything is removed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.have[kindListener]) == 0
	})
}

// With an empty journal all that an Envoy holds is left to it: that nothing is
// left to publish is no mistake.
func TestAllHeld(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	p.Publish(newPlanner(t).plan(), []string{"a"})
	if err := p.Err(); err != nil {
		t.Errorf("all models held: %v", err)
	}
	if d := p.Delivery("a"); d.Rejected != "" || d.Unpublished != "" {
		t.Errorf("delivery of a held model: %+v", d)
	}
	if p.snapshot != nil {
		t.Error("an empty snapshot is published")
	}
	p.Publish(newPlanner(t).set(simple("b")).plan(), []string{"a"})
	p.Publish(newPlanner(t).plan(), []string{"a"})
	if d := p.Delivery("a"); p.Err() != nil || d.Rejected != "" || d.Unpublished != "" || len(p.snapshot.Models) != 1 {
		t.Errorf("all models held after another was published: %v, delivery %+v", p.Err(), d)
	}
}

func TestBrokenPlanIsNotPublished(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	plans := newPlanner(t).set(simple("a"))
	p.Publish(plans.plan(), nil)
	twin := simple("b")
	twin.prefix = "/a"
	p.Publish(plans.set(twin).plan(), nil)
	if d := p.Delivery("b"); !strings.Contains(d.Unpublished, "models.b: match") {
		t.Errorf("delivery of b %+v", d)
	}
	if d := p.Delivery("a"); d.Unpublished != "" {
		t.Errorf("delivery of a, which is as before: %+v", d)
	}
}

// pretend adds a stream that has no network, for what depends on the clock.
func pretend(p *Publisher, id string) (*stream, *puppet) {
	st := &stream{
		publisher: p, node: identity{id: id}, connected: time.Now(), woken: make(chan struct{}, 1),
		session: newSession(p.compile, p.ledger, p.limits),
	}
	p.join(st)
	return st, &puppet{s: st.session, now: time.Now()}
}

func TestLateAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPublisher(PublisherOptions{})
		p.Publish(newPlanner(t).set(simple("a")).plan(), nil)
		st, _ := pretend(p, "slow")
		st.step(nil)
		want := Delivery{Envoys: 1, Waiting: []string{"slow"}}
		time.Sleep(29 * time.Second)
		if diff := cmp.Diff(want, p.Delivery("a")); diff != "" {
			t.Errorf("after 29 s:\n%s", diff)
		}
		time.Sleep(time.Second)
		want.Late = want.Waiting
		if diff := cmp.Diff(want, p.Delivery("a")); diff != "" {
			t.Errorf("after 30 s:\n%s", diff)
		}
		p.leave(st)
		time.Sleep(GoneAfter - time.Second)
		if diff := cmp.Diff(want, p.Delivery("a")); diff != "" {
			t.Errorf("just gone:\n%s", diff)
		}
		time.Sleep(2 * time.Second)
		if diff := cmp.Diff(Delivery{}, p.Delivery("a")); diff != "" {
			t.Errorf("gone:\n%s", diff)
		}
		select {
		case <-p.Changed():
		default:
			t.Error("nobody was told")
		}
	})
}

func TestInventory(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	if _, met := p.Inventory(); met {
		t.Error("nobody has connected")
	}
	var have [kinds]map[string]string
	for k := range have {
		have[k] = map[string]string{}
	}
	have[kindCluster] = map[string]string{"a/v1": "x", "a/v0": "y", "stranger": "z"}
	have[kindRuntime] = map[string]string{RuntimeLayerName(0): "x"}
	c := connectClient(t, ads.addr, "one", &have)
	envoytest.Eventually(t, 5*time.Second, "met", func() bool { _, met := p.Inventory(); return met })
	want := map[string][]string{"a": {"v0", "v1"}}
	held, _ := p.Inventory()
	if diff := cmp.Diff(want, held); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
	// What it gets from here on is no discovery when it comes back.
	p.Publish(newPlanner(t).set(simple("a"), simple("b")).plan(), nil)
	delivered(t, p, 5*time.Second, "b")
	c.cancel()
	connectClient(t, ads.addr, "one", &c.have)
	envoytest.Eventually(t, 5*time.Second, "back", func() bool { return p.Metrics().StreamsOpened == 2 })
	delivered(t, p, 5*time.Second, "b")
	held, _ = p.Inventory()
	if diff := cmp.Diff(want, held); diff != "" {
		t.Errorf("inventory after it came back (-want +got):\n%s", diff)
	}
}

// An Envoy that has nothing at all is met by its first question: it asks for
// nothing else before that is answered.
func TestNewEnvoyIsMetAtOnce(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	st, _ := pretend(p, "new")
	st.step(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[kindRuntime], ResourceNamesSubscribe: []string{RuntimeLayerName(0)}})
	if held, met := p.Inventory(); !met || len(held) != 0 {
		t.Errorf("met %v, held %v", met, held)
	}
}

// An Envoy that comes with all that is published later needs no message. That
// it has everything is told all the same.
func TestNothingToSendIsTold(t *testing.T) {
	plan := newPlanner(t).set(simple("a")).plan()
	before := NewPublisher(PublisherOptions{})
	before.Publish(plan, nil)
	knows := newPuppet(t, newLedger()).connect().want(before.snapshot)

	p := NewPublisher(PublisherOptions{})
	st, _ := pretend(p, "knows")
	for _, k := range []kind{kindRuntime, kindCluster, kindListener, kindTable} {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], InitialResourceVersions: map[string]string{}}
		for name, have := range knows.have[k] {
			r.InitialResourceVersions[name] = have.Version
			if k == kindRuntime || k == kindTable {
				r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
			}
		}
		st.step(r)
	}
	p.Publish(plan, nil)
	for len(p.changed) > 0 {
		<-p.changed
	}
	if d := p.Delivery("a"); len(d.Waiting) != 1 {
		t.Fatalf("delivery before the stream has looked: %+v", d)
	}
	if out, _ := st.step(nil); len(out) != 0 {
		t.Fatalf("it is sent %d messages, want none", len(out))
	}
	if d := p.Delivery("a"); len(d.Waiting) != 0 {
		t.Errorf("delivery: %+v", d)
	}
	if len(p.changed) == 0 {
		t.Error("nobody was told")
	}
}

func TestHold(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p.Publish(plans.plan(), []string{"a"})
	connectClient(t, ads.addr, "one", nil)
	delivered(t, p, 5*time.Second, "b")
	if d := p.Delivery("a"); len(d.Waiting) != 1 {
		t.Errorf("a held model is delivered: %+v", d)
	}
	p.Publish(plans.plan(), nil)
	delivered(t, p, 5*time.Second, "a", "b")
}

// What a weight costs in headgate, apart from Envoy: the plan that is built,
// and one session that is told.
func BenchmarkWeight(b *testing.B) {
	for _, n := range []int{1, 1_000, 10_000} {
		plans := newPlanner(b)
		for i := range n {
			m := simple(fmt.Sprintf("m%05d", i))
			if i == 0 {
				m = rolling(m.name, 1000)
			}
			plans.models = append(plans.models, m.plan())
		}
		b.Run(fmt.Sprintf("build/%d", n), func(b *testing.B) {
			plan := [2]*routing.Plan{plans.weight("m00000", 1).plan(), plans.weight("m00000", 2).plan()}
			if _, err := plans.build.Build(plan[1]); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for i := range b.N {
				if _, err := plans.build.Build(plan[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("session/%d", n), func(b *testing.B) {
			snapshots := [2]*Snapshot{plans.weight("m00000", 1).snapshot(), plans.weight("m00000", 2).snapshot()}
			p := newPuppet(b, newLedger()).connect().want(snapshots[1])
			b.ResetTimer()
			for i := range b.N {
				p.want(snapshots[i%2])
			}
		})
	}
}
