package simulate

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// harmAfter is a rollout whose candidate begins to fail after half an hour.
const harmAfter = `
traffic:
  rate: 40/s
  users: {number: 5000}
  gaps: {every: 20m, for: 10s}
stable: {errors: 0.5%, latency: {median: 40ms, p99: 200ms}}
candidate: {from: 30m, errors: 6%}
rollout:
  steps: [{traffic: 25%, for: 20m}, {traffic: 50%, for: 1h}, {traffic: 100%}]
  gates:
    - {metric: error_rate, max: 1%}
    - {metric: latency_p99, max: 400ms}
`

// recorded simulates a run of the harmful world and records it.
func recorded(t *testing.T, s *Scenario) (outcome, []byte) {
	t.Helper()
	h := newWorld(s, newPopulation(s.Traffic.Users), true).history(3, 1)
	j, err := h.judged(0)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	trial, _ := j.m.state.Trial()
	w, err := NewWriter(&out, HeaderOf(&trial, s.Model.Steps, s.Keyed(), begins))
	if err != nil {
		t.Fatal(err)
	}
	j.record = w.Write
	end, err := j.run()
	if err != nil {
		t.Fatal(err)
	}
	return end, out.Bytes()
}

func replayOf(t *testing.T, recording []byte, m *routing.Model) *Replayed {
	t.Helper()
	r, err := NewReader(bytes.NewReader(recording))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Replay(r, m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReplayOfTheSamePolicy finds what happened.
func TestReplayOfTheSamePolicy(t *testing.T) {
	s := scenario(t, harmAfter)
	end, recording := recorded(t, s)
	if end.end != EndRolledBack {
		t.Fatalf("the recorded run ended %s", end.end)
	}
	got := replayOf(t, recording, s.Model)
	if got.Would != rollout.PhaseRolledBack || got.Did != rollout.KindRolledBack {
		t.Errorf("recorded was %q, the same policy would be %q", got.Did, got.Would)
	}
	if back := got.Told.Sub(got.From); back != end.at {
		t.Errorf("the same policy would go back after %v, it went back after %v", back, end.at)
	}
	if len(got.Limits) > 0 {
		t.Errorf("the recording cannot tell %q about the policy by which it was made", got.Limits)
	}
	for _, e := range got.Events {
		if e.What == WhatNote {
			t.Errorf("the same policy parts from the recording: %s", e.Text)
		}
	}
}

// TestReplayOfOtherPolicies tells how they part from what happened.
func TestReplayOfOtherPolicies(t *testing.T) {
	s := scenario(t, harmAfter)
	end, recording := recorded(t, s)
	change := func(f func(m *routing.Model)) *routing.Model {
		m := *s.Model
		m.Steps, m.Policy.Gates = append([]routing.Step{}, m.Steps...), append([]routing.Gate{}, m.Policy.Gates...)
		f(&m)
		return &m
	}
	lax := replayOf(t, recording, change(func(m *routing.Model) { m.Policy.Gates[0].Limit = 0.2 }))
	if lax.Would != rollout.PhaseProgressing {
		t.Errorf("a limit of 20 %% would have it %q", lax.Would)
	}
	hasty := replayOf(t, recording, change(func(m *routing.Model) { m.Steps[0].For = 10 * time.Minute }))
	if at := first(hasty, WhatWould, "go on to step 2"); at < 10*time.Minute || at >= 20*time.Minute {
		t.Errorf("a step of 10 min would end after %v", at)
	}
	if hasty.Told.Sub(hasty.From) != end.at {
		t.Errorf("with a shorter first step it would go back after %v, not %v", hasty.Told.Sub(hasty.From), end.at)
	}
	slow := replayOf(t, recording, change(func(m *routing.Model) { m.Steps[0].For = 26 * time.Minute }))
	if at := first(slow, WhatNote, "the recording goes on to step 2"); at != 20*time.Minute {
		t.Errorf("a step of 26 min parts from the recording after %v", at)
	}
	other := replayOf(t, recording, change(func(m *routing.Model) { m.Steps = m.Steps[1:] }))
	if len(other.Limits) != 1 || !strings.Contains(other.Limits[0], "the recorded steps are used") {
		t.Errorf("other steps: the limits are %q", other.Limits)
	}
}

// TestReplayToTheEnd completes, when the recorded rollout did and the policy
// keeps up, and says where the recording ends when it does not.
func TestReplayToTheEnd(t *testing.T) {
	for name, last := range map[string]string{"at once": "{traffic: 100%}", "watched": "{traffic: 100%, for: 10m, control: 5%}"} {
		s := scenario(t, strings.NewReplacer("{traffic: 100%}", last, "errors: 6%", "errors: 0.5%", "50%, for: 1h", "50%, for: 20m").Replace(harmAfter))
		end, recording := recorded(t, s)
		if end.end != EndPromoted {
			t.Fatalf("%s: the recorded run ended %s", name, end.end)
		}
		got := replayOf(t, recording, s.Model)
		if got.Would != rollout.PhaseCompleted || got.Did != rollout.KindCompleted || got.Ended || first(got, WhatWould, "complete") < 0 {
			t.Errorf("%s: recorded was %q, the same policy would be %q", name, got.Did, got.Would)
		}
		for _, e := range got.Events {
			if strings.Contains(e.Text, "step 4") || e.What == WhatNote {
				t.Errorf("%s: %s: %s", name, e.What, e.Text)
			}
		}
		patient := *s.Model
		patient.Steps = append([]routing.Step{}, patient.Steps...)
		patient.Steps[2].Hold, patient.Steps[2].For = last == "{traffic: 100%}", 2*time.Hour
		if patient.Steps[2].Hold {
			patient.Steps[2].For = 0
		}
		if got := replayOf(t, recording, &patient); !got.Ended || got.Step != 2 || first(got, WhatNote, "the recording ends here") < 0 {
			t.Errorf("%s: a last step that is longer: ended %v in step %d", name, got.Ended, got.Step)
		}
	}
}

// TestReplayWithoutSlowUsers says that latency gates cannot be shown only when it
// is so.
func TestReplayWithoutSlowUsers(t *testing.T) {
	s := scenario(t, harmAfter)
	_, recording := recorded(t, s)
	for name, c := range map[string]struct {
		edit  func(h *Header, i *Interval, n int)
		limit string
	}{
		"never":         {func(_ *Header, i *Interval, _ int) { i.Slow = nil }, "cannot be shown to be broken"},
		"half":          {func(_ *Header, i *Interval, n int) { i.Slow = i.Slow[:len(i.Slow)*(n%2)] }, " requests of the candidate: latency gates may be shown"},
		"at first not":  {func(_ *Header, i *Interval, n int) { i.Slow = i.Slow[:len(i.Slow)*min(n, 1)] }, ""},
		"without a key": {func(h *Header, i *Interval, _ int) { h.Keyed, i.Slow = false, nil }, ""},
	} {
		r, err := NewReader(bytes.NewReader(recording))
		if err != nil {
			t.Fatal(err)
		}
		header := r.Header
		c.edit(&header, &Interval{}, 1)
		var file bytes.Buffer
		w, err := NewWriter(&file, header)
		for n := 0; err == nil; n++ {
			var i *Interval
			if i, err = r.Next(); err == nil {
				c.edit(&Header{}, i, n)
				err = w.Write(i)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		got := replayOf(t, file.Bytes(), s.Model)
		if limits := strings.Join(got.Limits, "\n"); !strings.Contains(limits, c.limit) || (c.limit == "") != (limits == "") {
			t.Errorf("%s: the limits are %q", name, limits)
		}
	}
}

// first is when the first such event is; negative: there is none.
func first(r *Replayed, what, begins string) time.Duration {
	for _, e := range r.Events {
		if e.What == what && strings.HasPrefix(e.Text, begins) {
			return e.Time.Sub(r.From)
		}
	}
	return -1
}

// TestRecordingKeepsEverything writes an interval and reads it back.
func TestRecordingKeepsEverything(t *testing.T) {
	in := &Interval{
		Step: 1, Share: 2_500, Shadow: 30, Control: routing.Control{Mirror: true, Share: 1_000}, Since: begins.Add(time.Second), Gap: true,
		Slow: []float64{0, 0.4},
		Did:  []Deed{{Kind: "paused", Actor: "cli", Reason: "a look"}},
		Batch: compare.Batch{To: begins.Add(3 * time.Second), Late: true,
			Candidate: compare.Arm{
				Requests: 9, Errors: 2, ClientErrors: 1, Drawn: 8, DrawnErrors: 1, DrawnClientErrors: 1,
				FirstErrors: 1, FirstClientErrors: 1, FirstSlow: []uint64{0, 3},
				Last:    []compare.Outcome{{User: 1}, {User: 7, Bad: true}, {User: 9, Bad: true}, {User: 7, Bad: true}, {}},
				Answers: 12, BadAnswers: 4,
			},
			Stable: compare.Arm{Requests: 4, Drawn: 4},
		},
	}
	in.Batch.Candidate.Latency.Add(0.2, 7)
	var file bytes.Buffer
	trial := routing.Trial{Model: "churn", Rollout: 3, Stable: "v1", Candidate: "v2"}
	w, err := NewWriter(&file, HeaderOf(&trial, make([]routing.Step, 2), true, begins))
	if err == nil {
		err = w.Write(in)
	}
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString(`{"to":"2026-01-05T00:00:0`) // torn by a crash
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	got.Batch.Candidate.Last, in.Batch.Candidate.Last = pattern(got.Batch.Candidate.Last), pattern(in.Batch.Candidate.Last)
	same := cmp.Comparer(func(a, b compare.Arm) bool {
		x, _ := a.Latency.MarshalText()
		y, _ := b.Latency.MarshalText()
		a.Latency, b.Latency = compare.Arm{}.Latency, compare.Arm{}.Latency
		return bytes.Equal(x, y) && cmp.Equal(armOf(a), armOf(b))
	})
	if diff := cmp.Diff(in, got, same); diff != "" {
		t.Errorf("written and read back (-written +read):\n%s", diff)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last whole line: %v", err)
	}
}

// armOf is an arm without its histogram.
func armOf(a compare.Arm) []any {
	return []any{a.Requests, a.Errors, a.ClientErrors, a.Drawn, a.DrawnErrors, a.DrawnClientErrors, a.FirstErrors, a.FirstClientErrors, a.FirstSlow, a.Last, a.Answers, a.BadAnswers}
}

// pattern numbers the users of outcomes in the order in which they come.
func pattern(last []compare.Outcome) []compare.Outcome {
	numbers := map[uint64]uint64{0: 0}
	for i := range last {
		o := &last[i]
		if _, known := numbers[o.User]; !known {
			numbers[o.User] = uint64(len(numbers))
		}
		o.User = numbers[o.User]
	}
	return last
}

// TestBadRecordings are refused with their line.
func TestBadRecordings(t *testing.T) {
	const header = `{"headgate_recording":1,"model":"churn","rollout":1,"stable":"v1","candidate":"v2","keyed":false,"started":"2026-01-05T00:00:00Z","steps":[{"kind":"traffic","share":10000,"for_seconds":60}],"gates":[]}` + "\n"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":      {"", "line 1: is not the beginning of a recording"},
		"something":    {"{}\n", "line 1: is not the beginning of a recording"},
		"newer":        {`{"headgate_recording":9}` + "\n", "line 1: form 9: was written by another headgate; this one reads form 1"},
		"no steps":     {`{"headgate_recording":1}` + "\n", "line 1: steps: must not be empty"},
		"step":         {header + `{"to":"2026-01-05T00:00:01Z","step":1}` + "\n", "line 2: step: 1: must be from 0 to 0"},
		"no time":      {header + `{"step":0}` + "\n", "line 2: to: is missing"},
		"backwards":    {header + `{"to":"2026-01-05T00:00:02Z"}` + "\n" + `{"to":"2026-01-05T00:00:01Z"}` + "\n", "line 3: to: 2026-01-05T00:00:01Z: must not be before the line above"},
		"errors":       {header + `{"to":"2026-01-05T00:00:02Z","candidate":{"requests":1,"errors":2}}` + "\n", "line 2: candidate: errors: must not be more than the requests"},
		"letters":      {header + `{"to":"2026-01-05T00:00:02Z","candidate":{"last":"+1 ?z"}}` + "\n", `line 2: candidate: last: "?z": must be + or - and a number`},
		"no JSON":      {header + "{\n", "line 2: unexpected end of JSON input"},
		"no intervals": {header, "the recording has no interval"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			r, err := NewReader(strings.NewReader(c.text))
			if err == nil {
				_, err = Replay(r, scenario(t, harmAfter).Model)
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// TestReplayCountsInGaps replays what came while telemetry was lost in part: the
// judge has counted it.
func TestReplayCountsInGaps(t *testing.T) {
	s := scenario(t, harmAfter)
	var file bytes.Buffer
	trial := routing.Trial{Model: s.Model.Name, Rollout: 1, Stable: "stable", Candidate: "candidate"}
	w, err := NewWriter(&file, HeaderOf(&trial, s.Model.Steps, false, begins))
	if err != nil {
		t.Fatal(err)
	}
	for second := 1; second <= 3; second++ {
		i := &Interval{Share: 2_500, Since: begins, Gap: true, Batch: compare.Batch{To: begins.Add(time.Duration(second) * time.Second)}}
		i.Batch.Candidate = compare.Arm{Requests: 100, Errors: 100, Drawn: 100, DrawnErrors: 100}
		i.Batch.Stable = compare.Arm{Requests: 300, Drawn: 300}
		if err := w.Write(i); err != nil {
			t.Fatal(err)
		}
	}
	if got := replayOf(t, file.Bytes(), s.Model); got.Would != rollout.PhaseRolledBack {
		t.Errorf("a candidate all of whose answers in a gap are errors would be %s", got.Would)
	}
}
