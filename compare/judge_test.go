package compare_test

import (
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

var _ rollout.Judge = (*compare.Judge)(nil)

// seen is a request of v2 that began just now.
func seen(version string, class compare.Class) compare.Observation {
	return compare.Observation{
		Node: "a", Model: "churn", Version: version, Start: time.Now(), Code: 200, GRPC: -1,
		Class: class, Duration: 100 * time.Millisecond, Drawn: true,
	}
}

// observe tells of n requests alike.
func observe(j *compare.Judge, n int, o compare.Observation) {
	for range n {
		j.Observe(o)
	}
}

// now is a trial whose step begins at this moment.
func now(tr routing.Trial) routing.Trial {
	tr.Since = time.Now()
	return tr
}

// seenBy are the candidate's requests and errors of a judgement's step, as its
// evidence has them.
type seenBy struct {
	Requests, Errors, Drawn uint64
	StableRequests          uint64
}

func counted(t *testing.T, evidence []byte) seenBy {
	t.Helper()
	type side struct {
		Requests, Errors, Drawn uint64
	}
	var e struct {
		Trial struct{ Candidate, Stable side }
	}
	if err := json.Unmarshal(evidence, &e); err != nil {
		t.Fatalf("evidence %q: %v", evidence, err)
	}
	c := e.Trial.Candidate
	return seenBy{c.Requests, c.Errors, c.Drawn, e.Trial.Stable.Requests}
}

func first(j *compare.Judge) routing.Finding {
	return j.Look("churn", time.Now()).Findings[0]
}

func TestWhatCounts(t *testing.T) {
	mirror := trialOf(100, errorRate(0.01))
	mirror.Control = routing.Control{Mirror: true, Share: routing.Whole}
	change := func(f func(*compare.Observation)) compare.Observation {
		o := seen("v2", compare.ClassSuccess)
		f(&o)
		return o
	}
	for _, c := range []struct {
		name  string
		trial routing.Trial
		see   func() compare.Observation
		want  seenBy
	}{
		{"good", trialOf(10), func() compare.Observation { return seen("v2", compare.ClassSuccess) }, seenBy{1, 0, 1, 0}},
		{"error", trialOf(10), func() compare.Observation { return seen("v2", compare.ClassError) }, seenBy{1, 1, 1, 0}},
		{"client error", trialOf(10), func() compare.Observation { return seen("v2", compare.ClassClientError) }, seenBy{1, 0, 1, 0}},
		{"stable", trialOf(10), func() compare.Observation { return seen("v1", compare.ClassSuccess) }, seenBy{0, 0, 0, 1}},
		{"aborted", trialOf(10), func() compare.Observation { return seen("v2", compare.ClassAborted) }, seenBy{}},
		{"no class", trialOf(10), func() compare.Observation { return seen("v2", "odd") }, seenBy{}},
		{"another version", trialOf(10), func() compare.Observation { return seen("v0", compare.ClassError) }, seenBy{}},
		{"override", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Drawn = false })
		}, seenBy{1, 0, 0, 0}},
		{"copy to the candidate", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Mirrored = true })
		}, seenBy{}},
		{"copy to stable, not asked for", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Mirrored, o.Version = true, "v1" })
		}, seenBy{}},
		{"copy to stable, the control", mirror, func() compare.Observation {
			return change(func(o *compare.Observation) { o.Mirrored, o.Version, o.Drawn = true, "v1", false })
		}, seenBy{0, 0, 0, 1}},
		{"stable itself, beside copies", mirror, func() compare.Observation { return seen("v1", compare.ClassSuccess) }, seenBy{}},
		{"beside copies, of a kind that is copied", mirror, func() compare.Observation {
			return change(func(o *compare.Observation) { o.Copied, o.Drawn = true, false })
		}, seenBy{1, 0, 1, 0}},
		{"beside copies, too long to be copied", mirror, func() compare.Observation {
			return change(func(o *compare.Observation) { o.Copied = false })
		}, seenBy{1, 0, 0, 0}},
		{"before the step", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Start = o.Start.Add(-time.Second) })
		}, seenBy{}},
		{"a little in the future", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Start = o.Start.Add(4 * time.Second) })
		}, seenBy{1, 0, 1, 0}},
		{"in the future", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Start = o.Start.Add(time.Hour) })
		}, seenBy{}},
		{"negative duration", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Duration = -time.Hour })
		}, seenBy{1, 0, 1, 0}},
		{"absurd duration", trialOf(10), func() compare.Observation {
			return change(func(o *compare.Observation) { o.Duration = 25 * time.Hour })
		}, seenBy{1, 0, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := compare.NewJudge(compare.JudgeOptions{})
				j.Watch(now(c.trial), nil)
				j.Observe(c.see())
				if diff := cmp.Diff(c.want, counted(t, j.Look("churn", time.Now()).Evidence)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestFaultsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(trialOf(10)), nil)
		for _, f := range []func(*compare.Observation){
			func(o *compare.Observation) { o.Start = o.Start.Add(6 * time.Second) },
			func(o *compare.Observation) { o.Start = o.Start.Add(-time.Millisecond) },
			func(o *compare.Observation) { o.Duration = -2 },
			func(o *compare.Observation) { o.Class = "odd" },
			func(o *compare.Observation) { o.Node = "b" },
		} {
			j.Gap("b", time.Now().Add(-time.Second), time.Time{})
			o := seen("v2", compare.ClassSuccess)
			f(&o)
			j.Observe(o)
		}
		want := compare.JudgeFaults{Future: 1, Duration: 1, Class: 1, InGap: 1, Early: 1}
		if diff := cmp.Diff(want, j.Faults()); diff != "" {
			t.Error(diff)
		}
	})
}

