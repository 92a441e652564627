package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// StatusOf tells a state to people. The endpoints and the journal may have
// something to say, see [View].
func StatusOf(v View, now time.Time) Status {
	s := &v.State
	out := Status{
		Model: s.Model, Rollout: s.Rollout.Number, Phase: s.Phase, Stable: s.Stable, Candidate: s.candidate(), Step: -1,
		Steps: []StepStatus{}, Weights: map[string]float64{},
		Acknowledged: v.Delivery.Acknowledged() && s.Known() && !v.Unpublished,
		Envoys:       v.Delivery.Envoys,
		Waiting:      append([]string{}, v.Delivery.Waiting...),
		Late:         append([]string{}, v.Delivery.Late...),
		Rejected:     v.Delivery.Rejected,
		Since:        s.Since,
		Reason:       v.reason(now),
		Mode:         s.mode(),
		Gates:        s.findings(),
	}
	if s.Phase == "" {
		out.Phase = PhaseIdle // nothing is known to be wrong, and nothing is published
	}
	if s.Wanted != nil {
		out.Release = s.Wanted.Release
	}
	for _, r := range s.Split().Ranges {
		out.Weights[r.Version] = r.Weight.Percent()
	}
	if s.Running() {
		v.tellRollout(&out, now)
	}
	return out
}

// View is what a [Status] is made of.
type View struct {
	State    State
	Delivery Delivery
	// Unpublished says that Delivery is about an older state: a moment ago, this
	// one was not yet published.
	Unpublished bool
	Address     string // of the candidate's endpoints, for messages
	// Stuck is the error of the journal because of which nothing moves.
	Stuck error
}

func (v *View) tellRollout(out *Status, now time.Time) {
	r := &v.State.Rollout
	out.Step = r.Step
	for _, step := range r.Steps {
		out.Steps = append(out.Steps, v.State.tellStep(step))
	}
	if r.StepStarted.IsZero() {
		return
	}
	started := r.StepStarted
	out.StepStarted = &started
	step := r.step()
	p := kindOf(step).Progress(step, v.State.Elapsed(now))
	if p.After > 0 && v.State.Phase == PhaseProgressing && !v.State.Clock.Since.IsZero() && v.State.timeDecides() {
		ends := v.State.stepEnds(step, now, p.After)
		out.StepEnds = &ends
	}
	if at, ok := v.State.timesOut(now); ok {
		out.StepTimesOut = &at
	}
}

// tellStep tells people of a step what its file says.
func (s *State) tellStep(step routing.Step) StepStatus {
	told := StepStatus{Kind: step.Kind, Share: step.Share.Percent()}
	if !step.Hold {
		told.For = step.For.String()
	}
	if step.Control != (routing.Control{}) {
		told.Control = step.Control.String()
	}
	if step.AtMost > 0 && !step.Hold && len(s.policy().Gates) > 0 {
		told.AtMost, told.OnTimeout = step.AtMost.String(), onTimeout(step)
	}
	return told
}

// stepEnds says when a step that has after to go ends.
func (s *State) stepEnds(step routing.Step, now time.Time, after time.Duration) time.Time {
	return s.steady(now, after, kindOf(step).Progress(step, s.Elapsed(s.Clock.Since)).After)
}

// steady is the time that is after now. It is told by the moment when the clock
// began to run, from which it was afterThen away, so that it is the same whenever
// it is asked for; by now when the wall clock was set meanwhile.
func (s *State) steady(now time.Time, after, afterThen time.Duration) time.Time {
	ends := now.Add(after).Round(0)
	stored := s.Clock.Since.Add(afterThen).Round(0)
	if ends.Sub(stored).Abs() < time.Second {
		ends = stored
	}
	return ends.Truncate(time.Millisecond).UTC()
}

// reason says in words why the model is where it is.
func (v *View) reason(now time.Time) string {
	why := v.why(now)
	if v.Stuck != nil {
		why += "; nothing moves, because " + v.Stuck.Error()
	}
	if v.Delivery.Unpublished != "" && v.State.Known() {
		why += "; no Envoy was told, because " + v.Delivery.Unpublished
	}
	if v.Delivery.Rejected != "" {
		why += "; an Envoy refused it: " + v.Delivery.Rejected
	}
	return why
}

