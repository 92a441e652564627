package rollout

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/routing"
)

// journaled drops what a new process cannot know.
func journaled(s State) State {
	s.Wanted, s.Clock, s.Probe, s.InForce, s.Judgement = nil, Clock{}, ProbeState{}, time.Time{}, nil
	return s
}

func drawEvent(t *rapid.T, rollouts int) Event {
	version := func() string { return rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(t, "version") }
	switch rapid.IntRange(0, 17).Draw(t, "event") {
	case 0, 1:
		w := drawWanted(t)
		releasing(version())(&w)
		if rapid.Bool().Draw(t, "redefined") {
			redefined(version())(&w)
		}
		if rapid.IntRange(0, 4).Draw(t, "removed") == 0 {
			without(version())(&w)
		}
		if rapid.IntRange(0, 2).Draw(t, "standing") == 0 {
			standing(&w)
		}
		w.Steps = w.Steps[rapid.IntRange(0, 2).Draw(t, "first step"):rapid.IntRange(2, 3).Draw(t, "last step")]
		if rapid.IntRange(0, 4).Draw(t, "key") == 0 {
			w.Key.Name = "x-account"
		}
		c := Configured{Wanted: w}
		if rapid.IntRange(0, 3).Draw(t, "held") == 0 {
			c.Held = []string{version()}
		}
		return c
	case 2:
		return Probed{Rollout: rapid.IntRange(max(0, rollouts-1), rollouts).Draw(t, "of"), Err: rapid.SampledFrom([]string{"", "", "refused"}).Draw(t, "err")}
	case 3, 4:
		return Delivered{rapid.Bool().Draw(t, "acknowledged")}
	case 5:
		if rapid.IntRange(0, 5).Draw(t, "removed") == 0 {
			return Removed{}
		}
		return Stopping{}
	case 6:
		return Tick{}
	case 7, 8, 9, 10, 11, 12, 13, 14:
		return drawJudged(t)
	}
	return Command{Model: "churn", Version: version(), Action: rapid.SampledFrom([]Action{
		ActionPromote, ActionPause, ActionResume, ActionRollback, ActionRetry, ActionSkip, ActionAdopt,
	}).Draw(t, "action")}
}

// drawWanted has gates or none, in both modes, and steps with all that they can
// ask for.
func drawWanted(t *rapid.T) Wanted {
	if rapid.Bool().Draw(t, "no gates") {
		return wanted()
	}
	if rapid.IntRange(0, 3).Draw(t, "shadow") == 0 {
		return shadowed(shadowing(rapid.SampledFrom([]routing.Share{1, 1000, routing.Whole}).Draw(t, "copied")))
	}
	w := gated(controlled(rapid.SampledFrom([]routing.Control{{}, {Share: 100}, {Mirror: true, Share: 5000}}).Draw(t, "control")))
	for step := range w.Steps {
		timing(step, rapid.SampledFrom([]routing.OnTimeout{
			routing.OnTimeoutPause, routing.OnTimeoutPromote, routing.OnTimeoutRollback,
		}).Draw(t, "on timeout"))(&w)
	}
	if rapid.IntRange(0, 3).Draw(t, "limit") == 0 {
		limited(&w)
	}
	if rapid.IntRange(0, 2).Draw(t, "mode") == 0 {
		observed(&w)
	}
	return w
}

// drawJudged mostly fits what is on trial, see [about].
func drawJudged(t *rapid.T) Judged {
	verdict := rapid.SampledFrom([]string{"s", "s", "s", "w", "w", "b"})
	verdicts := verdict.Draw(t, "1") + verdict.Draw(t, "2") + verdict.Draw(t, "3")
	j := judge(verdicts + rapid.SampledFrom([]string{"w", "w", "w", "b", ""}).Draw(t, "hard"))
	if rapid.IntRange(0, 9).Draw(t, "another") == 0 {
		j.Rollout, j.Step = rapid.IntRange(1, 3).Draw(t, "rollout"), rapid.IntRange(0, 3).Draw(t, "step")
	}
	return j
}

