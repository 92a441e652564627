package xds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/headgate/headgate/routing"
)

// Times of the quorum.
const (
	// LateAfter is how long an Envoy may take to acknowledge before it is
	// called late.
	LateAfter = 30 * time.Second
	// GoneAfter is how long an Envoy whose stream ended still counts.
	GoneAfter = 10 * time.Second
)

// maxRefusals is how many refused Envoys are remembered.
const maxRefusals = 20

// PublisherOptions are what a Publisher depends on besides the plans.
type PublisherOptions struct {
	Build Options
	// NodeIDFromPeer checks that a peer may call itself id; nil lets everybody
	// in. See [RequireCertificate].
	NodeIDFromPeer func(ctx context.Context, id string) error
	Log            *slog.Logger // nil: nothing is logged

	// RemovalDelay is how long a cluster stays after its last route has gone.
	// 5 s by default.
	RemovalDelay time.Duration
}

// Publisher brings plans to Envoys and knows how far each has come. It serves
// the aggregated discovery service, see [Publisher.Register].
//
// It is written on the generated stubs, not on go-control-plane's cache: what
// an Envoy may be told depends on what that Envoy has acknowledged, a refusal
// is answered by the last accepted state, and a weight must cost the same with
// 10,000 models as with one, while the cache hashes every resource.
//
// Each stream has a session, which is pure. What was found about Envoy 1.40,
// and how a session lives with it:
//
//   - While any cluster warms up (its name is being resolved, its first health
//     check is out), Envoy holds back the ACKs of all clusters, not only of
//     that one; it does so from the time on when its first clusters are there.
//     Nothing else is held back: weights and routes go on. So clusters that
//     need no warm-up are sent first, and a response that warms up for more
//     than a second while other models wait is taken back: its new clusters
//     are removed, which releases the ACKs, and sent again when the others
//     have theirs. With nobody waiting it may take its time.
//   - Of a response with a refused cluster Envoy takes the rest, but does not
//     say so, and its text names the refused ones. They are not sent again to
//     anybody until the plan changes them; the rest is sent once more.
//   - A refused route table names no model. Half of the models that changed is
//     tried next, and so on. The others keep the routes that they had.
//   - A cluster that is removed finishes its requests. Those still on the way
//     to it would get 503, so it goes some seconds after its last route.
//   - A removed listener drains for minutes and keeps its route table
//     meanwhile, as do its clusters.
//   - A runtime key that is missing means the route's default weights. A
//     model's keys are there before routes that read them and stay until those
//     are gone. When a rollout ends, either way, the keys say so first: that is
//     in force in a few milliseconds and needs no route table.
//   - A reconnecting Envoy reports names and versions, not contents. A table
//     that this process did not send is either the wanted one, or is replaced
//     as a whole once every model of its listener has its clusters. Until then
//     its clusters and, for five seconds, its weights are left alone.
//   - An address that a listener cannot bind says nothing about the listener:
//     it is tried again after 1, 2, 4 … 30 s. A model that moves to another
//     listener stays on the old one until the new one serves it.
type Publisher struct {
	options PublisherOptions
	log     *slog.Logger
	limits  limits
	build   func(*routing.Plan) (*Snapshot, error)
	compile compiler
	ledger  *ledger
	counts  counters
	changed chan struct{}

	building sync.Mutex // one Build at a time

	mu        sync.Mutex
	plan      *routing.Plan // the last one that could be built
	snapshot  *Snapshot     // nil: nothing was published
	hold      []held
	failed    *routing.Plan // the last one, when it could not be built
	failure   error
	streams   []*stream
	fed       map[string]bool     // ids of Envoys that this process told something
	held      map[string][]string // inventory
	met       bool                // an Envoy has told what it has
	refusals  []Refusal
	refusedSW map[string]bool // ids whose state-of-the-world stream was logged
	twins     map[string]bool // ids of which two Envoys were logged
}

// NewPublisher returns a Publisher that has no plan yet. Envoys that connect
// wait for the first one.
func NewPublisher(o PublisherOptions) *Publisher {
	builder := NewBuilder(o.Build)
	return newPublisher(o, builder.Build, newComposer())
}

