package rollout

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// gated is wanted with three gates, of which one goes back, one pauses and one
// warns, and with steps that wait for them.
func gated(change ...func(*Wanted)) Wanted {
	w := wanted(stepping(
		routing.Step{Kind: routing.StepTraffic, Share: 1000, For: time.Hour, AtMost: 3 * time.Hour, OnTimeout: routing.OnTimeoutPause},
		routing.Step{Kind: routing.StepTraffic, Share: 2500, Hold: true},
		routing.Step{Kind: routing.StepTraffic, Share: routing.Whole, For: 2 * time.Hour, AtMost: 4 * time.Hour, OnTimeout: routing.OnTimeoutRollback},
	), func(w *Wanted) {
		w.Policy = &routing.Policy{
			Gates: []routing.Gate{
				{Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate, Written: "1%"},
				{Metric: "latency_p99", Bound: routing.BoundMaxIncrease, Limit: 1.1, Unit: routing.UnitRatio, Written: "10%", OnBreach: routing.OnBreachPause},
				{Metric: "client_error_rate", Bound: routing.BoundMaxIncrease, Limit: 0.01, Unit: routing.UnitPoints, Written: "1pp", OnBreach: routing.OnBreachWarn},
			},
			Promise: routing.Promise{FalseRollback: 0.05, FalsePromotion: 0.05},
			Mode:    routing.ModeAct,
		}
	})
	for _, c := range change {
		c(&w)
	}
	return w
}

func policed(change func(*routing.Policy)) func(*Wanted) {
	return func(w *Wanted) {
		p := *w.Policy
		p.Gates = slices.Clone(p.Gates)
		change(&p)
		w.Policy = &p
	}
}

var (
	limited = policed(func(p *routing.Policy) {
		p.Gates[0].Limit, p.Gates[0].Written = 0.02, "2%"
	})
	observed = policed(func(p *routing.Policy) { p.Mode = routing.ModeObserve })
)

func controlled(c routing.Control) func(*Wanted) {
	return func(w *Wanted) {
		last := w.Steps[len(w.Steps)-1]
		last.Control = c
		w.Steps = stepsWith(w.Steps, len(w.Steps)-1, last)
	}
}

func timing(step int, o routing.OnTimeout) func(*Wanted) {
	return func(w *Wanted) {
		s := w.Steps[step]
		s.OnTimeout = o
		w.Steps = stepsWith(w.Steps, step, s)
	}
}

// findings are of the gates of gated, with these verdicts: s for safe, b for
// breach, w for waiting, and of a hard rule when there is a fourth.
func findings(verdicts string) []routing.Finding {
	all := []routing.Finding{
		{Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate, OnBreach: routing.OnBreachRollback, N: 2100, Needed: 3200},
		{Metric: "latency_p99", Bound: routing.BoundMaxIncrease, Limit: 1.1, Unit: routing.UnitRatio, OnBreach: routing.OnBreachPause},
		{Metric: "client_error_rate", Bound: routing.BoundMaxIncrease, Limit: 0.01, Unit: routing.UnitPoints, OnBreach: routing.OnBreachWarn},
		{Metric: "gross_failure", HardRule: true},
	}[:len(verdicts)]
	for i, v := range verdicts {
		f := &all[i]
		switch v {
		case 's':
			f.Verdict = routing.VerdictSafe
		case 'b':
			f.Verdict, f.Text = routing.VerdictBreach, f.Metric+" is too much"
		default:
			f.Verdict, f.Reason = routing.VerdictWaiting, routing.ReasonNoEvidence
		}
	}
	return all
}

func judge(verdicts string) Judged {
	return Judged{routing.Judgement{Findings: findings(verdicts)}}
}

var (
	safe     = judge("sssw")
	waiting  = judge("wsww")
	breaking = judge("bsww")
	pausing  = judge("wbww")
	warning  = judge("wsbw")
	failing  = judge("wwwb")
	broken   = judge("bbbb")
)

