package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// shadowed is gated with a shadow of 10% as the first step.
func shadowed(change ...func(*Wanted)) Wanted {
	return gated(append([]func(*Wanted){func(w *Wanted) {
		w.Steps = slices.Insert(slices.Clone(w.Steps), 0, routing.Step{Kind: routing.StepShadow, Share: 1000, For: time.Hour})
	}}, change...)...)
}

// shadowing is another share of the first step.
func shadowing(share routing.Share) func(*Wanted) {
	return func(w *Wanted) {
		w.Steps = stepsWith(w.Steps, 0, routing.Step{Kind: routing.StepShadow, Share: share, For: time.Hour})
	}
}

// standing are shadows that no rollout has.
func standing(w *Wanted) {
	w.Shadows = []routing.Shadow{{Version: "v3", Share: 2000}, {Version: "v2", Share: 500}}
}

// toShadow leads into the 20th minute of a shadow step.
func toShadow(more ...happened) []happened {
	return append([]happened{
		now(Configured{Wanted: shadowed(releasing("v1"))}), now(Configured{Wanted: shadowed()}),
		now(Probed{Rollout: 1}), now(Delivered{true}), after(20*time.Minute, waiting),
	}, more...)
}

func TestShadowStep(t *testing.T) {
	const safely = "advanced by judge: 60 of at least 60 min; safe: error_rate max, latency_p99 max_increase"
	minutes := func(n int, e Event) happened { return after(time.Duration(n)*time.Minute, e) }
	for _, tc := range []struct {
		name      string
		way, last []happened
		want      []string
	}{
		{"the time alone is not enough", toShadow(), []happened{minutes(60, waiting)}, nil},
		{"safe when the time is over", toShadow(), []happened{minutes(40, safe)}, []string{safely}},
		{"broken", toShadow(), []happened{now(breaking)},
			[]string{"rolled_back by judge: error_rate is too much; it was a shadow, no user got it"}},
		{"a hard rule, in a pause", toShadow(ask(ActionPause)), []happened{now(failing)},
			[]string{"rolled_back by judge: gross_failure is too much; it was a shadow, no user got it"}},
		{"broken in the step after it", toShadow(minutes(40, safe), now(Delivered{true})), []happened{now(breaking)},
			[]string{"rolled_back by judge: error_rate is too much"}},
		{"broken when it was promoted", toShadow(ask(ActionPromote)), []happened{now(breaking)},
			[]string{"rolled_back by judge: error_rate is too much"}},
		{"another share begins the step anew", toShadow(), []happened{now(Configured{Wanted: shadowed(shadowing(5000))}), now(Delivered{true}), minutes(41, safe), minutes(19, safe)},
			[]string{"steps by config: the steps were edited", safely}},
		{"a longer time does not", toShadow(), []happened{now(Configured{Wanted: shadowed(func(w *Wanted) {
			w.Steps = stepsWith(w.Steps, 0, routing.Step{Kind: routing.StepShadow, Share: 1000, For: 30 * time.Minute})
		})}), minutes(10, safe)},
			[]string{"steps by config: the steps were edited", "advanced by judge: 30 of at least 30 min; safe: error_rate max, latency_p99 max_increase"}},
	} {
		check(t, tc.name, tc.way, tc.last, tc.want)
	}
}

