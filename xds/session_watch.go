package xds

import (
	"strconv"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// kind is a resource type, in the order in which a new Envoy needs them.
type kind int

const (
	kindRuntime kind = iota
	kindSecret
	kindCluster
	kindListener
	kindTable
	kinds // how many there are
)

// typeURLs are the names of the kinds in the protocol.
var typeURLs = [kinds]string{
	kindRuntime:  "type.googleapis.com/envoy.service.runtime.v3.Runtime",
	kindSecret:   "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	kindCluster:  "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	kindListener: "type.googleapis.com/envoy.config.listener.v3.Listener",
	kindTable:    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}

// kindNames are what people and metrics read.
var kindNames = [kinds]string{
	kindRuntime:  "runtime",
	kindSecret:   "secret",
	kindCluster:  "cluster",
	kindListener: "listener",
	kindTable:    "route_table",
}

func (k kind) String() string { return kindNames[k] }

func kindOf(typeURL string) (kind, bool) {
	for k, url := range typeURLs {
		if url == typeURL {
			return kind(k), true
		}
	}
	return 0, false
}

// watch is what one Envoy asked for of one kind, and what it has of it.
type watch struct {
	kind     kind
	started  bool
	wildcard bool
	names    map[string]time.Time // asked for by name, and when
	have     map[string]string    // name to version: acknowledged, or reported at the start
	sent     map[string]string    // name to version: in flight
	told     map[string]bool      // names that nobody knows and that were answered
	flights  []*flight            // oldest first
	sequence int
	lastNACK string
	nackedAt time.Time
}

// flight is a response that was sent and not yet answered.
type flight struct {
	nonce   string
	at      time.Time
	added   []Resource
	removed []string
	warming bool // has clusters that warm up
	// takenBack: a later response undid what was added, so the ACK says
	// nothing about that.
	takenBack bool
	tables    []*proposal // kind tables
	layers    []*layer    // kind runtimes
}

func newWatch(k kind) *watch {
	return &watch{
		kind:  k,
		names: map[string]time.Time{},
		have:  map[string]string{},
		sent:  map[string]string{},
		told:  map[string]bool{},
	}
}

// subscribe takes over what a request says about names. It returns the names
// that are new, and those that are no longer wanted.
func (w *watch) subscribe(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) (added, dropped []string) {
	first := !w.started
	w.started = true
	if first {
		w.wildcard = len(r.ResourceNamesSubscribe) == 0
		for name, version := range r.InitialResourceVersions {
			w.have[name] = version
		}
	}
	for _, name := range r.ResourceNamesSubscribe {
		if name == "*" {
			w.wildcard = true
			continue
		}
		// Asked for again means that it was forgotten: it has to be sent.
		if !first {
			delete(w.have, name)
		}
		w.names[name] = now
		delete(w.told, name)
		added = append(added, name)
	}
	for _, name := range r.ResourceNamesUnsubscribe {
		if name == "*" {
			w.wildcard = false
			continue
		}
		delete(w.names, name)
		if !w.wildcard {
			delete(w.have, name)
			delete(w.sent, name)
			dropped = append(dropped, name)
		}
	}
	return added, dropped
}

// asked tells whether Envoy wants the resource.
func (w *watch) asked(name string) bool {
	if !w.started {
		return false
	}
	_, named := w.names[name]
	return named || w.wildcard
}

// unknown is the version in have of what Envoy may have in another one.
const unknown = "?"

// doubt notes that it is not known what became of a flight's resources: Envoy
// refused the response, and may have taken a part of it. What it had of them is
// sent once more, so that its own books say that it has it.
func (w *watch) doubt(f *flight) {
	mark := func(name string) {
		if _, has := w.have[name]; has {
			w.have[name] = unknown
		}
	}
	for _, r := range f.added {
		mark(r.Name)
	}
	for _, name := range f.removed {
		mark(name)
	}
}

// holds tells whether Envoy has the resource, and nothing is on its way that
// changes or removes it.
func (w *watch) holds(r Resource) bool {
	next, moving := w.sent[r.Name]
	return w.have[r.Name] == r.Version && (!moving || next == r.Version)
}

// has tells whether Envoy has the resource, or is about to have it.
func (w *watch) has(r Resource) bool {
	if v, ok := w.sent[r.Name]; ok {
		return v == r.Version
	}
	return w.have[r.Name] == r.Version
}

// launch makes a response of a flight.
func (w *watch) launch(f *flight, now time.Time) *discoveryv3.DeltaDiscoveryResponse {
	w.sequence++
	f.nonce = w.kind.String() + "-" + strconv.Itoa(w.sequence)
	f.at = now
	w.flights = append(w.flights, f)
	response := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:          typeURLs[w.kind],
		Nonce:            f.nonce,
		RemovedResources: f.removed,
	}
	for _, r := range f.added {
		w.sent[r.Name] = r.Version
		response.Resources = append(response.Resources, &discoveryv3.Resource{
			Name: r.Name, Version: r.Version, Resource: r.Body,
		})
	}
	for _, name := range f.removed {
		w.sent[name] = ""
	}
	return response
}

// land returns the flight that a nonce answers, or nil when the nonce is not
// of a response that waits for one.
func (w *watch) land(nonce string) *flight {
	for i, f := range w.flights {
		if f.nonce == nonce {
			w.flights = append(w.flights[:i:i], w.flights[i+1:]...)
			w.forgetSent(f)
			return f
		}
	}
	return nil
}

// forgetSent removes the flight's resources from those in flight, unless a
// later flight carries them too.
func (w *watch) forgetSent(f *flight) {
	later := map[string]bool{}
	for _, other := range w.flights {
		for _, r := range other.added {
			later[r.Name] = true
		}
		for _, name := range other.removed {
			later[name] = true
		}
	}
	for _, r := range f.added {
		if !later[r.Name] {
			delete(w.sent, r.Name)
		}
	}
	for _, name := range f.removed {
		if !later[name] {
			delete(w.sent, name)
		}
	}
}

// accept notes that Envoy has what the flight carried.
func (w *watch) accept(f *flight) {
	for _, r := range f.added {
		if w.asked(r.Name) && !f.takenBack {
			w.have[r.Name] = r.Version
		}
	}
	for _, name := range f.removed {
		delete(w.have, name)
	}
}

// culprits returns the resources of a flight that a rejection is about: the
// only one, or those that Envoy's text names, as in "Error adding/updating
// cluster(s) a/v1: ..., b/v2: ...". None when it cannot be told.
func (f *flight) culprits(text string) []Resource {
	if len(f.added) == 1 {
		return f.added
	}
	var named []Resource
	for _, r := range f.added {
		if namedIn(text, r.Name) {
			named = append(named, r)
		}
	}
	return named
}

// namedIn tells whether the text names the resource as a word of its own that
// a colon follows.
func namedIn(text, name string) bool {
	for rest := text; ; {
		i := strings.Index(rest, name+":")
		if i < 0 {
			return false
		}
		if i == 0 || strings.ContainsRune(" ,;\n'\"", rune(rest[i-1])) {
			return true
		}
		rest = rest[i+1:]
	}
}
