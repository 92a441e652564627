package xds

import (
	"maps"
	"slices"
)

// Copies of requests go by clusters to listeners inside Envoy. Nothing that a
// user waits for depends on them: a copy whose cluster or listener is missing
// is not made. So they keep no order, and an Envoy that cannot have them gets
// all the rest; but it is told to people, and never acknowledges.

// bootstrapInternal is the first of headgate's bootstraps that lets Envoy have
// listeners inside.
const bootstrapInternal = 1

const noInternal = "its bootstrap has no internal listeners: it makes no copies of requests; " +
	"start it with what `headgate bootstrap` writes"

// copyTo changes which internal listeners this Envoy should have.
func (s *session) copyTo(before, after *ModelResources) {
	if before != nil {
		for _, r := range before.Internal {
			delete(s.copies, r.Name)
		}
	}
	if after != nil {
		for _, r := range after.Internal {
			s.copies[r.Name] = r
		}
	}
}

// clusters are those of a state that this Envoy can have.
func (s *session) clusters(r *ModelResources) []Resource {
	if s.internal {
		return r.Clusters
	}
	return r.Clusters[:len(r.Clusters)-len(r.Internal)]
}

// nextCopies are the internal listeners to be sent.
func (s *session) nextCopies(w *watch) []Resource {
	if !s.internal {
		return nil
	}
	var next []Resource
	for _, name := range slices.Sorted(maps.Keys(s.copies)) {
		if r, ok := s.ledger.usable(kindListener, s.copies[name]); ok && !w.has(r) {
			next = append(next, r)
		}
	}
	return next
}

// keepsCopies tells whether an internal listener is still needed: as long as
// the cluster of its name is there, copies may be under way.
func (s *session) keepsCopies(listener string) bool {
	if !isMirror(listener) {
		return false
	}
	_, wanted := s.copies[listener]
	_, led := s.watches[kindCluster].have[listener]
	return wanted || led
}

// hasCopies tells whether Envoy has the internal listeners of a state.
func (s *session) hasCopies(r *ModelResources) bool {
	for _, l := range r.Internal {
		if !s.internal || s.watches[kindListener].have[l.Name] != l.Version {
			return false
		}
	}
	return true
}

// refusesCopies says why Envoy does not make the copies of a state, if it is
// known.
func (s *session) refusesCopies(r *ModelResources) string {
	for _, l := range r.Internal {
		if !s.internal {
			return noInternal
		}
		if text, rejected := s.ledger.rejection(kindListener, l.Name, l.Version); rejected {
			return text
		}
	}
	return ""
}
