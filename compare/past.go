package compare

import (
	"math"
	"time"

	"github.com/headgate/headgate/stats"
)

// counts are what was seen while the candidate had one share.
type counts struct {
	w    float64 // the candidate's part of the units; 0: nothing is compared
	n, c uint64  // units of the candidate, and events among them
	m, s uint64  // of stable
}

func (c *counts) add(o *counts) {
	c.n += o.n
	c.c += o.c
	c.m += o.m
	c.s += o.s
}

func (c *counts) minus(o *counts) counts {
	return counts{w: c.w, n: c.n - o.n, c: c.c - o.c, m: c.m - o.m, s: c.s - o.s}
}

// bet is a test to which counts are enough.
type bet interface {
	Bets() int
	count(logs []float64, c *counts)
}

// limitBet tests the candidate by itself.
type limitBet struct{ *stats.Rate }

func (b limitBet) count(logs []float64, c *counts) { b.Add(logs, c.n, c.c) }

// shareBet tests the candidate against stable.
type shareBet struct{ *stats.Share }

func (b shareBet) count(logs []float64, c *counts) { b.Add(logs, c.w, c.n+c.m, c.c, c.s) }

// How often a test begins anew, at first, and how many beginnings are kept.
const (
	freshEvery = 5 * time.Minute
	freshKept  = 64
)

// past is a breach test with fresh starts: E = sum_j w_j E_j, where E_j is the
// capital since start j, w_j = 1/(j(j+1)), and capital that waits for its start
// is kept. The mathematics and their paper are those of [stats.Starts]; here the
// state is whole numbers, so that it does not depend on how batches were cut,
// takes little room, and tells which time a result comes from.
type past struct {
	stretches []counts // one for each share; the last is the present
	starts    []start  // oldest first
	begun     int      // starts so far
	every     time.Duration
	next      time.Time // when the next start is due

	before []float64 // capital of all stretches but the last; nil: not known
	value  float64   // logE when it was last needed
	stale  bool
}

// start is one beginning of a test.
type start struct {
	stretch int
	at      counts // of that stretch, when it began
	time    time.Time
	weight  float64   // log of the capital it began with
	base    []float64 // log capital of each bet when it began; nil: not known
}

// newPast begins a test whose first start is at from.
func newPast(w float64, from time.Time) *past {
	return &past{
		stretches: []counts{{w: w}},
		starts:    []start{{time: from, at: counts{w: w}, weight: math.Log(stats.StartWeight(1))}},
		begun:     1, every: freshEvery, next: from.Add(freshEvery), stale: true,
	}
}

// turn goes on with another share.
func (p *past) turn(w float64) {
	last := &p.stretches[len(p.stretches)-1]
	if last.w == w && *last == (counts{w: w}) {
		return
	}
	p.stretches = append(p.stretches, counts{w: w})
	p.before, p.stale = nil, true
}

// warm is the logE from which on a past is always evaluated; below any threshold
// of a level that a promise allows.
const warm = 0.5

// add counts. Only an event of the candidate can make the capital grow.
func (p *past) add(c *counts) {
	p.stretches[len(p.stretches)-1].add(c)
	p.stale = p.stale || c.c > 0 || p.value > warm
}

// addLate counts what belongs to an earlier share.
func (p *past) addLate(c *counts, w float64) {
	for i := len(p.stretches) - 1; i >= 0; i-- {
		if p.stretches[i].w == w {
			p.stretches[i].add(c)
			p.before, p.stale = nil, true
			for j := range p.starts {
				p.starts[j].base = nil
			}
			return
		}
	}
}

// begin begins starts that are due before the time to.
func (p *past) begin(b bet, to time.Time) {
	if !to.After(p.next) {
		return
	}
	p.stale = true
	p.forget(b)
	if len(p.starts) >= freshKept {
		p.halve(b)
	}
	p.begun++
	i := len(p.stretches) - 1
	p.starts = append(p.starts, start{
		stretch: i, at: p.stretches[i], time: p.next, weight: math.Log(stats.StartWeight(p.begun)),
	})
	p.next = p.next.Add(p.every)
	if to.After(p.next) { // nothing was seen for long
		p.next = p.next.Add(to.Sub(p.next).Truncate(p.every))
	}
}

