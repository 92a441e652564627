package xds

import (
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/headgate/headgate/routing"
)

// compiler puts together the resources that many models share. Both are pure.
type compiler interface {
	RouteTable(listener string, models []*ModelResources) (Resource, error)
	RuntimeLayer(shard int, models []*ModelResources) Resource
}

// limits are the times that a session waits for.
type limits struct {
	// removal is how long a cluster stays after the last route to it has gone,
	// for the requests that were on their way to it, and how long a model stays
	// on the listener that it has left, after the new one opened.
	removal time.Duration
	// hang is how long clusters may warm up while other models wait.
	hang time.Duration
	// settle is how long a new listener waits for all of its models.
	settle time.Duration
	// unknown is how long weights wait for the routes of an Envoy whose routes
	// come from another process.
	unknown time.Duration
	// rebind is how long after a listener could not bind its address it is
	// tried again; twice that after the second time, up to longestRebind.
	rebind, longestRebind time.Duration
}

var defaultLimits = limits{
	removal: 5 * time.Second,
	hang:    time.Second,
	settle:  2 * time.Second,
	unknown: 5 * time.Second,

	rebind:        time.Second,
	longestRebind: 30 * time.Second,
}

// session is what headgate knows of one Envoy's stream and decides what to
// send on it. It does no I/O, has no clock and no lock.
//
// The order that it keeps: a model's clusters first; its weights and its
// routes when this Envoy has acknowledged the clusters; clusters that no
// acknowledged route names go last. Every model goes through this by itself,
// what it shares with others (a table, a layer) is composed of the newest
// state of each that is ready.
type session struct {
	compile  compiler
	ledger   *ledger
	limits   limits
	snapshot *Snapshot // nil: nothing was published yet

	watches   [kinds]*watch
	models    map[string]*model
	touched   map[*model]bool // to be looked at again
	pending   map[*model]bool // have clusters that were not sent
	retiring  map[string]time.Time
	batch     int      // how many models that hung may be sent at a time
	suspects  []string // clusters of a response that was refused for an unknown one
	tables    map[string]*table
	layers    [RuntimeShards]*layer
	listening map[string]time.Time // wanted listeners, and since when
	heldTable map[string]bool      // listeners that carry a held model
	heldShard [RuntimeShards]bool
	holding   bool // any model is held
	// routesKnown: it is known what every table of this Envoy is made of, so
	// what none of them names is not in use.
	routesKnown bool
	again       bool                  // advance has to look at everything once more
	unbound     map[string]failedBind // listeners that could not bind
	opened      map[string]time.Time  // listeners with a model, and since when
	leaving     map[*model]bool       // models that stay on a listener they have left
	copies      map[string]Resource   // internal listeners of the models' goals
	internal    bool                  // this Envoy can have listeners inside

	reported  map[string]string // clusters that Envoy had when it connected
	mistakes  []mistake         // what was refused since the last take
	recovered []string          // listeners that found their address free since
}

func newSession(c compiler, l *ledger, lim limits) *session {
	s := &session{
		compile:   c,
		ledger:    l,
		limits:    lim,
		models:    map[string]*model{},
		touched:   map[*model]bool{},
		pending:   map[*model]bool{},
		retiring:  map[string]time.Time{},
		tables:    map[string]*table{},
		listening: map[string]time.Time{},
		heldTable: map[string]bool{},
		unbound:   map[string]failedBind{},
		opened:    map[string]time.Time{},
		leaving:   map[*model]bool{},
		copies:    map[string]Resource{},
		internal:  true,
	}
	for k := range kinds {
		s.watches[k] = newWatch(k)
	}
	for i := range s.layers {
		s.layers[i] = &layer{shard: i, name: RuntimeLayerName(i), weights: map[*model]map[string]uint32{}}
	}
	return s
}

// held is a model that is left as this Envoy has it, with the table and the
// layer that carry it. It need not be in the snapshot.
type held struct{ model, listener string }

// want makes a snapshot what this Envoy should have, apart from what is held.
func (s *session) want(snapshot *Snapshot, hold []held, now time.Time) {
	var before []*ModelResources
	if s.snapshot != nil {
		before = s.snapshot.Models
	}
	s.snapshot = snapshot
	s.wantModels(before, snapshot.Models, now)
	s.setHold(hold)
	wanted := map[string]time.Time{}
	for _, r := range snapshot.Listeners {
		since, ok := s.listening[r.Name]
		if !ok {
			since = now
		}
		wanted[r.Name] = since
	}
	s.listening = wanted
	maps.DeleteFunc(s.unbound, func(name string, _ failedBind) bool {
		_, still := wanted[name]
		return !still
	})
}

// wantModels walks two sorted lists; what is the same pointer in both costs
// nothing.
func (s *session) wantModels(before, after []*ModelResources, now time.Time) {
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case j == len(after) || (i < len(before) && before[i].Model < after[j].Model):
			s.wantModel(before[i].Model, nil, now)
			i++
		case i == len(before) || before[i].Model > after[j].Model:
			s.wantModel(after[j].Model, after[j], now)
			j++
		default:
			if before[i] != after[j] {
				s.wantModel(after[j].Model, after[j], now)
			}
			i, j = i+1, j+1
		}
	}
}

func (s *session) wantModel(name string, r *ModelResources, now time.Time) {
	m := s.model(name)
	m.want, m.since, m.hangs = r, now, 0
	s.touched[m] = true
}

