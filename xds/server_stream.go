package xds

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

const (
	// stallAfter is how long a response may wait for an Envoy that reads
	// nothing, before its stream is ended.
	stallAfter = 30 * time.Second
	// queued is how many responses may wait to be written. There is one in
	// flight of each kind, two of clusters; more means that something is wrong.
	queued = 2 * int(kinds)
	// maxRemembered bounds what is kept by node id, which anybody can make up.
	maxRemembered = 10_000
)

// stream is one Envoy's delta stream. Its goroutine owns the session; the
// mutex is for those who ask how far it has come. A second goroutine reads, a
// third writes, so an Envoy that does not read holds up nobody, not even the
// account of its own state.
type stream struct {
	publisher *Publisher
	node      identity
	connected time.Time
	woken     chan struct{}

	// twin: another Envoy of the same id was connected when this one came.
	// Guarded by the publisher's mutex.
	twin bool

	ended atomic.Bool // read with the publisher's mutex held, so not by mu

	mu      sync.Mutex
	session *session
}

// serve runs a stream until it ends.
func (p *Publisher) serve(conn discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, node identity, first *discoveryv3.DeltaDiscoveryRequest) error {
	ctx, cancel := context.WithCancel(conn.Context())
	defer cancel()
	st := &stream{
		publisher: p,
		node:      node,
		connected: time.Now(),
		woken:     make(chan struct{}, 1),
		session:   newSession(p.compile, p.ledger, p.limits),
	}
	st.session.internal = node.bootstrap >= bootstrapInternal
	p.counts.opened.Add(1)
	p.log.Info("an Envoy has connected", "node", node.id, "version", node.version)
	p.join(st)
	defer p.leave(st)

	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	failed := make(chan error, 2)
	go read(ctx, conn, requests, failed)
	responses := make(chan *discoveryv3.DeltaDiscoveryResponse, queued)
	sending := &sendClock{}
	go write(ctx, conn, responses, sending, failed)

	st.wake()
	err := st.run(ctx, first, requests, responses, sending, failed)
	p.log.Info("an Envoy's stream has ended", "node", node.id, "error", err)
	return err
}

// run is the loop of a stream: something happens, the session decides, what it
// says is sent.
func (st *stream) run(ctx context.Context, request *discoveryv3.DeltaDiscoveryRequest,
	requests <-chan *discoveryv3.DeltaDiscoveryRequest, responses chan<- *discoveryv3.DeltaDiscoveryResponse,
	sending *sendClock, failed <-chan error,
) error {
	watchdog := time.NewTicker(stallAfter / 6)
	defer watchdog.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		out, next := st.step(request)
		request = nil
		for _, r := range out {
			select {
			case responses <- r:
			default:
				return status.Error(codes.ResourceExhausted, "too many responses wait to be read")
			}
		}
		timer.Reset(next)
		select {
		case request = <-requests:
		case <-st.woken:
		case <-timer.C:
		case <-watchdog.C:
			st.publisher.warnOfTwins(st)
			if d := sending.busy(time.Now()); d >= stallAfter {
				st.publisher.counts.stalled.Add(1)
				return status.Errorf(codes.DeadlineExceeded, "nothing was read for %s", d.Round(time.Second))
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// step lets the session take a request, if any, and the newest snapshot. It
// returns what to send, and when to be called again at the latest.
func (st *stream) step(request *discoveryv3.DeltaDiscoveryRequest) ([]*discoveryv3.DeltaDiscoveryResponse, time.Duration) {
	p := st.publisher
	snapshot, hold := p.wanted()
	st.mu.Lock()
	defer st.mu.Unlock()
	now, s := time.Now(), st.session
	if snapshot != nil && (s.snapshot != snapshot) {
		s.want(snapshot, hold, now)
	}
	if request != nil {
		st.take(request, now)
	}
	out := s.advance(now)
	st.account(out)
	next := time.Hour
	if at := s.deadline(now); !at.IsZero() {
		next = at.Sub(now)
	}
	// Always: an Envoy that has all of a new snapshot already needs no message,
	// and yet has acknowledged it from now on.
	p.signal()
	return out, next
}

func (st *stream) take(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) {
	p, s := st.publisher, st.session
	before := s.watches[kindCluster].started
	fresh := r.TypeUrl == typeURLs[kindRuntime] && !s.watches[kindRuntime].started && len(r.InitialResourceVersions) == 0
	s.request(r, now)
	if fresh || (!before && s.watches[kindCluster].started) {
		p.meet(st.node.id, s.reported)
	}
	mistakes, recovered := s.takeMistakes()
	for _, m := range mistakes {
		p.counts.nacks[m.kind].Add(1)
		if !m.again {
			p.log.Error("an Envoy refuses a resource; "+m.rest, "node", st.node.id, "kind", m.kind.String(), "error", m.text)
		}
	}
	for _, name := range recovered {
		p.log.Info("an Envoy has accepted now what it refused", "node", st.node.id, "kind", kindListener.String(), "listener", name)
	}
}

func (st *stream) account(out []*discoveryv3.DeltaDiscoveryResponse) {
	p := st.publisher
	if len(out) > 0 {
		p.feed(st.node.id)
	}
	for _, r := range out {
		k, _ := kindOf(r.TypeUrl)
		p.counts.responses[k].Add(1)
		p.counts.resources[k].Add(uint64(len(r.Resources) + len(r.RemovedResources)))
	}
}

// feed notes that an Envoy was told something.
func (p *Publisher) feed(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.fed) < maxRemembered {
		p.fed[id] = true
	}
}

// wake makes the stream look for a new snapshot. It never waits.
func (st *stream) wake() {
	select {
	case st.woken <- struct{}{}:
	default:
	}
}

func (st *stream) gone() bool { return st.ended.Load() }

// progress tells whether the Envoy has a model's wanted state, else since when
// it lacks it, and in which words it refused it.
func (st *stream) progress(name string, want *ModelResources) (acked bool, since time.Time, refusal string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	m, ok := st.session.models[name]
	switch {
	case !ok:
		return want == nil, time.Now(), ""
	case m.want != want:
		return false, time.Now(), ""
	case want == nil:
		return st.session.gone(m), m.since, ""
	}
	if st.session.acknowledged(m) {
		return true, time.Time{}, ""
	}
	since = m.since
	if st.connected.After(since) {
		since = st.connected
	}
	return false, since, st.session.refusal(m)
}

func read(ctx context.Context, conn discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
	requests chan<- *discoveryv3.DeltaDiscoveryRequest, failed chan<- error,
) {
	for {
		r, err := conn.Recv()
		if err != nil {
			failed <- fmt.Errorf("receive from Envoy: %w", err)
			return
		}
		select {
		case requests <- r:
		case <-ctx.Done():
			return
		}
	}
}

func write(ctx context.Context, conn discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
	responses <-chan *discoveryv3.DeltaDiscoveryResponse, sending *sendClock, failed chan<- error,
) {
	for {
		select {
		case r := <-responses:
			sending.begin(time.Now())
			err := conn.Send(r)
			sending.end()
			if err != nil {
				failed <- fmt.Errorf("send to Envoy: %w", err)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// sendClock knows how long a response has been waiting to be written.
type sendClock struct {
	mu    sync.Mutex
	since time.Time
}

func (c *sendClock) begin(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = now
}

func (c *sendClock) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Time{}
}

func (c *sendClock) busy(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		return 0
	}
	return now.Sub(c.since)
}