// A window is unknown for a lost stream, of one node or several.
func TestGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(trialOf(10, errorRate(0.01))), nil)
		observe(j, 5000, seen("v2", compare.ClassSuccess))
		want := func(v routing.Verdict, r routing.VerdictReason) {
			t.Helper()
			if f := first(j); f.Verdict != v || f.Reason != r {
				t.Errorf("%s %s, want %s %s: %s", f.Verdict, f.Reason, v, r, f.Text)
			}
		}
		want(routing.VerdictSafe, "")

		time.Sleep(time.Second)
		lost := time.Now()
		j.Gap("a", lost, time.Time{})
		j.Gap("b", lost, time.Time{})
		time.Sleep(3 * time.Second)
		want(routing.VerdictWaiting, routing.ReasonTelemetryGap)

		// What comes of a through a stream that held is not the whole.
		observe(j, 50, seen("v2", compare.ClassError))
		other := seen("v2", compare.ClassSuccess)
		other.Node = "c"
		j.Observe(other)
		if got := counted(t, j.Look("churn", time.Now()).Evidence); got.Requests != 5001 || got.Errors != 0 {
			t.Errorf("counted %+v", got)
		}
		inGap := seen("v2", compare.ClassError)
		time.Sleep(time.Second)
		j.Gap("a", lost, time.Now())
		want(routing.VerdictWaiting, routing.ReasonTelemetryGap)
		j.Gap("b", lost, time.Now())
		// A stream that broke for good is taken for ended after a while: nothing
		// that was shown before is believed until the candidate is heard of again.
		want(routing.VerdictWaiting, routing.ReasonTelemetryGap)
		j.Observe(seen("v1", compare.ClassSuccess))
		want(routing.VerdictWaiting, routing.ReasonTelemetryGap)
		j.Observe(seen("v2", compare.ClassSuccess))
		want(routing.VerdictSafe, "")

		// Late entries of the gap belong to it; those after it count.
		observe(j, 50, inGap)
		j.Observe(seen("v2", compare.ClassSuccess))
		if got := counted(t, j.Look("churn", time.Now()).Evidence); got.Requests != 5003 || got.Errors != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

