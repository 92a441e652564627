package xds

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

func load(t testing.TB, listen, path string) *envoytest.Loader {
	users := make([]string, 200)
	for i := range users {
		users[i] = "user-" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
	}
	return envoytest.StartLoad(t, envoytest.LoadOptions{URL: "http://" + listen + path, Users: users, Rate: 400})
}

// flawless ends a load generator and fails the test for every failed request.
func flawless(t testing.TB, l *envoytest.Loader) *envoytest.Report {
	t.Helper()
	r := l.Stop()
	if r.Failed > 0 || len(r.Results) == 0 {
		t.Errorf("failed requests: %s", r)
	}
	return r
}

// The whole way of a rollout on a real Envoy under load: structure, weights,
// the end, the removal of the old cluster.
func TestRolloutOnEnvoy(t *testing.T) {
	p := tampered(t, func(*Snapshot) {})
	ads := startADS(t, p, "127.0.0.1:0")
	us, listen := upstreams(t, "v1", "v2"), freeListener(t)
	a := served(t, "a", listen, us)
	plans := newPlanner(t).set(a)
	p.Publish(plans.plan(), nil)
	startEnvoy(t, "one", ads.addr)
	delivered(t, p, 10*time.Second, "a")
	l := load(t, listen, "/a")

	a.candidate, a.share, a.salt = "v2", 1000, "a-1"
	p.Publish(plans.set(a).plan(), nil)
	delivered(t, p, 5*time.Second, "a")
	for _, share := range []routing.Share{2000, 5000, 10000} {
		before := p.Metrics()
		p.Publish(plans.weight("a", share).plan(), nil)
		delivered(t, p, 5*time.Second, "a")
		if got := difference(before, p.Metrics()); got != "runtime 1" {
			t.Errorf("a weight sent %s", got)
		}
	}
	a.stable, a.candidate = "v2", ""
	p.Publish(plans.set(a).plan(), nil)
	delivered(t, p, 5*time.Second, "a")
	envoytest.Eventually(t, 5*time.Second, "the old cluster is removed", func() bool {
		return p.Nodes()[0].Kinds[kindCluster].Acknowledged == 1
	})
	r := flawless(t, l)
	if back := r.Backwards("v1", "v2"); len(back) > 0 {
		t.Errorf("users went back: %v", back)
	}
	if r.Dials > 4 {
		t.Errorf("%d connections for 4 clients: some were closed", r.Dials)
	}
	if n := p.Metrics().NACKs; n["cluster"]+n["listener"]+n["route_table"]+n["runtime"] > 0 {
		t.Errorf("NACKs: %v", n)
	}
}

// A model that is taken away under load leaves the others alone, and a request
// that is in flight on a cluster that goes is answered.
func TestRemovalUnderLoad(t *testing.T) {
	p := tampered(t, func(*Snapshot) {})
	ads := startADS(t, p, "127.0.0.1:0")
	us, slow, listen := upstreams(t, "v1"), envoytest.NewUpstream(t, "slow"), freeListener(t)
	plans := newPlanner(t).set(served(t, "a", listen, us), served(t, "b", listen, map[string]*envoytest.Upstream{"v1": slow}))
	p.Publish(plans.plan(), nil)
	startEnvoy(t, "one", ads.addr)
	delivered(t, p, 10*time.Second, "a", "b")

	l := load(t, listen, "/a")
	slow.SetDelay(2500 * time.Millisecond)
	answered := make(chan int, 1)
	go func() {
		r, err := http.Get("http://" + listen + "/b")
		if err != nil {
			answered <- 0
			return
		}
		_ = r.Body.Close()
		answered <- r.StatusCode
	}()
	envoytest.Eventually(t, 2*time.Second, "the slow request has arrived", func() bool { return slow.Count() > 0 })
	p.Publish(plans.remove("b").plan(), nil)
	envoytest.Eventually(t, 2*time.Second, "the cluster is removed", func() bool {
		return p.Nodes()[0].Kinds[kindCluster].Acknowledged == 1
	})
	select {
	case code := <-answered:
		t.Fatalf("the slow request ended with %d before its cluster was removed: the test shows nothing", code)
	default:
	}
	if code := <-answered; code != http.StatusOK {
		t.Errorf("the request in flight got %d", code)
	}
	flawless(t, l)
}