// TestShadowTrial: what is judged is what is really copied.
func TestShadowTrial(t *testing.T) {
	for _, tc := range []struct {
		name          string
		way           []happened
		share, shadow routing.Share
		control       routing.Control
		mirrors       string
	}{
		{"not reachable yet", toShadow()[:2], 0, 0, routing.Control{}, ""},
		{"a shadow step", toShadow(), 0, 1000, routing.Control{}, "v2:10%"},
		{"beside smaller standing shadows", toShadow(now(Configured{Wanted: shadowed(standing)})), 0, 1000, routing.Control{}, "v2:10% v3:20%"},
		{"beside a larger one", toShadow(now(Configured{Wanted: shadowed(func(w *Wanted) {
			w.Shadows = []routing.Shadow{{Version: "v2", Share: 7000}}
		})})), 0, 7000, routing.Control{}, "v2:70%"},
		{"users, beside standing shadows", toGates(now(Configured{Wanted: gated(standing)})), 1000, 0, routing.Control{}, "v2:5% v3:20%"},
		{"a control, beside a larger standing shadow", append(toLastGates(routing.Control{Mirror: true, Share: 1000}),
			now(Configured{Wanted: gated(controlled(routing.Control{Mirror: true, Share: 1000}), func(w *Wanted) {
				w.Shadows = []routing.Shadow{{Version: "v1", Share: 3000}, {Version: "v2", Share: 3000}}
			})})), routing.Whole, 0, routing.Control{Mirror: true, Share: 3000}, "v1:30%"},
	} {
		s, _ := reach(t, tc.name, tc.way)
		trial, _ := s.Trial()
		if trial.Share != tc.share || trial.Shadow != tc.shadow || trial.Control != tc.control {
			t.Errorf("%s: on trial are %s, a shadow of %s, control %s", tc.name, trial.Share, trial.Shadow, trial.Control)
		}
		var mirrors []string
		for _, m := range s.Mirrors() {
			mirrors = append(mirrors, m.Version+":"+m.Share.String())
		}
		if got := strings.Join(mirrors, " "); got != tc.mirrors {
			t.Errorf("%s: copies to %q, want %q", tc.name, got, tc.mirrors)
		}
	}
}

func TestShadowInWords(t *testing.T) {
	s, at := State{Model: "churn"}, t0
	var got []string
	for _, h := range []happened{
		now(Configured{Wanted: shadowed(releasing("v1"))}), now(Configured{Wanted: shadowed()}), now(Probed{Rollout: 1}), now(Delivered{true}),
		now(Configured{Wanted: shadowed(shadowing(2500))}), now(Delivered{true}), ask(ActionSkip),
	} {
		var effects []Effect
		s, effects = Next(s, h.event, at)
		for _, r := range writes(effects) {
			got = append(got, r.Kind+": "+Summary(*r))
		}
	}
	want := []string{
		"seen: v1 serves everyone; the file says release: v1",
		"started: v1 → v2: rollout 1 begins; the file says release: v2",
		"reachable: v1 → v2: 0% → copies of 10%",
		"acknowledged: v1 → v2: copies of 10%",
		"steps: v1 → v2: copies of 10% → copies of 25%; the steps were edited",
		"acknowledged: v1 → v2: copies of 25%",
		"advanced: v1 → v2: copies of 25% → 10%, while not safe: error_rate max (not judged), latency_p99 max_increase (not judged), client_error_rate max_increase (not judged); why not",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	s, at = reach(t, "", toShadow())
	d := Delivery{Envoys: 1, Waiting: []string{"edge-1"}, Rejected: "its bootstrap has no internal listeners"}
	for _, tc := range []struct {
		delivery Delivery
		want     string
	}{
		{Delivery{Envoys: 1}, "copies of 10% since 00:00 UTC, 20 of at least 60 min, waits for error_rate: 2,100 of about 3,200 requests"},
		{d, "copies of 10%: waits for edge-1 to acknowledge; an Envoy refused it: its bootstrap has no internal listeners"},
	} {
		status := StatusOf(View{State: s, Delivery: tc.delivery}, at)
		if status.Reason != tc.want {
			t.Errorf("reason %q, want %q", status.Reason, tc.want)
		}
		if status.Weights["v2"] != 0 || status.Steps[0].Kind != routing.StepShadow || status.Steps[0].Share != 10 {
			t.Errorf("%+v", status)
		}
	}
}

func TestShadowChecks(t *testing.T) {
	for _, step := range []routing.Step{
		{Kind: routing.StepShadow},
		{Kind: routing.StepShadow, Share: routing.Whole + 1},
		{Kind: routing.StepShadow, Share: 1, Control: routing.Control{Share: 1}},
		{Kind: routing.StepShadow, Share: 1, For: -1},
		{Kind: routing.StepShadow, Share: 1, For: 1, Hold: true},
		{Kind: routing.StepShadow, Share: 1, AtMost: -1},
	} {
		if kindOf(step).Check(step) == nil {
			t.Errorf("%+v: taken", step)
		}
	}
	if step := (routing.Step{Kind: routing.StepShadow, Share: 1, Hold: true}); kindOf(step).Check(step) != nil {
		t.Errorf("%+v: refused", step)
	}
}
