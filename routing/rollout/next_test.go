package rollout

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var t0 = time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC)

func wanted(change ...func(*Wanted)) Wanted {
	w := Wanted{
		Release:  "v2",
		Versions: map[string]string{"v1": "def1", "v2": "def2", "v3": "def3"},
		Steps: []routing.Step{
			{Kind: routing.StepTraffic, Share: 1000, For: time.Hour},
			{Kind: routing.StepTraffic, Share: 2500, Hold: true},
			{Kind: routing.StepTraffic, Share: routing.Whole, For: 2 * time.Hour},
		},
		Key: KeyID{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie},
	}
	for _, c := range change {
		c(&w)
	}
	return w
}

func releasing(v string) func(*Wanted) { return func(w *Wanted) { w.Release = v } }
func redefined(v string) func(*Wanted) { return func(w *Wanted) { w.Versions[v] += "'" } }
func without(v string) func(*Wanted)   { return func(w *Wanted) { delete(w.Versions, v) } }
func stepping(s ...routing.Step) func(*Wanted) {
	return func(w *Wanted) { w.Steps = s }
}

// happened is an event, and how long after the one before it came.
type happened struct {
	after time.Duration
	event Event
}

func after(d time.Duration, e Event) happened { return happened{d, e} }
func now(e Event) happened                    { return happened{0, e} }
func ask(a Action) happened {
	return now(Command{Model: "churn", Action: a, Actor: "cli", Reason: "why not"})
}

// situations are the phases, and what matters within them, each with the way
// that leads there.
var situations = []struct {
	name string
	way  []happened
}{
	{"never seen", nil},
	{"blocked", []happened{now(Configured{Wanted: wanted(), Held: []string{"v1", "v2"}})}},
	{"idle", []happened{now(Configured{Wanted: wanted(releasing("v1"))})}},
	{"progressing, not reachable", toStart()},
	{"progressing, not acknowledged", toStart(now(Probed{Rollout: 1}))},
	{"progressing, step 0 for 20 min", toStep0()},
	{"progressing, an Envoy is behind", toStep0(now(Delivered{false}))},
	{"progressing, step 1 by hand", toStep1()},
	{"progressing, last step for 20 min", toLast()},
	{"promoted, not acknowledged", toStep0(ask(ActionPromote))},
	{"paused in step 0", toStep0(ask(ActionPause))},
	{"paused before it was reachable", toStart(ask(ActionPause))},
	{"paused after a promotion", toStep0(ask(ActionPromote), ask(ActionPause))},
	{"rolled back by hand", toStep0(ask(ActionRollback))},
	{"rolled back by the file", toStep0(now(Configured{Wanted: wanted(releasing("v1"))}))},
	{"completed", toLast(after(2*time.Hour, Tick{}))},
	{"rolled back after completion", toLast(after(2*time.Hour, Tick{}), ask(ActionRollback))},
	{"retired in a rollout", toStep0(now(Removed{}))},
	{"replayed in step 0", nil}, // filled in by reach
	{"gates, step 0 for 20 min", toGates()},
	{"gates, not acknowledged", toGates(now(Delivered{false}))},
	{"gates, step 0 is over and waits", toGates(after(50*time.Minute, waiting))},
	{"gates, step 0 is over and not judged", toGates(now(Configured{Wanted: gated(limited)}), after(50*time.Minute, Tick{}))},
	{"gates, paused by hand", toGates(ask(ActionPause))},
	{"gates, paused by one of them", toGates(now(pausing))},
	{"gates, resumed after that", toGates(now(pausing), ask(ActionResume), now(Delivered{true}))},
	{"gates, timed out", toGates(after(160*time.Minute, waiting))},
	{"gates, resumed after that", toGates(after(160*time.Minute, waiting), ask(ActionResume), now(Delivered{true}), now(waiting))},
	{"gates, step 1 by hand", toGates(ask(ActionSkip), now(Delivered{true}), now(waiting))},
	{"gates, last step, 1% held back", toLastGates(routing.Control{Share: 100})},
	{"gates, last step, mirrored", toLastGates(routing.Control{Mirror: true, Share: 5000})},
	{"gates, promoted, not acknowledged", toGates(ask(ActionPromote))},
	{"gates, rolled back by them", toGates(now(breaking))},
	{"observed, step 0 for 20 min", toGates(now(Configured{Wanted: gated(observed)}), now(waiting))},
	{"shadow, not reachable", toShadow()[:2]},
	{"shadow, step 0 for 20 min", toShadow()},
	{"shadow, an Envoy is behind", toShadow(now(Delivered{false}))},
	{"shadow, paused", toShadow(ask(ActionPause))},
	{"shadow, rolled back by a gate", toShadow(now(breaking))},
	{"shadow, step 0 beside standing ones", toShadow(now(Configured{Wanted: shadowed(standing)}))},
	{"standing shadows, idle", []happened{now(Configured{Wanted: wanted(releasing("v1"), standing)})}},
	{"standing shadows, step 0 for 20 min", toStep0(now(Configured{Wanted: wanted(standing)}))},
	{"standing shadows, last step", toLast(now(Configured{Wanted: wanted(standing)}))},
	{"observed, step 0 is over", toGates(now(Configured{Wanted: gated(observed)}), after(time.Hour, safe))},
}