// toGates leads into the 20th minute of the first step, with gates that wait.
func toGates(more ...happened) []happened {
	return append([]happened{
		now(Configured{Wanted: gated(releasing("v1"))}), now(Configured{Wanted: gated()}),
		now(Probed{Rollout: 1}), now(Delivered{true}), after(20*time.Minute, waiting),
	}, more...)
}

func toLastGates(c routing.Control) []happened {
	return toGates(now(Configured{Wanted: gated(controlled(c))}), ask(ActionSkip), now(Delivered{true}),
		ask(ActionSkip), now(Delivered{true}), after(20*time.Minute, waiting))
}

// told walks a way and returns the records that its last events have caused,
// as "kind by actor: reason".
func told(t *testing.T, way, last []happened) ([]string, State) {
	t.Helper()
	s, at := reach(t, "", way)
	var all []string
	for _, h := range last {
		at = at.Add(h.after)
		var effects []Effect
		s, effects = Next(s, about(s, h.event), at)
		for _, r := range writes(effects) {
			if r.Kind == KindCheckpoint || r.Kind == KindAcknowledged {
				continue
			}
			text := r.Kind + " by " + r.Actor + ": " + r.Reason
			if _, notSafe := Findings(*r); len(notSafe) > 0 {
				text += " [not safe: " + strings.Join(notSafe, ", ") + "]"
			}
			all = append(all, text)
		}
	}
	return all, s
}