func (v *View) why(now time.Time) string {
	s := &v.State
	by := s.by()
	switch s.Phase {
	case PhaseBlocked:
		return fmt.Sprintf("%s: say which version serves with `headgate adopt %s VERSION`", s.Cause.Reason, s.Model)
	case PhaseIdle:
		return s.Stable + " serves everyone"
	case PhaseProgressing:
		return v.progress(now)
	case PhasePaused:
		return fmt.Sprintf("paused at %s%s; %s", s.gets(), by, s.resumes(now))
	case PhaseCompleted:
		return fmt.Sprintf("%s serves everyone since %s", s.Stable, clock(s.Since))
	case PhaseRolledBack:
		return fmt.Sprintf("rolled back%s; %s serves everyone%s", by, s.Stable, s.goesOn())
	}
	return "waits for the first Envoy, to see what it holds: the journal is empty"
}

// resumes says what leads out of a pause.
func (s *State) resumes(now time.Time) string {
	resume := fmt.Sprintf("`headgate resume %s`", s.Model)
	switch back := fmt.Sprintf(", `headgate rollback %s` goes back", s.Model); {
	case s.Cause.Actor == ActorJudge && len(s.overrulable()) > 0:
		return resume + " goes on in spite of it until the rollout ends" + back
	case s.Cause.Actor == ActorTimer && s.limit() > 0 && s.Elapsed(now) >= s.limit():
		return resume + " waits for at most " + s.Rollout.step().AtMost.String() + " more" + back
	}
	return resume + " goes on"
}

// goesOn says what leads out of a way back.
func (s *State) goesOn() string {
	if s.Wanted == nil || s.Wanted.Release == s.Stable {
		return ""
	}
	return fmt.Sprintf("; `headgate retry %s` tries %s again, a new release: in the file begins another rollout", s.Model, s.Wanted.Release)
}

// by says who caused the phase, when, and in what words.
func (s *State) by() string {
	text := fmt.Sprintf(" by %s at %s", s.Cause.Actor, clock(s.Since))
	if s.Cause.Reason != "" {
		text += ": " + s.Cause.Reason
	}
	return text
}

func (v *View) progress(now time.Time) string {
	s := &v.State
	r := &s.Rollout
	step := r.step()
	switch {
	case !r.Reachable && s.Probe.Err != "":
		return fmt.Sprintf("%s of %s does not answer: %s; tried %d times", v.Address, r.Candidate, s.Probe.Err, s.Probe.Failures)
	case !r.Reachable:
		return fmt.Sprintf("asks whether %s answers", r.Candidate)
	case v.Delivery.Envoys == 0:
		return fmt.Sprintf("%s: no Envoy is connected, nothing moves", s.gets())
	case len(v.Delivery.Waiting) > 0:
		return fmt.Sprintf("%s: waits for %s to acknowledge", s.gets(), strings.Join(v.Delivery.Waiting, ", "))
	case r.Promoted || r.StepStarted.IsZero():
		return fmt.Sprintf("%s: waits for the Envoys to acknowledge", s.gets())
	}
	p := kindOf(step).Progress(step, s.Elapsed(now))
	text := fmt.Sprintf("%s since %s, %s", s.gets(), clock(r.StepStarted), p.Reason)
	skip := fmt.Sprintf("`headgate skip %s` ends the step", s.Model)
	switch {
	case s.Observes():
		return text + s.waitsFor(now) + "; verdicts are only told: " + skip
	case step.Hold:
		text += ": " + skip
	}
	return text + s.waitsFor(now)
}

func clock(t time.Time) string { return t.UTC().Format("15:04 UTC") }

// address names where a version is.
func address(v *routing.Version) string {
	if v == nil {
		return "endpoint"
	}
	if len(v.Endpoints) == 0 {
		return fmt.Sprintf("endpoint %s:%d", v.DNS.Host, v.DNS.Port)
	}
	var all []string
	for _, e := range v.Endpoints {
		all = append(all, e.String())
	}
	if len(all) == 1 {
		return "endpoint " + all[0]
	}
	return "none of the endpoints " + strings.Join(all, ", ")
}
