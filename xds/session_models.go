package xds

import (
	"maps"
	"slices"
	"time"
)

// model is how far one model has come on one Envoy.
type model struct {
	name  string
	held  bool
	stays bool            // on the listeners that it has left
	want  *ModelResources // of the plan; nil: it has gone
	goal  *ModelResources // what this Envoy should get: want, or what was accepted last; nil: nothing
	since time.Time       // when want changed
	hangs int             // how often its clusters were taken back for warming up too long

	known   []string          // names of the clusters that Envoy has or was sent
	shard   int               // index of its layer
	in      []string          // listeners whose tables it is a member of
	routes  []*tablePart      // its part in tables
	weighed map[string]uint32 // weights that Envoy acknowledged
	blend   *ModelResources   // the last goal with weights of another state
}

// tablePart is what a table holds of a model.
type tablePart struct {
	listener string
	acked    *ModelResources // in the acknowledged table
	sent     *ModelResources // in the table in flight; nil: none, or not in it
}

func (s *session) model(name string) *model {
	m, ok := s.models[name]
	if !ok {
		m = &model{name: name}
		s.models[name] = m
	}
	return m
}

func (m *model) learn(cluster string) {
	if !slices.Contains(m.known, cluster) {
		m.known = append(m.known, cluster)
	}
}

// at returns the model's part in a listener's table.
func (m *model) at(listener string) *tablePart {
	for _, p := range m.routes {
		if p.listener == listener {
			return p
		}
	}
	p := &tablePart{listener: listener}
	m.routes = append(m.routes, p)
	return p
}

// evaluate brings everything that follows from a model's state up to date.
func (s *session) evaluate(m *model, now time.Time) {
	goal := s.resolve(m)
	if goal != m.goal {
		s.copyTo(m.goal, goal)
		m.move(goal)
	}
	s.stay(m, now)
	s.place(m)
	s.queueClusters(m)
	s.retire(m, now)
	s.weigh(m)
	s.markTables(m)
	if m.want == nil && !m.held && s.gone(m) {
		delete(s.models, m.name)
		return
	}
	if s.acknowledged(m) {
		s.ledger.accept(m.want)
	}
}

// gone tells whether nothing of the model is left on this Envoy.
func (s *session) gone(m *model) bool {
	m.routes = slices.DeleteFunc(m.routes, func(p *tablePart) bool { return p.acked == nil && p.sent == nil })
	return len(m.known) == 0 && len(m.routes) == 0 && len(m.weighed) == 0
}

// resolve returns what this Envoy should get of a model: what the plan wants,
// unless an Envoy refused a part of it.
func (s *session) resolve(m *model) *ModelResources {
	if m.held || m.want == nil {
		return nil
	}
	if _, rejected := s.ledger.modelRejection(m.want); !rejected || s.applied(m) {
		return m.want
	}
	fallback := s.ledger.fallback(m.name)
	for _, p := range m.routes {
		if _, rejected := s.ledger.modelRejection(p.acked); p.acked != nil && !rejected {
			fallback = p.acked
			if p.listener == m.want.Listener {
				break
			}
		}
	}
	if fallback == nil {
		return nil
	}
	return m.reweighted(fallback)
}

// reweighted returns an accepted state with the wanted weights, when they are
// about the same split: a way back must not wait for an unrelated mistake.
func (m *model) reweighted(r *ModelResources) *ModelResources {
	if maps.Equal(r.Weights, m.want.Weights) || !sameKeys(r.Weights, m.want.Weights) {
		return r
	}
	if m.blend == nil || !sameStructure(m.blend, r) || !maps.Equal(m.blend.Weights, m.want.Weights) {
		b := *r
		b.Weights = m.want.Weights
		m.blend = &b
	}
	return m.blend
}

// applied tells whether the Envoy has accepted the wanted state already.
func (s *session) applied(m *model) bool {
	if !s.hasClusters(m.want) {
		return false
	}
	acked := m.at(m.want.Listener).acked
	return acked != nil && acked.RouteVersion == m.want.RouteVersion
}

// move changes the goal of a model.
func (m *model) move(goal *ModelResources) {
	if goal != nil {
		// A state that differs in weights only is what the table holds, too.
		for _, p := range m.routes {
			if p.acked != nil && p.listener == goal.Listener && p.acked.RouteVersion == goal.RouteVersion {
				p.acked = goal
			}
		}
	}
	m.goal = goal
}

// hasClusters tells whether routes may name the clusters of a state.
func (s *session) hasClusters(r *ModelResources) bool {
	for _, c := range s.clusters(r) {
		if !s.watches[kindCluster].holds(c) {
			return false
		}
	}
	return true
}

// hasWeights tells whether the Envoy acknowledged the weights of a state, and
// no others are on their way.
func (s *session) hasWeights(m *model, r *ModelResources) bool {
	next := s.layers[r.Shard].sent[m]
	for key, v := range r.Weights {
		if have, ok := m.weighed[key]; !ok || have != v || next[key] != v {
			return false
		}
	}
	return true
}

// ready tells whether a table may name the model's goal.
func (s *session) ready(m *model) bool {
	return m.goal != nil && s.hasClusters(m.goal) &&
		(s.hasWeights(m, m.goal) || !s.watches[kindRuntime].asked(s.layers[m.goal.Shard].name))
}

// acknowledged tells whether this Envoy has everything of the model that the
// plan wants.
func (s *session) acknowledged(m *model) bool {
	if m.held || m.want == nil || m.goal != m.want || !s.hasClusters(m.want) || !s.hasWeights(m, m.want) || !s.hasCopies(m.want) {
		return false
	}
	if acked := m.at(m.want.Listener).acked; acked == nil || acked.RouteVersion != m.want.RouteVersion {
		return false
	}
	have := s.watches[kindListener].have[m.want.Listener]
	i, ok := slices.BinarySearchFunc(s.snapshot.Listeners, m.want.Listener, byName)
	return ok && have == s.snapshot.Listeners[i].Version
}

func byName(r Resource, name string) int {
	switch {
	case r.Name < name:
		return -1
	case r.Name > name:
		return 1
	}
	return 0
}

func sameKeys(a, b map[string]uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for key := range a {
		if _, ok := b[key]; !ok {
			return false
		}
	}
	return true
}
