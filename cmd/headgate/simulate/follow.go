package simulate

import (
	"time"

	"github.com/headgate/headgate/routing"
)

// End is how a run ended.
type End string

// The ends.
const (
	EndPromoted   End = "promoted"
	EndRolledBack End = "rolled_back"
	EndPaused     End = "paused"  // somebody has to decide
	EndWaiting    End = "waiting" // its time was over, and neither had happened
)

// outcome is the end of one run under one rule.
type outcome struct {
	end End
	at  time.Duration // since the rollout's first request
	why string        // what sent it back or paused it: a gate, or a hard rule
}

// follow runs a rollout under a rule. It gives the candidate the shares of the
// steps for as long as these last, which is what those rules do, and asks it at
// the end of every interval.
func (h *history) follow(steps []routing.Step, w Watcher, every time.Duration) outcome {
	f := &follower{h: h, w: w, every: every}
	for _, step := range steps {
		f.place, f.ran = placed(step, step.Share), 0
		f.measured.Alone = f.place.parts()[stable] == 0
		for f.ran+f.pending < step.For {
			if f.now >= h.w.s.Until {
				return outcome{end: EndWaiting, at: f.now}
			}
			if f.pass(step.For-f.ran-f.pending) == Abort {
				return outcome{end: EndRolledBack, at: f.now}
			}
		}
		f.ran, f.pending = 0, 0
	}
	return outcome{end: EndPromoted, at: f.now}
}

// follower is a run under a rule.
type follower struct {
	h        *history
	w        Watcher
	every    time.Duration // whole minutes
	place    placement
	now      time.Duration
	ran      time.Duration // of the step, by intervals that count
	pending  time.Duration // since the last full interval
	measured Measured
}

// pass lets time pass: at most so much, to the end of a cell at most. At the end
// of an interval the rule is asked.
func (f *follower) pass(most time.Duration) Decision {
	c := f.h.at(f.now)
	t := f.h.draw(c, f.place)
	if whole := c.to - c.from; most < whole {
		t = t.take(newSource(f.h.seed, f.h.run, uint64(c.from), 11), float64(most)/float64(whole))
		c.to = c.from + most
	}
	if !c.gap { // what the rules look at is lost with the telemetry
		f.measured.Candidate.add(&t[candidate], f.h.w.grid)
		f.measured.Stable.add(&t[stable], f.h.w.grid)
	}
	f.pending += c.to - c.from
	f.now = c.to
	if f.now%f.every != 0 {
		return Go
	}
	d := f.w.Measure(&f.measured)
	if d == Go {
		f.ran += f.pending
	}
	f.pending = 0
	f.measured.Candidate.reset()
	f.measured.Stable.reset()
	return d
}
