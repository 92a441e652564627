package record

import (
	"encoding/json"
	"sync"
)

// entry is a record that waits: one of the two.
type entry struct {
	pair   *Pair
	served *Served
}

// overhead is about what an entry takes beside its texts.
const overhead = 256

func (e entry) bytes() int64 {
	n := overhead
	if p := e.pair; p != nil {
		n += len(p.RequestID) + len(p.Stable) + len(p.Shadow) + len(p.Features) + len(p.Reason)
	} else {
		n += len(e.served.RequestID)
		for i := range e.served.Answers {
			n += overhead/4 + len(e.served.Answers[i].Prediction)
		}
	}
	return int64(n)
}

// queue holds the records that wait to be written, bounded in number and bytes.
type queue struct {
	maxEntries int
	maxBytes   int64
	ready      chan struct{} // has one when there is something to write
	many       chan struct{} // has one when a batch is full

	mu     sync.Mutex
	closed bool
	wait   []entry
	count  queueCounts
}

type queueCounts struct {
	entries       int // waiting, or being written
	bytes         int64
	droppedServed uint64
	droppedPairs  uint64
}

// batch is how many records are written in one transaction, about.
const batch = 1000

func (q *queue) init(entries int, bytes int64) {
	q.maxEntries, q.maxBytes = entries, bytes
	q.ready, q.many = make(chan struct{}, 1), make(chan struct{}, 1)
}

// add takes a record, or drops it when there is no room.
func (q *queue) add(e entry) bool {
	n := e.bytes()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || e.pair == nil && e.served.RequestID == "" || q.count.entries >= q.maxEntries || q.maxBytes > 0 && q.count.bytes+n > q.maxBytes {
		q.count.drop(e)
		return false
	}
	q.wait = append(q.wait, e)
	q.count.entries++
	q.count.bytes += n
	signal(q.ready)
	if len(q.wait) >= batch {
		signal(q.many)
	}
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (c *queueCounts) drop(e entry) {
	if e.pair != nil {
		c.droppedPairs++
	} else {
		c.droppedServed++
	}
}

// take takes up to a batch out. They count as waiting until they are [queue.written].
func (q *queue) take() []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(batch, len(q.wait))
	taken := q.wait[:n:n]
	if q.wait = q.wait[n:]; len(q.wait) == 0 {
		q.wait = nil // the array is freed with the batch
	} else {
		signal(q.ready)
		signal(q.many)
	}
	return taken
}

// written gives the room of records back; lost says that they were not kept.
func (q *queue) written(entries []entry, lost bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		q.count.entries--
		q.count.bytes -= e.bytes()
		if lost {
			q.count.drop(e)
		}
	}
}

// close refuses all that comes from now on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

func (q *queue) counts() queueCounts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

// AddServed keeps a served request, soon. It returns false when it was dropped
// since too much waits already; one without an id is too. The caller must not
// change the predictions afterwards.
func (s *Store) AddServed(r *Served) bool {
	kept := *r
	kept.RequestID = cut(r.RequestID)
	kept.Answers = make([]Answer, len(r.Answers))
	for i, a := range r.Answers {
		a.Prediction = s.fit(a.Prediction)
		kept.Answers[i] = a
	}
	return s.queue.add(entry{served: &kept})
}

// AddPair keeps a pair, soon. It returns false when it was dropped since too much
// waits already. The caller must not change it afterwards.
func (s *Store) AddPair(p *Pair) bool {
	kept := *p
	kept.RequestID, kept.Reason = cut(p.RequestID), cut(p.Reason)
	kept.Stable, kept.Shadow, kept.Features = s.fit(p.Stable), s.fit(p.Shadow), s.fit(p.Features)
	return s.queue.add(entry{pair: &kept})
}

// fit is JSON that is not too long to be kept.
func (s *Store) fit(raw json.RawMessage) json.RawMessage {
	if len(raw) <= s.options.MaxPrediction {
		return raw
	}
	text, _ := json.Marshal(map[string]int{"bytes": len(raw)})
	return text
}

func cut(text string) string { return text[:min(len(text), maxText)] }