// drawStart is nothing, or the middle of a step with gates.
func drawStart(t *rapid.T) (live, folded State, at time.Time) {
	live, folded, at = State{Model: "churn"}, State{Model: "churn"}, t0
	if rapid.Bool().Draw(t, "from nothing") {
		return live, folded, at
	}
	way := toGates()
	way[1].event = Configured{Wanted: drawWanted(t)}
	for _, h := range way {
		at = at.Add(h.after)
		var effects []Effect
		live, effects = Next(live, about(live, h.event), at)
		for _, r := range writes(effects) {
			var err error
			if folded, err = Fold(folded, *r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return live, folded, at
}

// TestProperties holds for every order of events.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, folded, at := drawStart(t)
		once := map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
			event := about(live, drawEvent(t, live.Rollout.Number))
			next, effects := Next(live, event, at)
			checkSplit(t, next)
			checkMirrors(t, next)
			checkStable(t, live, next, effects)
			checkMonotone(t, live, next, effects)
			checkVerdicts(t, live, next, event, at, effects)
			checkOnce(t, once, effects)
			if _, edit := event.(Configured); edit && next.Running() && !slices.Equal(next.Wanted.Steps, next.Rollout.Steps) {
				t.Fatalf("the file has the steps %+v, the rollout %+v", next.Wanted.Steps, next.Rollout.Steps)
			}
			if _, refused := refusal(effects); refused {
				if diff := cmp.Diff(live, next); diff != "" {
					t.Fatalf("a refused event changed the state (-before +after):\n%s", diff)
				}
			}
			for _, r := range writes(effects) {
				var err error
				if folded, err = Fold(folded, *r); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(journaled(next), journaled(folded)); diff != "" {
				t.Fatalf("after %T the journal tells another state (-live +journal):\n%s", event, diff)
			}
			live = next
		}
	})
}

// checkSplit: what is published is whole, and only of the versions of the
// rollout.
func checkSplit(t *rapid.T, s State) {
	split := s.Split()
	if !s.Known() {
		if len(split.Ranges) != 0 {
			t.Fatalf("%s publishes %v", s.Phase, split)
		}
		return
	}
	if err := split.Validate(); err != nil {
		t.Fatalf("%v: %v", split, err)
	}
	for _, r := range split.Ranges {
		if r.Version != s.Stable && r.Version != s.Rollout.Candidate {
			t.Fatalf("%s gets %s, stable is %s, the candidate %s", r.Version, r.Weight, s.Stable, s.Rollout.Candidate)
		}
		if r.Weight > 0 && s.Wanted != nil && !s.configured(r.Version) {
			t.Fatalf("%s gets %s and is not configured", r.Version, r.Weight)
		}
	}
	if !s.Running() && split.Weight(s.Stable) != routing.Whole {
		t.Fatalf("%s: the stable version gets %s", s.Phase, split.Weight(s.Stable))
	}
}

// checkMirrors: each version has one mirror at most, of what is configured, and
// none when it serves everyone.
func checkMirrors(t *rapid.T, s State) {
	mirrors := s.Mirrors()
	if !s.Known() && len(mirrors) > 0 {
		t.Fatalf("%s copies to %v", s.Phase, mirrors)
	}
	for i, m := range mirrors {
		if i > 0 && m.Version <= mirrors[i-1].Version || m.Share == 0 || m.Share > routing.Whole || s.Wanted != nil && !s.configured(m.Version) {
			t.Fatalf("copies to %v", mirrors)
		}
		if s.Split().Weight(m.Version) == routing.Whole {
			t.Fatalf("%s serves everyone and gets copies: %v", m.Version, mirrors)
		}
	}
	if s.shadowing() && (s.Share() > 0 || s.copied(s.Rollout.Candidate) < s.Rollout.shadow()) {
		t.Fatalf("a shadow of %s: %s of the users, copies to %v", s.Rollout.shadow(), s.Share(), mirrors)
	}
}

// checkStable: the stable version only changes where a record says so.
func checkStable(t *rapid.T, before, after State, effects []Effect) {
	if before.Stable == after.Stable {
		return
	}
	for _, r := range writes(effects) {
		switch r.Kind {
		case KindSeen, KindAdopted, KindCompleted, KindRolledBack, KindBlocked:
			return
		}
	}
	t.Fatalf("stable went from %s to %s without a record", before.Stable, after.Stable)
}

// checkMonotone: within a rollout, time and acknowledgements never take users
// from the candidate, and a rollout's number only grows.
func checkMonotone(t *rapid.T, before, after State, effects []Effect) {
	if after.Rollout.Number < before.Rollout.Number {
		t.Fatalf("rollout %d follows rollout %d", after.Rollout.Number, before.Rollout.Number)
	}
	if !before.Running() || !after.Running() || before.Rollout.Number != after.Rollout.Number {
		return
	}
	for _, r := range writes(effects) {
		if r.Kind == KindSteps {
			return
		}
	}
	if after.Share() < before.Share() {
		t.Fatalf("the share went from %s to %s", before.Share(), after.Share())
	}
}

