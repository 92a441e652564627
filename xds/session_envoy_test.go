package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
)

// puppet plays an Envoy against a session, without time or network, and checks
// with every message that the order is kept which a real one needs.
type puppet struct {
	t       testing.TB
	s       *session
	now     time.Time
	have    [kinds]map[string]*discoveryv3.Resource
	waiting []*discoveryv3.DeltaDiscoveryResponse // not answered yet
	started [kinds]bool
	log     []string
	// refuse returns why a resource is refused; empty: it is accepted.
	refuse func(k kind, r *discoveryv3.Resource) string
	// hang: clusters whose name or address holds it warm up for ever.
	hang string
	// mute: messages of this kind are not answered, and not acted on.
	mute map[kind]bool
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newPuppet(t testing.TB, l *ledger) *puppet {
	p := &puppet{t: t, now: start, s: newSession(newComposer(), l, defaultLimits)}
	for k := range p.have {
		p.have[k] = map[string]*discoveryv3.Resource{}
	}
	return p
}

// connect sends what an Envoy sends first. One that has something reports all
// of it at once, a new one goes step by step.
func (p *puppet) connect() *puppet {
	p.started = [kinds]bool{}
	p.ask(kindRuntime)
	p.ask(kindCluster)
	if len(p.have[kindListener]) > 0 {
		p.ask(kindListener)
		p.ask(kindTable)
	}
	return p
}

// reconnect goes on with another session.
func (p *puppet) reconnect(l *ledger) *puppet {
	p.s = newSession(newComposer(), l, defaultLimits)
	p.waiting, p.log = nil, nil
	return p.connect()
}

func (p *puppet) ask(k kind) {
	p.started[k] = true
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k], InitialResourceVersions: map[string]string{}}
	for name, have := range p.have[k] {
		r.InitialResourceVersions[name] = have.Version
	}
	switch k {
	case kindRuntime:
		for i := range RuntimeShards {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, RuntimeLayerName(i))
		}
	case kindTable:
		for name := range p.have[kindListener] {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
		}
	}
	p.s.request(r, p.now)
}

// want publishes and lets everything settle that needs no clock. What is held
// is served on port 8080.
func (p *puppet) want(s *Snapshot, hold ...string) *puppet {
	var models []held
	for _, name := range hold {
		models = append(models, held{name, at8080})
	}
	p.s.want(s, models, p.now)
	return p.pump()
}

// pass lets time go by.
func (p *puppet) pass(d time.Duration) *puppet {
	end := p.now.Add(d)
	for {
		next := p.s.deadline(p.now)
		if next.IsZero() || next.After(end) {
			break
		}
		p.now = next
		p.pump()
	}
	p.now = end
	return p.pump()
}

func (p *puppet) pump() *puppet {
	for range 1000 {
		p.waiting = append(p.waiting, p.s.advance(p.now)...)
		if !p.answer() {
			return p
		}
	}
	p.t.Fatalf("no end:\n%s", strings.Join(p.log[len(p.log)-20:], "\n"))
	return p
}

// answer handles the oldest response that can be answered now.
func (p *puppet) answer() bool {
	for i, r := range p.waiting {
		k, _ := kindOf(r.TypeUrl)
		if (k == kindCluster && p.warming()) || p.mute[k] {
			continue
		}
		p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
		p.receive(k, r)
		return true
	}
	return false
}

// warming tells whether Envoy holds back its answers about clusters: what all
// responses so far leave behind has a cluster that hangs.
func (p *puppet) warming() bool {
	hanging := map[string]bool{}
	for _, r := range p.waiting {
		if k, _ := kindOf(r.TypeUrl); k != kindCluster {
			continue
		}
		for _, c := range r.Resources {
			hanging[c.Name] = p.hang != "" && strings.Contains(string(c.Resource.Value), p.hang)
			if !hanging[c.Name] {
				delete(hanging, c.Name)
			}
		}
		for _, name := range r.RemovedResources {
			delete(hanging, name)
		}
	}
	return len(hanging) > 0 && p.started[kindListener]
}