// forget gives up the starts that have next to nothing left.
func (p *past) forget(b bet) {
	least := p.logE(b) + math.Log(1e-9)
	now := p.capital(b)
	kept := p.starts[:0]
	for i := range p.starts {
		if p.starts[i].weight+p.since(b, now, &p.starts[i]) >= least {
			kept = append(kept, p.starts[i])
		}
	}
	p.starts = kept
}

// halve moves the capital of each second start to the one after it, and makes
// starts half as frequent from then on.
func (p *past) halve(b bet) {
	now := p.capital(b)
	kept := p.starts[:0]
	for i := 0; i+1 < len(p.starts); i += 2 {
		older, newer := p.starts[i], p.starts[i+1]
		own := p.since(b, now, &newer)
		newer.weight = logAdd(newer.weight+own, older.weight+p.since(b, now, &older)) - own
		kept = append(kept, newer)
	}
	p.starts = kept
	p.every *= 2
}

// capital is the log of what each bet has since the beginning.
func (p *past) capital(b bet) []float64 {
	last := len(p.stretches) - 1
	if p.before == nil {
		p.before = p.upTo(b, last)
	}
	now := append(make([]float64, 0, len(p.before)), p.before...)
	b.count(now, &p.stretches[last])
	return now
}

// upTo is the capital of the stretches before one.
func (p *past) upTo(b bet, stretch int) []float64 {
	logs := make([]float64, b.Bets())
	for i := range p.stretches[:stretch] {
		b.count(logs, &p.stretches[i])
	}
	return logs
}

// since is the log capital of all bets since a start.
func (p *past) since(b bet, now []float64, s *start) float64 {
	if s.base == nil {
		s.base = p.upTo(b, s.stretch)
		b.count(s.base, &s.at)
	}
	var room [32]float64
	grown := room[:len(now)]
	for k := range grown {
		grown[k] = now[k] - s.base[k]
	}
	return stats.LogMix(grown)
}

// logE is the log of the whole capital.
func (p *past) logE(b bet) float64 {
	if !p.stale {
		return p.value
	}
	p.stale = false
	now := p.capital(b)
	p.value = -math.Log(float64(p.begun) + 1)
	for i := range p.starts {
		p.value = logAdd(p.value, p.starts[i].weight+p.since(b, now, &p.starts[i]))
	}
	return p.value
}

// logESince is the log of the capital of the starts at or after from alone.
func (p *past) logESince(b bet, from time.Time) float64 {
	now, sum := p.capital(b), math.Inf(-1)
	for i := range p.starts {
		if s := &p.starts[i]; !s.time.Before(from) {
			sum = logAdd(sum, s.weight+p.since(b, now, s))
		}
	}
	return sum
}

// best returns what was counted since the start that has the most capital, and
// when that was.
func (p *past) best(b bet) (counts, time.Time) {
	now, most, at := p.capital(b), math.Inf(-1), -1
	for i := range p.starts {
		if v := p.starts[i].weight + p.since(b, now, &p.starts[i]); v > most {
			most, at = v, i
		}
	}
	if at < 0 {
		return p.sum(), time.Time{}
	}
	s := &p.starts[at]
	total := p.stretches[s.stretch].minus(&s.at)
	for i := s.stretch + 1; i < len(p.stretches); i++ {
		total.add(&p.stretches[i])
	}
	return total, s.time
}

// sum is all that was counted.
func (p *past) sum() counts {
	var total counts
	for i := range p.stretches {
		total.add(&p.stretches[i])
	}
	return total
}

// logAdd is log(exp(a) + exp(b)).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