// TestVerdicts says who moves the rollout, and in what words.
func TestVerdicts(t *testing.T) {
	minutes := func(n int, e Event) happened { return after(time.Duration(n)*time.Minute, e) }
	promoting := toGates(now(Configured{Wanted: gated(timing(0, routing.OnTimeoutPromote))}))
	back := toGates(now(Configured{Wanted: gated(timing(0, routing.OnTimeoutRollback))}))
	seen := toGates(now(Configured{Wanted: gated(observed)}))
	for _, tc := range []struct {
		name string
		way  []happened
		last []happened
		want []string
	}{
		{"safe before the time is over", toGates(), []happened{minutes(39, safe)}, nil},
		{"safe when the time is over", toGates(), []happened{minutes(40, safe)},
			[]string{"advanced by judge: 60 of at least 60 min; safe: error_rate max, latency_p99 max_increase"}},
		{"safe before, then the time is over", toGates(), []happened{minutes(39, safe), minutes(1, Tick{})},
			[]string{"advanced by judge: 60 of at least 60 min; safe: error_rate max, latency_p99 max_increase"}},
		{"safe no more when the time is over", toGates(), []happened{minutes(39, safe), minutes(1, waiting), minutes(1, Tick{})}, nil},
		{"a gate that warns is not waited for", toGates(), []happened{minutes(40, judge("ssbw"))},
			[]string{"warned by judge: client_error_rate is too much", "advanced by judge: 60 of at least 60 min; safe: error_rate max, latency_p99 max_increase"}},
		{"the time is over and nobody judges", toGates(), []happened{now(Configured{Wanted: gated(limited)}), minutes(40, Tick{})},
			[]string{"policy by config: what judges was edited: error_rate max 2% instead of error_rate max 1%"}},
		{"a gate less than there are", toGates(), []happened{minutes(40, judge("ss"))}, nil},
		{"broken", toGates(), []happened{now(broken), now(broken)},
			[]string{"warned by judge: client_error_rate is too much", "rolled_back by judge: error_rate is too much"}},
		{"a hard rule", toGates(), []happened{now(failing)}, []string{"rolled_back by judge: gross_failure is too much"}},
		{"a hard rule without gates", toStep0(), []happened{now(Judged{routing.Judgement{Findings: findings("wwwb")[3:]}})},
			[]string{"rolled_back by judge: gross_failure is too much"}},
		{"broken in a pause", toGates(ask(ActionPause)), []happened{now(breaking)}, []string{"rolled_back by judge: error_rate is too much"}},
		{"broken while an Envoy is behind", toGates(now(Delivered{false})), []happened{now(breaking)},
			[]string{"rolled_back by judge: error_rate is too much"}},
		{"broken in a step by hand", toGates(ask(ActionSkip), now(Delivered{true})), []happened{now(breaking)},
			[]string{"rolled_back by judge: error_rate is too much"}},
		{"warned once in a step", toGates(), []happened{now(warning), now(warning), ask(ActionSkip), now(warning), now(warning)}, []string{
			"warned by judge: client_error_rate is too much",
			"advanced by cli: why not [not safe: error_rate max (no_evidence), client_error_rate max_increase (breach)]",
			"warned by judge: client_error_rate is too much",
		}},
		{"who goes on after a gate has paused overrules it", toGates(), []happened{now(pausing), ask(ActionResume), now(pausing), ask(ActionSkip), now(pausing)}, []string{
			"paused by judge: latency_p99 is too much", "resumed by cli: why not",
			"advanced by cli: why not [not safe: error_rate max (no_evidence), latency_p99 max_increase (breach, overruled by cli)]",
		}},
		{"no step waits for what is overruled", toGates(), []happened{now(pausing), ask(ActionResume), now(Delivered{true}), minutes(40, judge("sbsw"))}, []string{
			"paused by judge: latency_p99 is too much", "resumed by cli: why not",
			"advanced by judge: 60 of at least 60 min; safe: error_rate max [not safe: latency_p99 max_increase (breach, overruled by cli)]",
		}},
		{"other gates are waited for", toGates(now(pausing), ask(ActionResume), now(Delivered{true})), []happened{minutes(40, pausing)}, nil},
		{"other gates go back", toGates(now(pausing), ask(ActionResume)), []happened{now(judge("bbsw"))}, []string{"rolled_back by judge: error_rate is too much"}},
		{"hard rules go back", toGates(now(pausing), ask(ActionResume)), []happened{now(judge("wbsb"))}, []string{"rolled_back by judge: gross_failure is too much"}},
		{"another limit is another gate", toGates(now(pausing), ask(ActionResume), now(Configured{Wanted: gated(policed(func(p *routing.Policy) { p.Gates[1].Limit = 1.5 }))})),
			[]happened{now(func() Judged { j := judge("wbww"); j.Findings[1].Limit = 1.5; return j }())}, []string{"paused by judge: latency_p99 is too much"}},
		{"who goes on after a pause of his own overrules nothing", toGates(ask(ActionPause), now(pausing)), []happened{ask(ActionResume), now(pausing)},
			[]string{"resumed by cli: why not", "paused by judge: latency_p99 is too much"}},
		{"another rollout is judged anew", toGates(now(pausing), ask(ActionResume), ask(ActionRollback), ask(ActionRetry), now(Probed{Rollout: 2}), now(Delivered{true})),
			[]happened{now(pausing)}, []string{"paused by judge: latency_p99 is too much"}},
		{"who promotes in spite of a gate that pauses is not paused", toGates(now(pausing), ask(ActionPromote)), []happened{now(pausing), now(Delivered{true})},
			[]string{"completed by envoy: "}},
	} {
		check(t, tc.name, tc.way, tc.last, tc.want)
	}
	const late = "at_most 3h0m0s is over, and not safe: error_rate max (no_evidence)"
	for _, tc := range []struct {
		name string
		way  []happened
		last []happened
		want []string
	}{
		{"timed out: pause", toGates(), []happened{minutes(159, waiting), minutes(1, waiting), minutes(1, waiting)}, []string{"paused by timer: " + late}},
		{"timed out, told by the clock", toGates(), []happened{minutes(160, Tick{})}, []string{"paused by timer: " + late}},
		{"timed out: promote", promoting, []happened{now(waiting), minutes(160, waiting)}, []string{"advanced by timer: " + late + " [not safe: error_rate max (no_evidence)]"}},
		{"timed out: rollback", back, []happened{now(waiting), minutes(160, waiting)}, []string{"rolled_back by timer: " + late}},
		{"another at_most after a resume", toGates(minutes(160, waiting), ask(ActionResume), now(Delivered{true}), now(waiting)),
			[]happened{minutes(179, waiting), minutes(1, waiting)}, []string{"paused by timer: " + late}},
		{"safe at the last moment", toGates(), []happened{minutes(160, safe)},
			[]string{"advanced by judge: 180 of at least 60 min; safe: error_rate max, latency_p99 max_increase"}},
		{"nobody has judged at the last moment", toGates(now(Configured{Wanted: gated(limited)})), []happened{minutes(160, Tick{}), after(firstLook, Tick{})},
			[]string{"paused by timer: at_most 3h0m0s is over, and not safe: error_rate max (not judged), latency_p99 max_increase (not judged), client_error_rate max_increase (not judged)"}},
		{"observe: safe", seen, []happened{now(safe), minutes(40, safe), minutes(200, safe), minutes(1, waiting)},
			[]string{"would_advance by judge: 60 of at least 60 min; safe: error_rate max, latency_p99 max_increase"}},
		{"observe: broken", seen, []happened{now(broken), now(broken), minutes(60, broken)}, []string{
			"warned by judge: client_error_rate is too much", "would_roll_back by judge: error_rate is too much",
			"would_roll_back by judge: gross_failure is too much",
		}},
		{"observe: broken and late", append(seen, now(breaking)), []happened{minutes(200, breaking)}, nil},
		{"observe: a pause, then broken", seen, []happened{now(pausing), now(broken)}, []string{
			"would_pause by judge: latency_p99 is too much", "warned by judge: client_error_rate is too much",
			"would_roll_back by judge: error_rate is too much", "would_roll_back by judge: gross_failure is too much",
		}},
		{"observe: late", seen, []happened{now(waiting), minutes(160, waiting), minutes(1, waiting)}, []string{"would_pause by timer: " + late}},
		{"observe: people move", append(seen, now(breaking)), []happened{ask(ActionSkip), now(breaking)}, []string{
			"advanced by cli: why not [not safe: error_rate max (breach)]", "would_roll_back by judge: error_rate is too much",
		}},
		{"without gates time alone is observed too", toStep0(now(Configured{Wanted: wanted(func(w *Wanted) {
			w.Policy = &routing.Policy{Mode: routing.ModeObserve}
		})})), []happened{minutes(40, Tick{}), minutes(40, Tick{})}, []string{"would_advance by timer: 60 of at least 60 min"}},
	} {
		check(t, tc.name, tc.way, tc.last, tc.want)
	}
}