func newPublisher(o PublisherOptions, build func(*routing.Plan) (*Snapshot, error), c compiler) *Publisher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	lim := defaultLimits
	if o.RemovalDelay > 0 {
		lim.removal = o.RemovalDelay
	}
	return &Publisher{
		options:   o,
		log:       o.Log,
		limits:    lim,
		build:     build,
		compile:   c,
		ledger:    newLedger(),
		changed:   make(chan struct{}, 1),
		fed:       map[string]bool{},
		held:      map[string][]string{},
		refusedSW: map[string]bool{},
		twins:     map[string]bool{},
	}
}

// errEmpty is why a plan without models is not published.
var errEmpty = errors.New("the plan has no model: an Envoy would lose all of its listeners")

// Publish makes plan what every Envoy should serve. It does not wait for them.
// Of the models in hold nothing is changed: no cluster, and neither a listener,
// a route table nor a runtime layer that carries them.
//
// A plan that cannot be built, or has no model at all, changes nothing: the
// last one stays in force, and Delivery tells what was wrong. [Publisher.Clear]
// is for those who mean it.
func (p *Publisher) Publish(plan *routing.Plan, hold []string) {
	p.publish(plan, hold, false)
}

// Clear takes every model away from every Envoy.
func (p *Publisher) Clear() {
	p.publish(&routing.Plan{Config: &routing.Config{}}, nil, true)
}

func (p *Publisher) publish(plan *routing.Plan, hold []string, emptyToo bool) {
	p.building.Lock()
	defer p.building.Unlock()
	snapshot, err := p.build(plan)
	p.mu.Lock()
	if err == nil && len(snapshot.Models) == 0 && !emptyToo {
		if len(hold) > 0 {
			// All are held: there is nothing to say to anyone. What serves
			// besides them does so until one of them is known.
			p.hold = heldIn(plan.Config, hold)
			p.failed, p.failure = nil, nil
			p.mu.Unlock()
			p.signal()
			return
		}
		err = errEmpty
	}
	if err != nil {
		p.failed, p.failure = plan, err
		p.mu.Unlock()
		p.counts.buildErrors.Add(1)
		p.log.Error("the plan is not published", "error", err)
		p.signal()
		return
	}
	p.plan, p.snapshot, p.hold = plan, snapshot, heldIn(plan.Config, hold)
	p.failed, p.failure = nil, nil
	streams := slices.Clone(p.streams)
	p.mu.Unlock()
	p.ledger.forget(snapshot)
	for _, st := range streams {
		st.wake()
	}
	p.signal()
}

// heldIn finds the listeners of models that are held. The plan has no part for
// them, so the configuration must tell.
func heldIn(c *routing.Config, names []string) []held {
	var hold []held
	for _, name := range names {
		h := held{model: name}
		if m := c.Model(name); m != nil {
			h.listener = listenerName(m.Listen)
		}
		hold = append(hold, h)
	}
	return hold
}

// Err returns why the last plan was not published, or nil.
func (p *Publisher) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure != nil {
		return fmt.Errorf("publish plan: %w", p.failure)
	}
	return nil
}

// Delivery is how far a model's part of the last published plan has come.
type Delivery struct {
	Envoys   int      // connected and counted in the quorum
	Waiting  []string // ids of the Envoys among them that have not acknowledged it, sorted
	Late     []string // ids among Waiting that had 30 s and more
	Rejected string   // Envoy's own words, when one refused it; the last accepted serves
	// Unpublished is why the plan was given to no Envoy; the one before serves.
	Unpublished string
}

// Delivery tells how far the model's part of the last published plan has come.
func (p *Publisher) Delivery(name string) Delivery {
	p.mu.Lock()
	snapshot, plan, failed, failure := p.snapshot, p.plan, p.failed, p.failure
	p.mu.Unlock()
	var want *ModelResources
	if snapshot != nil {
		i, ok := slices.BinarySearchFunc(snapshot.Models, name, func(m *ModelResources, name string) int {
			return cmp.Compare(m.Model, name)
		})
		if ok {
			want = snapshot.Models[i]
		}
	}
	var d Delivery
	if failure != nil && (plan == nil || plan.Model(name) != failed.Model(name)) {
		d.Unpublished = failure.Error()
	}
	now := time.Now()
	for _, st := range p.allStreams() {
		d.Envoys++
		acked, since, refusal := st.progress(name, want)
		if acked {
			continue
		}
		d.Waiting = append(d.Waiting, st.node.id)
		if now.Sub(since) >= LateAfter {
			d.Late = append(d.Late, st.node.id)
		}
		if refusal != "" && d.Rejected == "" {
			d.Rejected = refusal
		}
	}
	slices.Sort(d.Waiting)
	slices.Sort(d.Late)
	return d
}

