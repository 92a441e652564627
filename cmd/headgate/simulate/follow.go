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
	why string        // what sent it back: a gate, or a hard rule
}

// follow runs a rollout under a rule. It gives the candidate the shares of the
// steps for as long as these last, which is what those rules do.
func (h *history) follow(steps []routing.Step, w Watcher) outcome {
	f := &follower{h: h, w: w}
	for _, step := range steps {
		f.place, f.ran = placed(step, step.Share), 0
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
	h       *history
	w       Watcher
	place   placement
	now     time.Duration
	ran     time.Duration // of the step, by minutes that count
	pending time.Duration // since the last full minute
	minute  Minute
}

// pass lets time pass: at most so much, to the end of a cell at most. At the end
// of a minute the rule is asked.
func (f *follower) pass(most time.Duration) Decision {
	c := f.h.at(f.now)
	t := f.h.draw(c, f.place)
	if whole := c.to - c.from; most < whole {
		t = t.take(newSource(f.h.seed, f.h.run, uint64(c.from), 11), float64(most)/float64(whole))
		c.to = c.from + most
	}
	if !c.gap { // what the rules look at is lost with the telemetry
		f.minute.Candidate.add(&t[candidate], f.h.w.grid)
		f.minute.Stable.add(&t[stable], f.h.w.grid)
	}
	f.pending += c.to - c.from
	f.now = c.to
	if f.now%minute != 0 {
		return Go
	}
	d := f.w.Minute(&f.minute)
	if d == Go {
		f.ran += f.pending
	}
	f.pending = 0
	f.minute.Candidate.reset()
	f.minute.Stable.reset()
	return d
}
