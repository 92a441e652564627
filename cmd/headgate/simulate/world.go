package simulate

import (
	"math"
	"time"
)

// world is all that is the same in every run of one of the two worlds.
type world struct {
	s       *Scenario
	harmful bool
	people  *population
	grid    *grid // nil: no latency
	// How the versions behave, by calm or burst, and for the candidate by before
	// or after the harm begins.
	stable    [2]behaviour
	candidate [2][2]behaviour
}

// behaviour is a Truth as it is drawn from.
type behaviour struct {
	errors, clientErrors float64
	ok, failed           *law // nil: no latency
}

func newWorld(s *Scenario, people *population, harmful bool) *world {
	w := &world{s: s, people: people, harmful: harmful}
	if s.latencyGates() {
		slow := s.Traffic.Bursts.Latency
		var laws []Latency
		for _, t := range []Truth{s.Stable, s.Candidate} {
			for _, l := range []Latency{t.Latency, t.failed()} {
				laws = append(laws, l, l.times(slow))
			}
		}
		w.grid = newGrid(laws, s.points())
	}
	for burst := range 2 {
		w.stable[burst] = w.behaviour(s.Stable, burst)
		w.candidate[burst][0] = w.stable[burst]
		w.candidate[burst][1] = w.stable[burst]
		if harmful {
			w.candidate[burst][1] = w.behaviour(s.Candidate, burst)
		}
	}
	return w
}

// failed is the latency of errors.
func (t Truth) failed() Latency {
	if t.ErrorLatency.known() {
		return t.ErrorLatency
	}
	return t.Latency
}

func (w *world) behaviour(t Truth, burst int) behaviour {
	b, slow := behaviour{errors: t.Errors, clientErrors: t.ClientErrors}, 1.0
	if burst == 1 {
		b.errors += (1 - b.errors) * w.s.Traffic.Bursts.Errors
		slow = w.s.Traffic.Bursts.Latency
	}
	if w.grid != nil {
		b.ok, b.failed = w.grid.law(t.Latency.times(slow)), w.grid.law(t.failed().times(slow))
	}
	return b
}

// history is what happens in one run, whatever the rules do about it.
type history struct {
	w      *world
	run    uint64
	seed   uint64
	phase  float64 // of the rhythm, in periods
	bursts []span
	gaps   []span
	people *crowd // nil: no keys
}

// span is from a time to another, since the rollout's first request.
type span struct{ from, to time.Duration }

func (w *world) history(seed, run uint64) *history {
	src := newSource(seed, run, 1)
	h := &history{w: w, run: run, seed: seed, phase: src.uniform()}
	t := &w.s.Traffic
	h.bursts = spans(src, t.Bursts.Every, t.Bursts.For, w.s.Until)
	h.gaps = spans(src, t.Gaps.Every, t.Gaps.For, w.s.Until)
	if w.people != nil {
		h.people = newCrowd(w.people, t.Users.Failing, src)
	}
	return h
}

// spans puts spans at random, which do not overlap, into a time. They begin and
// end at whole seconds.
func spans(src source, every, length, until time.Duration) []span {
	var out []span
	if every == 0 {
		return nil
	}
	for at := time.Duration(0); ; {
		from := (at + time.Duration(src.exponential(float64(every-length)))).Truncate(time.Second) + time.Second
		if from >= until {
			return out
		}
		at = from + length
		out = append(out, span{from, at})
	}
}

// cell is a time, at most a minute long, in which nothing changes.
type cell struct {
	span
	rate  float64 // requests a second
	burst int
	harm  int
	gap   bool
	// Since is when what is drawn last changed.
	since time.Duration
}

const minute = time.Minute

