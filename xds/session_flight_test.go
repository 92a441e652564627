package xds

import (
	"testing"
	"time"
)

// back is a model whose rollout went back.
func back(name string) modelSpec {
	m := rolling(name, 0)
	m.candidate = ""
	return m
}

// slow is a model whose name nobody resolves, see [puppet.hang].
func slow(name string) modelSpec {
	m := simple(name)
	m.endpoints["v1"] = "dns:nobody.invalid"
	return m
}

// A cluster whose removal is on its way is wanted again: no route names it
// before it is there again.
func TestRemovalInFlightIsNoCluster(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 1000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.want(plans.set(back("a")).snapshot())
	p.mute = map[kind]bool{kindCluster: true}
	p.pass(5 * time.Second)
	p.logged()
	p.want(plans.set(rolling("a", 1000)).snapshot()).expect("runtime +" + RuntimeLayerName(shardOf("a")))
	p.mute = nil
	p.pump().expect("cluster -a/v2", "cluster +a/v2", "route_table +"+at8080).expectAcked("a")
}

// A response that is taken back had removed a cluster, which stays removed.
func TestRemovalBesideAHangingCluster(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 1000), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.want(plans.set(back("a")).snapshot())
	p.hang = "nobody.invalid"
	p.now = p.now.Add(6 * time.Second)
	p.logged()
	p.want(plans.set(slow("c")).snapshot()).expect()
	p.want(plans.set(rolling("b", 1000)).snapshot()).pass(2*time.Second).
		expect("runtime +"+RuntimeLayerName(shardOf("b")), "cluster +c/v1 -a/v2", "cluster -c/v1", "cluster +b/v2", "route_table +"+at8080)
	p.hang = ""
	p.pump().logged()
	p.want(plans.set(rolling("a", 1000)).snapshot()).
		expect("runtime +"+RuntimeLayerName(shardOf("a")), "cluster +a/v2", "route_table +"+at8080).expectAcked("a", "b", "c")
}

// A cluster in use is sent once more after a refusal, beside one that hangs:
// only the new one is taken back.
func TestClusterInUseIsNotTakenBack(t *testing.T) {
	at := func(host string) modelSpec {
		m := simple("a")
		m.endpoints["v1"] = "dns:" + host
		return m
	}
	plans := newPlanner(t).set(at("good.test"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.refuse, p.hang = refuseBytes("bad.test"), "nobody.invalid"
	p.mute = map[kind]bool{kindCluster: true}
	p.want(plans.set(at("bad.test")).snapshot()).want(plans.set(slow("c")).snapshot())
	p.mute = nil
	p.pump().want(plans.set(rolling("b", 1000)).snapshot()).pass(2*time.Second).
		expect("cluster !a/v1", "runtime +"+RuntimeLayerName(shardOf("b")), "cluster +a/v1 +c/v1", "cluster -c/v1",
			"cluster +b/v2", "cluster +a/v1", "route_table +"+at8080).expectAcked("b")
}

// New endpoints that warm up for too long give way to the old ones.
func TestUpdateThatHangsIsTakenBack(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.hang = "nobody.invalid"
	p.want(plans.set(slow("a")).snapshot()).want(plans.set(rolling("b", 1000)).snapshot()).pass(2*time.Second).
		expect("runtime +"+RuntimeLayerName(shardOf("b")), "cluster +a/v1", "cluster +a/v1", "cluster +b/v2", "route_table +"+at8080).
		expectAcked("b")
	p.hang = ""
	p.pump().expect("cluster +a/v1").expectAcked("a", "b")
}

// An edit is undone while Envoy takes one half of it and refuses the other.
func TestEditUndoneInFlight(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.refuse = refuseBytes("127.6.6.6")
	before := p.have[kindCluster]["a/v1"].Version
	moved, bad := simple("a"), simple("b")
	moved.endpoints["v1"], bad.endpoints["v1"] = "127.0.0.1:9999", "127.6.6.6:1"
	p.mute = map[kind]bool{kindCluster: true}
	p.want(plans.set(moved, bad).snapshot()).want(plans.set(simple("a"), simple("b")).snapshot())
	p.mute = nil
	p.pump().expectAcked("a", "b")
	if p.have[kindCluster]["a/v1"].Version != before {
		t.Error("Envoy has endpoints that are no longer in the plan")
	}
}

// A weight goes there and back before the first of them is acknowledged.
func TestWeightInFlightIsNotAcknowledged(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 1000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot()).expectAcked("a")
	p.logged()
	p.s.want(plans.weight("a", 0).snapshot(), nil, p.now)
	p.waiting = p.s.advance(p.now)
	p.s.want(plans.weight("a", 1000).snapshot(), nil, p.now)
	p.s.advance(p.now)
	if p.acked("a") == nil {
		t.Error("acknowledged while another weight is on its way")
	}
	layer := "runtime +" + RuntimeLayerName(shardOf("a"))
	p.pump().expect(layer, layer).expectAcked("a")
}
