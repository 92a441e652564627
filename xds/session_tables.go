package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// table is the route table of one listener on this Envoy.
type table struct {
	listener string
	asked    bool // Envoy subscribed to it
	known    bool // it is known what Envoy's table is made of
	dirty    bool // may have to be sent
	members  map[*model]bool
	sorted   []*model // members by name; nil: to be sorted
	suspects []*model // changed in a table that was refused, one of them is to blame
	failure  string   // why it could not be brought to Envoy
}

// proposal is a table in flight.
type proposal struct {
	table   *table
	version string
	parts   []part // one for each model in it
	changed []*model
}

// part is what a proposal says of a model.
type part struct {
	model *model
	state *ModelResources
}

func (s *session) table(listener string) *table {
	t, ok := s.tables[listener]
	if !ok {
		t = &table{listener: listener, members: map[*model]bool{}}
		s.tables[listener] = t
	}
	return t
}

// place makes a model a member of the tables that it is or should be in.
func (s *session) place(m *model) {
	var in []string
	for _, r := range []*ModelResources{m.want, m.goal} {
		if r != nil && !slices.Contains(in, r.Listener) {
			in = append(in, r.Listener)
		}
	}
	for _, p := range m.routes {
		if m.stays && m.on(p.listener) && !slices.Contains(in, p.listener) {
			in = append(in, p.listener)
		}
	}
	for _, listener := range m.in {
		if !slices.Contains(in, listener) {
			t := s.table(listener)
			delete(t.members, m)
			t.sorted, t.dirty = nil, true
		}
	}
	for _, listener := range in {
		if t := s.table(listener); !t.members[m] {
			t.members[m] = true
			t.sorted, t.dirty = nil, true
		}
	}
	m.in = in
}

func (t *table) order() []*model {
	if t.sorted == nil {
		t.sorted = slices.SortedFunc(maps.Keys(t.members), func(a, b *model) int { return cmp.Compare(a.name, b.name) })
	}
	return t.sorted
}

func (s *session) openTable(listener string) {
	t := s.table(listener)
	t.asked, t.dirty = true, true
	version, reported := s.watches[kindTable].have[listener]
	if !reported {
		t.known = true
		return
	}
	if models, ok := s.ledger.recall(listener, version); ok {
		t.known = true
		for _, r := range models {
			m := s.model(r.Model)
			m.at(listener).acked = r
			s.touched[m] = true
		}
	}
}

// closeTable forgets a table: Envoy has drained its listener.
func (s *session) closeTable(listener string) {
	t := s.table(listener)
	t.asked, t.known, t.suspects = false, false, nil
	for _, m := range s.models {
		for _, p := range m.routes {
			if p.listener == listener {
				p.acked, p.sent = nil, nil
				s.touched[m] = true
			}
		}
	}
}

// learnRoutes finds out whether it is known which clusters this Envoy's routes
// name.
func (s *session) learnRoutes() {
	known := s.watches[kindListener].started
	for name := range s.watches[kindListener].have {
		if t := s.tables[name]; !isMirror(name) && (t == nil || !t.asked || !t.known) {
			known = false
		}
	}
	for _, t := range s.tables {
		if t.asked && !t.known {
			known = false
		}
	}
	if known != s.routesKnown {
		s.routesKnown, s.again = known, true
		s.touchAll()
		for _, l := range s.layers {
			l.dirty = true
		}
	}
}

// markTables notes that the table of a model may have to be sent again.
func (s *session) markTables(m *model) {
	for _, p := range m.routes {
		inForce := p.acked
		if p.sent != nil {
			inForce = p.sent
		}
		if m.goal == nil || m.goal.Listener != p.listener {
			if inForce != nil && !m.stays {
				s.table(p.listener).dirty = true
			}
			continue
		}
		if inForce == nil || inForce.RouteVersion != m.goal.RouteVersion {
			s.table(p.listener).dirty = true
		}
	}
	if m.goal != nil && m.at(m.goal.Listener).acked == nil {
		s.table(m.goal.Listener).dirty = true
	}
}