func check(t *testing.T, name string, way, last []happened, want []string) {
	t.Helper()
	got, _ := told(t, way, last)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestControls: a share that is held back stays so until the watch is over, and
// copies go to stable as long as the step runs.
func TestControls(t *testing.T) {
	s, at := reach(t, "", toLastGates(routing.Control{Share: 100}))
	if got := brief(s); !strings.HasSuffix(got, "v2:99% v1:1%") {
		t.Errorf("held back: %s", got)
	}
	if trial, _ := s.Trial(); trial.Share != 9900 || trial.Control != (routing.Control{Share: 100}) || trial.Step != 2 {
		t.Errorf("trial %+v", trial)
	}
	s, effects := Next(s, about(s, safe), at.Add(100*time.Minute))
	if kinds := kindsIn(effects); !slices.Equal(kinds, []string{KindPromoted}) || !strings.HasSuffix(brief(s), "v2:100% v1:0%") {
		t.Errorf("after the watch: %v, %s", kinds, brief(s))
	}
	s, _ = Next(s, Delivered{true}, at.Add(101*time.Minute))
	if s.Phase != PhaseCompleted || s.Stable != "v2" {
		t.Errorf("acknowledged: %s", brief(s))
	}

	s, at = reach(t, "", toLastGates(routing.Control{Mirror: true, Share: 5000}))
	want := []routing.Mirror{{Version: "v1", Share: 5000, Credentials: true}}
	if diff := cmp.Diff(want, s.Mirrors()); diff != "" || s.Share() != routing.Whole {
		t.Errorf("mirrors (-want +got):\n%s; %s", diff, brief(s))
	}
	edited, effects := Next(s, Configured{Wanted: gated(controlled(routing.Control{}))}, at)
	if len(edited.Mirrors()) > 0 || !slices.Contains(effects, Effect(Publish{})) || edited.Elapsed(at) != 20*time.Minute {
		t.Errorf("the mirror edited away: %v, %s, %v", edited.Mirrors(), edited.Elapsed(at), effects)
	}
	s, effects = Next(s, about(s, safe), at.Add(100*time.Minute))
	if s.Phase != PhaseCompleted || len(s.Mirrors()) > 0 || !slices.Contains(effects, Effect(Publish{})) {
		t.Errorf("after the watch: %s, %v", brief(s), effects)
	}
}

func kindsIn(effects []Effect) []string {
	var kinds []string
	for _, r := range writes(effects) {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// TestEndsAtOnce: a last step that nobody asked to watch waits for no gate.
func TestEndsAtOnce(t *testing.T) {
	unwatched := func(w *Wanted) {
		w.Steps = stepsWith(w.Steps, 2, routing.Step{Kind: routing.StepTraffic, Share: routing.Whole, AtMost: time.Hour})
	}
	way := toGates(now(Configured{Wanted: gated(unwatched)}), ask(ActionSkip), now(Delivered{true}), ask(ActionSkip))
	if got, s := told(t, way, []happened{now(Delivered{true})}); s.Phase != PhaseCompleted {
		t.Errorf("%v, %s", got, brief(s))
	}
	way = toGates(now(Configured{Wanted: gated(unwatched, controlled(routing.Control{Share: 100}))}), ask(ActionSkip), now(Delivered{true}), ask(ActionSkip))
	if got, s := told(t, way, []happened{now(Delivered{true}), now(waiting)}); !s.Running() || s.Rollout.Promoted {
		t.Errorf("with a control it has something to wait for: %v, %s", got, brief(s))
	}
}

// TestWayBackByFile: what served before is trusted as long as it is the same.
func TestWayBackByFile(t *testing.T) {
	done := toLast(after(2*time.Hour, Tick{}))
	v1 := func(change ...func(*Wanted)) happened {
		return now(Configured{Wanted: wanted(append(change, releasing("v1"))...)})
	}
	const back = "rolled_back by config: the file says release: v1, which served before v2: back at once, without steps"
	check(t, "at once", done, []happened{v1()}, []string{back})
	check(t, "it is another one by now", done, []happened{v1(redefined("v1"))}, []string{"started by config: the file says release: v1"})
	check(t, "and forth again goes by steps", append(done, v1()), []happened{now(Configured{Wanted: wanted()})},
		[]string{"started by config: the file says release: v2"})
	v3 := func() happened { return now(Configured{Wanted: wanted(releasing("v3"))}) }
	check(t, "from the middle of the next rollout", append(done, v3(), now(Probed{Rollout: 2})), []happened{v1()},
		[]string{"superseded by config: the file says release: v1", back})
	if _, s := told(t, done, []happened{v1()}); brief(s) != "rolled_back v2:0% v1:100%" {
		t.Error(brief(s))
	}
}

// TestFindingsAreKept: what the gates said at the end is told after a restart.
func TestFindingsAreKept(t *testing.T) {
	for name, way := range map[string][]happened{
		"rolled back": toGates(now(breaking)),
		"advanced":    toGates(after(40*time.Minute, safe)),
		"paused":      toGates(now(pausing)),
	} {
		live, at := reach(t, "", way)
		folded, _ := replayed(t, way)
		want := way[len(way)-1].event.(Judged).Findings
		for from, s := range map[string]State{"live": live, "replayed": folded} {
			got := s.Rollout.Findings
			if s.Phase != PhaseProgressing {
				got = StatusOf(View{State: s}, at).Gates
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", name, from, diff)
			}
		}
	}
}

// TestOddNumbers: what no number is cannot stop the journal.
func TestOddNumbers(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	j := judge("bsw")
	j.Findings[0].Estimate, j.Findings[0].High, j.Findings[0].Limit = &nan, &inf, math.Inf(-1)
	got, s := told(t, toGates(), []happened{now(j)})
	if len(got) != 1 || s.Phase != PhaseRolledBack {
		t.Errorf("%v", got)
	}
	if f := s.Rollout.Findings[0]; f.Estimate != nil || f.High != nil || f.Limit != 0 || j.Findings[0].Estimate != &nan {
		t.Errorf("%+v", f)
	}
}

// TestPolicyEditedMeanwhile: an edit that was made while headgate was down is
// noticed, and an old journal's rollout knows of no gates.
func TestPolicyEditedMeanwhile(t *testing.T) {
	for name, tc := range map[string]struct {
		way  []happened
		read Wanted
		want []string
	}{
		"as before": {toGates(), gated(), nil},
		"edited":    {toGates(), gated(limited), []string{KindPolicy}},
		"no gates":  {toStep0(), wanted(), nil},
	} {
		s, at := replayed(t, tc.way)
		_, effects := Next(s, Configured{Wanted: tc.read}, at)
		if diff := cmp.Diff(tc.want, kindsIn(effects)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	old, at := replayed(t, toStep0())
	old.Rollout.Policy = nil
	for want, w := range map[string]Wanted{"": wanted(), KindPolicy: wanted(func(w *Wanted) { w.Policy = gated().Policy })} {
		_, effects := Next(old, Configured{Wanted: w}, at)
		if got := strings.Join(kindsIn(effects), " "); got != want {
			t.Errorf("a journal without policies: %q, want %q", got, want)
		}
	}
}

// TestAnotherControl: what was shown beside one control is not true beside
// another, and counts only what began when every Envoy had it.
func TestAnotherControl(t *testing.T) {
	none, mirror := routing.Control{}, routing.Control{Mirror: true, Share: 5000}
	for _, c := range []struct{ from, to routing.Control }{{none, mirror}, {mirror, none}, {mirror, routing.Control{Mirror: true, Share: 100}}} {
		s, at := reach(t, "", toLastGates(c.from))
		s, _ = Next(s, about(s, safe), at)
		s, _ = Next(s, Configured{Wanted: gated(controlled(c.to), controlledFor(time.Minute))}, at)
		trial, on := s.Trial()
		if !on || s.Rollout.Step != 2 || trial.Control != c.to || !trial.Since.IsZero() || s.Judgement != nil {
			t.Errorf("%s to %s: %s, trial %+v, judgement %v", c.from, c.to, brief(s), trial, s.Judgement)
		}
		s, _ = Next(s, Delivered{false}, at)
		s, _ = Next(s, Delivered{true}, at.Add(time.Second))
		if trial, _ := s.Trial(); !trial.Since.Equal(at.Add(time.Second)) || s.Elapsed(at.Add(time.Second)) != 20*time.Minute {
			t.Errorf("%s to %s: since %s, elapsed %s", c.from, c.to, trial.Since, s.Elapsed(at))
		}
	}
}

func controlledFor(d time.Duration) func(*Wanted) {
	return func(w *Wanted) {
		last := w.Steps[len(w.Steps)-1]
		last.For = d
		w.Steps = stepsWith(w.Steps, len(w.Steps)-1, last)
	}
}
