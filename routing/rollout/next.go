package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// The actors that are no persons.
const (
	ActorConfig = "config" // an edited file
	ActorTimer  = "timer"  // a step's time is over
	ActorEnvoy  = "envoy"  // an acknowledgement, or what Envoys were found to hold
	ActorProbe  = "probe"  // an answer of a version's endpoints
)

// Next returns what is true of a model after an event, and what has to be done
// about it. It is pure and total: every event is possible in every state, and
// an event that makes no sense changes nothing. now should carry a monotonic
// reading, as time.Now does; only differences between such readings move a
// step's clock.
//
// The effects come in the order in which they must be carried out: all Writes
// first. If the journal refuses them, the old state stays.
func Next(s State, e Event, now time.Time) (State, []Effect) {
	t := &transition{before: s, s: s, now: now, probe: -1}
	switch e := e.(type) {
	case Configured:
		t.configured(e)
	case Removed:
		t.removed()
	case Delivered:
		t.delivered(e.Acknowledged)
	case Probed:
		t.probed(e)
	case Tick:
		t.look()
	case Stopping:
		t.checkpoint(0)
	case Command:
		t.command(e)
	}
	return t.end()
}

// transition is a call of Next under way.
type transition struct {
	before, s State
	now       time.Time
	effects   []Effect
	refused   []Effect
	probe     time.Duration // ask the candidate's endpoints after this; negative: no need
}

// write records an event and lets it come true.
func (t *transition) write(kind, actor, reason string, d data) {
	d.Version = dataVersion
	number := t.s.Rollout.Number
	if kind == KindStarted {
		number++
	}
	r := &Record{
		Model: t.s.Model, Rollout: number, Time: t.now.Round(0).UTC(),
		Kind: kind, Actor: actor, Reason: reason,
	}
	before := t.s
	t.s = apply(before, *r, d)
	d.Text = tell(before, t.s, kind)
	var err error
	if r.Data, err = json.Marshal(d); err != nil {
		panic("rollout: data of a record: " + err.Error()) // only strings and numbers in it
	}
	t.effects = append(t.effects, Write{r})
}

func (t *transition) refuse(path, reason string, args ...any) {
	t.refused = append(t.refused, Refused{Path: path, Reason: fmt.Sprintf(reason, args...)})
}

// end compares the states before and after, and adds what follows from the
// difference.
func (t *transition) end() (State, []Effect) {
	if len(t.refused) > 0 {
		return t.before, t.refused
	}
	if !sameSplit(t.before.Split(), t.s.Split()) {
		t.effects = append(t.effects, Publish{})
	}
	if needed, had := t.s.needsProbe(), t.before.needsProbe(); needed {
		if !had || t.before.Wanted == nil || t.before.Rollout.Number != t.s.Rollout.Number {
			t.probe = 0
		}
		if t.probe >= 0 {
			t.effects = append(t.effects, Probe{t.s.Rollout.Number, t.s.Rollout.Candidate, t.probe})
		}
	}
	if t.s.Clock != t.before.Clock || t.s.Rollout.Elapsed != t.before.Rollout.Elapsed {
		t.effects = append(t.effects, Wake{t.s.wake(t.now)})
	}
	return t.s, t.effects
}

func sameSplit(a, b routing.Split) bool {
	return a.Salt == b.Salt && slices.Equal(a.Ranges, b.Ranges)
}

// needsProbe tells whether the candidate's first user waits for an answer of
// its endpoints.
func (s State) needsProbe() bool {
	return s.Phase == PhaseProgressing && !s.Rollout.Reachable && s.Wanted != nil
}

// wake returns when the running step has to be looked at again; negative:
// not because of the time.
func (s State) wake(now time.Time) time.Duration {
	if s.Clock.Since.IsZero() {
		return -1
	}
	step := s.Rollout.step()
	p := kindOf(step).Progress(step, s.Elapsed(now))
	switch {
	case p.Done:
		return 0
	case p.After == 0:
		return -1
	}
	return max(0, min(p.After, checkpointEvery(step.For)-s.Clock.ran(now)))
}

// delivered starts, stops and restarts the clock of the step.
func (t *transition) delivered(acknowledged bool) {
	switch {
	case t.s.Phase != PhaseProgressing || !t.s.Rollout.Reachable:
	case !acknowledged:
		t.s.Clock = Clock{Ran: t.s.Clock.ran(t.now)}
	case t.s.Rollout.Promoted:
		t.complete(ActorEnvoy, "")
	case t.s.Rollout.StepStarted.IsZero():
		t.write(KindAcknowledged, ActorEnvoy, "", data{})
		t.s.Clock.Since = t.now
		t.look()
	default:
		if t.s.Clock.Since.IsZero() {
			t.s.Clock.Since = t.now
		}
		t.look()
	}
}

// look ends the step when it is over.
func (t *transition) look() {
	if t.s.Clock.Since.IsZero() || t.s.Phase != PhaseProgressing {
		return
	}
	step := t.s.Rollout.step()
	p := kindOf(step).Progress(step, t.s.Elapsed(t.now))
	if p.Done {
		t.advance(ActorTimer, p.Reason)
		return
	}
	t.checkpoint(checkpointEvery(step.For))
}

// checkpointEvery is how much of a step's time may be lost by a crash: a
// twentieth, but not less than 10 s and not more than 5 min.
func checkpointEvery(whole time.Duration) time.Duration {
	return min(max(whole/20, 10*time.Second), 5*time.Minute)
}

// checkpoint records how long the step has run, when that is at least every
// more than the journal knows.
func (t *transition) checkpoint(every time.Duration) {
	ran := t.s.Clock.ran(t.now)
	if t.s.Phase != PhaseProgressing || ran == 0 || ran < every || t.s.Rollout.step().Hold {
		return
	}
	running := !t.s.Clock.Since.IsZero()
	t.write(KindCheckpoint, ActorTimer, "", data{Elapsed: t.s.Elapsed(t.now)})
	if running {
		t.s.Clock.Since = t.now
	}
}

// advance ends the step.
func (t *transition) advance(actor, reason string) {
	if next := t.s.Rollout.Step + 1; next < len(t.s.Rollout.Steps) {
		t.write(KindAdvanced, actor, reason, data{Step: next})
		return
	}
	t.promote(actor, reason)
}

// promote gives everyone to the candidate, and completes the rollout when
// every Envoy is known to have that.
func (t *transition) promote(actor, reason string) {
	if t.s.Share() == routing.Whole && !t.s.Clock.Since.IsZero() {
		t.complete(actor, reason)
		return
	}
	t.write(KindPromoted, actor, reason, data{})
}

func (t *transition) complete(actor, reason string) {
	t.write(KindCompleted, actor, reason, data{Stable: t.s.Rollout.Candidate, Previous: t.s.Stable})
}

func (t *transition) probed(p Probed) {
	switch {
	case !t.s.needsProbe() || p.Rollout != t.s.Rollout.Number:
	case p.Err == "":
		t.write(KindReachable, ActorProbe, "", data{})
	default:
		t.s.Probe.Err = p.Err
		t.probe = backoff(t.s.Probe.Failures)
		t.s.Probe.Failures++
	}
}

// backoff is 1 s, 2 s, 4 s … 30 s.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures, 5), 30*time.Second)
}