func (s *session) sendTables(now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w := s.watches[kindTable]
	if !w.started || len(w.flights) > 0 {
		return nil
	}
	f := &flight{}
	for _, listener := range slices.Sorted(maps.Keys(s.tables)) {
		t := s.tables[listener]
		if !t.dirty || !t.asked {
			continue
		}
		if _, wanted := s.listening[listener]; !wanted && !s.keeps(listener, now) {
			// Envoy drains the listener: its connections keep their routes.
			t.dirty = false
			if w.have[listener] == "" && !s.holding {
				f.removed = append(f.removed, listener)
			}
			continue
		}
		if r, p := s.propose(t, now); p != nil {
			f.added = append(f.added, r)
			f.tables = append(f.tables, p)
		}
	}
	if len(f.added)+len(f.removed) == 0 {
		return nil
	}
	for _, p := range f.tables {
		p.table.dirty = false
		for _, c := range p.parts {
			c.model.at(p.table.listener).sent = c.state
		}
	}
	return w.launch(f, now)
}

// propose composes a table of the newest state of each model that is ready.
// It returns nil when nothing has to be sent, or not yet.
func (s *session) propose(t *table, now time.Time) (Resource, *proposal) {
	have := s.watches[kindTable].have[t.listener]
	if s.heldTable[t.listener] && have != "" {
		t.dirty = false
		return Resource{}, nil
	}
	if !t.known {
		return s.proposeUnknown(t, have)
	}
	if have == "" && !s.settled(t.listener) && now.Before(s.listening[t.listener].Add(s.limits.settle)) {
		return Resource{}, nil
	}
	p := &proposal{table: t}
	var states []*ModelResources
	for _, m := range t.order() {
		state, acked := s.choose(t, m), m.at(t.listener).acked
		if state != nil {
			states = append(states, state)
			p.parts = append(p.parts, part{m, state})
		}
		if state != nil && (acked == nil || acked.RouteVersion != state.RouteVersion) {
			p.changed = append(p.changed, m)
		}
	}
	if len(states) == 0 {
		t.dirty = false
		return Resource{}, nil
	}
	return s.compose(p, states, have)
}

// choose returns what the table should hold of a model now: its goal when that
// is ready, else what the table holds already.
func (s *session) choose(t *table, m *model) *ModelResources {
	acked := m.at(t.listener).acked
	if m.goal == nil || m.goal.Listener != t.listener {
		if m.stays || (m.want != nil && m.want.Listener == t.listener) {
			return acked
		}
		return nil
	}
	if acked != nil && acked.RouteVersion == m.goal.RouteVersion {
		return m.goal
	}
	if !s.ready(m) || (len(t.suspects) > 0 && !slices.Contains(t.trial(), m)) {
		return acked
	}
	return m.goal
}

// trial is the half of the suspects that the next table tries.
func (t *table) trial() []*model { return t.suspects[:(len(t.suspects)+1)/2] }

// proposeUnknown handles a table that another process made. It is the wanted
// one, or it is replaced in one go when every model of it is ready: what is
// not known cannot be kept.
//
// The weights don't have to be there first. A model whose routes were changed
// meanwhile either had the same keys before, or begins with the default
// weights of its routes, which are those of the stable version.
func (s *session) proposeUnknown(t *table, have string) (Resource, *proposal) {
	p := &proposal{table: t}
	var states []*ModelResources
	ready := true
	for _, m := range t.order() {
		if m.goal == nil || m.goal.Listener != t.listener {
			ready = false
			continue
		}
		ready = ready && s.hasClusters(m.goal)
		states = append(states, m.goal)
		p.parts = append(p.parts, part{m, m.goal})
		p.changed = append(p.changed, m)
	}
	if len(states) == 0 {
		return Resource{}, nil
	}
	r, err := s.compile.RouteTable(t.listener, states)
	if err == nil && r.Version == have {
		s.adopt(p)
		return Resource{}, nil
	}
	if !ready {
		return Resource{}, nil
	}
	return s.compose(p, states, have)
}

