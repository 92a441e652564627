package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/headgate/headgate/routing"
)

// longestPatience bounds the time that a hanging warm-up may take while others
// wait, however often it was tried.
const longestPatience = 30 * time.Second

func (s *session) queueClusters(m *model) {
	delete(s.pending, m)
	if m.goal == nil {
		return
	}
	w := s.watches[kindCluster]
	for _, c := range s.clusters(m.goal) {
		if !w.has(c) {
			s.pending[m] = true
		}
	}
}

// needed tells whether a cluster is part of the goal, or named by routes that
// Envoy has or was sent.
func (m *model) needed(cluster string) bool {
	if m.held || m.goal.names(cluster) {
		return true
	}
	for _, p := range m.routes {
		if p.acked.names(cluster) || p.sent.names(cluster) {
			return true
		}
	}
	return false
}

func (r *ModelResources) names(cluster string) bool {
	if r == nil {
		return false
	}
	for _, c := range r.Clusters {
		if c.Name == cluster {
			return true
		}
	}
	return false
}

// retire notes which clusters of a model are no longer needed, and since when.
// While the routes of this Envoy are not known, all of them may be.
func (s *session) retire(m *model, now time.Time) {
	for _, name := range m.known {
		if m.needed(name) || !s.routesKnown {
			delete(s.retiring, name)
			continue
		}
		if _, ok := s.retiring[name]; !ok {
			s.retiring[name] = now.Add(s.limits.removal)
		}
	}
}

// sendClusters sends what models lack and removes what nobody needs. One
// response at a time: Envoy holds the ACK back while a cluster warms up, and
// a second response would wait for the same cluster.
func (s *session) sendClusters(now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w := s.watches[kindCluster]
	if !w.started {
		return nil
	}
	if len(w.flights) > 0 {
		return s.takeBackHanging(now)
	}
	added, warming := s.nextClusters()
	f := &flight{added: added, warming: warming}
	for name, due := range s.retiring {
		if !due.After(now) {
			f.removed = append(f.removed, name)
			delete(s.retiring, name)
		}
	}
	if len(f.added)+len(f.removed) == 0 {
		return nil
	}
	slices.Sort(f.removed)
	response := w.launch(f, now)
	for _, r := range f.added {
		m := s.owner(r.Name)
		m.learn(r.Name)
		s.queueClusters(m)
	}
	return response
}

func (s *session) owner(cluster string) *model {
	name, _, _ := routing.ParseClusterName(cluster)
	return s.model(name)
}

// nextClusters chooses what to send, and tells whether that has to warm up.
// The first response of an Envoy carries everything: while it starts it
// acknowledges at once. Later those that need no warm-up go before those that
// do, and models that hung go last, ever fewer at a time.
func (s *session) nextClusters() (next []Resource, warming bool) {
	if len(s.suspects) > 0 {
		if next = s.nextSuspects(); len(next) > 0 {
			return next, false
		}
	}
	var quick, slow []Resource
	first := len(s.watches[kindCluster].have) == 0
	var hung []*model
	for _, m := range slices.SortedFunc(maps.Keys(s.pending), byHangs) {
		if m.hangs > 0 {
			hung = append(hung, m)
			continue
		}
		for _, r := range s.lacking(m) {
			if first || !warmsUp(r) {
				quick = append(quick, r)
			} else {
				slow = append(slow, r)
			}
		}
	}
	if len(quick) > 0 {
		return quick, false
	}
	if len(slow) > 0 {
		return slow, true
	}
	for _, m := range hung[:min(len(hung), max(s.batch, 1))] {
		slow = append(slow, s.lacking(m)...)
	}
	return slow, true
}

func byHangs(a, b *model) int {
	return cmp.Or(cmp.Compare(a.hangs, b.hangs), cmp.Compare(a.name, b.name))
}

// nextSuspects sends half of the clusters among which a refused one is hidden.
func (s *session) nextSuspects() []Resource {
	for len(s.suspects) > 0 {
		var next []Resource
		for _, name := range s.suspects[:(len(s.suspects)+1)/2] {
			for _, r := range s.lacking(s.owner(name)) {
				if r.Name == name {
					next = append(next, r)
				}
			}
		}
		if len(next) > 0 {
			return next
		}
		s.suspects = s.suspects[(len(s.suspects)+1)/2:]
	}
	return nil
}

