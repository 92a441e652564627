package xds

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/headgate/headgate/routing"
)

// layer is one runtime layer of this Envoy.
type layer struct {
	shard   int
	name    string
	dirty   bool
	weights map[*model]map[string]uint32 // of the models that have any
	sent    map[*model]map[string]uint32 // in flight, or acknowledged last
	acked   map[*model]map[string]uint32
	version string // of sent
	failure string
}

// weigh brings a model's weights into its layer. The keys of routes that Envoy
// still has stay until those routes are gone: without them the routes would
// fall back to their default weights for a moment.
func (s *session) weigh(m *model) {
	for _, r := range []*ModelResources{m.goal, m.want} {
		if r != nil {
			m.shard = r.Shard
			break
		}
	}
	l := s.layers[m.shard]
	weights := m.weights()
	if maps.Equal(l.weights[m], weights) {
		return
	}
	if len(weights) == 0 {
		delete(l.weights, m)
	} else {
		l.weights[m] = weights
	}
	l.dirty = true
}

// weights returns what the layer should hold for the model.
func (m *model) weights() map[string]uint32 {
	weights := map[string]uint32{}
	for _, p := range m.routes {
		for _, r := range []*ModelResources{p.acked, p.sent} {
			if r != nil {
				maps.Copy(weights, m.closing(r))
			}
		}
	}
	if m.goal != nil {
		maps.Copy(weights, m.goal.Weights)
	}
	return weights
}

// closing returns the weights for routes that Envoy still has. When the goal
// is one version for everybody they say so too: an end of a rollout, and above
// all a way back, is in force as fast as any other weight and does not wait
// for the route table that makes it permanent.
func (m *model) closing(old *ModelResources) map[string]uint32 {
	if m.goal == nil || len(m.goal.Routes) == 0 {
		return old.Weights
	}
	keys := maps.Clone(old.Weights)
	for key := range keys {
		if strings.HasPrefix(key, mirrorKeys) {
			keys[key] = 0 // no more copies, unless the goal says so
		}
	}
	if !m.goal.splits() {
		m.goal.alone(keys)
	}
	return keys
}

// splits tells whether there are weights of several versions.
func (r *ModelResources) splits() bool {
	for key := range r.Weights {
		if !strings.HasPrefix(key, mirrorKeys) {
			return true
		}
	}
	return false
}

// alone makes the weights of old routes say that the one version which is left
// has everybody, if they know it.
func (r *ModelResources) alone(keys map[string]uint32) {
	only := r.Routes[len(r.Routes)-1].GetRoute().GetCluster()
	mine := func(key string) bool {
		return only != "" && !strings.HasPrefix(key, mirrorKeys) && strings.HasSuffix(key, "."+only)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(keys)), mine) {
		return
	}
	for key := range keys {
		switch {
		case !mine(key):
			keys[key] = 0
		case strings.HasPrefix(key, fallbackKeys):
			keys[key] = 1
		default:
			keys[key] = uint32(routing.Whole)
		}
	}
}

// fallbackKeys begin the keys that stand for requests nobody could decide on.
const fallbackKeys = "headgate-fallback."

func (s *session) sendLayers(now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w := s.watches[kindRuntime]
	if !w.started || len(w.flights) > 0 {
		return nil
	}
	f := &flight{}
	for _, l := range s.layers {
		if !l.dirty || !w.asked(l.name) {
			continue
		}
		have, has := w.have[l.name]
		if has && s.heldShard[l.shard] {
			l.dirty = false
			continue
		}
		// The routes of this Envoy are another process's work, and may need
		// weights that are no longer in the plan. They go first.
		if has && l.version != have && !s.routesKnown && now.Before(w.names[l.name].Add(s.limits.unknown)) {
			continue
		}
		l.dirty = false
		r := s.composeLayer(l)
		if r.Version == have {
			s.layerAccepted(l)
			continue
		}
		if text, rejected := s.ledger.rejection(kindRuntime, r.Name, r.Version); rejected {
			l.failure = text
			continue
		}
		f.added = append(f.added, r)
		f.layers = append(f.layers, l)
	}
	f.removed = s.strangers(w)
	if len(f.added)+len(f.removed) == 0 {
		return nil
	}
	return w.launch(f, now)
}

// strangers returns layers that Envoy asked for and that are not headgate's.
// They are answered, as removed: until then Envoy would not start.
func (s *session) strangers(w *watch) []string {
	var unknown []string
	for name := range w.names {
		ours := slices.ContainsFunc(s.layers[:], func(l *layer) bool { return l.name == name })
		if !ours && !w.told[name] {
			unknown = append(unknown, name)
			w.told[name] = true
		}
	}
	slices.Sort(unknown)
	return unknown
}

func (s *session) composeLayer(l *layer) Resource {
	models := slices.SortedFunc(maps.Keys(l.weights), func(a, b *model) int { return cmp.Compare(a.name, b.name) })
	states := make([]*ModelResources, 0, len(models))
	for _, m := range models {
		states = append(states, &ModelResources{Model: m.name, Shard: l.shard, Weights: l.weights[m]})
	}
	l.sent = maps.Clone(l.weights)
	r := s.compile.RuntimeLayer(l.shard, states)
	l.version = r.Version
	return r
}

func (s *session) layersAccepted(f *flight) {
	for _, l := range f.layers {
		s.layerAccepted(l)
	}
}

func (s *session) layerAccepted(l *layer) {
	l.failure = ""
	for m := range l.acked {
		if _, still := l.sent[m]; !still {
			m.weighed = nil
			s.touched[m] = true
		}
	}
	for m, weights := range l.sent {
		if !maps.Equal(m.weighed, weights) {
			m.weighed = weights
			s.touched[m] = true
		}
	}
	l.acked = l.sent
}

// layersRefused keeps what Envoy has. A layer holds numbers only, so that a
// refusal is not one model's fault.
func (s *session) layersRefused(f *flight, text string) {
	for i, l := range f.layers {
		s.ledger.reject(kindRuntime, f.added[i].Name, f.added[i].Version, text)
		l.failure = text
		l.sent, l.version = l.acked, ""
	}
}
