package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing"
)

const (
	probeTimeout = 2 * time.Second // of one connection attempt
	probeAge     = 5 * time.Second // how old an answer may be before it is asked again
	probeWorkers = 16
	probeQueue   = 1024 // endpoints that wait to be asked; more are asked another time
)

// prober finds out whether a version's endpoints take connections.
type prober struct {
	version func(model, version string) *routing.Version // nil: not configured
	queue   chan probeKey

	mu   sync.Mutex
	seen map[probeKey]probed
}

type probeKey struct{ model, version string }

type probed struct {
	at  time.Time
	err error
}

func newProber(version func(model, version string) *routing.Version) *prober {
	return &prober{version: version, queue: make(chan probeKey, probeQueue), seen: map[probeKey]probed{}}
}

// Probe returns nil when one endpoint at least takes a connection.
func (p *prober) Probe(ctx context.Context, v *routing.Version) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	all := addresses(v)
	answers := make(chan error, len(all))
	for _, addr := range all { // at once: one that is silent must not use up the time of the others
		go func() { answers <- connect(ctx, addr) }()
	}
	var first error
	for range all {
		err := <-answers
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	if n := len(v.Endpoints); n > 1 {
		return fmt.Errorf("none of %d endpoints answers, one says: %w", n, first)
	}
	return first
}

func connect(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func addresses(v *routing.Version) []string {
	if len(v.Endpoints) == 0 {
		return []string{net.JoinHostPort(v.DNS.Host, strconv.Itoa(int(v.DNS.Port)))}
	}
	out := make([]string, len(v.Endpoints))
	for i, e := range v.Endpoints {
		out[i] = netip.AddrPort.String(e)
	}
	return out
}

// endpoints tells what is known, without waiting. Asking about a version is
// what makes it be asked again when the answer has grown old.
func (p *prober) endpoints(model, version string) (admin.Reachability, string) {
	k := probeKey{model, version}
	p.mu.Lock()
	last, known := p.seen[k]
	p.mu.Unlock()
	if time.Since(last.at) > probeAge {
		select {
		case p.queue <- k:
		default:
		}
	}
	switch {
	case !known:
		return admin.ReachabilityUnknown, ""
	case last.err != nil:
		return admin.Unreachable, last.err.Error()
	}
	return admin.Reachable, ""
}

// run asks in the background until ctx ends.
func (p *prober) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range probeWorkers {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case k := <-p.queue:
					p.ask(ctx, k)
				}
			}
		})
	}
	return g.Wait()
}

func (p *prober) ask(ctx context.Context, k probeKey) {
	p.mu.Lock()
	fresh := time.Since(p.seen[k].at) < probeAge // asked for twice before it was its turn
	p.mu.Unlock()
	if fresh {
		return
	}
	v := p.version(k.model, k.version)
	if v == nil {
		p.mu.Lock()
		delete(p.seen, k)
		p.mu.Unlock()
		return
	}
	err := p.Probe(ctx, v)
	p.mu.Lock()
	p.seen[k] = probed{time.Now(), err}
	p.mu.Unlock()
}