// spoil makes Envoy refuse a cluster that passes its validation rules.
func spoil(name string) tamper {
	return func(s *Snapshot) {
		for _, m := range s.Models {
			for i, c := range m.Clusters {
				if c.Name == name {
					m.Clusters[i] = rebuilt(c, func(c *clusterv3.Cluster) {
						c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
						c.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress().Address = "no.address"
					})
				}
			}
		}
	}
}

func rebuilt(r Resource, change func(*clusterv3.Cluster)) Resource {
	var c clusterv3.Cluster
	if err := r.Body.UnmarshalTo(&c); err != nil {
		panic(err)
	}
	change(&c)
	body, err := anypb.New(&c)
	if err != nil {
		panic(err)
	}
	return Resource{Name: r.Name, Version: r.Version + "-changed", Body: body}
}

func TestRefusalByEnvoy(t *testing.T) {
	p := tampered(t, spoil("a/v2"))
	ads := startADS(t, p, "127.0.0.1:0")
	us, listen := upstreams(t, "v1", "v2", "v3"), freeListener(t)
	a, b := served(t, "a", listen, us), served(t, "b", listen, us)
	plans := newPlanner(t).set(a, b)
	p.Publish(plans.plan(), nil)
	startEnvoy(t, "one", ads.addr)
	delivered(t, p, 10*time.Second, "a", "b")
	l, lb := load(t, listen, "/a"), load(t, listen, "/b")

	a.candidate, a.share, a.salt = "v2", 1000, "a-1"
	b.candidate, b.share, b.salt = "v2", 1000, "b-1"
	p.Publish(plans.set(a, b).plan(), nil)
	delivered(t, p, 3*time.Second, "b") // in the same response as a's refused one
	envoytest.Eventually(t, 3*time.Second, "the refusal is shown", func() bool {
		return strings.Contains(p.Delivery("a").Rejected, "malformed IP address: no.address")
	})
	startEnvoy(t, "two", ads.addr) // loads the last accepted state
	delivered(t, p, 10*time.Second, "b")
	p.Publish(plans.weight("b", 3000).plan(), nil)
	delivered(t, p, 3*time.Second, "b")
	if n := p.Metrics().NACKs["cluster"]; n != 1 {
		t.Errorf("%d NACKs", n)
	}
	if got := p.Nodes()[0].Rejected; !strings.Contains(got, "a/v2") {
		t.Errorf("status says %q", got)
	}
	a.candidate = "v3"
	p.Publish(plans.set(a).plan(), nil)
	delivered(t, p, 5*time.Second, "a", "b")
	if d := p.Delivery("a"); d.Rejected != "" {
		t.Errorf("still rejected: %s", d.Rejected)
	}
	flawless(t, l)
	flawless(t, lb)
}

// headgate dies and comes back, as another process: nobody notices.
func TestServerGoesAndComesBack(t *testing.T) {
	p := tampered(t, func(*Snapshot) {})
	ads := startADS(t, p, "127.0.0.1:0")
	us, listen := upstreams(t, "v1", "v2"), freeListener(t)
	a := served(t, "a", listen, us)
	a.candidate, a.share, a.salt = "v2", 3000, "a-1"
	plans := newPlanner(t).set(a)
	p.Publish(plans.plan(), nil)
	startEnvoy(t, "one", ads.addr)
	delivered(t, p, 10*time.Second, "a")
	l := load(t, listen, "/a")
	ads.server.Stop()

	next := tampered(t, func(*Snapshot) {})
	startADS(t, next, ads.addr)
	envoytest.Eventually(t, 15*time.Second, "Envoy is back", func() bool { _, met := next.Inventory(); return met })
	held, _ := next.Inventory()
	if got := strings.Join(held["a"], " "); got != "v1 v2" {
		t.Errorf("inventory of a: %s", got)
	}
	next.Publish(plans.plan(), nil)
	delivered(t, next, 5*time.Second, "a")
	if got := difference(Metrics{}, next.Metrics()); got != "" {
		t.Errorf("sent to an Envoy that had everything: %s", got)
	}
	next.Publish(plans.weight("a", 4000).plan(), nil)
	delivered(t, next, 5*time.Second, "a")
	if got := difference(Metrics{}, next.Metrics()); got != "runtime 1" {
		t.Errorf("a weight sent %s", got)
	}
	r := flawless(t, l)
	if back := r.Backwards("v1", "v2"); len(back) > 0 {
		t.Errorf("users went back: %v", back)
	}
}

