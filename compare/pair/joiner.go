package pair

import (
	"cmp"
	"container/heap"
	"hash/maphash"
	"time"
)

// Options bound what waits. A zero takes the default.
type Options struct {
	Waiting int           // requests that wait at a time; 8,192
	Bytes   int           // of bodies that wait; 64 MiB
	Wait    time.Duration // from the first sight of a request to the last answer; 5 min
	Grace   time.Duration // for copies to appear once the user has the answer; 2 s
}

func (o Options) withDefaults() Options {
	o.Waiting = cmp.Or(o.Waiting, 8192)
	o.Bytes = cmp.Or(o.Bytes, 64<<20)
	o.Wait = cmp.Or(o.Wait, 5*time.Minute)
	o.Grace = cmp.Or(o.Grace, 2*time.Second)
	return o
}

// Counts are what a Joiner has counted.
type Counts struct {
	Pairs  uint64 // made, with an answer or without
	Silent uint64 // of these, without an answer of the copy
	Alone  uint64 // users' requests of which no copy was seen, though there may be none for its share
	Orphan uint64 // copies whose user's request was not seen to its end
	Capped uint64 // copies that were refused for want of room
	Late   uint64 // what came when the request was no longer waited for
	Twice  uint64 // what had been seen before
	Given  uint64 // requests given up for the bounds, before all of their answers came

	Waiting, Bytes int // now
}

// Joiner joins. It is not for concurrent use.
type Joiner struct {
	options Options
	waiting map[string]*entry
	due     queue
	done    past
	counts  Counts
}

// NewJoiner returns a Joiner that waits for nothing yet.
func NewJoiner(o Options) *Joiner {
	o = o.withDefaults()
	return &Joiner{
		options: o, waiting: make(map[string]*entry),
		done: past{seed: maphash.MakeSeed(), known: make(map[uint64]bool)},
	}
}

// Counts returns what was counted until now.
func (j *Joiner) Counts() Counts {
	c := j.counts
	c.Waiting = len(j.waiting)
	return c
}

// OpenPrimary tells that the capture of a user's request began.
func (j *Joiner) OpenPrimary(key string, now time.Time) {
	if e := j.entry(key, now); e != nil {
		e.primaryOpen = e.primary == nil && !e.gone
		j.settle(e)
	}
}

// OpenCopy tells that a version got a copy of a request.
func (j *Joiner) OpenCopy(key, version string, now time.Time) {
	e := j.entry(key, now)
	if e == nil || e.copy(version) != nil {
		return
	}
	e.copies = append(e.copies, &shadow{version: version, open: true})
	j.settle(e)
}

// Primary takes a user's request with its answer. copies is how many versions
// may get a copy of it. The exchange is kept and must not be changed any more.
func (j *Joiner) Primary(key string, x *Exchange, copies int, now time.Time) []*Pair {
	e := j.entry(key, now)
	switch {
	case e == nil:
		j.missed(key, true)
		return nil
	case e.primary != nil || e.gone:
		j.counts.Twice++
		return nil
	}
	e.primary, e.primaryOpen, e.expected = x, false, copies
	j.hold(e, x.Size())
	var pairs []*Pair
	for _, c := range e.copies {
		if c.answer != nil && !c.told {
			pairs = append(pairs, j.tell(e, c, *c.answer))
		}
	}
	e.quietSince = now
	j.settle(e)
	return pairs
}

// Abort tells that a user's request ended without an answer that means
// anything: there will be no pair of it.
func (j *Joiner) Abort(key string, now time.Time) {
	e := j.entry(key, now)
	if e == nil || e.primary != nil {
		return
	}
	e.gone, e.primaryOpen, e.quietSince = true, false, now
	j.settle(e)
}

