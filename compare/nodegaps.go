package compare

import (
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what is remembered of lost streams.
const (
	gapsOfNode = 32
	gapNodes   = 20_000
)

// nodeGaps are the times in which Envoys' observations may have been lost.
type nodeGaps struct {
	known atomic.Int32 // nodes with a gap
	open  atomic.Int32 // gaps that have not ended
	ended atomic.Int64 // gaps that have, ever
	mu    sync.RWMutex
	nodes map[string]*nodeGap
}

type nodeGap struct {
	open  bool
	since time.Time
	ended []segment // oldest first
}

// note opens, ends or adds a gap; see [Judge.Gap].
func (g *nodeGaps) note(node string, from, to time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[node]
	if n == nil {
		if len(g.nodes) >= gapNodes {
			g.forgetOne()
		}
		n = &nodeGap{}
		g.nodes[node] = n
		g.known.Add(1)
	}
	if to.IsZero() {
		if !n.open {
			n.open, n.since = true, from
			g.open.Add(1)
		}
		return
	}
	if n.open {
		n.open = false
		g.open.Add(-1)
		from = earlier(from, n.since)
	}
	if to.Before(from) { // a clock jumped: all between is doubtful
		from, to = to, from
	}
	if len(n.ended) >= gapsOfNode {
		// The two oldest become one.
		n.ended[1].from = earlier(n.ended[0].from, n.ended[1].from)
		n.ended = n.ended[1:]
	}
	n.ended = append(n.ended, segment{from: from, to: to})
	g.ended.Add(1)
}

// forgetOne makes room for a node: of those whose gap has ended, any.
func (g *nodeGaps) forgetOne() {
	for name, n := range g.nodes {
		if !n.open {
			delete(g.nodes, name)
			g.known.Add(-1)
			return
		}
	}
}

// anyOpen tells whether a gap has not ended.
func (g *nodeGaps) anyOpen() bool { return g.open.Load() > 0 }

// covers tells whether t lies in a gap of the node.
func (g *nodeGaps) covers(node string, t time.Time) bool {
	if g.known.Load() == 0 {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	n := g.nodes[node]
	if n == nil {
		return false
	}
	if n.open && !t.Before(n.since) {
		return true
	}
	for i := len(n.ended) - 1; i >= 0; i-- {
		if s := &n.ended[i]; !t.Before(s.from) && t.Before(s.to) {
			return true
		}
	}
	return false
}
