package rollout

import (
	"cmp"
	"fmt"
	"time"

	"github.com/headgate/headgate/routing"
)

// onTimeout is what follows when a step has timed out.
func onTimeout(step routing.Step) routing.OnTimeout {
	return cmp.Or(step.OnTimeout, routing.OnTimeoutPause)
}

// timesOut says when the present step does; false: never, or not while its clock
// stands still.
func (s *State) timesOut(now time.Time) (time.Time, bool) {
	r := &s.Rollout
	limit := s.limit()
	if limit == 0 || len(s.policy().Gates) == 0 || s.Phase != PhaseProgressing || r.Promoted || r.endsAtOnce() || s.Clock.Since.IsZero() {
		return time.Time{}, false
	}
	return s.steady(now, limit-s.Elapsed(now), limit-s.Elapsed(s.Clock.Since)), true
}

// timeOutWords says what follows when, if the gates are not safe by then:
// "; pauses at 10:12 UTC if the gates are not safe by then".
func (s *State) timeOutWords(now time.Time) string {
	at, ok := s.timesOut(now)
	if !ok || !at.After(now) || s.Observes() && s.wouldBeOver() {
		return ""
	}
	step := s.Rollout.step()
	when := s.exactly(at, now)
	switch onTimeout(step) {
	case routing.OnTimeoutPromote:
		return s.promotes(when)
	case routing.OnTimeoutRollback:
		return fmt.Sprintf("; %s at %s if the gates are not safe by then", s.does("rolls back", "roll back"), when)
	}
	return fmt.Sprintf("; %s at %s if the gates are not safe by then", s.does("pauses", "pause"), when)
}

// promotes warns of a step that ends whatever is shown.
func (s *State) promotes(when string) string {
	does := s.does("goes on", "go on")
	if s.Rollout.Step >= len(s.Rollout.Steps)-1 {
		does = s.does("gives everyone to "+s.Rollout.Candidate, "give everyone to "+s.Rollout.Candidate)
	}
	if s.Judgement != nil && s.unproven() {
		return fmt.Sprintf("; BEWARE: %s at %s ALTHOUGH NOTHING IS SHOWN, for there is no traffic (on_timeout: promote)", does, when)
	}
	return fmt.Sprintf("; %s at %s even if the gates are not safe (on_timeout: promote)", does, when)
}

// unproven tells whether a gate that the step waits for has no request to judge
// by.
func (s *State) unproven() bool {
	for i := range s.Judgement.Findings {
		if f := &s.Judgement.Findings[i]; s.awaits(f) && f.Reason == routing.ReasonNoTraffic {
			return true
		}
	}
	return false
}

// does is a verb, which with mode: observe says what only would be done.
func (s *State) does(third, infinitive string) string {
	if s.Observes() {
		return "would " + infinitive
	}
	return third
}

// exactly is a time of the clock, with seconds where at_most is short, and with
// the day when that is not today.
func (s *State) exactly(at, now time.Time) string {
	form := "15:04 UTC"
	if s.Rollout.step().AtMost < 10*time.Minute {
		form = "15:04:05 UTC"
	}
	at, now = at.UTC(), now.UTC()
	if at.Format(time.DateOnly) != now.Format(time.DateOnly) {
		form = time.DateOnly + " " + form
	}
	return at.Format(form)
}
