package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// refuseBytes refuses every resource whose body holds the text, the way Envoy
// says it for its kind.
func refuseBytes(text string) func(kind, *discoveryv3.Resource) string {
	return func(k kind, r *discoveryv3.Resource) string {
		if !strings.Contains(string(r.Resource.Value), text) {
			return ""
		}
		switch k {
		case kindCluster:
			return fmt.Sprintf("Error adding/updating cluster(s) %s: no such thing", r.Name)
		case kindListener:
			return fmt.Sprintf("Error adding/updating listener(s) %s: no such thing", r.Name)
		}
		return "no such thing"
	}
}

func count(log []string, part string) int {
	n := 0
	for _, line := range log {
		n += strings.Count(line, part)
	}
	return n
}

// nearlySame reroutes a model: its routes change, its clusters do not.
func rerouted(name, prefix string) modelSpec {
	m := simple(name)
	m.prefix = prefix
	return m
}

func TestRefusedClusterCostsOneResponse(t *testing.T) {
	l := newLedger()
	plans := newPlanner(t).set(simple("a"), simple("b"), simple("c"))
	p := newPuppet(t, l).connect().want(plans.snapshot())
	p.logged()
	p.refuse = refuseBytes("127.6.6.6")

	bad := rolling("b", 1000)
	bad.endpoints["v2"] = "127.6.6.6:1"
	p.want(plans.set(bad, rolling("a", 1000), rolling("c", 1000)).snapshot())
	log := p.logged()
	if n := count(log, "!"); n != 1 {
		t.Errorf("%d refusals: %q", n, log)
	}
	p.expectAcked("a", "c")
	if p.acked("b") == nil {
		t.Error("b is acknowledged")
	}
	if got := p.routes(at8080); got != "a/v1 a/v2 b/v1 c/v1 c/v2" {
		t.Errorf("routes to %s", got)
	}
	if got := p.s.refusal(p.s.models["b"]); !strings.Contains(got, "b/v2: no such thing") {
		t.Errorf("refusal %q", got)
	}
	// Never again: neither when time goes by, nor for weights, nor to others.
	p.want(plans.weight("a", 2000).snapshot()).pass(time.Hour)
	if n := count(p.logged(), "!"); n != 0 {
		t.Errorf("%d refusals more", n)
	}
	other := newPuppet(t, l)
	other.refuse = p.refuse
	other.connect().want(plans.snapshot()).
		expect("runtime +all", "cluster +a/v1 +a/v2 +b/v1 +c/v1 +c/v2", "listener +"+at8080, "route_table +"+at8080)
	other.reconnect(l).want(plans.snapshot()).expect()

	// Until the plan changes it.
	l.forget(plans.set(rolling("b", 1000)).snapshot())
	p.want(plans.snapshot()).expectAcked("a", "b", "c")
	if got := p.routes(at8080); got != "a/v1 a/v2 b/v1 b/v2 c/v1 c/v2" {
		t.Errorf("routes to %s", got)
	}
}

// Envoy's text may name nobody. Halving finds the one.
func TestRefusedClusterThatIsNotNamed(t *testing.T) {
	plans := newPlanner(t)
	for i := range 100 {
		plans.set(simple(fmt.Sprintf("m%02d", i)))
	}
	bad := simple("m42")
	bad.endpoints["v1"] = "127.6.6.6:1"
	p := newPuppet(t, newLedger())
	p.refuse = func(k kind, r *discoveryv3.Resource) string {
		if refuseBytes("127.6.6.6")(k, r) == "" {
			return ""
		}
		return "something is wrong"
	}
	p.connect().want(plans.set(bad).snapshot())
	if n := count(p.logged(), "!"); n > 9 {
		t.Errorf("%d refusals for one cluster in a hundred", n)
	}
	if p.acked("m42") == nil {
		t.Error("m42 is acknowledged")
	}
	p.expectAcked("m00", "m41", "m43", "m99")
	if p.routes(at8080) == "none" {
		t.Error("the others are not served")
	}
}

func TestRefusedRoutesKeepTheirModelBack(t *testing.T) {
	l := newLedger()
	plans := newPlanner(t).set(simple("a"), simple("b"), simple("c"), simple("d"))
	p := newPuppet(t, l).connect().want(plans.snapshot())
	p.logged()
	p.refuse = refuseBytes("/evil")
	p.want(plans.set(rerouted("a", "/a2"), rerouted("b", "/evil"), rerouted("c", "/c2"), rerouted("d", "/d2")).snapshot())
	if n := count(p.logged(), "!"); n > 3 {
		t.Errorf("%d refusals for one model in four", n)
	}
	p.expectAcked("a", "c", "d")
	if got := p.s.refusal(p.s.models["b"]); got != "no such thing" {
		t.Errorf("refusal %q", got)
	}
	table := string(p.have[kindTable][at8080].Resource.Value)
	for _, part := range []string{"/a2", "/c2", "/d2", "/b"} {
		if !strings.Contains(table, part) {
			t.Errorf("no %s in the table", part)
		}
	}
	// A new Envoy loads the same.
	other := newPuppet(t, l)
	other.refuse = p.refuse
	other.connect().want(plans.snapshot())
	if n := count(other.logged(), "!"); n != 0 {
		t.Errorf("%d refusals by the next Envoy", n)
	}
	if !proto.Equal(other.have[kindTable][at8080].Resource, p.have[kindTable][at8080].Resource) {
		t.Error("the next Envoy has another table")
	}
}

