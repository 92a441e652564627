package compare

import (
	"slices"
	"sync"
	"time"
)

// maxGaps bounds the list of gaps that are kept to be shown.
const maxGaps = 256

// Gap is a time in which an Envoy's observations may have been lost.
type Gap struct {
	Node string
	From time.Time
	To   time.Time // zero: it has not ended
}

// GapTotals is what was lost since the process began.
type GapTotals struct {
	Gaps uint64        // that have ended
	Lost time.Duration // their length, added up over the Envoys
	Open int           // that have not ended
}

type gapLog struct {
	mu      sync.Mutex
	recent  []Gap
	touched map[int64]bool       // windows that an ended gap touches
	open    map[string]time.Time // since when, by node
	ended   uint64
	lost    time.Duration
}

// Gap says that what a node served in [from, to) may not have been told: the
// windows that it touches are not complete. A zero from reaches back as far as
// the windows do. A zero to opens a gap that lasts until the node's next call:
// a stream broke, and it is not known when the next one comes. A node that has
// left for good must have its gap ended.
func (l *Ledger) Gap(node string, from, to time.Time) {
	g := &l.gaps
	g.mu.Lock()
	defer g.mu.Unlock()
	if to.IsZero() {
		if _, already := g.open[node]; !already {
			g.open[node] = from
		}
		return
	}
	if since, ok := g.open[node]; ok {
		delete(g.open, node)
		from = earlier(from, since)
	}
	if from.IsZero() {
		from = l.Reach()
	}
	if to.Before(from) { // a clock jumped: all between is doubtful
		from, to = to, from
	}
	g.ended++
	g.lost = addDurations(g.lost, to.Sub(from))
	g.recent = append(g.recent, Gap{Node: node, From: from, To: to})
	if len(g.recent) > maxGaps {
		g.recent = slices.Delete(g.recent, 0, len(g.recent)-maxGaps)
	}
	first := max(l.index(from), l.floor.Load())
	last := min(l.index(to), l.newest.Load()+l.slots())
	for i := first; i <= last; i++ {
		g.touched[i] = true
	}
}

// Gaps returns the gaps that are open, then the newest ones that have ended,
// the latest first.
func (l *Ledger) Gaps() []Gap {
	g := &l.gaps
	g.mu.Lock()
	defer g.mu.Unlock()
	gaps := make([]Gap, 0, len(g.open)+len(g.recent))
	for node, from := range g.open {
		gaps = append(gaps, Gap{Node: node, From: from})
	}
	slices.SortFunc(gaps, func(a, b Gap) int { return a.From.Compare(b.From) })
	for _, ended := range slices.Backward(g.recent) {
		gaps = append(gaps, ended)
	}
	return gaps
}

// GapTotals returns how much was lost.
func (l *Ledger) GapTotals() GapTotals {
	g := &l.gaps
	g.mu.Lock()
	defer g.mu.Unlock()
	return GapTotals{Gaps: g.ended, Lost: g.lost, Open: len(g.open)}
}

// touches tells whether a gap touches the window at index, which ends at end.
func (g *gapLog) touches(index int64, end time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.touched[index] {
		return true
	}
	for _, since := range g.open {
		if since.Before(end) {
			return true
		}
	}
	return false
}

func (g *gapLog) forget(floor int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.touched {
		if i < floor {
			delete(g.touched, i)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
