package capture

import (
	"cmp"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/compare/pair"
)

// Sink takes what was captured. Its methods are called by several goroutines,
// and what they are given is shared: it must not be changed. While they take
// long, what comes is left out.
type Sink interface {
	// Exchange takes a user's request and its answer, be there copies or not.
	Exchange(x *pair.Exchange)
	// Pair takes two answers to one request. Its exchange was given before, or
	// is being given.
	Pair(p *pair.Pair)
}

// Options are what a Service does with what it captures. A zero takes the
// default.
type Options struct {
	Sink Sink // required
	// User hashes the key of a user. Without it users are not told apart.
	User func(key string) uint64
	// MaxBody is the most that is kept of any body, in bytes, whatever a route
	// says. 16 MiB.
	MaxBody int
	// Memory bounds the bodies of open streams, and of what waits for the Sink,
	// in bytes. 256 MiB.
	Memory int64
	// Streams is how many streams may be open at a time. 1,024.
	Streams int
	// Queue is how many exchanges and pairs may wait for the Sink. 1,024.
	Queue int
	// Join bounds what waits for its other half.
	Join pair.Options
	// Workers call the Sink. As many as there are processors.
	Workers int
}

func (o Options) withDefaults() Options {
	o.MaxBody = cmp.Or(o.MaxBody, 16<<20)
	o.Memory = cmp.Or(o.Memory, 256<<20)
	o.Streams = cmp.Or(o.Streams, 1024)
	o.Queue = cmp.Or(o.Queue, 1024)
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	return o
}

// Service is the ext_proc server of routes that capture. Its methods may be
// called at any time, from any goroutine.
type Service struct {
	extprocv3.UnimplementedExternalProcessorServer
	options Options
	memory  budget
	totals  totals
	out     chan item

	mu     sync.Mutex
	joiner *pair.Joiner
}

// item is what waits for the Sink: an exchange or a pair.
type item struct {
	exchange *pair.Exchange
	pair     *pair.Pair
	held     int64
}

// New returns a service. What it captures goes to the Sink while Run runs.
func New(o Options) *Service {
	o = o.withDefaults()
	return &Service{
		options: o, memory: budget{most: o.Memory},
		out: make(chan item, o.Queue), joiner: pair.NewJoiner(o.Join),
	}
}

// Register makes g serve the service. A server that also decides has but one
// ext_proc service: see PassCaptures of package extproc.
func (s *Service) Register(g *grpc.Server) { extprocv3.RegisterExternalProcessorServer(g, s) }

// expireEvery is how often it is looked at what has waited long enough.
const expireEvery = 250 * time.Millisecond

// Run gives what is captured to the Sink until ctx is done.
func (s *Service) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for range s.options.Workers {
		workers.Go(func() { s.work(ctx) })
	}
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			workers.Wait()
			return
		case now := <-tick.C:
			s.mu.Lock()
			pairs := s.joiner.Expire(now)
			s.mu.Unlock()
			s.give(pairs)
		}
	}
}

func (s *Service) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case i := <-s.out:
			if i.pair != nil {
				s.options.Sink.Pair(i.pair)
			} else {
				s.options.Sink.Exchange(i.exchange)
			}
			s.memory.release(i.held)
		}
	}
}

// give puts pairs where the Sink's workers find them.
func (s *Service) give(pairs []*pair.Pair) {
	for _, p := range pairs {
		s.put(item{pair: p, held: int64(p.Size())})
	}
}

// put leaves out what there is no room for.
func (s *Service) put(i item) {
	if !s.memory.reserve(i.held) {
		s.totals.dropped.Add(1)
		return
	}
	select {
	case s.out <- i:
	default:
		s.memory.release(i.held)
		s.totals.dropped.Add(1)
	}
}

// Process serves one stream, which is one request on one side.
func (s *Service) Process(g extprocv3.ExternalProcessor_ProcessServer) error {
	s.totals.streams.Add(1)
	defer s.totals.active.Add(-1)
	if s.totals.active.Add(1) > int64(s.options.Streams) {
		s.totals.dropped.Add(1)
		return nil
	}
	t, ok := s.open(g.Context())
	if !ok {
		s.totals.undecodable.Add(1)
		return nil
	}
	defer func() { s.memory.release(t.held) }()
	var in extprocv3.ProcessingRequest
	for {
		if g.RecvMsg(&in) != nil {
			s.cut(t)
			return nil
		}
		switch t.take(&in, time.Now()) {
		case goOn:
		case ended:
			s.finish(t)
			return nil
		case full:
			s.totals.dropped.Add(1)
			s.lose(t)
			return nil
		case nonsense:
			s.totals.undecodable.Add(1)
			s.lose(t)
			return nil
		}
	}
}

// totals are the counters of the service itself.
type totals struct {
	streams, exchanges, truncated, aborted, dropped, undecodable atomic.Uint64
	active                                                       atomic.Int64
}

// budget bounds bytes.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) reserve(n int64) bool {
	for {
		used := b.used.Load()
		if used+n > b.most {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (b *budget) release(n int64) { b.used.Add(-n) }
