package xds

import (
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

func (s *session) sendSecrets(now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w := s.watches[kindSecret]
	if !w.started || len(w.flights) > 0 {
		return nil
	}
	f := &flight{}
	for _, r := range s.snapshot.Secrets {
		if !w.asked(r.Name) {
			continue
		}
		if usable, ok := s.ledger.usable(kindSecret, r); ok && !w.has(usable) {
			f.added = append(f.added, usable)
		}
	}
	if len(f.added) == 0 {
		return nil
	}
	return w.launch(f, now)
}

// sendListeners sends the listeners that differ. A new one waits for its
// models, so that it does not open before it can answer. One that is gone from
// the plan is removed when every model that left it is served elsewhere, unless
// a model is held: it may be that model's.
func (s *session) sendListeners(now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w := s.watches[kindListener]
	if !w.started || len(w.flights) > 0 {
		return nil
	}
	f := &flight{}
	for _, r := range s.snapshot.Listeners {
		have := w.have[r.Name]
		if s.heldTable[r.Name] && have != "" {
			continue
		}
		if r, ok := s.ledger.usable(kindListener, r); ok && !w.has(r) && s.mayOpen(r.Name, have, now) {
			f.added = append(f.added, r)
		}
	}
	f.added = append(f.added, s.nextCopies(w)...)
	if !s.holding {
		for _, name := range slices.Sorted(maps.Keys(w.have)) {
			if _, wanted := s.listening[name]; !wanted && !s.keeps(name, now) && !s.keepsCopies(name) {
				f.removed = append(f.removed, name)
			}
		}
	}
	if len(f.added)+len(f.removed) == 0 {
		return nil
	}
	return w.launch(f, now)
}

func (s *session) mayOpen(name, have string, now time.Time) bool {
	if now.Before(s.unbound[name].next) {
		return false
	}
	if have != "" {
		return true
	}
	late := !now.Before(s.listening[name].Add(s.limits.settle))
	return s.anyReady(name) && (late || s.settled(name))
}

// plainRefused handles listeners and secrets. An address that is taken says
// nothing about the listener, only about this Envoy's machine and this moment:
// it is tried again after a while.
func (s *session) plainRefused(k kind, f *flight, text string, now time.Time) {
	s.touchAll()
	bad := f.culprits(text)
	if len(bad) == 0 {
		bad = f.added
	}
	for _, r := range bad {
		if k == kindListener && cannotBind(text) {
			s.failBind(r.Name, text, now)
			continue
		}
		s.ledger.reject(k, r.Name, r.Version, text)
	}
}
