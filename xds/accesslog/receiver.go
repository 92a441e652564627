package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	logv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"

	"github.com/headgate/headgate/compare"
)

// Sink takes what was received. Its methods are called from many goroutines
// and must not wait: while they do, Envoys hold entries back.
type Sink interface {
	Observe(o compare.Observation)
	// Gap says that what the node served in [from, to) may be lost. A zero to
	// opens a gap that lasts until the node's next call.
	Gap(node string, from, to time.Time)
}

const (
	// unnoticed is how long a connection can be dead before it is found out,
	// by the pings of the server: what was sent meanwhile is lost.
	unnoticed = time.Minute
	// returns is how long a node whose streams broke is waited for. Later it is
	// taken for gone, or for one without traffic: Envoy opens the next stream
	// with the next request.
	returns = 10 * time.Second
	// settling is how long after the start of this process nodes come back
	// that ran before it, and could not tell until now.
	settling = time.Minute
	// maxNodes bounds what is kept by node id, which anybody can make up.
	maxNodes = 10_000
)

// Options are what a Receiver depends on.
type Options struct {
	Sink   Sink
	Hasher *Hasher
	// NodeIDFromPeer checks that a peer may call itself id; nil lets everybody
	// in. See xds.RequireCertificate.
	NodeIDFromPeer func(ctx context.Context, id string) error
	Log            *slog.Logger // nil: nothing is logged
}

// Receiver is the access log service.
type Receiver struct {
	logv3.UnimplementedAccessLogServiceServer
	sink   Sink
	hasher *Hasher
	check  func(ctx context.Context, id string) error
	log    *slog.Logger
	began  time.Time

	entries, gaps, refused, streams atomic.Uint64
	dropped                         [len(drops)]atomic.Uint64

	mu    sync.Mutex
	nodes map[string]*sender
	live  int
}

var drops = [...]drop{dropPartial, dropForeign, dropNoTime, badDuration, dropNoSender}

// sender is the state of one Envoy's streams.
type sender struct {
	live   int
	broken time.Time // since when entries may be lost; zero: they are not
	ended  bool      // the gap was reported as ended, since nobody came back
}

// Metrics are counts since the start of the process.
type Metrics struct {
	Streams       int               // open now
	StreamsOpened uint64            // in all
	Entries       uint64            // that became observations
	Dropped       map[string]uint64 // by reason; "duration": kept, without it
	Gaps          uint64            // times in which entries may have been lost
	Refused       uint64            // Envoys refused for their identity
}

// New returns a Receiver. Options.Sink and Options.Hasher must be set.
func New(o Options) *Receiver {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Receiver{
		sink: o.Sink, hasher: o.Hasher, check: o.NodeIDFromPeer, log: o.Log,
		began: time.Now(), nodes: map[string]*sender{},
	}
}

// Register adds the access log service to a gRPC server.
func (r *Receiver) Register(s grpc.ServiceRegistrar) { logv3.RegisterAccessLogServiceServer(s, r) }

// Metrics returns the counts.
func (r *Receiver) Metrics() Metrics {
	m := Metrics{
		StreamsOpened: r.streams.Load(), Entries: r.entries.Load(), Gaps: r.gaps.Load(),
		Refused: r.refused.Load(), Dropped: map[string]uint64{},
	}
	for i, d := range drops {
		m.Dropped[string(d)] = r.dropped[i].Load()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Streams = r.live
	return m
}

// Connected tells whether a node has a stream open.
func (r *Receiver) Connected(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.nodes[node]
	return s != nil && s.live > 0
}

// StreamAccessLogs takes the entries of one worker of one Envoy.
func (r *Receiver) StreamAccessLogs(stream logv3.AccessLogService_StreamAccessLogsServer) error {
	m, err := stream.Recv()
	if err != nil {
		return closed(err)
	}
	node := m.GetIdentifier().GetNode().GetId()
	if node == "" {
		r.refused.Add(1)
		r.count(dropNoSender, len(m.GetHttpLogs().GetLogEntry()))
		return status.Error(codes.InvalidArgument, "identifier.node.id: must be set")
	}
	if r.check != nil {
		if err := r.check(stream.Context(), node); err != nil {
			r.refused.Add(1)
			r.log.Warn("an Envoy's access log is refused", "node", node, "error", err)
			return status.Errorf(codes.PermissionDenied, "node %q: %v", node, err)
		}
	}
	r.opened(node, time.Now())
	last := time.Now()
	for {
		r.take(m, node)
		if m, err = stream.Recv(); err != nil {
			r.ended(node, last, time.Now(), errors.Is(err, io.EOF))
			return closed(err)
		}
		last = time.Now()
	}
}

func closed(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("receive access log: %w", err)
}

func (r *Receiver) take(m *logv3.StreamAccessLogsMessage, node string) {
	for _, e := range m.GetHttpLogs().GetLogEntry() {
		o, why := observation(e, node, r.hasher)
		r.count(why, 1)
		if why == kept || why == badDuration {
			r.entries.Add(1)
			r.sink.Observe(o)
		}
	}
}

func (r *Receiver) count(why drop, n int) {
	for i, d := range drops {
		if d == why {
			r.dropped[i].Add(uint64(n))
		}
	}
}

// opened ends the gap of a node that is back.
func (r *Receiver) opened(node string, now time.Time) {
	r.streams.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live++
	n, known := r.nodes[node]
	if !known {
		n = &sender{}
		if len(r.nodes) < maxNodes {
			r.nodes[node] = n
		}
		if now.Before(r.began.Add(settling)) {
			// It may have been running, and telling nobody, before it came.
			n.broken = r.began
		}
	}
	n.live++
	if !n.broken.IsZero() {
		r.gaps.Add(1)
		r.sink.Gap(node, n.broken, now)
		n.broken, n.ended = time.Time{}, false
	}
}

// ended opens a gap when a stream broke. One that Envoy closed has told all.
func (r *Receiver) ended(node string, last, now time.Time, clean bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live--
	n := r.nodes[node]
	if n == nil {
		return
	}
	n.live--
	if clean {
		return
	}
	if early := now.Add(-unnoticed); last.Before(early) {
		last = early
	}
	if n.broken.IsZero() {
		n.broken = last
		r.log.Warn("an Envoy's access log broke off: what it serves is unknown until it is back", "node", node)
		r.sink.Gap(node, last, time.Time{})
		time.AfterFunc(returns, func() { r.giveUp(node, n) })
	}
}

// giveUp ends the gap of a node that did not come back.
func (r *Receiver) giveUp(node string, n *sender) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.broken.IsZero() || n.ended {
		return
	}
	n.ended = true
	r.gaps.Add(1)
	r.sink.Gap(node, n.broken, time.Now())
}