func (s *session) setHold(hold []held) {
	if len(hold) == 0 && !s.holding {
		return
	}
	s.holding = len(hold) > 0
	clear(s.heldTable)
	s.heldShard = [RuntimeShards]bool{}
	for _, m := range s.models {
		m.held = false
	}
	for _, h := range hold {
		s.model(h.model).held = true
		s.heldTable[h.listener] = true
		s.heldShard[shardOf(h.model)] = true
	}
	s.touchAll()
	for _, t := range s.tables {
		t.dirty = true
	}
	for _, l := range s.layers {
		l.dirty = true
	}
}

// request takes what Envoy said.
func (s *session) request(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) {
	k, ok := kindOf(r.TypeUrl)
	if !ok {
		return
	}
	w := s.watches[k]
	first := !w.started
	added, dropped := w.subscribe(r, now)
	if first {
		s.meet(k, r)
	}
	s.follow(k, added, dropped)
	s.learnRoutes()
	if r.ResponseNonce == "" {
		return
	}
	f := w.land(r.ResponseNonce)
	if f == nil {
		return
	}
	if r.ErrorDetail == nil {
		s.accepted(k, f)
		s.learnRoutes()
		return
	}
	text := oneLine(r.ErrorDetail.Message)
	s.mistakes = append(s.mistakes, s.mistaken(k, f, text))
	w.doubt(f)
	w.lastNACK, w.nackedAt = text, now
	s.refused(k, f, text, now)
	s.learnRoutes()
}

// meet takes what Envoy reports to have when it begins to watch a kind.
func (s *session) meet(k kind, r *discoveryv3.DeltaDiscoveryRequest) {
	if k == kindCluster {
		s.reported = r.InitialResourceVersions
		for name := range r.InitialResourceVersions {
			owner, _, _ := routing.ParseClusterName(name)
			m := s.model(owner)
			m.learn(name)
		}
	}
	s.touchAll()
}

// follow makes subscriptions take effect.
func (s *session) follow(k kind, added, dropped []string) {
	switch k {
	case kindTable:
		for _, name := range added {
			s.openTable(name)
		}
		for _, name := range dropped {
			s.closeTable(name)
		}
	case kindRuntime:
		for _, l := range s.layers {
			if slices.Contains(added, l.name) {
				l.dirty = true
			}
		}
	}
}

func (s *session) accepted(k kind, f *flight) {
	w := s.watches[k]
	w.accept(f)
	switch k {
	case kindCluster:
		s.clustersAccepted(f)
	case kindTable:
		s.tablesAccepted(f)
	case kindRuntime:
		s.layersAccepted(f)
	default:
		for _, r := range f.added {
			s.ledger.acceptResource(k, r)
			if _, failed := s.unbound[r.Name]; failed && k == kindListener {
				delete(s.unbound, r.Name)
				s.recovered = append(s.recovered, r.Name)
			}
		}
		if k == kindListener {
			for _, name := range f.removed {
				delete(s.opened, name)
			}
		}
		s.touchAll()
	}
}

func (s *session) refused(k kind, f *flight, text string, now time.Time) {
	switch k {
	case kindCluster:
		s.clustersRefused(f, text)
	case kindTable:
		s.tablesRefused(f, text)
	case kindRuntime:
		s.layersRefused(f, text)
	default:
		s.plainRefused(k, f, text, now)
	}
}

// advance returns what can be sent now. It must be called after every want and
// request, and when the time of [session.deadline] has come.
func (s *session) advance(now time.Time) []*discoveryv3.DeltaDiscoveryResponse {
	if s.snapshot == nil {
		return nil
	}
	var out []*discoveryv3.DeltaDiscoveryResponse
	maps.Copy(s.touched, s.leaving)
	s.again = true
	for s.again {
		s.again = false
		for _, send := range []func(time.Time) *discoveryv3.DeltaDiscoveryResponse{
			s.sendLayers, s.sendSecrets, s.sendClusters, s.sendListeners, s.sendTables,
		} {
			// What one kind found out (a table that is already there) can
			// matter to the next.
			s.evaluateTouched(now)
			if r := send(now); r != nil {
				out = append(out, r)
			}
		}
		s.evaluateTouched(now)
	}
	return out
}

// deadline is when advance has to be called next, whatever Envoy says; zero
// when nothing waits for the clock.
func (s *session) deadline(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, t := range s.retiring {
		at(t)
	}
	for _, f := range s.watches[kindCluster].flights {
		at(f.at.Add(s.patience() + f.reading()))
	}
	for name, since := range s.listening {
		if s.watches[kindListener].have[name] == "" || s.watches[kindTable].have[name] == "" {
			at(since.Add(s.limits.settle))
		}
	}
	for _, b := range s.unbound {
		at(b.next)
	}
	for _, since := range s.opened {
		at(since.Add(s.limits.removal))
	}
	for _, l := range s.layers {
		if l.dirty {
			at(s.watches[kindRuntime].names[l.name].Add(s.limits.unknown))
		}
	}
	return next
}

func (s *session) touchAll() {
	for _, m := range s.models {
		s.touched[m] = true
	}
}

func (s *session) evaluateTouched(now time.Time) {
	for len(s.touched) > 0 {
		batch := slices.Collect(maps.Keys(s.touched))
		clear(s.touched)
		for _, m := range batch {
			s.evaluate(m, now)
		}
	}
}

// takeMistakes returns what was refused since it was last called, and the
// listeners that are accepted since then after their address was taken.
func (s *session) takeMistakes() (mistakes []mistake, recovered []string) {
	mistakes, recovered = s.mistakes, s.recovered
	s.mistakes, s.recovered = nil, nil
	return mistakes, recovered
}