// Copy takes the answer to a copy, or its fault. The answer must not be changed
// any more.
func (j *Joiner) Copy(key string, a *Answer, now time.Time) []*Pair {
	e := j.entry(key, now)
	if e == nil {
		j.missed(key, false)
		return nil
	}
	c := e.copy(a.Version)
	switch {
	case c == nil:
		c = &shadow{version: a.Version}
		e.copies = append(e.copies, c)
	case !c.open:
		j.counts.Twice++
		return nil
	}
	c.open = false
	var pairs []*Pair
	switch {
	case e.gone:
		c.told = true
		j.counts.Orphan++
	case e.primary != nil:
		pairs = []*Pair{j.tell(e, c, *a)}
	default:
		c.answer = a
		j.hold(e, a.Size())
	}
	j.settle(e)
	return pairs
}

// Refuse tells that a copy was not sent to its version for want of room.
func (j *Joiner) Refuse(key, version string, now time.Time) {
	e := j.entry(key, now)
	if e == nil {
		return
	}
	c := e.copy(version)
	if c == nil {
		c = &shadow{version: version, open: true}
		e.copies = append(e.copies, c)
	}
	if c.open {
		c.open, c.told = false, true
		j.counts.Capped++
	}
	j.settle(e)
}

// Expire ends what has waited long enough. It should be called a few times a
// second.
func (j *Joiner) Expire(now time.Time) []*Pair {
	var pairs []*Pair
	for len(j.due) > 0 && !j.due[0].due.After(now) {
		e := j.due[0]
		for _, c := range e.copies {
			if e.primary != nil && c.open {
				c.open = false
				pairs = append(pairs, j.tell(e, c, Answer{Version: c.version, Fault: FaultSilent, Detail: "waited_too_long"}))
			}
		}
		j.end(e)
	}
	return pairs
}

// tell makes the one pair of a copy.
func (j *Joiner) tell(e *entry, c *shadow, a Answer) *Pair {
	c.told = true
	j.counts.Pairs++
	if a.Fault == FaultSilent {
		j.counts.Silent++
	}
	return &Pair{Exchange: e.primary, Shadow: a}
}

// missed counts what nobody waits for.
func (j *Joiner) missed(key string, primary bool) {
	if answered := j.done.known[j.done.hash(key)]; answered && primary {
		j.counts.Twice++
	} else {
		j.counts.Late++
	}
}

// entry returns the one of a key, made if need be, or nil when the key is done.
func (j *Joiner) entry(key string, now time.Time) *entry {
	if e := j.waiting[key]; e != nil {
		return e
	}
	if _, over := j.done.known[j.done.hash(key)]; over {
		return nil
	}
	e := &entry{key: key, seen: now, due: now.Add(j.options.Grace)}
	j.waiting[key] = e
	heap.Push(&j.due, e)
	j.hold(e, overhead)
	return e
}

// settle ends an entry of which nothing more is to come, and else says how long
// it is waited for.
func (j *Joiner) settle(e *entry) {
	if j.waiting[e.key] != e {
		return // given up while it was looked at
	}
	if e.complete() {
		j.end(e)
		return
	}
	e.due = e.seen.Add(j.options.Wait)
	since := e.quietSince
	if e.hopeless() {
		since = e.seen
	}
	if grace := since.Add(j.options.Grace); (e.quiet() || e.hopeless()) && grace.Before(e.due) {
		e.due = grace
	}
	heap.Fix(&j.due, e.index)
}

// end forgets an entry but for its key.
func (j *Joiner) end(e *entry) {
	delete(j.waiting, e.key)
	heap.Remove(&j.due, e.index)
	j.counts.Bytes -= e.bytes
	j.done.add(e.key, e.primary != nil || e.gone)
	if e.primary != nil && e.expected > 0 && len(e.copies) == 0 {
		j.counts.Alone++
	}
	for _, c := range e.copies {
		if !c.told && e.primary == nil {
			j.counts.Orphan++
		}
	}
}

// hold counts the bytes of an entry and gives up others, those that would end
// first, until all is within the bounds.
func (j *Joiner) hold(e *entry, bytes int) {
	if j.waiting[e.key] != e {
		return
	}
	e.bytes += bytes
	j.counts.Bytes += bytes
	for len(j.due) > 0 && (len(j.waiting) > j.options.Waiting || j.counts.Bytes > j.options.Bytes) {
		first := j.due[0]
		j.counts.Given++
		j.end(first)
	}
}
