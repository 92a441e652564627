package rollout

import (
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
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1:
		w := wanted(releasing(version()))
		if rapid.Bool().Draw(t, "redefined") {
			redefined(version())(&w)
		}
		if rapid.IntRange(0, 4).Draw(t, "removed") == 0 {
			without(version())(&w)
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
	}
	return Command{Model: "churn", Version: version(), Action: rapid.SampledFrom([]Action{
		ActionPromote, ActionPause, ActionResume, ActionRollback, ActionRetry, ActionSkip, ActionAdopt,
	}).Draw(t, "action")}
}

// TestProperties holds for every order of events.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, folded := State{Model: "churn"}, State{Model: "churn"}
		at := t0
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
			event := drawEvent(t, live.Rollout.Number)
			next, effects := Next(live, event, at)
			checkSplit(t, next)
			checkStable(t, live, next, effects)
			checkMonotone(t, live, next, effects)
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
