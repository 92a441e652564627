package xds

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

const (
	at8081 = "127.0.0.1:8081"
	taken  = "Error adding/updating listener(s) 127.0.0.1:8081: cannot bind '127.0.0.1:8081': Address already in use\n"
)

// moved is a model on another listener.
func moved(m modelSpec, listen string) modelSpec {
	m.listen = listen
	return m
}

// refuse8081 is a machine on which somebody else has port 8081.
func refuse8081(k kind, r *discoveryv3.Resource) string {
	if k == kindListener && r.Name == at8081 {
		return taken
	}
	return ""
}

func TestModelMovesToAnotherListener(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 1000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.want(plans.set(moved(rolling("a", 1000), at8081)).snapshot()).
		expect("listener +"+at8081, "route_table +"+at8081).expectAcked("a")
	p.pass(4999 * time.Millisecond).expect()
	p.pass(time.Millisecond).expect("listener -" + at8080).pass(time.Hour).expect().expectAcked("a")
}

// The old listener, its table, weights and clusters stay while the new address
// is taken, also when headgate or the stream starts anew meanwhile.
func TestModelStaysWhileItsNewAddressIsTaken(t *testing.T) {
	for _, reconnect := range []string{"", "same process", "new process"} {
		l, plans := newLedger(), newPlanner(t).set(rolling("a", 1000), simple("b"))
		p := newPuppet(t, l).connect().want(plans.snapshot())
		p.logged()
		p.refuse = refuse8081
		plans.set(moved(rolling("a", 1000), at8081), moved(simple("b"), at8081))
		switch reconnect {
		case "same process":
			p.reconnect(l)
		case "new process":
			p.reconnect(newLedger())
		}
		p.want(plans.snapshot()).pass(time.Minute)
		if got := p.routes(at8080); got != "a/v1 a/v2 b/v1" || p.have[kindListener][at8080] == nil {
			t.Fatalf("%s: routes to %s", reconnect, got)
		}
		if p.acked("a") == nil || p.s.refusal(p.s.models["a"]) != taken[:len(taken)-1] {
			t.Errorf("%s: refusal %q", reconnect, p.s.refusal(p.s.models["a"]))
		}
		if reconnect != "new process" {
			mistakes, _ := p.s.takeMistakes()
			if mistakes[0].rest != "its models stay on their old listener" {
				t.Errorf("%s: %+v", reconnect, mistakes[0])
			}
		}
		p.refuse = nil
		p.pass(30*time.Second).expectAcked("a", "b").pass(5 * time.Second)
		if p.have[kindListener][at8080] != nil || p.routes(at8081) != "a/v1 a/v2 b/v1" {
			t.Errorf("%s: the old listener is still there, or the new one lacks routes", reconnect)
		}
	}
}

// A way back, by an edit, of a move that was refused: nothing has changed.
func TestMoveIsTakenBack(t *testing.T) {
	plans := newPlanner(t).set(rolling("a", 1000))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.refuse = refuse8081
	p.want(plans.set(moved(rolling("a", 1000), at8081)).snapshot()).expect("listener !" + at8081)
	// Weights go on meanwhile.
	p.want(plans.weight("a", 2000).snapshot()).expect("runtime +" + RuntimeLayerName(shardOf("a")))
	p.want(plans.set(rolling("a", 2000)).snapshot()).expect().expectAcked("a").pass(time.Hour).expect()
}

// Others stay on the listener that a model leaves; its routes go from there
// when it is served.
func TestOneOfTwoMoves(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.refuse = refuse8081
	p.want(plans.set(moved(simple("a"), at8081)).snapshot()).expect("listener !" + at8081).expectAcked("b")
	// The table goes on to change for the others.
	p.want(plans.set(rerouted("b", "/b2")).snapshot()).expect("route_table +" + at8080).expectAcked("b")
	if got := p.routes(at8080); got != "a/v1 b/v1" {
		t.Errorf("routes to %s", got)
	}
	p.refuse = nil
	p.pass(time.Second).expect("listener +"+at8081, "route_table +"+at8081).expectAcked("a", "b")
	p.pass(5 * time.Second).expect("route_table +" + at8080)
	if got := p.routes(at8080); got != "b/v1" {
		t.Errorf("routes to %s", got)
	}
}

// A listener that has been open for long serves at once: no model stays behind.
func TestModelsSwapListeners(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), moved(simple("b"), at8081))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot()).pass(time.Minute)
	p.logged()
	p.want(plans.set(moved(simple("a"), at8081), simple("b")).snapshot()).expectAcked("a", "b")
	if a, b := p.routes(at8081), p.routes(at8080); a != "a/v1" || b != "b/v1" {
		t.Errorf("routes to %s and %s", a, b)
	}
	p.pass(time.Hour)
	if len(p.have[kindListener]) != 2 || len(p.have[kindCluster]) != 2 {
		t.Error("something was removed")
	}
}

// One that goes for good leaves at once.
func TestModelGoesWhileItMoves(t *testing.T) {
	plans := newPlanner(t).set(simple("a"), simple("b"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.refuse = refuse8081
	p.want(plans.set(moved(simple("a"), at8081)).snapshot())
	p.want(plans.remove("a").snapshot()).pass(time.Hour).expectAcked("b")
	if got := p.routes(at8080); got != "b/v1" || p.have[kindCluster]["a/v1"] != nil {
		t.Errorf("routes to %s", got)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"cannot bind\n":            "cannot bind",
		"one: x\n two: y\r\n\n":    "one: x; two: y",
		`one: x\ntwo: 'a\nb'` + "": "one: x; two: 'a; b'",
	} {
		if diff := cmp.Diff(want, oneLine(text)); diff != "" {
			t.Error(diff)
		}
	}
}

// A move together with a version that Envoy refuses: the model stays as it was,
// where it was.
func TestMoveWithARefusedCluster(t *testing.T) {
	plans := newPlanner(t).set(simple("a"))
	p := newPuppet(t, newLedger()).connect().want(plans.snapshot())
	p.logged()
	p.refuse = refuseBytes("127.6.6.6")
	bad := moved(simple("a"), at8081)
	bad.endpoints = map[string]string{"v1": "127.6.6.6:1"}
	p.want(plans.set(bad).snapshot()).expect("cluster !a/v1", "cluster +a/v1").pass(time.Hour).expect()
	if got := p.routes(at8080); got != "a/v1" || p.have[kindListener][at8080] == nil || p.acked("a") == nil {
		t.Errorf("routes to %s", got)
	}
	p.want(plans.set(moved(simple("a"), at8081)).snapshot()).expectAcked("a").pass(5 * time.Second)
	if p.routes(at8081) != "a/v1" || p.have[kindListener][at8080] != nil {
		t.Errorf("routes to %s", p.routes(at8081))
	}
}