func toStart(more ...happened) []happened {
	return append([]happened{
		now(Configured{Wanted: wanted(releasing("v1"))}), now(Configured{Wanted: wanted()}),
	}, more...)
}

func toStep0(more ...happened) []happened {
	return append(toStart(now(Probed{Rollout: 1}), now(Delivered{true}), after(20*time.Minute, Tick{})), more...)
}

func toStep1(more ...happened) []happened {
	return append(toStep0(after(40*time.Minute, Tick{}), now(Delivered{true})), more...)
}

func toLast(more ...happened) []happened {
	return append(toStep1(ask(ActionSkip), now(Delivered{true}), after(20*time.Minute, Tick{})), more...)
}

// events is every event in every form that makes a difference somewhere.
var events = []struct {
	name string
	happened
}{
	{"configured as before", now(Configured{Wanted: wanted()})},
	{"release: v1", now(Configured{Wanted: wanted(releasing("v1"))})},
	{"release: v3", now(Configured{Wanted: wanted(releasing("v3"))})},
	{"release: v9, unknown", now(Configured{Wanted: wanted(releasing("v9"))})},
	{"v1 redefined", now(Configured{Wanted: wanted(redefined("v1"))})},
	{"v2 redefined", now(Configured{Wanted: wanted(redefined("v2"))})},
	{"v1 removed", now(Configured{Wanted: wanted(without("v1"))})},
	{"v2 removed, release: v1", now(Configured{Wanted: wanted(without("v2"), releasing("v1"))})},
	{"v3 removed", now(Configured{Wanted: wanted(without("v3"))})},
	{"share of step 0 to 5%", now(Configured{Wanted: wanted(func(w *Wanted) {
		w.Steps = stepsWith(w.Steps, 0, routing.Step{Kind: routing.StepTraffic, Share: 500, For: time.Hour})
	})})},
	{"for of step 0 to 10 min", now(Configured{Wanted: wanted(func(w *Wanted) {
		w.Steps = stepsWith(w.Steps, 0, routing.Step{Kind: routing.StepTraffic, Share: 1000, For: 10 * time.Minute})
	})})},
	{"only one step, of 50%", now(Configured{Wanted: wanted(stepping(routing.Step{Kind: routing.StepTraffic, Share: 5000, Hold: true}))})},
	{"no steps", now(Configured{Wanted: wanted(stepping())})},
	{"a step of an unknown kind", now(Configured{Wanted: wanted(stepping(routing.Step{Kind: "magic"}))})},
	{"key is another header", now(Configured{Wanted: wanted(func(w *Wanted) { w.Key.Name = "x-account" })})},
	{"key and release: v3", now(Configured{Wanted: wanted(releasing("v3"), func(w *Wanted) { w.Key.Name = "x-account" })})},
	{"standing shadows v2 and v3", now(Configured{Wanted: wanted(standing)})},
	{"a shadow of 10% before the steps", now(Configured{Wanted: shadowed()})},
	{"a shadow of 50% before the steps", now(Configured{Wanted: shadowed(shadowing(5000))})},
	{"an Envoy holds v1", now(Configured{Wanted: wanted(), Held: []string{"v1"}})},
	{"removed", now(Removed{})},
	{"acknowledged", now(Delivered{true})},
	{"not acknowledged", now(Delivered{false})},
	{"answers", now(Probed{Rollout: 1})},
	{"does not answer", now(Probed{Rollout: 1, Err: "connection refused"})},
	{"another rollout's candidate answers", now(Probed{Rollout: 7})},
	{"a tick", now(Tick{})},
	{"a tick 4 min later", after(4*time.Minute, Tick{})},
	{"a tick a day later", after(24*time.Hour, Tick{})},
	{"a tick an hour before", after(-time.Hour, Tick{})},
	{"stopping 1 min later", after(time.Minute, Stopping{})},
	{"promote", ask(ActionPromote)},
	{"pause", ask(ActionPause)},
	{"resume", ask(ActionResume)},
	{"rollback", ask(ActionRollback)},
	{"retry", ask(ActionRetry)},
	{"skip", ask(ActionSkip)},
	{"adopt v1", now(Command{Model: "churn", Action: ActionAdopt, Version: "v1", Actor: "cli"})},
	{"adopt v2", now(Command{Model: "churn", Action: ActionAdopt, Version: "v2", Actor: "cli"})},
	{"adopt v9, unknown", now(Command{Model: "churn", Action: ActionAdopt, Version: "v9", Actor: "cli"})},
	{"an action that there is not", ask("dance")},
	{"configured with gates", now(Configured{Wanted: gated()})},
	{"a limit edited", now(Configured{Wanted: gated(limited)})},
	{"mode: observe", now(Configured{Wanted: gated(observed)})},
	{"all gates are safe", now(safe)},
	{"all gates are safe 41 min later", after(41*time.Minute, safe)},
	{"a gate waits", now(waiting)},
	{"a gate waits 3 h later", after(3*time.Hour, waiting)},
	{"only some gates are judged", now(Judged{routing.Judgement{Findings: safe.Findings[:1]}})},
	{"a gate is broken", now(breaking)},
	{"a gate is broken that pauses", now(pausing)},
	{"a gate is broken that warns", now(warning)},
	{"a hard rule is broken", now(failing)},
	{"everything is broken", now(broken)},
	{"broken, in another rollout", now(Judged{routing.Judgement{Rollout: 9, Findings: broken.Findings}})},
	{"broken, in another step", now(Judged{routing.Judgement{Rollout: 1, Step: 7, Findings: broken.Findings}})},
}