// The way back of a rollout does not wait for an unrelated mistake.
func TestWeightsMoveWhileAClusterIsRefused(t *testing.T) {
	plans := newPlanner(t).set(rolling("b", 5000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.refuse = refuseBytes("127.6.6.6")
	bad := rolling("b", 5000)
	bad.endpoints["v2"] = "127.6.6.6:1"
	p.want(plans.set(bad).snapshot()).expect("cluster !b/v2", "cluster +b/v2")
	p.want(plans.weight("b", 100).snapshot()).expect("runtime +" + RuntimeLayerName(shardOf("b")))
	if p.acked("b") == nil {
		t.Error("b is acknowledged")
	}
}

func TestRefusedListener(t *testing.T) {
	l := newLedger()
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, l).connect().want(plans.snapshot())
	p.logged()
	other := simple("b")
	other.listen = "127.6.6.6:8081"
	p.refuse = func(k kind, r *discoveryv3.Resource) string {
		if k != kindListener {
			return ""
		}
		return refuseBytes("127.6.6.6")(k, r)
	}
	p.want(plans.set(other).snapshot()).pass(time.Hour).expect("cluster +b/v1", "listener !127.6.6.6:8081")
	p.expectAcked("a")
	if got := p.s.refusal(p.s.models["b"]); !strings.Contains(got, "no such thing") {
		t.Errorf("refusal %q", got)
	}
}

// An address that is taken is tried again: it says nothing about the content.
func TestListenerThatCannotBind(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger())
	p.refuse = func(k kind, r *discoveryv3.Resource) string {
		if k != kindListener {
			return ""
		}
		return "error adding listener: '127.0.0.1:8080': cannot bind: Address already in use"
	}
	p.connect().want(plans.snapshot()).expect("runtime +all", "cluster +a/v1", "listener !"+at8080)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		p.pass(pause*time.Second - time.Millisecond).expect()
		p.pass(time.Millisecond).expect("listener !" + at8080)
	}
	mistakes, recovered := p.s.takeMistakes()
	for i, m := range mistakes {
		if m.again != (i > 0) || m.rest != "it is left out" {
			t.Errorf("refusal %d: %+v", i, m)
		}
	}
	if len(mistakes) != 8 || len(recovered) > 0 {
		t.Errorf("%d refusals, recovered: %q", len(mistakes), recovered)
	}
	p.refuse = nil
	p.pass(30*time.Second).expect("listener +"+at8080, "route_table +"+at8080).expectAcked("a")
	if _, recovered = p.s.takeMistakes(); len(recovered) != 1 {
		t.Errorf("recovered: %q", recovered)
	}
}

func TestHangingWarmUpHoldsUpNobody(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 1000), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.hang = "c/v1"
	slow := simple("c")
	slow.endpoints["v1"] = "dns:nobody.invalid"
	p.want(plans.set(slow).snapshot()).expect()
	p.want(plans.weight("a", 2000).snapshot()).expect("runtime +"+RuntimeLayerName(shardOf("a"))).expectAcked("a", "b")
	// Alone it may take its time.
	p.pass(time.Minute).expect()
	// Another model's new cluster needs what it blocks: it has had its second.
	p.want(plans.set(rolling("b", 1000)).snapshot())
	p.expect("cluster +c/v1", "runtime +"+RuntimeLayerName(shardOf("b")), "cluster -c/v1", "cluster +b/v2", "route_table +"+at8080).
		expectAcked("a", "b")
	// It is tried again, and comes when it can.
	p.hang = ""
	p.pump().expect("cluster +c/v1", "route_table +"+at8080).expectAcked("a", "b", "c")
}

// Two new clusters in one plan: the one that needs no warm-up goes first.
func TestQuickClustersGoFirst(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.hang = "b/v1"
	slow := simple("b")
	slow.endpoints["v1"] = "dns:nobody.invalid"
	p.want(plans.set(slow, simple("c")).snapshot()).
		expect("cluster +c/v1", "route_table +"+at8080).expectAcked("a", "c")
}

func TestWarmsUp(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	static := plans.snapshot().Models[0].Clusters[0]
	if warmsUp(static) {
		t.Error("addresses need no warm-up")
	}
	var c clusterv3.Cluster
	if err := static.Body.UnmarshalTo(&c); err != nil {
		t.Fatal(err)
	}
	named := simple("a")
	named.endpoints["v1"] = "dns:somebody.test"
	if !warmsUp(plans.set(named).snapshot().Models[0].Clusters[0]) {
		t.Error("a name has to be resolved")
	}
}