// checkVerdicts: by themselves rollouts go on only when their gates are safe or
// the file says so, go back only for a breach or when the file says so, and with
// mode: observe neither.
func checkVerdicts(t *rapid.T, before, after State, event Event, at time.Time, effects []Effect) {
	switch event.(type) {
	case Judged, Tick, Delivered, Stopping:
	default:
		return
	}
	if event, judged := event.(Judged); judged && before.breaks(event) && after.Phase != PhaseRolledBack {
		t.Fatalf("broken, and %s: %+v", after.Phase, event.Findings)
	}
	step := before.Rollout.step()
	for _, r := range writes(effects) {
		freely := before.Rollout.Promoted || before.Rollout.endsAtOnce()
		if before.Observes() && (kindMoves(r.Kind) && !freely) {
			t.Fatalf("mode: observe, and %s: %s", r.Kind, r.Reason)
		}
		timedOut := r.Actor == ActorTimer && step.AtMost > 0 && before.Elapsed(at) >= before.Rollout.CountedFrom+step.AtMost
		switch r.Kind {
		case KindAdvanced, KindPromoted, KindCompleted:
			judgement := before
			if j, ok := event.(Judged); ok {
				judgement.Judgement = &j.Judgement
			}
			allowed := freely || timedOut && step.OnTimeout == routing.OnTimeoutPromote
			if !allowed && !safeIn(judgement) {
				t.Fatalf("%s by %s, not safe: %s", r.Kind, r.Actor, r.Reason)
			}
			if !freely && (before.Elapsed(at) < step.For || step.Hold) {
				t.Fatalf("%s by %s after %s of %s", r.Kind, r.Actor, before.Elapsed(at), step.For)
			}
		case KindRolledBack, KindPaused:
			if r.Actor != ActorJudge && !timedOut {
				t.Fatalf("%s by %s: %s", r.Kind, r.Actor, r.Reason)
			}
		}
	}
}

func safeIn(s State) bool {
	if s.policy() == &usual || len(s.policy().Gates) == 0 {
		return true
	}
	return s.Judgement != nil && len(s.Judgement.Findings) >= 3 &&
		s.Judgement.Findings[0].Verdict == routing.VerdictSafe && s.Judgement.Findings[1].Verdict == routing.VerdictSafe
}

func kindMoves(kind string) bool {
	switch kind {
	case KindAdvanced, KindPromoted, KindCompleted, KindRolledBack, KindPaused, KindSuperseded, KindStarted:
		return true
	}
	return false
}

// breaks tells whether a judgement must end the rollout.
func (s State) breaks(j Judged) bool {
	trial, on := s.Trial()
	return on && !s.Observes() && j.Rollout == trial.Rollout && j.Step == trial.Step &&
		slices.ContainsFunc(j.Findings, func(f routing.Finding) bool {
			return f.Verdict == routing.VerdictBreach && (f.HardRule || f.OnBreach == routing.OnBreachRollback)
		})
}

// checkOnce: nothing is told twice in a step. An edit makes another thing of it.
func checkOnce(t *rapid.T, once map[string]bool, effects []Effect) {
	for _, r := range writes(effects) {
		switch r.Kind {
		case KindWarned, KindWouldAdvance, KindWouldPause, KindWouldRollBack:
			if once[r.Kind+r.Reason] {
				t.Fatalf("%s told twice: %s", r.Kind, r.Reason)
			}
			once[r.Kind+r.Reason] = true
		case KindCheckpoint, KindAcknowledged, KindPaused, KindResumed:
		default:
			clear(once)
		}
	}
}

// setWall moves the wall clock of a time, and leaves its monotonic reading as
// it is: what time.Now returns after somebody set the machine's clock.
func setWall(t time.Time, by time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(by/time.Second) << 30
	return t
}

// TestClockJumps sets the wall clock in the middle of a step.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 24 * 365 * time.Hour, -24 * time.Hour} {
		start := time.Now()
		at := func(d time.Duration) time.Time { return start.Add(d) }
		s := State{Model: "churn"}
		for _, h := range toStart(now(Probed{Rollout: 1}), now(Delivered{true})) {
			s, _ = Next(s, h.event, at(0))
		}
		jumped := setWall(at(59*time.Minute), jump)
		if jumped.Round(0).Sub(at(59*time.Minute).Round(0)) != jump {
			t.Fatalf("the wall clock was not moved by %s", jump)
		}
		s, _ = Next(s, Tick{}, jumped)
		if s.Rollout.Step != 0 || s.Elapsed(jumped) != 59*time.Minute {
			t.Errorf("after a jump of %s in the 59th minute: step %d, %s of an hour", jump, s.Rollout.Step, s.Elapsed(jumped))
		}
		s, _ = Next(s, Tick{}, setWall(at(60*time.Minute), jump))
		if s.Rollout.Step != 1 {
			t.Errorf("after a jump of %s and an hour: step %d", jump, s.Rollout.Step)
		}
	}
	// Without monotonic readings a clock that goes back takes nothing away.
	s, end := reach(t, "", toStep0())
	s, _ = Next(s, Tick{}, end.Add(-10*time.Hour))
	if got := s.Elapsed(end.Add(-10 * time.Hour)); got < 0 || got > 20*time.Minute {
		t.Errorf("elapsed %s", got)
	}
}