func (p *puppet) receive(k kind, r *discoveryv3.DeltaDiscoveryResponse) {
	var names, refused []string
	for _, res := range r.Resources {
		if p.refuse != nil {
			if why := p.refuse(k, res); why != "" {
				refused = append(refused, why)
				names = append(names, "!"+res.Name)
				continue
			}
		}
		names = append(names, "+"+res.Name)
		p.have[k][res.Name] = res
	}
	for _, name := range r.RemovedResources {
		names = append(names, "-"+name)
		delete(p.have[k], name)
	}
	slices.Sort(names)
	if k == kindRuntime && len(names) == RuntimeShards {
		names = []string{"+all"}
	}
	p.log = append(p.log, k.String()+" "+strings.Join(names, " "))
	p.check(k, r)
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
	if len(refused) > 0 {
		ack.ErrorDetail = &statuspb.Status{Message: strings.Join(refused, ", ")}
	}
	p.s.request(ack, p.now)
	switch k {
	case kindCluster:
		if !p.started[kindListener] {
			p.ask(kindListener)
		}
	case kindListener:
		p.listen(r)
	}
}

// listen subscribes to the tables of new listeners.
func (p *puppet) listen(r *discoveryv3.DeltaDiscoveryResponse) {
	if !p.started[kindTable] {
		p.ask(kindTable)
		return
	}
	more := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[kindTable], ResourceNamesUnsubscribe: r.RemovedResources}
	for _, res := range r.Resources {
		if p.have[kindTable][res.Name] == nil && p.have[kindListener][res.Name] != nil {
			more.ResourceNamesSubscribe = append(more.ResourceNamesSubscribe, res.Name)
		}
	}
	for _, name := range r.RemovedResources {
		delete(p.have[kindTable], name)
	}
	p.s.request(more, p.now)
}

// check holds the rules of the order against what Envoy has now.
func (p *puppet) check(k kind, r *discoveryv3.DeltaDiscoveryResponse) {
	p.t.Helper()
	if k != kindTable && k != kindCluster && k != kindRuntime {
		return
	}
	for _, t := range p.have[kindTable] {
		for _, c := range tableClusters(p.t, t) {
			if p.have[kindCluster][c] == nil {
				p.t.Errorf("after %s: the table of %s names cluster %s, which Envoy does not have\n%s",
					r.Nonce, t.Name, c, strings.Join(p.log, "\n"))
			}
		}
		for _, key := range p.keysWithoutValue(t) {
			p.t.Errorf("after %s: the table of %s reads %s, which no layer has\n%s",
				r.Nonce, t.Name, key, strings.Join(p.log, "\n"))
		}
	}
}

// keysWithoutValue returns the runtime keys of a table that would be read as
// the default: all users to the stable version.
func (p *puppet) keysWithoutValue(t *discoveryv3.Resource) []string {
	values := map[string]bool{}
	for _, r := range p.have[kindRuntime] {
		var layer runtimev3.Runtime
		if err := r.Resource.UnmarshalTo(&layer); err != nil {
			p.t.Fatal(err)
		}
		for key := range layer.Layer.Fields {
			values[key] = true
		}
	}
	var table routev3.RouteConfiguration
	if err := t.Resource.UnmarshalTo(&table); err != nil {
		p.t.Fatal(err)
	}
	var missing []string
	for _, h := range table.VirtualHosts {
		for _, route := range h.Routes {
			w := route.GetRoute().GetWeightedClusters()
			for _, c := range w.GetClusters() {
				if key := w.RuntimeKeyPrefix + "." + c.Name; w.RuntimeKeyPrefix != "" && !values[key] {
					missing = append(missing, key)
				}
			}
		}
	}
	return missing
}

func tableClusters(t testing.TB, r *discoveryv3.Resource) []string {
	var table routev3.RouteConfiguration
	if err := r.Resource.UnmarshalTo(&table); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range table.VirtualHosts {
		for _, route := range h.Routes {
			if c := route.GetRoute().GetCluster(); c != "" {
				names = append(names, c)
			}
			for _, c := range route.GetRoute().GetWeightedClusters().GetClusters() {
				names = append(names, c.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// routes tells which clusters a listener's table names.
func (p *puppet) routes(listener string) string {
	r := p.have[kindTable][listener]
	if r == nil {
		return "none"
	}
	return strings.Join(tableClusters(p.t, r), " ")
}

// logged returns what was exchanged since it was last called.
func (p *puppet) logged() []string {
	log := p.log
	p.log = nil
	return log
}

func (p *puppet) acked(models ...string) error {
	for _, name := range models {
		if m := p.s.models[name]; m == nil || !p.s.acknowledged(m) {
			return fmt.Errorf("%s is not acknowledged", name)
		}
	}
	return nil
}
