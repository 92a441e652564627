package xds

import (
	"slices"
	"sync"
	"sync/atomic"
)

// ledger is what all sessions know together: which contents an Envoy refused,
// and what was accepted before. It makes sure that contents which were refused
// once are not sent again, to nobody, until a plan changes them.
type ledger struct {
	any atomic.Bool // there are rejections; lets the usual case skip the lock

	mu       sync.Mutex
	rejected map[content]string           // to Envoy's own words
	accepted map[string][]*ModelResources // by model, newest first
	good     map[resourceID][]Resource    // listeners and secrets, newest first
	tables   map[string][]knownTable      // by listener, newest first
}

// content is one version of one resource. The routes of a model count as a
// resource of kind tables with the name of the model: a table as such is
// nobody's.
type content struct {
	resourceID
	version string
}

type resourceID struct {
	kind kind
	name string
}

// composed tells whether the content is made by a session of parts of the
// snapshot: a runtime layer, or a table none of whose models is to blame. Its
// version changes with the parts, so there is no need to forget it.
func (c content) composed() bool { return c.kind == kindRuntime || c.kind == kinds }

// knownTable is a route table that an Envoy acknowledged, and what it is made
// of.
type knownTable struct {
	version string
	models  []*ModelResources
}

// acceptedStates is how many accepted states are kept of each model, listener and
// table: the newest may turn out to be refused by another Envoy.
const acceptedStates = 4

func newLedger() *ledger {
	return &ledger{
		rejected: map[content]string{},
		accepted: map[string][]*ModelResources{},
		good:     map[resourceID][]Resource{},
		tables:   map[string][]knownTable{},
	}
}

func (l *ledger) reject(k kind, name, version, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected[content{resourceID{k, name}, version}] = text
	l.any.Store(true)
}

// rejection returns Envoy's words about a version, when one refused it.
func (l *ledger) rejection(k kind, name, version string) (text string, rejected bool) {
	if !l.any.Load() {
		return "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text, rejected = l.rejected[content{resourceID{k, name}, version}]
	return text, rejected
}

// modelRejection returns Envoy's words about the clusters or routes of a model.
func (l *ledger) modelRejection(m *ModelResources) (text string, rejected bool) {
	if m == nil || !l.any.Load() {
		return "", false
	}
	for _, c := range m.Clusters {
		if text, rejected = l.rejection(kindCluster, c.Name, c.Version); rejected {
			return text, true
		}
	}
	return l.rejection(kindTable, m.Model, m.RouteVersion)
}

// forget drops the rejections of what the snapshot no longer has, so that the
// same content is tried again when it comes back by an edit.
func (l *ledger) forget(s *Snapshot) {
	if !l.any.Load() {
		return
	}
	present := map[content]bool{}
	for _, m := range s.Models {
		present[content{resourceID{kindTable, m.Model}, m.RouteVersion}] = true
		for _, c := range m.Clusters {
			present[content{resourceID{kindCluster, c.Name}, c.Version}] = true
		}
		for _, l := range m.Internal {
			present[content{resourceID{kindListener, l.Name}, l.Version}] = true
		}
	}
	for _, r := range s.Listeners {
		present[content{resourceID{kindListener, r.Name}, r.Version}] = true
	}
	for _, r := range s.Secrets {
		present[content{resourceID{kindSecret, r.Name}, r.Version}] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.rejected {
		if !present[c] && !c.composed() {
			delete(l.rejected, c)
		}
	}
	l.any.Store(len(l.rejected) > 0)
}

// accept notes that an Envoy has all of a model.
func (l *ledger) accept(m *ModelResources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.accepted[m.Model]
	if len(list) > 0 && sameStructure(list[0], m) {
		list[0] = m
		return
	}
	l.accepted[m.Model] = front(list, m)
}

// fallback returns the newest state of a model that was accepted and not
// refused by anyone, or nil.
func (l *ledger) fallback(model string) *ModelResources {
	l.mu.Lock()
	list := slices.Clone(l.accepted[model])
	l.mu.Unlock()
	for _, m := range list {
		if _, rejected := l.modelRejection(m); !rejected {
			return m
		}
	}
	return nil
}

// cluster returns a version of a model's cluster that was accepted.
func (l *ledger) cluster(model, name, version string) (Resource, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.accepted[model] {
		for _, c := range m.Clusters {
			if c.Name == name && c.Version == version {
				return c, true
			}
		}
	}
	return Resource{}, false
}

// acceptResource notes that an Envoy has a listener or a secret.
func (l *ledger) acceptResource(k kind, r Resource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := resourceID{k, r.Name}
	list := l.good[id]
	if len(list) > 0 && list[0].Version == r.Version {
		return
	}
	l.good[id] = front(list, r)
}

// usable returns the resource itself, or when it was refused the newest
// accepted one of that name.
func (l *ledger) usable(k kind, r Resource) (Resource, bool) {
	if _, rejected := l.rejection(k, r.Name, r.Version); !rejected {
		return r, true
	}
	l.mu.Lock()
	list := slices.Clone(l.good[resourceID{k, r.Name}])
	l.mu.Unlock()
	for _, g := range list {
		if _, rejected := l.rejection(k, g.Name, g.Version); !rejected {
			return g, true
		}
	}
	return Resource{}, false
}

// remember notes what an acknowledged table is made of, so that an Envoy which
// comes back with it is understood.
func (l *ledger) remember(listener, version string, models []*ModelResources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(l.tables[listener]), func(t knownTable) bool { return t.version == version })
	l.tables[listener] = front(list, knownTable{version, models})
}

// recall returns what a table is made of.
func (l *ledger) recall(listener, version string) ([]*ModelResources, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tables[listener] {
		if t.version == version {
			return t.models, true
		}
	}
	return nil, false
}

// front puts a value before the others and keeps the newest ones.
func front[T any](list []T, v T) []T {
	list = append([]T{v}, list...)
	return list[:min(len(list), acceptedStates)]
}

// sameStructure tells whether two states of a model differ in weights at most.
func sameStructure(a, b *ModelResources) bool {
	return a.RouteVersion == b.RouteVersion && a.Listener == b.Listener &&
		slices.EqualFunc(a.Clusters, b.Clusters, func(x, y Resource) bool {
			return x.Name == y.Name && x.Version == y.Version
		})
}