func (s *session) lacking(m *model) []Resource {
	if m.goal == nil {
		return nil
	}
	var missing []Resource
	for _, c := range s.clusters(m.goal) {
		if !s.watches[kindCluster].has(c) {
			missing = append(missing, c)
		}
	}
	return missing
}

// warmsUp tells whether Envoy will ask somebody (a name server, an endpoint, a
// secret) before it uses the cluster.
func warmsUp(r Resource) bool {
	var c clusterv3.Cluster
	if err := r.Body.UnmarshalTo(&c); err != nil {
		return true
	}
	static, ok := c.GetClusterDiscoveryType().(*clusterv3.Cluster_Type)
	return !ok || static.Type != clusterv3.Cluster_STATIC || len(c.GetHealthChecks()) > 0
}

// patience is how long the clusters in flight may warm up while others wait.
func (s *session) patience() time.Duration {
	hangs := 0
	for _, f := range s.watches[kindCluster].flights {
		for _, r := range f.added {
			hangs = max(hangs, s.owner(r.Name).hangs)
		}
	}
	for m := range s.pending {
		if m.hangs < hangs {
			hangs = m.hangs
		}
	}
	return min(s.limits.hang<<min(hangs, 10), longestPatience)
}

// reading is the time that Envoy may need for a response, apart from warming
// up.
func (f *flight) reading() time.Duration { return time.Duration(len(f.added)) * 5 * time.Millisecond }

// takeBackHanging undoes a response whose clusters warm up too long while
// others wait. Envoy then acknowledges both, the others go first, and those
// that hung are sent again, alone.
func (s *session) takeBackHanging(now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w := s.watches[kindCluster]
	f := w.flights[0]
	if !f.warming || f.takenBack || now.Before(f.at.Add(s.patience()+f.reading())) || !s.othersWait(f) {
		return nil
	}
	undo := &flight{}
	for _, r := range f.added {
		m := s.owner(r.Name)
		before, had := w.have[r.Name]
		if !had {
			undo.removed = append(undo.removed, r.Name)
		} else if old, ok := s.ledger.cluster(m.name, r.Name, before); ok {
			undo.added = append(undo.added, old)
		}
	}
	if len(undo.added)+len(undo.removed) == 0 {
		return nil
	}
	owners := map[*model]bool{}
	for _, r := range f.added {
		owners[s.owner(r.Name)] = true
	}
	for m := range owners {
		m.hangs++
		s.touched[m] = true
	}
	f.takenBack = true
	s.batch = len(owners) / 2
	return w.launch(undo, now)
}

// othersWait tells whether somebody gains when the flight is taken back.
func (s *session) othersWait(f *flight) bool {
	owners := map[*model]bool{}
	for _, r := range f.added {
		owners[s.owner(r.Name)] = true
	}
	if len(owners) > 1 {
		return true
	}
	for m := range s.pending {
		if !owners[m] {
			return true
		}
	}
	return false
}

func (s *session) clustersAccepted(f *flight) {
	tried := map[string]bool{}
	for _, r := range f.added {
		tried[r.Name] = true
		m := s.owner(r.Name)
		if !f.takenBack && m.hangs > 0 {
			m.hangs = 0
		}
		s.touched[m] = true
	}
	s.suspects = slices.DeleteFunc(s.suspects, func(name string) bool { return tried[name] })
	for _, name := range f.removed {
		m := s.owner(name)
		m.known = slices.DeleteFunc(m.known, func(n string) bool { return n == name })
		s.touched[m] = true
	}
}

// clustersRefused notes which cluster was refused. Envoy took the others of
// the response, but does not say so: they are sent once more.
func (s *session) clustersRefused(f *flight, text string) {
	for _, r := range f.added {
		s.touched[s.owner(r.Name)] = true
	}
	for _, name := range f.removed {
		s.touched[s.owner(name)] = true
	}
	bad := f.culprits(text)
	if len(bad) == 0 {
		s.suspects = nil
		for _, r := range f.added {
			s.suspects = append(s.suspects, r.Name)
		}
		return
	}
	for _, r := range bad {
		s.ledger.reject(kindCluster, r.Name, r.Version, text)
		s.suspects = slices.DeleteFunc(s.suspects, func(name string) bool { return name == r.Name })
	}
}
