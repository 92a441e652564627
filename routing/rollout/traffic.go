package rollout

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/routing"
)

// traffic gives a share of the users to the candidate for a time, or until a
// person ends the step.
type traffic struct{}

// Check refuses a share above 100 %, negative times, a step with a time that
// waits for a person, and a control that cannot be.
func (traffic) Check(step routing.Step) error {
	switch {
	case step.Share > routing.Whole:
		return fmt.Errorf("traffic: %s: must be at most 100%%", step.Share)
	case step.Control.Share > routing.Whole:
		return fmt.Errorf("control: %s: must be at most 100%%", step.Control.Share)
	case step.Control != (routing.Control{}) && step.Share < routing.Whole:
		return fmt.Errorf("control: %s: only a step of 100%% has one", step.Control)
	}
	return checkTimes(step)
}

// checkTimes refuses negative times, and a step with a time that waits for a
// person.
func checkTimes(step routing.Step) error {
	switch {
	case step.For < 0:
		return fmt.Errorf("for: %s: must not be negative", step.For)
	case step.Hold && step.For > 0:
		return fmt.Errorf("for: %s: a step that waits for a person has no time", step.For)
	case step.AtMost < 0:
		return fmt.Errorf("at_most: %s: must not be negative", step.AtMost)
	}
	return nil
}

// Share is the share that the file says, less what is held back of 100 %.
func (traffic) Share(step routing.Step) routing.Share {
	if step.Share >= routing.Whole && !step.Control.Mirror {
		return routing.Whole - min(step.Control.Share, routing.Whole)
	}
	return min(step.Share, routing.Whole)
}

// Mirrors are copies to the stable version, for a control that asks for them.
// They keep the users' credentials: the version has seen them before, and what
// it answers is compared with what the users get.
func (traffic) Mirrors(step routing.Step, stable, _ string) []routing.Mirror {
	if step.Share < routing.Whole || !step.Control.Mirror || step.Control.Share == 0 {
		return nil
	}
	return []routing.Mirror{{Version: stable, Share: step.Control.Share, Credentials: true}}
}

// Progress is done when the time is over.
func (traffic) Progress(step routing.Step, elapsed time.Duration) Progress {
	return timeOf(step, elapsed)
}

// timeOf is the progress of a step that lasts for a time.
func timeOf(step routing.Step, elapsed time.Duration) Progress {
	if step.Hold {
		return Progress{Reason: "waits for a person"}
	}
	if step.For == 0 && elapsed == 0 {
		return Progress{Done: true, Reason: "at once"}
	}
	if elapsed >= step.For {
		return Progress{Done: true, Reason: of(elapsed, step.For)}
	}
	return Progress{After: step.For - elapsed, Reason: of(elapsed, step.For)}
}

// unknown stands in for a kind that is not registered.
type unknown struct{ kind routing.StepKind }

// Check always fails.
func (u unknown) Check(routing.Step) error {
	return fmt.Errorf("%s: no code implements this kind of step; there is %v", u.kind, Kinds())
}

// Share is nothing.
func (unknown) Share(routing.Step) routing.Share { return 0 }

// Mirrors are none.
func (unknown) Mirrors(routing.Step, string, string) []routing.Mirror { return nil }

// Progress is never done.
func (u unknown) Progress(routing.Step, time.Duration) Progress {
	return Progress{Reason: fmt.Sprintf("no code implements a step of kind %s", u.kind)}
}

// of says "41 of at least 60 min" in a unit that suits the whole.
func of(elapsed, whole time.Duration) string {
	if whole == 0 {
		unit, name := unitOf(elapsed)
		return fmt.Sprintf("%d %s by now", elapsed/unit, name)
	}
	unit, name := unitOf(whole)
	return fmt.Sprintf("%d of at least %s %s", elapsed/unit, decimal(whole, unit), name)
}

func unitOf(d time.Duration) (time.Duration, string) {
	switch {
	case d >= 48*time.Hour:
		return time.Hour, "h"
	case d >= 2*time.Minute:
		return time.Minute, "min"
	case d < time.Second:
		return time.Millisecond, "ms"
	}
	return time.Second, "s"
}

func decimal(d, unit time.Duration) string {
	return fmt.Sprintf("%.4g", float64(d)/float64(unit))
}