// Inventory returns the versions of each model that Envoys held before this
// process told them anything, and whether any Envoy has told yet. The versions
// are sorted.
func (p *Publisher) Inventory() (held map[string][]string, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held = make(map[string][]string, len(p.held))
	for model, versions := range p.held {
		held[model] = slices.Clone(versions)
	}
	return held, p.met
}

// Changed receives a value after a Delivery or the Inventory may have changed.
// It is never closed; values coalesce.
func (p *Publisher) Changed() <-chan struct{} { return p.changed }

func (p *Publisher) signal() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// meet adds what an Envoy reports to the inventory, unless it has it from this
// process.
func (p *Publisher) meet(id string, reported map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.met = true
	if p.fed[id] {
		return
	}
	for name := range reported {
		model, version, ok := routing.ParseClusterName(name)
		if ok && !isMirror(name) && !slices.Contains(p.held[model], version) {
			p.held[model] = append(p.held[model], version)
			slices.Sort(p.held[model])
		}
	}
}

// wanted returns what Envoys should have, or nil.
func (p *Publisher) wanted() (*Snapshot, []held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot, p.hold
}

func (p *Publisher) allStreams() []*stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.streams)
}

// join adds a stream; an ended one of the same Envoy no longer counts.
func (p *Publisher) join(st *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = slices.DeleteFunc(p.streams, func(old *stream) bool {
		return old.node.id == st.node.id && old.gone()
	})
	st.twin = p.twinOf(st)
	p.streams = append(p.streams, st)
}

// twinOf tells whether another live stream has the same id. The publisher's
// mutex must be held.
func (p *Publisher) twinOf(st *stream) bool {
	return slices.ContainsFunc(p.streams, func(other *stream) bool {
		return other != st && other.node.id == st.node.id && !other.gone()
	})
}

// warnOfTwins logs, once for each id, that two Envoys have it: what one has
// acknowledged cannot be told from what the other has. It is called some
// seconds after the second came, so that one whose old connection is not known
// to be dead yet is not taken for two.
func (p *Publisher) warnOfTwins(st *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !st.twin {
		return
	}
	st.twin = p.twinOf(st)
	if st.twin && !p.twins[st.node.id] && len(p.twins) < maxRemembered {
		p.twins[st.node.id] = true
		p.log.Warn("two Envoys have the same node id; give each its own", "node", st.node.id)
	}
}

// leave marks a stream as ended. It counts a while longer, or the quorum would
// be reached each time that a connection breaks.
func (p *Publisher) leave(st *stream) {
	st.ended.Store(true)
	time.AfterFunc(GoneAfter, func() {
		p.mu.Lock()
		p.streams = slices.DeleteFunc(p.streams, func(other *stream) bool { return other == st })
		p.mu.Unlock()
		p.signal()
	})
	p.signal()
}

// Refuse records an Envoy that was not let in, whoever turned it away. One that
// tries again and again is told once.
func (p *Publisher) Refuse(id string, reason error) {
	p.counts.refused.Add(1)
	next := Refusal{Node: id, Reason: reason.Error(), Time: time.Now()}
	p.mu.Lock()
	known := len(p.refusals)
	p.refusals = slices.DeleteFunc(p.refusals, func(r Refusal) bool { return r.Node == next.Node && r.Reason == next.Reason })
	again := len(p.refusals) < known
	p.refusals = slices.Insert(p.refusals, 0, next)
	p.refusals = p.refusals[:min(len(p.refusals), maxRefusals)]
	p.mu.Unlock()
	if !again {
		p.log.Warn("an Envoy is refused", "node", id, "error", reason)
	}
}
