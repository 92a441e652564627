package rollout

import (
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

// TestStepEndsIsStable asks again and again while a step runs, with the wall
// clock some nanoseconds off the monotonic one, and after it was set.
func TestStepEndsIsStable(t *testing.T) {
	began := time.Date(2026, 1, 2, 12, 0, 0, 123_456_789, time.UTC)
	step := routing.Step{Kind: routing.StepTraffic, Share: 1000, For: time.Hour}
	s := State{Clock: Clock{Since: began, Ran: time.Minute}, Rollout: Rollout{Elapsed: time.Minute}}
	want := began.Add(58 * time.Minute).Truncate(time.Millisecond)
	for _, passed := range []time.Duration{0, time.Nanosecond, 999_999, time.Second, 40 * time.Minute} {
		for skew := -time.Nanosecond; skew <= time.Nanosecond; skew++ {
			now := began.Add(passed)
			if got := s.stepEnds(step, now.Add(skew), 58*time.Minute-passed); !got.Equal(want) {
				t.Errorf("after %v, skew %v: %v, want %v", passed, skew, got, want)
			}
		}
	}
	set := began.Add(3 * time.Hour) // on the wall, one minute later
	if got, want := s.stepEnds(step, set, 57*time.Minute), set.Add(57*time.Minute).Truncate(time.Millisecond); !got.Equal(want) {
		t.Errorf("after the clock was set: %v, want %v", got, want)
	}
}