// at returns the cell that begins at a time, and ends with the minute or when
// something changes.
func (h *history) at(from time.Duration) cell {
	c := cell{span: span{from, from.Truncate(minute) + minute}, rate: h.w.s.Traffic.Rate}
	change := func(at time.Duration) {
		if at > from {
			c.to = min(c.to, at)
		} else {
			c.since = max(c.since, at)
		}
	}
	if harm := h.w.s.From; h.w.harmful {
		change(harm)
		if from >= harm {
			c.harm = 1
		}
	}
	inside := func(all []span) bool {
		for _, s := range all {
			if s.from > c.to {
				return false
			}
			change(s.from)
			change(s.to)
			if s.from <= from && from < s.to {
				return true
			}
		}
		return false
	}
	if inside(h.bursts) {
		c.burst = 1
		c.rate *= h.w.s.Traffic.Bursts.Rate
	}
	c.gap = inside(h.gaps)
	if r := h.w.s.Traffic.Rhythm; r.Period > 0 {
		at := float64(from.Truncate(minute)+minute/2) / float64(r.Period)
		c.rate *= 1 + r.Swing*math.Sin(2*math.Pi*(at+h.phase))
	}
	return c
}

// tally is what both versions answer in a time.
type tally [2]counts

// counts are one version's.
type counts struct {
	errors  uint64
	unlucky uint64 // errors of users whose requests fail; beside errors
	client  uint64
	fine    uint64
	bins    []uint32 // latencies by the bins of the grid; nil: none
}

func (c *counts) requests() uint64 { return c.errors + c.unlucky + c.client + c.fine }
func (c *counts) failed() uint64   { return c.errors + c.unlucky }

// draw draws a cell's requests while they are placed so. The same cell and
// placement always give the same.
func (h *history) draw(c cell, place placement) *tally {
	src := newSource(h.seed, h.run, 2+uint64(c.harm), uint64(c.from), uint64(place.share), uint64(place.copies)+uint64(place.shadow)<<32)
	seconds := (c.to - c.from).Seconds()
	out := &tally{}
	for arm := range out {
		weight, unlucky := place.parts()[arm], 0.0
		if h.people != nil {
			h.people.at(place)
			a := &h.people.arms[arm]
			unlucky = a.failing * h.w.s.Traffic.Users.FailingRate
			weight = a.weight - unlucky
		}
		b := &h.w.stable[c.burst]
		if arm == candidate {
			b = &h.w.candidate[c.burst][c.harm]
		}
		out[arm] = b.draw(src, c.rate*seconds*weight, c.rate*seconds*unlucky)
	}
	return out
}

// draw draws the answers to requests, of which a mean number fail because of
// their users.
func (b *behaviour) draw(src source, requests, unlucky float64) counts {
	var out counts
	if b.ok == nil {
		out.errors = src.poisson(requests * b.errors)
		out.unlucky = src.poisson(unlucky)
		out.client = src.poisson(requests * (1 - b.errors) * b.clientErrors)
		out.fine = src.poisson(requests * (1 - b.errors) * (1 - b.clientErrors))
		return out
	}
	out.bins = make([]uint32, len(b.ok.parts))
	out.errors = b.failed.add(src, requests*b.errors, out.bins)
	out.unlucky = b.failed.add(src, unlucky, out.bins)
	out.fine = b.ok.add(src, requests*(1-b.errors), out.bins)
	out.client = src.binomial(out.fine, b.clientErrors)
	out.fine -= out.client
	return out
}

// take takes the requests of the part of the time at its beginning away.
func (t *tally) take(src source, part float64) *tally {
	out := &tally{}
	for arm := range t {
		out[arm] = t[arm].take(src, part)
	}
	return out
}

func (c *counts) take(src source, part float64) counts {
	var out counts
	for _, move := range []struct{ from, to *uint64 }{
		{&c.errors, &out.errors}, {&c.unlucky, &out.unlucky}, {&c.client, &out.client}, {&c.fine, &out.fine},
	} {
		*move.to = src.binomial(*move.from, part)
		*move.from -= *move.to
	}
	if c.bins == nil {
		return out
	}
	out.bins = make([]uint32, len(c.bins))
	for i, n := range c.bins {
		if n > 0 {
			out.bins[i] = uint32(src.binomial(uint64(n), part))
			c.bins[i] -= out.bins[i]
		}
	}
	return out
}