// TestSafeIsNotBelievedAfterARestart: what was safe when headgate ended may not
// be so any more.
func TestSafeIsNotBelievedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		trial := now(trialOf(10, errorRate(0.01)))
		j.Watch(trial, nil)
		observe(j, 5000, seen("v2", compare.ClassSuccess))
		kept := j.Look("churn", time.Now())
		if f := kept.Findings[0]; f.Verdict != routing.VerdictSafe {
			t.Fatalf("%+v", f)
		}
		time.Sleep(time.Second)
		j = compare.NewJudge(compare.JudgeOptions{})
		j.Watch(trial, kept.Evidence)
		if f := first(j); f.Verdict != routing.VerdictWaiting || f.Reason != routing.ReasonTelemetryGap || f.N != 5000 {
			t.Errorf("after the restart: %+v", f)
		}
		j.Observe(seen("v2", compare.ClassSuccess))
		if f := first(j); f.Verdict != routing.VerdictSafe {
			t.Errorf("heard of again: %+v", f)
		}
	})
}

// What is shown by all that is known stays shown while something is not.
func TestBreachHoldsInAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(trialOf(10, errorRate(0.01))), nil)
		observe(j, 1000, seen("v1", compare.ClassSuccess))
		observe(j, 60, seen("v2", compare.ClassError))
		if f := first(j); f.Verdict != routing.VerdictBreach {
			t.Fatalf("%+v", f)
		}
		j.Gap("a", time.Now(), time.Time{})
		if f := first(j); f.Verdict != routing.VerdictBreach {
			t.Errorf("%+v", f)
		}
	})
}

func TestSinceZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		tr := trialOf(10, errorRate(0.01))
		tr.Since = time.Time{}
		j.Watch(tr, nil)
		time.Sleep(time.Second)
		observe(j, 1000, seen("v1", compare.ClassSuccess))
		observe(j, 9, seen("v2", compare.ClassError))
		look := j.Look("churn", time.Now())
		if got := counted(t, look.Evidence); got != (seenBy{}) {
			t.Errorf("counted %+v", got)
		}
		if f := look.Findings[0]; f.Reason != routing.ReasonNotAcknowledged {
			t.Errorf("%+v", f)
		}
		if f := look.Findings[1]; f.Verdict == routing.VerdictBreach {
			t.Errorf("nine bad answers: %s", f.Text)
		}
		j.Observe(seen("v2", compare.ClassError))
		if f := j.Look("churn", time.Now()).Findings[1]; f.Metric != compare.MetricGrossFailure || f.Verdict != routing.VerdictBreach {
			t.Errorf("the tenth bad answer: %s", f.Text)
		}
	})
}

// Entries that come late count in the step in which their request began.
func TestLateEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		one := now(trialOf(10, errorRate(0.01)))
		j.Watch(one, nil)
		observe(j, 9000, seen("v1", compare.ClassSuccess))
		observe(j, 990, seen("v2", compare.ClassSuccess))
		slow := seen("v2", compare.ClassError)
		time.Sleep(time.Second)
		two := one
		two.Step, two.Share, two.Since = 2, 2500, time.Time{}
		j.Watch(two, nil)
		time.Sleep(time.Second)
		two = now(two)
		j.Watch(two, nil)
		if f := first(j); f.Verdict == routing.VerdictBreach {
			t.Fatalf("%+v", f)
		}
		observe(j, 60, slow)
		look := j.Look("churn", time.Now())
		if got := counted(t, look.Evidence); got != (seenBy{}) {
			t.Errorf("in the present step: %+v", got)
		}
		// The test of requests goes through steps; the test against stable of the
		// step before has them too.
		increase := one
		increase.Rollout++
		increase.Policy = trialOf(10, errorIncrease(0.005)).Policy
		j.Watch(now(increase), nil)
		observe(j, 9000, seen("v1", compare.ClassSuccess))
		observe(j, 990, seen("v2", compare.ClassSuccess))
		slow = seen("v2", compare.ClassError)
		time.Sleep(time.Second)
		increase.Step, increase.Share = 2, 2500
		j.Watch(now(increase), nil)
		observe(j, 60, slow)
		if f := first(j); f.Verdict != routing.VerdictBreach || f.N != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// A share that is lost for a while and in force again counts before and after.
func TestAcknowledgedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		one := now(trialOf(10, errorRate(0.01)))
		j.Watch(one, nil)
		early := seen("v2", compare.ClassSuccess)
		time.Sleep(time.Second)
		between := one
		between.Since = time.Time{}
		j.Watch(between, nil)
		time.Sleep(time.Second)
		unknown := seen("v2", compare.ClassSuccess)
		time.Sleep(time.Second)
		j.Watch(now(one), nil)
		for _, o := range []compare.Observation{early, unknown, seen("v2", compare.ClassSuccess)} {
			j.Observe(o)
		}
		if got := counted(t, j.Look("churn", time.Now()).Evidence); got.Requests != 2 {
			t.Errorf("counted %+v", got)
		}
	})
}

// What one process has counted, the next does not count again, and it forgets
// nothing: after each of two restarts.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		tr := now(trialOf(10, errorRate(0.01), errorIncrease(0.005), latencyRatio("latency_p99", 1.1)))
		j.Watch(tr, nil)
		user := seen("v2", compare.ClassError)
		user.User, user.HasUser = 7, true
		var all []compare.Observation
		for restart := range 3 {
			more := []compare.Observation{user, seen("v1", compare.ClassSuccess), seen("v2", compare.ClassSuccess)}
			for i := range more {
				more[i].Start = time.Now()
			}
			all = append(all, more...)
			for _, o := range all { // Envoy tells everything again: it never does
				j.Observe(o)
			}
			look := j.Look("churn", time.Now())
			want := seenBy{Requests: uint64(2 * (restart + 1)), Errors: uint64(restart + 1), Drawn: uint64(2 * (restart + 1)), StableRequests: uint64(restart + 1)}
			if diff := cmp.Diff(want, counted(t, look.Evidence)); diff != "" {
				t.Errorf("after %d restarts: %s", restart, diff)
			}
			time.Sleep(time.Second)
			j = compare.NewJudge(compare.JudgeOptions{})
			// Even if the controller thinks that the share was in force all the time.
			j.Watch(tr, look.Evidence)
			again := j.Look("churn", time.Now())
			if diff := cmp.Diff(look.Findings[:3], again.Findings[:3]); diff != "" {
				t.Errorf("findings after a restart: %s", diff)
			}
			if diff := cmp.Diff(string(look.Evidence), string(again.Evidence), cmp.Transformer("json", asJSON)); diff != "" {
				t.Errorf("evidence after a restart: %s", diff)
			}
		}
	})
}

// asJSON is evidence without the time until when it is, and when spans begin.
func asJSON(s string) map[string]any {
	var v map[string]any
	if json.Unmarshal([]byte(s), &v) != nil {
		return nil
	}
	delete(v["trial"].(map[string]any), "to")
	return v
}

func TestEvidenceThatCannotBeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		tr := now(trialOf(10, errorRate(0.01)))
		j.Watch(tr, nil)
		j.Observe(seen("v2", compare.ClassError))
		good := string(j.Look("churn", time.Now()).Evidence)
		other := tr
		other.Rollout = 4
		for name, c := range map[string]struct {
			kept string
			as   routing.Trial
			want uint64
		}{
			"good":            {good, tr, 1},
			"another rollout": {good, other, 0},
			"empty":           {"", tr, 0},
			"broken":          {good[:len(good)/2], tr, 0},
			"a later form":    {`{"trial":{"version":99}}`, tr, 0},
			"null":            {`null`, tr, 0},
			"holes":           {`{"trial":{"version":1,"epoch":{"number":1},"gates":[null],"trial":{"Policy":{"Gates":[{}]}}}}`, tr, 0},
		} {
			j := compare.NewJudge(compare.JudgeOptions{})
			j.Watch(c.as, []byte(c.kept))
			look := j.Look("churn", time.Now())
			if got := counted(t, look.Evidence); got.Errors != c.want || look.Rollout != c.as.Rollout {
				t.Errorf("%s: %+v of rollout %d", name, got, look.Rollout)
			}
		}
	})
}