func TestFrozenEnvoyHoldsUpNobody(t *testing.T) {
	p := tampered(t, func(*Snapshot) {})
	ads := startADS(t, p, "127.0.0.1:0")
	us := upstreams(t, "v1", "v2")
	a := served(t, "a", freeListener(t), us)
	plans := newPlanner(t).set(a)
	p.Publish(plans.plan(), nil)
	startEnvoy(t, "good", ads.addr)
	delivered(t, p, 10*time.Second, "a")
	// The second cannot bind the same port: Envoys share it with SO_REUSEPORT.
	frozen := startEnvoy(t, "frozen", ads.addr)
	delivered(t, p, 10*time.Second, "a")
	frozen.Pause()
	defer frozen.Resume()

	begin := time.Now()
	a.candidate, a.share, a.salt = "v2", 1000, "a-1"
	for i := range 50 {
		a.share = routing.Share(100 + i)
		p.Publish(plans.set(a).plan(), nil)
	}
	envoytest.Eventually(t, 2*time.Second, "the good one has it", func() bool {
		d := p.Delivery("a")
		return len(d.Waiting) == 1 && d.Waiting[0] == "frozen"
	})
	t.Logf("the other Envoy had 50 plans after %s", time.Since(begin))
	frozen.Resume()
	delivered(t, p, 5*time.Second, "a")
}

// A cluster whose name server never answers. Envoy holds back every ACK about
// clusters meanwhile.
func TestHangingWarmUpOnEnvoy(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	p := tampered(t, hanging("c/v1", silent.LocalAddr().(*net.UDPAddr).Port))
	ads := startADS(t, p, "127.0.0.1:0")
	us, listen := upstreams(t, "v1", "v2"), freeListener(t)
	a, b, c := served(t, "a", listen, us), served(t, "b", listen, us), served(t, "c", listen, us)
	a.candidate, a.share, a.salt = "v2", 1000, "a-1"
	plans := newPlanner(t).set(a, b)
	p.Publish(plans.plan(), nil)
	startEnvoy(t, "one", ads.addr)
	delivered(t, p, 10*time.Second, "a", "b")
	l := load(t, listen, "/b")

	p.Publish(plans.set(c).plan(), nil)
	p.Publish(plans.weight("a", 2000).plan(), nil)
	begin := time.Now()
	delivered(t, p, 3*time.Second, "a")
	t.Logf("weight of another model while a cluster warms up: %s", time.Since(begin))
	b.candidate, b.share, b.salt = "v2", 1000, "b-1"
	begin = time.Now()
	p.Publish(plans.set(b).plan(), nil)
	delivered(t, p, 5*time.Second, "a", "b")
	t.Logf("new cluster of another model while a cluster warms up: %s", time.Since(begin))
	if d := p.Delivery("c"); len(d.Waiting) != 1 {
		t.Errorf("c is delivered, so its cluster did not hang: %+v", d)
	}
	flawless(t, l)
}

// hanging makes a cluster ask a name server that does not answer.
func hanging(name string, port int) tamper {
	return func(s *Snapshot) {
		for _, m := range s.Models {
			for i, c := range m.Clusters {
				if c.Name == name {
					m.Clusters[i] = rebuilt(c, func(c *clusterv3.Cluster) { resolveBy(c, port) })
				}
			}
		}
	}
}

func resolveBy(c *clusterv3.Cluster, port int) {
	resolver, err := anypb.New(&caresv3.CaresDnsResolverConfig{
		Resolvers: []*corev3.Address{{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		}}}},
	})
	if err != nil {
		panic(err)
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	c.TypedDnsResolverConfig = &corev3.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: resolver}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: c.Name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "never.answered.test", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
			}}},
		}}}},
	}}}
}