func TestHeldModelIsLeftAlone(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 3000), simple("b"))
	apart := simple("z")
	apart.listen = "127.0.0.1:8081"
	p := newPuppet(t, newLedger()).connect().want(plans.set(apart).snapshot())

	// headgate comes back with an empty journal: it would send everybody of a
	// to v1. The model is held, and so is what it shares with others.
	changed := simple("z")
	changed.listen, changed.prefix = apart.listen, "/new"
	plans.set(simple("a"), rolling("b", 500), changed)
	p.reconnect(newLedger()).want(plans.snapshot(), "a").
		expect("cluster +b/v2", "route_table +127.0.0.1:8081").expectAcked("z")
	p.pass(time.Hour).expect()
	if p.acked("a") == nil || p.acked("b") == nil {
		t.Error("what is held counts as delivered")
	}
	if got := p.routes(at8080); got != "a/v1 a/v2 b/v1" {
		t.Errorf("routes to %s", got)
	}
	// Somebody says what is true.
	p.want(plans.set(rolling("a", 3000)).snapshot()).expectAcked("a", "b", "z")
	p.pass(time.Hour)
	if got := p.routes(at8080); got != "a/v1 a/v2 b/v1 b/v2" {
		t.Errorf("routes to %s", got)
	}
}

// A new Envoy gets what is not held.
func TestNewEnvoyWhileAModelIsHeld(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot(), "a").
		expect("runtime +all", "cluster +b/v1", "listener +"+at8080, "route_table +"+at8080).expectAcked("b")
	p.want(plans.snapshot()).expect("cluster +a/v1", "route_table +"+at8080).expectAcked("a", "b")
}

// The same, for a state that this process brought there itself.
func TestHoldWithoutReconnect(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.want(plans.set(rerouted("a", "/x"), rerouted("b", "/y")).snapshot(), "a").pass(time.Hour).expect()
	p.want(plans.snapshot()).expect("route_table +"+at8080).expectAcked("a", "b")
}

// The plan has no part for a model of which nothing is known: what it shares
// with others is left alone all the same.
func TestHeldModelThatIsNotInThePlan(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 3000), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.reconnect(newLedger()).want(plans.remove("a").set(rolling("b", 100)).snapshot(), "a").pass(time.Hour)
	if got := p.routes(at8080); got != "a/v1 a/v2 b/v1" {
		t.Errorf("routes to %s", got)
	}
	if p.acked("b") == nil {
		t.Error("what is held counts as delivered")
	}
	p.want(plans.set(rolling("a", 3000)).snapshot()).expectAcked("a", "b")
}

func TestListenerOfHeldModelIsLeftAlone(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.have[kindListener][at8080].Version = "another"
	p.reconnect(newLedger()).want(plans.snapshot(), "a").pass(time.Hour).expect()
	p.want(plans.snapshot()).expect("listener +" + at8080).expectAcked("a")
}

// What a table of unknown making names may be in use.
func TestClustersStayWhileTheTableIsUnknown(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.refuse = refuseBytes("127.6.6.6")
	bad := rolling("b", 1000)
	bad.endpoints["v2"] = "127.6.6.6:1"
	p.reconnect(newLedger()).want(plans.remove("a").set(bad).snapshot()).pass(time.Hour).expect("cluster !b/v2")
	if got := p.routes(at8080); got != "a/v1 b/v1" {
		t.Errorf("routes to %s", got)
	}
	p.want(plans.set(rolling("b", 1000)).snapshot()).expectAcked("b").pass(time.Hour)
	if got := p.routes(at8080); got != "b/v1 b/v2" || p.have[kindCluster]["a/v1"] != nil {
		t.Errorf("routes to %s", got)
	}
}

// A new listener opens with all of its models, or after two seconds with those
// that are ready; never without any.
func TestNewListenerWaitsForItsModels(t *testing.T) {
	const at8081 = "127.0.0.1:8081"
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	b, c := simple("b"), simple("c")
	b.listen, c.listen, c.endpoints["v1"] = at8081, at8081, "dns:nobody.invalid"
	p.hang = "c/v1"
	p.want(plans.set(b, c).snapshot()).expect("cluster +b/v1")
	p.pass(1900 * time.Millisecond).expect()
	p.pass(100*time.Millisecond).expect("listener +"+at8081, "route_table +"+at8081).expectAcked("a", "b")
	p.hang = ""
	p.pump().expect("cluster +c/v1", "route_table +"+at8081).expectAcked("a", "b", "c")

	d := simple("d")
	d.listen, d.endpoints["v1"] = "127.0.0.1:8082", "dns:nobody.invalid"
	p.hang = "d/v1"
	p.want(plans.set(d).snapshot()).pass(time.Hour).expect()
}

// What Envoy no longer asks for is not counted among what it has.
func TestUnsubscribedWhileInFlight(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.mute = map[kind]bool{kindTable: true}
	p.want(plans.set(simple("b")).snapshot()).expect("cluster +b/v1")
	p.s.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[kindTable], ResourceNamesUnsubscribe: []string{at8080}}, p.now)
	p.mute = nil
	p.pump()
	if v, has := p.s.watches[kindTable].have[at8080]; has {
		t.Errorf("it has the table in version %s", v)
	}
}