// A gate that stays keeps what it has shown through an edit; one that changes
// begins anew.
func TestEditedPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		tr := now(trialOf(10, errorRate(0.01), errorIncrease(0.005)))
		j.Watch(tr, nil)
		observe(j, 1000, seen("v1", compare.ClassSuccess))
		observe(j, 960, seen("v2", compare.ClassSuccess))
		observe(j, 40, seen("v2", compare.ClassError))
		for _, f := range j.Look("churn", time.Now()).Findings[:2] {
			if f.Verdict != routing.VerdictBreach {
				t.Fatalf("%+v", f)
			}
		}
		tr.Policy = trialOf(10, errorIncrease(0.005), errorRate(0.011)).Policy
		j.Watch(tr, nil)
		got := j.Look("churn", time.Now()).Findings
		if f := got[0]; f.Verdict != routing.VerdictBreach {
			t.Errorf("a gate that stayed: %s", f.Text)
		}
		if f := got[1]; f.Verdict == routing.VerdictBreach || f.N != 1000 {
			t.Errorf("a gate that changed: %s", f.Text)
		}
	})
}

// A clock that is set is no reason for a verdict, and does not make a step blind.
func TestClockJumps(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, -25 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			wall, running := began, time.Duration(0)
			j := compare.NewJudge(compare.JudgeOptions{})
			j.SetClock(func() (time.Time, time.Duration) { return wall, running })
			tr := trialOf(10, errorRate(0.01))
			tr.Since = wall
			j.Watch(tr, nil)
			tick := func(n int) {
				for range n {
					o := seen("v2", compare.ClassSuccess)
					o.Start = wall
					j.Observe(o)
				}
				wall, running = wall.Add(time.Second), running+time.Second
				j.Look("churn", wall)
			}
			tick(100)
			wall = wall.Add(by)
			j.Look("churn", wall)
			tick(100)
			// Nothing was edited but something else: the same Since comes again.
			j.Watch(tr, nil)
			tick(100)
			f := j.Look("churn", wall).Findings[0]
			if f.N != 300 || f.Verdict != routing.VerdictWaiting {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(trialOf(10)), nil)
		alarms := func() int {
			n := 0
			for {
				select {
				case m := <-j.Alarm():
					if m != "churn" {
						t.Errorf("alarm of %q", m)
					}
					n++
				default:
					return n
				}
			}
		}
		observe(j, 100, seen("v2", compare.ClassSuccess))
		observe(j, 100, seen("v1", compare.ClassError))
		if n := alarms(); n != 0 {
			t.Errorf("%d alarms of good answers", n)
		}
		observe(j, 9, seen("v2", compare.ClassError))
		if n := alarms(); n != 1 {
			t.Errorf("%d alarms at once", n)
		}
		j.Observe(seen("v2", compare.ClassError))
		if n := alarms(); n != 1 {
			t.Errorf("%d alarms at the tenth", n)
		}
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			j.Observe(seen("v2", compare.ClassError))
		}
		if n := alarms(); n < 9 || n > 11 {
			t.Errorf("%d alarms in a second", n)
		}
	})
}

