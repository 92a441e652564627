package simulate

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rulesOf simulates a scenario and returns its rules by name.
func rulesOf(t *testing.T, s *Scenario, o Options) (*Result, map[string]*RuleResult) {
	t.Helper()
	o.Seed = 11
	r, err := Run(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]*RuleResult{}
	for i := range r.Rules {
		rules[r.Rules[i].Rule] = &r.Rules[i]
	}
	return r, rules
}

// TestEveryGateIsForEveryRule has gates that pause and warn, which are breaches
// to rules that know no such thing.
func TestEveryGateIsForEveryRule(t *testing.T) {
	for onBreach, headgate := range map[string]Ends{"pause": {Paused: 10}, "warn": {Promoted: 10}} {
		s := scenario(t, `
traffic: {rate: 50/s}
stable: {errors: 0.2%}
candidate: {errors: 8%}
rollout:
  steps: [{traffic: 50%, for: 1h}, {traffic: 100%}]
  gates: [{metric: error_rate, max: 1%, on_breach: `+onBreach+`}]
`)
		result, rules := rulesOf(t, s, Options{Runs: 10})
		for name, rule := range rules {
			want := Ends{RolledBack: 10}
			if name == Headgate {
				want = headgate
				rule.Harmful.PausedBy = nil
			}
			if diff := cmp.Diff(want, rule.Harmful); diff != "" {
				t.Errorf("%s, %s: harmful runs (-want +got):\n%s", onBreach, name, diff)
			}
		}
		if len(result.Notes) != 1 || !strings.Contains(result.Notes[0], "error_rate max 1% ("+onBreach+")") {
			t.Errorf("%s: the notes are %q", onBreach, result.Notes)
		}
		if warns := onBreach == "warn"; warns != (len(result.Breaks) == 0) || warns != (len(result.BreaksWarnings) == 1) || warns != (rules[Headgate].FalsePromotion == nil) {
			t.Errorf("%s: it breaks %v, and warns of %v", onBreach, result.Breaks, result.BreaksWarnings)
		}
	}
}

// TestPausedRunsGoBack has a pause in which a hard rule, and another gate, still
// send the candidate back, and tells which it was.
func TestPausedRunsGoBack(t *testing.T) {
	for name, c := range map[string]struct{ harm, gates, by string }{
		"hard rule": {"100%", "{metric: error_rate, max: 1%, on_breach: pause}", "gross_failure"},
		"gate":      {"6%", "{metric: error_rate, max: 1%, on_breach: pause}, {metric: error_rate, max_increase: 3pp}", "error_rate max_increase 3pp"},
	} {
		s := scenario(t, `
traffic: {rate: 50/s}
stable: {errors: 0.2%}
candidate: {errors: `+c.harm+`}
rollout: {steps: [{traffic: 50%, for: 1h}, {traffic: 100%}], gates: [`+c.gates+`]}
`)
		_, rules := rulesOf(t, s, Options{Runs: 10, Rules: []string{Headgate}})
		want := Ends{RolledBack: 10, By: map[string]int{c.by: 10}}
		if diff := cmp.Diff(want, rules[Headgate].Harmful); diff != "" {
			t.Errorf("%s: harmful runs (-want +got):\n%s", name, diff)
		}
	}
}

// TestTimeoutsAreTold has steps that end by their time.
func TestTimeoutsAreTold(t *testing.T) {
	for onTimeout, want := range map[string]Ends{
		"pause":    {Paused: 5, PausedBy: map[string]int{"at_most": 5}},
		"rollback": {RolledBack: 5, By: map[string]int{"at_most": 5}},
		"promote":  {Promoted: 5},
	} {
		s := scenario(t, `
traffic: {rate: 1/s}
stable: {errors: 0.9%}
rollout:
  steps: [{traffic: 50%, for: 10m}, {traffic: 100%}]
  at_most: 20m
  on_timeout: `+onTimeout+`
  gates: [{metric: error_rate, max: 1%}]
`)
		_, rules := rulesOf(t, s, Options{Runs: 5, Rules: []string{Headgate}})
		if diff := cmp.Diff(want, rules[Headgate].Healthy); diff != "" {
			t.Errorf("%s: healthy runs (-want +got):\n%s", onTimeout, diff)
		}
	}
}

// TestNotes tells what is simulated otherwise than the file has it, and what
// makes the comparison lame.
func TestNotes(t *testing.T) {
	const rest = "traffic: {rate: 5/s}\nstable: {errors: 0.2%}\n"
	for name, c := range map[string]struct{ text, want string }{
		"observe":   {"rollout: {steps: [{traffic: 10%, for: 10m}, {traffic: 100%}], mode: observe, gates: [{metric: error_rate, max: 1%}]}\n", "mode: observe; it is simulated as act"},
		"no gates":  {"rollout: {steps: [{traffic: 10%, for: 10m}, {traffic: 100%}]}\n", "nothing is judged but the hard rules"},
		"short":     {"rollout: {steps: [{traffic: 10%, for: 30s}, {traffic: 20%, for: 10m}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}\n", "may not measure in it: step 1 (30s)"},
		"too short": {"rollout: {steps: [{traffic: 10%, for: 30s}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}\n", "the other rules never measure"},
		"fine":      {"rollout: {steps: [{traffic: 10%, for: 10m}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}\n", ""},
	} {
		result, _ := rulesOf(t, scenario(t, c.text+rest), Options{Runs: 1})
		if got := strings.Join(result.Notes, "\n"); !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s: the notes are %q, want %q", name, got, c.want)
		}
	}
}

// TestSettings gives the other rules what somebody would give them who knows of
// few requests.
func TestSettings(t *testing.T) {
	s := scenario(t, `
traffic: {rate: 4/s}
stable: {errors: 0.5%}
candidate: {from: 90m, errors: 20%}
rollout: {steps: [{traffic: 50%, for: 2h}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}
`)
	limit := 12
	_, usual := rulesOf(t, s, Options{Runs: 40, Rules: []string{"argo-rollouts", "flagger"}})
	_, fair := rulesOf(t, s, Options{Runs: 40, Rules: []string{"argo-rollouts", "flagger"}, Settings: Settings{Interval: 10 * time.Minute, FailureLimit: &limit}})
	if got := usual["argo-rollouts"]; got.Harmful.Early != 40 || got.FalsePromotion != nil {
		t.Errorf("%d of 40 went back before the harm, of the others %v were promoted", got.Harmful.Early, show(got.FalsePromotion))
	}
	for name, rule := range fair {
		if rule.Healthy.RolledBack > 0 || !strings.Contains(rule.About, "every 10m ") || !strings.Contains(rule.About, "12 ") {
			t.Errorf("%s: %d healthy runs went back: %s", name, rule.Healthy.RolledBack, rule.About)
		}
	}
	if _, err := Run(context.Background(), s, Options{Runs: 1, Settings: Settings{Interval: 90 * time.Second}}); err == nil {
		t.Error("an interval of 90s is taken")
	}
}

// TestNothingToCompareWith lets a candidate alone, where no rule can hold a
// comparison against it.
func TestNothingToCompareWith(t *testing.T) {
	s := scenario(t, `
traffic: {rate: 50/s}
stable: {errors: 0.1%}
rollout:
  steps: [{traffic: 50%, for: 5m}, {traffic: 100%, for: 1h}]
  gates: [{metric: error_rate, max_increase: 5pp}]
`)
	_, rules := rulesOf(t, s, Options{Runs: 5, Rules: []string{"flagger"}})
	if got := rules["flagger"].Healthy; got.Promoted != 5 {
		t.Errorf("healthy runs ended %+v", got)
	}
}
