package compare

import "time"

// What [Ledger.Lately] keeps of a version: about 5 kB once it has requests.
const (
	// Tick is how exactly Lately tells times.
	Tick = 500 * time.Millisecond
	// Recently is how far back Lately reaches.
	Recently = time.Minute

	ticks = 128 // a power of two; more than Recently and ahead together
	ahead = 4   // ticks by which an Envoy's clock may be ahead
)

// Counts are a [Tally] without latencies.
type Counts struct {
	Requests     uint64 `json:"requests"`
	Errors       uint64 `json:"errors" doc:"5xx, resets, timeouts"`
	ClientErrors uint64 `json:"client_errors" doc:"4xx"`
	Aborted      uint64 `json:"aborted" doc:"the client went away"`
}

// bucket is what began in one tick.
type bucket struct {
	tick                                    int64
	requests, errors, clientErrors, aborted uint32
}

// ring has the newest ticks, each at the place of its number.
type ring [ticks]bucket

func tickOf(t time.Time) int64 { return t.UnixNano() / int64(Tick) }

// add counts o. What began too long ago, or far in the future, is left out.
func (r *ring) add(o *Observation, now int64) {
	tick := tickOf(o.Start)
	if tick <= now-ticks+ahead || tick > now+ahead {
		return
	}
	b := &r[tick&(ticks-1)]
	if b.tick != tick {
		*b = bucket{tick: tick}
	}
	b.requests++
	switch o.Class {
	case ClassError:
		b.errors++
	case ClassClientError:
		b.clientErrors++
	case ClassAborted:
		b.aborted++
	case ClassSuccess:
	}
}

// since adds up the ticks from first on.
func (r *ring) since(first, now int64) Counts {
	var c Counts
	first = max(first, now-int64(Recently/Tick))
	for i := range r {
		b := &r[i]
		if b.tick < first || b.tick > now+ahead {
			continue
		}
		c.Requests += uint64(b.requests)
		c.Errors += uint64(b.errors)
		c.ClientErrors += uint64(b.clientErrors)
		c.Aborted += uint64(b.aborted)
	}
	return c
}

// Lately counts a version's requests that began at from or later, in the last
// minute. It never counts one that began before from; of those that began less
// than a [Tick] after it, some may be left out. [Ledger.Since] tells more, by
// whole windows.
func (l *Ledger) Lately(model, version string, from time.Time) Counts {
	l.mu.RLock()
	s := l.series[seriesKey{model, version}]
	l.mu.RUnlock()
	if s == nil {
		return Counts{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent == nil {
		return Counts{}
	}
	return s.recent.since(tickOf(from.Add(Tick-1)), tickOf(time.Now()))
}
