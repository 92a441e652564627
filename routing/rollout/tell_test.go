package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// TestSummary walks through whole rollouts: each line of the history can be
// read by itself.
func TestSummary(t *testing.T) {
	share := func(s routing.Share) func(*Wanted) {
		return func(w *Wanted) {
			w.Steps = stepsWith(w.Steps, 1, routing.Step{Kind: routing.StepTraffic, Share: s, Hold: true})
		}
	}
	way := []happened{
		now(Configured{Wanted: wanted(releasing("v1"))}),
		now(Configured{Wanted: wanted()}),
		now(Probed{Rollout: 1}), now(Delivered{true}),
		ask(ActionPause), ask(ActionResume), now(Delivered{true}),
		after(time.Hour, Tick{}), now(Delivered{true}),
		now(Configured{Wanted: wanted(share(500))}),
		now(Configured{Wanted: wanted(share(1500))}),
		now(Configured{Wanted: wanted(share(1500), func(w *Wanted) { w.Steps = w.Steps[:2] })}),
		ask(ActionRollback), ask(ActionRetry), now(Probed{Rollout: 2}),
		now(Configured{Wanted: wanted(releasing("v3"))}), now(Probed{Rollout: 3}),
		ask(ActionPromote), now(Delivered{true}),
		ask(ActionRollback),
		now(Configured{Wanted: wanted(releasing("v1"))}),
		now(Removed{}),
	}
	s, at := State{Model: "churn"}, t0
	var got []string
	for _, h := range way {
		at = at.Add(h.after)
		var effects []Effect
		s, effects = Next(s, h.event, at)
		for _, r := range writes(effects) {
			got = append(got, r.Kind+": "+Summary(*r))
		}
	}
	want := []string{
		"seen: v1 serves everyone; the file says release: v1",
		"started: v1 → v2: rollout 1 begins; the file says release: v2",
		"reachable: v1 → v2: 0% → 10%",
		"acknowledged: v1 → v2: 10%",
		"paused: v1 → v2: 10%; why not",
		"resumed: v1 → v2: 10%; why not",
		"advanced: v1 → v2: 10% → 25%; 60 of at least 60 min",
		"acknowledged: v1 → v2: 25%",
		"steps: v1 → v2: 25% → 5%; the steps were edited: users go back",
		"steps: v1 → v2: 5% → 15%; the steps were edited: more users move",
		"steps: v1 → v2: 15%; the steps were edited",
		"rolled_back: v2: 15% → 0%, v1 serves everyone; why not",
		"started: v1 → v2: rollout 2 begins; why not; other users come first, and the error budget is new",
		"reachable: v1 → v2: 0% → 10%",
		"superseded: v2: 10% → 0%, v1 serves everyone; the file says release: v3",
		"started: v1 → v3: rollout 3 begins; the file says release: v3",
		"reachable: v1 → v3: 0% → 10%",
		"promoted: v1 → v3: 10% → 100%; why not",
		"completed: v3 serves everyone, after v1",
		"rolled_back: v3 → v1 serves everyone; why not",
		"settled: v1 serves everyone; the file says release: v1",
		"retired: the configuration no longer has the model",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if got := Summary(Record{Reason: "because"}); got != "because" {
		t.Errorf("a record without a text: %q", got)
	}
}

// TestWeightsInLog are for people.
func TestWeightsInLog(t *testing.T) {
	s, _ := reach(t, "", toStep0())
	if got := shares(s.Split()); got != "v2=10% v1=90%" {
		t.Errorf("%q", got)
	}
}

// TestUnreachable: nobody is sent to a candidate that does not answer, whoever
// asks for it.
func TestUnreachable(t *testing.T) {
	s, at := reach(t, "", toStart(now(Probed{Rollout: 1, Err: "dial tcp 127.0.0.1:9102: connection refused"})))
	for _, a := range []Action{ActionSkip, ActionPromote} {
		_, effects := Next(s, ask(a).event, at)
		r, _ := refusal(effects)
		if want := "v2 does not answer, so it can get nobody: dial tcp 127.0.0.1:9102: connection refused"; r.Reason != want {
			t.Errorf("%s: %+v, want refused: %s", a, effects, want)
		}
	}
}

// TestWayOn: the status of what went back says what leads out of it.
func TestWayOn(t *testing.T) {
	for name, tc := range map[string]struct {
		way  []happened
		want string
	}{
		"by hand":     {toStep0(ask(ActionRollback)), "rolled back by cli at 00:20 UTC: why not; v1 serves everyone; `headgate retry churn` tries v2 again, a new release: in the file begins another rollout"},
		"by the file": {toStep0(now(Configured{Wanted: wanted(releasing("v1"))})), "rolled back by config at 00:20 UTC: the file says release: v1; v1 serves everyone"},
	} {
		s, at := reach(t, name, tc.way)
		if got := StatusOf(View{State: s}, at).Reason; got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestUnpublished: what headgate could not build is no Envoy's fault, and of a
// model that is left alone nothing is to be published.
func TestUnpublished(t *testing.T) {
	d := Delivery{Envoys: 1, Unpublished: "no models"}
	if d.Acknowledged() {
		t.Error("acknowledged by an Envoy that was told nothing")
	}
	for name, tc := range map[string]struct {
		way  []happened
		want string
	}{
		"blocked": {[]happened{now(Configured{Wanted: wanted(), Held: []string{"v1"}})}, "the journal is empty, and Envoys hold v1: say which version serves with `headgate adopt churn VERSION`"},
		"idle":    {[]happened{now(Configured{Wanted: wanted(releasing("v1"))})}, "v1 serves everyone; no Envoy was told, because no models"},
	} {
		s, at := reach(t, name, tc.way)
		if got := StatusOf(View{State: s, Delivery: d}, at).Reason; got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
