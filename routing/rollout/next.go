package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// The actors that are no persons.
const (
	ActorConfig = "config" // an edited file
	ActorTimer  = "timer"  // a step's time is over
	ActorEnvoy  = "envoy"  // an acknowledgement, or what Envoys were found to hold
	ActorProbe  = "probe"  // an answer of a version's endpoints
	ActorJudge  = "judge"  // what gates and hard rules have shown
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
	case Judged:
		t.judged(e.Judgement)
	case Tick:
		t.ticked = true
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
	ticked    bool          // the last Wake is used up
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
	if tellsFindings[kind] && t.s.Judgement != nil {
		d.Findings = t.s.Judgement.Findings
	}
	before := t.s
	t.s = apply(before, *r, d)
	d.Text = tell(before, t.s, kind)
	if names := strings.Join(d.NotSafe, ", "); !strings.Contains(reason, names) {
		d.Text += ", while not safe: " + names
	}
	if len(d.Overruled) > 0 {
		d.Text += overruleWords(d.Overruled)
	}
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
	if t.idle() {
		return t.s, nil
	}
	if !sameSplit(t.before.Split(), t.s.Split()) || !slices.Equal(t.before.Mirrors(), t.s.Mirrors()) {
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
	moved := t.s.Clock != t.before.Clock || t.s.Rollout.Elapsed != t.before.Rollout.Elapsed
	if after := t.s.wake(t.now); moved || t.ticked && after >= 0 || after != t.before.wake(t.now) {
		t.effects = append(t.effects, Wake{after})
	}
	return t.s, t.effects
}

// idle tells whether nothing has happened from which anything could follow: most
// looks of a judge are like that.
func (t *transition) idle() bool {
	return len(t.effects) == 0 && !t.ticked && t.probe < 0 && t.s.Wanted == t.before.Wanted && t.s.Phase == t.before.Phase &&
		t.s.Clock == t.before.Clock && (t.s.Judgement == nil) == (t.before.Judgement == nil)
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
	step := s.Rollout.step()
	if s.Clock.Since.IsZero() || step.Hold {
		return -1
	}
	elapsed := s.Elapsed(now)
	p := kindOf(step).Progress(step, elapsed)
	rest := checkpointEvery(s.lasts(p)) - s.Clock.ran(now)
	if deadline := s.deadline(); p.Done && elapsed < deadline {
		rest = min(rest, deadline-elapsed)
	}
	if p.After > 0 {
		rest = min(rest, p.After)
	}
	return max(0, rest)
}

// lasts is the time of which a checkpoint is a part: what the step lasts at
// least, then what it may wait for its gates.
func (s State) lasts(p Progress) time.Duration {
	step := s.Rollout.step()
	switch {
	case !p.Done:
		return step.For
	case step.AtMost > 0:
		return step.AtMost
	}
	return maxCheckpoint
}

// delivered starts, stops and restarts the clock of the step.
func (t *transition) delivered(acknowledged bool) {
	if !t.s.Running() || !t.s.Rollout.Reachable {
		return
	}
	switch {
	case !acknowledged:
		t.s.InForce = time.Time{}
	case t.s.InForce.IsZero():
		t.s.InForce = t.now
	}
	switch {
	case t.s.Phase != PhaseProgressing:
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

// look ends the step when it is over: when its time is, and its gates are safe.
func (t *transition) look() {
	if t.s.Clock.Since.IsZero() || t.s.Phase != PhaseProgressing {
		return
	}
	step := t.s.Rollout.step()
	elapsed := t.s.Elapsed(t.now)
	p := kindOf(step).Progress(step, elapsed)
	switch {
	case p.Done && t.s.Rollout.endsAtOnce():
		t.advance(ActorTimer, p.Reason, data{})
	case p.Done && t.s.safe():
		t.goOn(p.Reason)
	case p.Done && t.s.timedOut(elapsed):
		t.timeOut(step)
	}
	t.checkpoint(checkpointEvery(t.s.lasts(p)))
}

// maxCheckpoint is the most of a step's time that a crash may cost.
const maxCheckpoint = 5 * time.Minute

// checkpointEvery is how much of a step's time may be lost by a crash: a
// twentieth, but not less than 10 s and not more than 5 min.
func checkpointEvery(whole time.Duration) time.Duration {
	return min(max(whole/20, 10*time.Second), maxCheckpoint)
}

// checkpoint records how long the step has run, when that is at least every
// more than the journal knows.
func (t *transition) checkpoint(every time.Duration) {
	ran := t.s.Clock.ran(t.now)
	if t.s.Phase != PhaseProgressing || ran == 0 || ran < every || t.s.Rollout.step().Hold {
		return
	}
	t.note(KindCheckpoint, ActorTimer, "", data{})
}

// note writes a record that does not stop the step's clock.
func (t *transition) note(kind, actor, reason string, d data) {
	running := !t.s.Clock.Since.IsZero()
	d.Elapsed = t.s.Elapsed(t.now)
	t.write(kind, actor, reason, d)
	if running {
		t.s.Clock.Since = t.now
	}
}

// advance ends the step. d has the gates in spite of which it does, and those
// that are overruled by that.
func (t *transition) advance(actor, reason string, d data) {
	if next := t.s.Rollout.Step + 1; next < len(t.s.Rollout.Steps) {
		d.Step = next
		t.write(KindAdvanced, actor, reason, d)
		return
	}
	t.promote(actor, reason, d.NotSafe...)
}

// promote gives everyone to the candidate, and completes the rollout when
// every Envoy is known to have that.
func (t *transition) promote(actor, reason string, notSafe ...string) {
	if t.s.Share() == routing.Whole && !t.s.Clock.Since.IsZero() {
		t.complete(actor, reason, notSafe...)
		return
	}
	t.write(KindPromoted, actor, reason, data{NotSafe: notSafe})
}

func (t *transition) complete(actor, reason string, notSafe ...string) {
	t.write(KindCompleted, actor, reason, data{
		Stable: t.s.Rollout.Candidate, Previous: t.s.Stable, Definition: t.s.definition(t.s.Stable), NotSafe: notSafe,
	})
}

// rollBack gives everyone back to stable. The candidate is not tried again
// until it is asked for again.
func (t *transition) rollBack(actor, reason string) {
	r := &t.s.Rollout
	if t.s.shadowing() && actor == ActorJudge {
		reason = also(reason, "it was a shadow, no user got it")
	}
	t.write(KindRolledBack, actor, reason, data{Stable: t.s.Stable, Candidate: r.Candidate, Definition: r.Definition})
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
