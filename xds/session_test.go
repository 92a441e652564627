package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
)

const at8080 = "127.0.0.1:8080"

func (p *puppet) expect(want ...string) *puppet {
	p.t.Helper()
	if diff := cmp.Diff(want, p.logged()); diff != "" {
		p.t.Errorf("exchanged (-want +got):\n%s", diff)
	}
	return p
}

func (p *puppet) expectAcked(models ...string) *puppet {
	p.t.Helper()
	if err := p.acked(models...); err != nil {
		p.t.Error(err)
	}
	return p
}

func TestNewEnvoyGetsEverythingInOrder(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), rolling("b", 1000))
	newPuppet(t, newLedger()).connect().want(plans.snapshot()).
		expect("runtime +all", "cluster +a/v1 +b/v1 +b/v2", "listener +"+at8080, "route_table +"+at8080).
		expectAcked("a", "b").
		pass(time.Minute).expect()
}

func TestWeightSendsOneLayerOnly(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), rolling("b", 1000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.want(plans.weight("b", 5000).snapshot()).
		expect("runtime +"+RuntimeLayerName(shardOf("b"))).expectAcked("a", "b")
	p.want(plans.snapshot()).expect()
}

func TestRolloutFromStartToEnd(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	layer := "runtime +" + RuntimeLayerName(shardOf("b"))

	p.want(plans.set(rolling("b", 1000)).snapshot()).
		expect(layer, "cluster +b/v2", "route_table +"+at8080).expectAcked("a", "b")
	p.want(plans.weight("b", 10000).snapshot()).expect(layer).expectAcked("b")

	done := rolling("b", 0)
	done.stable, done.candidate = "v2", ""
	// The layer says v2 for everybody already. The route follows, then the
	// keys go, and after a while the old cluster.
	p.want(plans.set(done).snapshot()).expect("route_table +"+at8080, layer).expectAcked("b")
	p.pass(4 * time.Second).expect()
	p.pass(time.Second).expect("cluster -b/v1").expectAcked("b")
	if got := p.routes(at8080); got != "a/v1 b/v2" {
		t.Errorf("routes to %s", got)
	}
}

// A way back is in force by a layer, before the route table follows.
func TestWayBackIsAWeight(t *testing.T) {
	plans := newPlanner(t).set(rolling("b", 5000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	back := rolling("b", 0)
	back.candidate = ""
	layer := "runtime +" + RuntimeLayerName(shardOf("b"))
	p.want(plans.set(back).snapshot()).expect(layer, "route_table +"+at8080, layer).expectAcked("b")
	p.pass(5 * time.Second).expect("cluster -b/v2")
}

func TestModelGoes(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.want(plans.remove("b").snapshot()).expect("route_table +" + at8080)
	p.pass(5 * time.Second).expect("cluster -b/v1")
	if _, left := p.s.models["b"]; left {
		t.Error("the session still knows the model")
	}
	// It comes back before its cluster has gone: nothing is removed.
	p.want(plans.set(simple("b")).snapshot()).expect("cluster +b/v1", "route_table +"+at8080)
	p.want(plans.remove("b").snapshot()).expect("route_table +" + at8080)
	p.pass(3 * time.Second).want(plans.set(simple("b")).snapshot()).expect("route_table +" + at8080)
	p.pass(time.Minute).expect().expectAcked("a", "b")
}

func TestListenerComesAndGoes(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	other := simple("b")
	other.listen = "127.0.0.1:8081"
	p.want(plans.set(other).snapshot()).
		expect("cluster +b/v1", "listener +127.0.0.1:8081", "route_table +127.0.0.1:8081").expectAcked("a", "b")
	p.want(plans.remove("b").snapshot()).expect("listener -127.0.0.1:8081")
	p.pass(5 * time.Second).expect("cluster -b/v1").expectAcked("a")
}

func TestEnvoyThatComesBackGetsNothing(t *testing.T) {
	for _, known := range []bool{true, false} {
		plans := newPlanner(t).set(simple("a"), rolling("b", 1000))
		l := newLedger()
		p := newPuppet(t, l).connect().want(plans.snapshot())
		if !known {
			l = newLedger() // headgate was restarted
		}
		p.reconnect(l).want(plans.snapshot()).expect().expectAcked("a", "b")
		p.want(plans.weight("b", 2000).snapshot()).
			expect("runtime +"+RuntimeLayerName(shardOf("b"))).expectAcked("a", "b")
		p.pass(time.Minute).expect()
	}
}

// What changed while headgate was away: only that is sent, and the weights of
// routes that Envoy still has outlive them.
func TestEnvoyThatComesBackGetsWhatDiffers(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), rolling("b", 10000), simple("c"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	done := rolling("b", 0)
	done.stable, done.candidate = "v2", ""
	p.reconnect(newLedger()).want(plans.remove("c").set(done).snapshot()).
		expect("route_table +"+at8080, "runtime +"+RuntimeLayerName(shardOf("b"))).expectAcked("a", "b")
	p.pass(time.Minute).expect("cluster -b/v1 -c/v1")
}

func TestNothingIsSentBeforeThePlan(t *testing.T) {
	p := newPuppet(t, newLedger()).connect().pump().pass(time.Minute).expect()
	if !p.s.watches[kindCluster].started {
		t.Error("the request was not noticed")
	}
}

func TestStaleNonceAndUnknownNames(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.s.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[kindCluster], ResponseNonce: "cluster-0"}, p.now)
	p.s.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/nobody.knows"}, p.now)
	p.pump().expect()

	p.s.request(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: typeURLs[kindTable], ResourceNamesSubscribe: []string{"127.0.0.1:1"},
	}, p.now)
	p.s.request(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: typeURLs[kindRuntime], ResourceNamesSubscribe: []string{"other"},
	}, p.now)
	p.pump().expect("runtime -other", "route_table -127.0.0.1:1")

	// Asked for again: sent again.
	p.s.request(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: typeURLs[kindTable], ResourceNamesSubscribe: []string{at8080},
	}, p.now)
	p.pump().expect("route_table +" + at8080).expectAcked("a")
}

// Each step waits for the one before, however long that takes.
func TestOrderHoldsWhenEnvoyIsSlow(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	layer := "runtime +" + RuntimeLayerName(shardOf("a"))

	p.mute = map[kind]bool{kindCluster: true, kindRuntime: true}
	p.want(plans.set(rolling("a", 1000)).snapshot()).pass(time.Minute).expect()
	p.mute[kindCluster] = false
	p.pump().expect("cluster +a/v2")
	p.pass(time.Minute).expect()
	p.mute[kindRuntime] = false
	p.pump().expect(layer, "route_table +"+at8080).expectAcked("a")

	p.mute[kindTable] = true
	done := rolling("a", 0)
	done.stable, done.candidate = "v2", ""
	p.want(plans.set(done).snapshot()).expect(layer)
	p.pass(time.Minute).expect()
	p.mute[kindTable] = false
	p.pump().expect("route_table +"+at8080, layer).expectAcked("a")
	p.pass(5 * time.Second).expect("cluster -a/v1")
}
