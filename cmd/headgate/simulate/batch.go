package simulate

import (
	"github.com/headgate/headgate/compare"
)

// firsts are the users that were counted in an epoch.
type firsts struct {
	epoch          int
	errors, client seen
	slow           []seen
	limits         []float64 // seconds, by gate; 0: not counted
}

// fill makes a batch of what was answered by now.
func (j *judged) fill(t *tally) {
	b := &j.batch
	b.To = begins.Add(j.now)
	j.epoch()
	copied := j.m.place.copies > 0
	for arm, to := range []*compare.Arm{&b.Candidate, &b.Stable} {
		c := &t[arm]
		to.Requests, to.Errors, to.ClientErrors = c.requests(), c.failed(), c.client
		to.Drawn, to.DrawnErrors, to.DrawnClientErrors = to.Requests, to.Errors, to.ClientErrors
		to.Latency.Reset()
		for i, n := range c.bins {
			to.Latency.Add(j.h.w.grid.values[i], uint64(n))
		}
		failed := j.users(arm, c, to)
		if j.m.place.shadow > 0 { // of a shadow, requests are drawn and not users
			to.FirstErrors, to.FirstClientErrors, to.FirstSlow = 0, 0, to.FirstSlow[:0]
		}
		j.newest(arm, c, failed)
		to.Last = j.last[arm]
		if copied && arm == stable { // nobody saw the answers
			to.Requests, to.Errors, to.ClientErrors, to.Last = 0, 0, 0, nil
		}
	}
}

// epoch forgets the users that were counted when an epoch begins.
func (j *judged) epoch() {
	if j.h.people == nil {
		return
	}
	number, slow := j.trial.Epoch()
	f := &j.first
	if f.errors != nil && number == f.epoch && len(slow) == len(f.slow) {
		f.limits = slow
		return
	}
	words := (len(j.h.people.all.busy) + 63) / 64
	f.epoch, f.limits = number, slow
	f.errors, f.client = fresh(f.errors, words), fresh(f.client, words)
	if len(f.slow) != len(slow) {
		f.slow = make([]seen, len(slow))
	}
	for i := range f.slow {
		f.slow[i] = fresh(f.slow[i], words)
	}
}

func fresh(s seen, words int) seen {
	if s == nil {
		return make(seen, words)
	}
	clear(s)
	return s
}

// users finds who sent the requests that count once a user, and returns the
// senders of the errors.
func (j *judged) users(arm int, c *counts, to *compare.Arm) []int {
	to.FirstErrors, to.FirstClientErrors = 0, 0
	to.FirstSlow = to.FirstSlow[:0]
	p := j.h.people
	if p == nil {
		return nil
	}
	p.at(j.m.place)
	var failed []int
	for range c.errors {
		failed = append(failed, p.sender(j.src, arm))
	}
	for range c.unlucky {
		failed = append(failed, p.unluckySender(j.src, arm))
	}
	for _, user := range failed {
		if j.first.errors.add(user) {
			to.FirstErrors++
		}
	}
	for range c.client {
		if j.first.client.add(p.sender(j.src, arm)) {
			to.FirstClientErrors++
		}
	}
	for i, limit := range j.first.limits {
		to.FirstSlow = append(to.FirstSlow, 0)
		if limit <= 0 {
			continue
		}
		for range c.slower(limit, j.h.w.grid) {
			if j.first.slow[i].add(p.sender(j.src, arm)) {
				to.FirstSlow[i]++
			}
		}
	}
	return failed
}

// slower is how many answers took longer than seconds.
func (c *counts) slower(seconds float64, g *grid) uint64 {
	var n uint64
	for i, k := range c.bins {
		if g.values[i] > seconds {
			n += uint64(k)
		}
	}
	return n
}

// newest makes the newest outcomes of the batch.
func (j *judged) newest(arm int, c *counts, failed []int) {
	n, bad := c.requests(), c.failed()
	last := j.last[arm][:0]
	for range min(n, compare.LastOutcomes) {
		o := compare.Outcome{Bad: bad > 0 && j.src.uniform()*float64(n) < float64(bad)}
		if o.Bad {
			bad--
		}
		switch k := len(failed); {
		case j.h.people == nil:
		case o.Bad && k > 0:
			i := j.src.below(k)
			o.User = uint64(failed[i]) + 1
			failed[i], failed = failed[k-1], failed[:k-1]
		case arm == candidate: // of stable, nobody asks who it was
			o.User = uint64(j.h.people.sender(j.src, arm)) + 1
		}
		n--
		last = append(last, o)
	}
	j.last[arm] = last
}

// gap tells the judge that telemetry is lost, or no longer.
func (j *judged) gap(c cell) {
	if c.gap != j.lost {
		j.lost = c.gap
		j.trial.Gap(c.gap)
	}
}
