package xds

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Node is the state of one connected Envoy, for people.
type Node struct {
	ID        string    // as the Envoy calls itself
	Version   string    // of Envoy, "1.40.0"; empty: not told
	Bootstrap int       // version of headgate's bootstrap; 0: not one of headgate's
	Connected time.Time // since when; the start of its stream
	Gone      bool      // the stream has ended, the Envoy may come back
	Duplicate bool      // another connected Envoy has the same ID
	Kinds     []KindStatus
	Behind    int    // models of which it has not acknowledged everything
	Rejected  string // what it refused last, in its own words; empty once all is accepted
	Warning   string // what is wrong with its bootstrap
}

// KindStatus tells how far one kind of resource has come.
type KindStatus struct {
	Kind         string // runtime | secret | cluster | listener | route_table
	Subscribed   bool
	Acknowledged int       // resources that the Envoy has
	InFlight     int       // resources sent and not answered
	LastNACK     string    // Envoy's own words; empty: none
	LastNACKAt   time.Time // zero: none
}

// Refusal is an Envoy that was not let in.
type Refusal struct {
	Node   string // what it called itself; may be anything
	Reason string
	Time   time.Time
}

// identity is what an Envoy says of itself in its first request.
type identity struct {
	id        string
	version   string
	bootstrap int
}

func identityOf(n *corev3.Node) identity {
	id := identity{id: n.GetId()}
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		id.version = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	own := n.GetMetadata().GetFields()["headgate"].GetStructValue()
	id.bootstrap = int(own.GetFields()["bootstrap"].GetNumberValue())
	return id
}

// Nodes returns the Envoys that are connected, or were a moment ago, by ID.
func (p *Publisher) Nodes() []Node {
	streams := p.allStreams()
	count := map[string]int{}
	for _, st := range streams {
		if !st.gone() {
			count[st.node.id]++
		}
	}
	nodes := make([]Node, 0, len(streams))
	for _, st := range streams {
		n := st.status()
		n.Duplicate = count[n.ID] > 1
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.Connected.Compare(b.Connected))
	})
	return nodes
}

// Refusals returns the Envoys that were refused last, newest first.
func (p *Publisher) Refusals() []Refusal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refusals)
}

func (st *stream) status() Node {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := Node{
		ID:        st.node.id,
		Version:   st.node.version,
		Bootstrap: st.node.bootstrap,
		Connected: st.connected,
		Gone:      st.gone(),
		Warning:   st.session.warning(),
		Rejected:  st.session.complaint(),
	}
	if n.Warning == "" && n.Bootstrap == 0 {
		n.Warning = "not started from headgate's bootstrap"
	}
	for k, w := range st.session.watches {
		n.Kinds = append(n.Kinds, KindStatus{
			Kind:         kindNames[k],
			Subscribed:   w.started,
			Acknowledged: len(w.have),
			InFlight:     len(w.sent),
			LastNACK:     w.lastNACK,
			LastNACKAt:   w.nackedAt,
		})
	}
	for _, m := range st.session.models {
		if m.want != nil && !st.session.acknowledged(m) {
			n.Behind++
		}
	}
	return n
}

// warning tells what this Envoy cannot do.
func (s *session) warning() string {
	w := s.watches[kindRuntime]
	if !s.watches[kindCluster].started {
		return ""
	}
	missing := 0
	for _, l := range s.layers {
		if !w.asked(l.name) {
			missing++
		}
	}
	if missing == 0 {
		return ""
	}
	return fmt.Sprintf("its bootstrap lacks %d of %d runtime layers: weights do not reach it", missing, RuntimeShards)
}

// complaint returns the Envoy's own words while something of the plan is
// refused.
func (s *session) complaint() string {
	for _, m := range s.models {
		if text := s.refusal(m); text != "" {
			return text
		}
	}
	return ""
}

// refusal returns the words in which the model's wanted state was refused.
func (s *session) refusal(m *model) string {
	if m.want == nil || s.acknowledged(m) {
		return ""
	}
	if text, rejected := s.ledger.modelRejection(m.want); rejected {
		return text
	}
	if text := s.refusesCopies(m.want); text != "" {
		return text
	}
	if t, ok := s.tables[m.want.Listener]; ok && t.failure != "" {
		return t.failure
	}
	if b, unbound := s.unbound[m.want.Listener]; unbound {
		return b.text
	}
	i, ok := slices.BinarySearchFunc(s.snapshot.Listeners, m.want.Listener, byName)
	if ok {
		l := s.snapshot.Listeners[i]
		if text, rejected := s.ledger.rejection(kindListener, l.Name, l.Version); rejected {
			return text
		}
	}
	return s.layers[m.want.Shard].failure
}
