package pair

import (
	"container/heap"
	"hash/maphash"
	"slices"
	"time"
)

// entry is one request of which something is still to come.
type entry struct {
	key         string
	seen, due   time.Time
	index       int // in the queue
	bytes       int
	primary     *Exchange
	primaryOpen bool
	gone        bool      // there will be no primary
	expected    int       // versions that may get a copy
	quietSince  time.Time // when the primary ended
	copies      []*shadow
}

// shadow is one copy.
type shadow struct {
	version string
	open    bool    // its answer is to come
	told    bool    // there was a pair, or there will be none
	answer  *Answer // which waits for the primary
}

func (e *entry) copy(version string) *shadow {
	i := slices.IndexFunc(e.copies, func(c *shadow) bool { return c.version == version })
	if i < 0 {
		return nil
	}
	return e.copies[i]
}

// quiet tells whether nothing is under way; copies that were not seen yet can
// still begin.
func (e *entry) quiet() bool {
	return (e.primary != nil || e.gone) && !slices.ContainsFunc(e.copies, func(c *shadow) bool { return c.open })
}

// hopeless tells whether no user's request was seen, which begins before its
// copies do.
func (e *entry) hopeless() bool { return e.primary == nil && !e.primaryOpen && !e.gone }

// complete tells whether all copies that can be have come.
func (e *entry) complete() bool {
	return e.quiet() && !e.gone && len(e.copies) >= e.expected
}

// queue has the entry that is waited for the least at its head.
type queue []*entry

var _ heap.Interface = (*queue)(nil)

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, k int) bool { return q[i].due.Before(q[k].due) }

// Swap implements heap.Interface.
func (q queue) Swap(i, k int) {
	q[i], q[k] = q[k], q[i]
	q[i].index, q[k].index = i, k
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}

// remembered is how many requests that are done are known again, at 30 bytes each.
const remembered = 1 << 16

// past are the keys that are done, the last of them, by their hashes.
type past struct {
	seed  maphash.Seed
	known map[uint64]bool // and whether the primary had come to its end
	order []uint64        // a ring, once it is full
	next  int
}

func (p *past) hash(key string) uint64 { return maphash.String(p.seed, key) }

func (p *past) add(key string, answered bool) {
	h := p.hash(key)
	if _, twice := p.known[h]; twice {
		return
	}
	p.known[h] = answered
	if len(p.order) < remembered {
		p.order = append(p.order, h)
		return
	}
	delete(p.known, p.order[p.next])
	p.order[p.next] = h
	p.next = (p.next + 1) % len(p.order)
}