// about makes a judgement without a rollout one of what is on trial.
func about(s State, e Event) Event {
	if j, ok := e.(Judged); ok && j.Rollout == 0 {
		j.Rollout, j.Step = s.Rollout.Number, s.Rollout.Step
		return j
	}
	return e
}

func stepsWith(steps []routing.Step, i int, s routing.Step) []routing.Step {
	out := append([]routing.Step{}, steps...)
	out[i] = s
	return out
}

// reach leads a model into a situation.
func reach(t *testing.T, name string, way []happened) (State, time.Time) {
	t.Helper()
	if name == "replayed in step 0" {
		return replayed(t, toStep0())
	}
	s, at := State{Model: "churn"}, t0
	for _, h := range way {
		at = at.Add(h.after)
		s, _ = Next(s, about(s, h.event), at)
	}
	return s, at
}

// replayed is the state that a new process reads from the journal.
func replayed(t *testing.T, way []happened) (State, time.Time) {
	t.Helper()
	s, folded, at := State{Model: "churn"}, State{Model: "churn"}, t0
	for _, h := range way {
		at = at.Add(h.after)
		var effects []Effect
		s, effects = Next(s, about(s, h.event), at)
		for _, r := range writes(effects) {
			var err error
			if folded, err = Fold(folded, *r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folded, at
}

// TestNext has every event come in every situation. The golden file is the
// whole table: what is written, what is true afterwards, what is to be done.
func TestNext(t *testing.T) {
	var b strings.Builder
	for _, situation := range situations {
		s, at := reach(t, situation.name, situation.way)
		fmt.Fprintf(&b, "# %s: %s\n", situation.name, brief(s))
		for _, e := range events {
			before := fmt.Sprintf("%+v", s)
			next, effects := Next(s, about(s, e.event), at.Add(e.after))
			fmt.Fprintf(&b, "%-36s %s\n", e.name, outcome(s, next, effects))
			if got := fmt.Sprintf("%+v", s); got != before {
				t.Errorf("%s, %s: Next changed the state that it was given:\n%s\n%s", situation.name, e.name, before, got)
			}
		}
		b.WriteString("\n")
	}
	golden(t, "testdata/next.golden", b.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		var g, w string
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Errorf("%s:%d:\n got %s\nwant %s", path, i+1, g, w)
		}
	}
}

// brief tells a state in one line.
func brief(s State) string {
	if s.Phase == "" {
		return "nothing"
	}
	text := string(s.Phase)
	if s.Retired {
		text += " retired"
	}
	if s.Running() {
		text += fmt.Sprintf(" #%d step %d", s.Rollout.Number, s.Rollout.Step)
	}
	if s.Running() && !s.Clock.Since.IsZero() {
		text += " clock"
	}
	var b strings.Builder
	for _, r := range s.Split().Ranges {
		fmt.Fprintf(&b, " %s:%s", r.Version, r.Weight)
	}
	for _, m := range s.Mirrors() {
		fmt.Fprintf(&b, " copies to %s:%s", m.Version, m.Share)
	}
	return text + b.String()
}

func outcome(before, s State, effects []Effect) string {
	if len(effects) > 0 {
		if _, ok := effects[0].(Refused); ok {
			var all []string
			for _, e := range effects {
				all = append(all, e.(Refused).Error())
			}
			return "REFUSED " + strings.Join(all, " | ")
		}
	}
	var did []string
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			did = append(did, e.Record.Kind)
		case Publish:
			did = append(did, "PUBLISH")
		case Probe:
			did = append(did, fmt.Sprintf("PROBE %s #%d after %s", e.Version, e.Rollout, e.After))
		case Wake:
			if e.After < 0 {
				did = append(did, "SLEEP")
			} else {
				did = append(did, "WAKE "+e.After.String())
			}
		}
	}
	if len(did) == 0 && brief(before) == brief(s) {
		return "-"
	}
	return strings.Join(did, ", ") + " -> " + brief(s)
}