// compose makes the resource of a proposal, unless Envoy has it already.
func (s *session) compose(p *proposal, states []*ModelResources, have string) (Resource, *proposal) {
	t := p.table
	r, err := s.compile.RouteTable(t.listener, states)
	if err != nil {
		t.failure, t.dirty = err.Error(), false
		return Resource{}, nil
	}
	p.version = r.Version
	if r.Version == have {
		s.adopt(p)
		return Resource{}, nil
	}
	if text, rejected := s.ledger.rejection(kinds, t.listener, r.Version); rejected {
		t.failure, t.dirty = text, false
		return Resource{}, nil
	}
	return r, p
}

// adopt takes a proposal as what Envoy has.
func (s *session) adopt(p *proposal) {
	t := p.table
	t.dirty, t.failure = false, ""
	in := map[*model]bool{}
	states := make([]*ModelResources, 0, len(p.parts))
	for _, c := range p.parts {
		in[c.model] = true
		states = append(states, c.state)
		at := c.model.at(t.listener)
		at.acked, at.sent = c.state, nil
		// The goal may have taken other weights since the table was sent.
		if g := c.model.goal; g != nil && g.Listener == t.listener && g.RouteVersion == c.state.RouteVersion {
			at.acked = g
		}
		s.touched[c.model] = true
	}
	for _, m := range s.models {
		for _, at := range m.routes {
			if at.listener == t.listener && !in[m] {
				at.acked, at.sent = nil, nil
				s.touched[m] = true
			}
		}
	}
	if !t.known {
		t.known = true
		s.learnRoutes()
	}
	s.ledger.remember(t.listener, s.watches[kindTable].have[t.listener], states)
}

func (s *session) tablesAccepted(f *flight) {
	for _, p := range f.tables {
		if !p.table.asked {
			continue
		}
		p.table.suspects = slices.DeleteFunc(p.table.suspects, func(m *model) bool { return slices.Contains(p.changed, m) })
		s.adopt(p)
		for m := range p.table.members {
			s.touched[m] = true
		}
	}
}

// tablesRefused finds the model that is to blame. When several changed, half
// of them is tried next, and so on: Envoy's text names no model.
func (s *session) tablesRefused(f *flight, text string) {
	bad := f.culprits(text)
	for _, p := range f.tables {
		t := p.table
		t.dirty = true
		for _, c := range p.parts {
			c.model.at(t.listener).sent = nil
			s.touched[c.model] = true
		}
		blamed := slices.ContainsFunc(bad, func(r Resource) bool { return r.Name == t.listener })
		if len(bad) > 0 && !blamed {
			continue
		}
		switch {
		case len(p.changed) == 0 || (len(p.changed) > 1 && !t.known):
			s.ledger.reject(kinds, t.listener, p.version, text)
			t.failure = text
		case len(p.changed) == 1:
			m := p.changed[0]
			s.ledger.reject(kindTable, m.name, m.stateIn(p).RouteVersion, text)
			t.suspects = nil
		default:
			t.suspects = p.changed
		}
	}
}

func (m *model) stateIn(p *proposal) *ModelResources {
	for _, c := range p.parts {
		if c.model == m {
			return c.state
		}
	}
	return m.goal
}

// anyReady tells whether a listener has a model to serve.
func (s *session) anyReady(listener string) bool {
	for m := range s.table(listener).members {
		if m.goal != nil && m.goal.Listener == listener && s.ready(m) {
			return true
		}
	}
	return false
}

// settled tells whether every model of a listener is ready, or will not be.
func (s *session) settled(listener string) bool {
	t := s.table(listener)
	for m := range t.members {
		if m.goal != nil && m.goal.Listener == listener && !s.ready(m) {
			return false
		}
	}
	return true
}