// One user who fails all the time is no reason to go back: another version
// would have had that user as well.
func TestOneUserFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(trialOf(50, errorRate(0.01), errorIncrease(0.005))), nil)
		by := func(user uint64, version string, class compare.Class) {
			o := seen(version, class)
			o.User, o.HasUser = user, true
			j.Observe(o)
		}
		look := func() (broken int) {
			for _, f := range j.Look("churn", time.Now()).Findings {
				if f.Verdict == routing.VerdictBreach {
					broken++
				}
			}
			return broken
		}
		for i := range uint64(1000) {
			by(i, "v1", compare.ClassSuccess)
			by(2000+i, "v2", compare.ClassSuccess)
			by(4000, "v2", compare.ClassError)
			if n := look(); n > 0 {
				t.Fatalf("%d broken after %d errors of one user", n, i+1)
			}
			time.Sleep(time.Second)
		}
		for i := range uint64(100) {
			by(i, "v1", compare.ClassSuccess)
			by(5000+i, "v2", compare.ClassError)
		}
		if n := look(); n < 2 {
			t.Errorf("%d broken after 100 users failed", n)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(trialOf(50, errorRate(0.01))), nil)
		for i := range uint64(450_000) {
			o := seen("v2", compare.ClassError)
			o.User, o.HasUser, o.Node = i, true, "a"
			j.Observe(o)
			if i%50_000 == 0 {
				if look := j.Look("churn", time.Now()); len(look.Evidence) > 100_000 {
					t.Fatalf("%d bytes of evidence", len(look.Evidence))
				}
			}
		}
		if n := j.Remembered(); n > 200_000 {
			t.Errorf("%d users", n)
		}
		j.Forget("churn")
		if n := j.Remembered(); n != 0 {
			t.Errorf("%d users after Forget", n)
		}
		if look := j.Look("churn", time.Now()); look.Findings != nil {
			t.Errorf("%+v", look)
		}
	})
}

func TestObserveDoesNotAllocate(t *testing.T) {
	j := compare.NewJudge(compare.JudgeOptions{})
	j.Watch(now(trialOf(50, errorRate(0.01), latencyRatio("latency_p99", 1.1))), nil)
	for name, o := range map[string]compare.Observation{
		"watched": seen("v2", compare.ClassSuccess), "error": seen("v2", compare.ClassError),
		"another model": {Model: "other", Version: "v1", Class: compare.ClassSuccess},
	} {
		j.Observe(o)
		if n := testing.AllocsPerRun(1000, func() { j.Observe(o) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestJudgeConcurrently(t *testing.T) {
	j := compare.NewJudge(compare.JudgeOptions{})
	tr := now(trialOf(50, errorRate(0.01), latencyRatio("latency_p99", 1.1)))
	j.Watch(tr, nil)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				o := seen([]string{"v1", "v2"}[i%2], compare.ClassSuccess)
				o.User, o.HasUser = uint64(i), true
				j.Observe(o)
				switch {
				case g == 0 && i%100 == 0:
					j.Look("churn", time.Now())
				case g == 1 && i%100 == 0:
					tr := tr
					tr.Step = 1 + i/1000
					j.Watch(tr, nil)
				case g == 2 && i%100 == 0:
					j.Gap("x", time.Now(), time.Time{})
					j.Gap("x", time.Now(), time.Now())
				case g == 3 && i%500 == 0:
					j.Forget("other")
				}
			}
		})
	}
	wg.Wait()
	j.Look("churn", time.Now())
}

func BenchmarkJudgeObserve(b *testing.B) {
	j := compare.NewJudge(compare.JudgeOptions{})
	j.Watch(now(trialOf(50, errorRate(0.01), latencyRatio("latency_p99", 1.1))), nil)
	watched, other := seen("v2", compare.ClassSuccess), seen("v2", compare.ClassSuccess)
	watched.User, watched.HasUser = 5, true
	other.Model = "other"
	b.Run("watched", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j.Observe(watched)
		}
	})
	b.Run("not watched", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j.Observe(other)
		}
	})
}

// A late answer of the step before is one of the last answers, once.
func TestLateAnswersAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := compare.NewJudge(compare.JudgeOptions{})
		tr := trialOf(10, errorRate(0.01))
		j.Watch(now(tr), nil)
		late, good := seen("v2", compare.ClassError), seen("v1", compare.ClassSuccess)
		time.Sleep(time.Second)
		tr.Step++
		j.Watch(now(tr), nil)
		observe(j, 5, late)
		observe(j, 7, good)
		var e struct {
			Trial struct {
				Hard struct{ Answers, Seen, Bads uint64 }
			}
		}
		if err := json.Unmarshal(j.Look("churn", time.Now()).Evidence, &e); err != nil {
			t.Fatal(err)
		}
		if h := e.Trial.Hard; h.Answers != 5 || h.Seen != 7 || h.Bads != 0 {
			t.Errorf("%+v", h)
		}
	})
}
