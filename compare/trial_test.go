package compare_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

var began = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func errorRate(max float64) routing.Gate {
	return routing.Gate{Metric: "error_rate", Bound: routing.BoundMax, Limit: max, Unit: routing.UnitRate}
}

func errorIncrease(points float64) routing.Gate {
	return routing.Gate{Metric: "error_rate", Bound: routing.BoundMaxIncrease, Limit: points, Unit: routing.UnitPoints, Resolution: 0.005}
}

func errorRatio(ratio float64) routing.Gate {
	return routing.Gate{Metric: "error_rate", Bound: routing.BoundMaxIncrease, Limit: ratio, Unit: routing.UnitRatio}
}

func latencyMax(metric string, seconds float64) routing.Gate {
	return routing.Gate{Metric: metric, Bound: routing.BoundMax, Limit: seconds, Unit: routing.UnitSeconds}
}

func latencyRatio(metric string, ratio float64) routing.Gate {
	return routing.Gate{Metric: metric, Bound: routing.BoundMaxIncrease, Limit: ratio, Unit: routing.UnitRatio}
}

func latencyMore(metric string, seconds float64) routing.Gate {
	return routing.Gate{Metric: metric, Bound: routing.BoundMaxIncrease, Limit: seconds, Unit: routing.UnitSeconds}
}

// trialOf is a trial of a step with a share in percent.
func trialOf(percent routing.Share, gates ...routing.Gate) routing.Trial {
	return routing.Trial{
		Model: "churn", Rollout: 3, Step: 1, Steps: 4, Stable: "v1", Candidate: "v2", Share: percent * 100, Since: began,
		Policy: &routing.Policy{Gates: gates, Promise: routing.Promise{FalseRollback: 0.05, FalsePromotion: 0.05}},
	}
}

// arm has n requests, all drawn and answered after some milliseconds.
func arm(n, errors uint64) compare.Arm {
	a := compare.Arm{Requests: n, Drawn: n, Errors: errors, DrawnErrors: errors}
	for i := range n - errors {
		a.Latency.Add(0.1+0.001*float64(i%100), 1)
	}
	return a
}

func slowArm(n uint64, by float64) compare.Arm {
	a := compare.Arm{Requests: n, Drawn: n}
	for i := range n {
		a.Latency.Add(by*(0.1+0.001*float64(i%100)), 1)
	}
	return a
}

func batchAt(after time.Duration, candidate, stable compare.Arm) *compare.Batch {
	return &compare.Batch{To: began.Add(after), Candidate: candidate, Stable: stable}
}

var update = flag.Bool("update", false, "rewrite golden files")

func TestFindings(t *testing.T) {
	without := func(tr routing.Trial) routing.Trial { tr.Since = time.Time{}; return tr }
	control := func(c routing.Control, g routing.Gate) routing.Trial {
		tr := trialOf(100, g)
		tr.Control = c
		return tr
	}
	var got strings.Builder
	for _, c := range []struct {
		name  string
		trial routing.Trial
		add   []*compare.Batch
		gap   bool
	}{
		{"broken", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 23), arm(4000, 8))}, false},
		{"safe", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(4400, 8), arm(40000, 80))}, false},
		{"no evidence", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 1), arm(4000, 8))}, false},
		{"beyond the limit", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(100, 2), arm(4000, 8))}, false},
		{"at the limit", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(100, 1), arm(4000, 8))}, false},
		{"no traffic", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(0, 0), arm(4000, 8))}, false},
		{"gap", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(4400, 8), arm(40000, 80))}, true},
		{"breach in a gap", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 23), arm(4000, 8))}, true},
		{"not acknowledged", without(trialOf(10, errorRate(0.01))), nil, false},
		{"both ill", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 44), arm(4000, 400))}, false},
		{"both ill, candidate worse", trialOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 176), arm(4000, 400))}, false},
		{"no control", control(routing.Control{}, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(440, 1), arm(0, 0))}, false},
		{"no control, alone broken", control(routing.Control{}, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 23), arm(0, 0))}, false},
		{"mirror", control(routing.Control{Mirror: true, Share: routing.Whole}, errorIncrease(0.005)),
			[]*compare.Batch{batchAt(time.Minute, arm(44000, 44), arm(44000, 41))}, false},
		{"held back", control(routing.Control{Share: 100}, errorIncrease(0.005)),
			[]*compare.Batch{batchAt(time.Minute, arm(99000, 99), arm(1000, 1))}, false},
		{"shadow broken", shadowOf(10, errorRate(0.01)), []*compare.Batch{batchAt(time.Minute, arm(440, 23), arm(4400, 8))}, false},
		{"shadow worse", shadowOf(10, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(1000, 40), arm(10000, 40))}, false},
		{"shadow safe", shadowOf(100, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(30000, 120), arm(30000, 120))}, false},
		{"shadow waits", shadowOf(10, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(1000, 5), arm(10000, 40))}, false},
		{"nothing is copied", shadowOf(10, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(0, 0), arm(10000, 40))}, false},
		{"shadow, not acknowledged", without(shadowOf(10, errorRate(0.01))), nil, false},
		{"shadow p99 broken", shadowOf(25, latencyMax("latency_p99", 0.15)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), slowArm(4000, 0.5))}, false},
		{"shadow p99 more, safe", shadowOf(100, latencyRatio("latency_p99", 1.3)), []*compare.Batch{batchAt(time.Minute, slowArm(20000, 1), arm(20000, 0))}, false},
		{"points broken", trialOf(25, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(1000, 40), arm(3000, 12))}, false},
		{"points safe", trialOf(25, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(10000, 40), arm(30000, 120))}, false},
		{"points wait", trialOf(25, errorIncrease(0.005)), []*compare.Batch{batchAt(time.Minute, arm(1000, 5), arm(3000, 12))}, false},
		{"no increase, safe by the resolution", trialOf(25, errorIncrease(0)), []*compare.Batch{batchAt(time.Minute, arm(10000, 40), arm(30000, 120))}, false},
		{"ratio wait", trialOf(50, errorRatio(1.5)), []*compare.Batch{batchAt(time.Minute, arm(1000, 5), arm(1000, 4))}, false},
		{"ratio broken", trialOf(50, errorRatio(1.5)), []*compare.Batch{batchAt(time.Minute, arm(1000, 50), arm(1000, 4))}, false},
		{"ratio of nothing", trialOf(50, errorRatio(1.5)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), arm(1000, 0))}, false},
		{"p99 broken", trialOf(25, latencyMax("latency_p99", 0.15)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), slowArm(3000, 0.5))}, false},
		{"p99 ill", trialOf(25, latencyMax("latency_p99", 0.15)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), arm(3000, 0))}, false},
		{"p99 safe", trialOf(25, latencyMax("latency_p99", 0.5)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), arm(3000, 0))}, false},
		{"p99 wait", trialOf(25, latencyMax("latency_p99", 0.5)), []*compare.Batch{batchAt(time.Minute, arm(100, 0), arm(300, 0))}, false},
		{"p99 unanswered", trialOf(25, latencyMax("latency_p99", 0.5)), []*compare.Batch{batchAt(time.Minute, arm(100, 100), arm(300, 0))}, false},
		{"p99 more, wait", trialOf(25, latencyRatio("latency_p99", 1.1)), []*compare.Batch{batchAt(time.Minute, slowArm(1000, 1.03), arm(3000, 0))}, false},
		{"p99 more, broken", trialOf(25, latencyRatio("latency_p99", 1.1)), []*compare.Batch{batchAt(time.Minute, slowArm(2000, 2), arm(6000, 0))}, false},
		{"p99 more, safe", trialOf(25, latencyRatio("latency_p99", 1.3)), []*compare.Batch{batchAt(time.Minute, slowArm(20000, 1), arm(60000, 0))}, false},
		{"p50 ms more, safe", trialOf(25, latencyMore("latency_p50", 0.05)), []*compare.Batch{batchAt(time.Minute, slowArm(2000, 1), arm(6000, 0))}, false},
		{"mean broken", trialOf(25, latencyMax("latency_mean", 0.12)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), slowArm(3000, 0.5))}, false},
		{"mean ill", trialOf(25, latencyMax("latency_mean", 0.12)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), arm(3000, 0))}, false},
		{"mean safe", trialOf(25, latencyMax("latency_mean", 0.2)), []*compare.Batch{batchAt(time.Minute, arm(1000, 0), arm(3000, 0))}, false},
		{"mean more, broken", trialOf(25, latencyRatio("latency_mean", 1.1)), []*compare.Batch{
			batchAt(time.Minute, slowArm(100, 2), arm(300, 0)), batchAt(2*time.Minute, slowArm(2000, 2), arm(6000, 0))}, false},
		{"mean more, no usual yet", trialOf(25, latencyRatio("latency_mean", 1.1)), []*compare.Batch{batchAt(time.Minute, slowArm(20, 2), arm(60, 0))}, false},
		{"unknown metric", trialOf(25, routing.Gate{Metric: "joy", Bound: routing.BoundMax, Limit: 1}), nil, false},
	} {
		tr := compare.NewTrial(c.trial, false)
		for _, b := range c.add {
			tr.Add(b)
		}
		tr.Gap(c.gap)
		f := tr.Look(began.Add(time.Hour)).Findings[0]
		fmt.Fprintf(&got, "%s\n\t%s\n\t%s\n", c.name, strings.TrimSpace(string(f.Verdict)+" "+string(f.Reason)), f.Text)
		if f.Required() != (f.Reason != routing.ReasonNotMeasurable) {
			t.Errorf("%s: required %v", c.name, f.Required())
		}
	}
	golden(t, "testdata/findings.golden", got.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What was safe by another promise has to be shown anew, at once.
func TestAnotherPromise(t *testing.T) {
	for _, g := range []routing.Gate{errorRate(0.01), latencyMax("latency_p99", 0.5), latencyMax("latency_mean", 0.2), latencyRatio("latency_p90", 1.5)} {
		was := trialOf(25, g)
		was.Policy.Promise.FalsePromotion = 0.5
		next := was
		next.Policy = &routing.Policy{Gates: was.Policy.Gates, Promise: routing.Promise{FalseRollback: 0.05, FalsePromotion: 1e-6}}
		var trial *compare.Trial
		safe := func() bool { return trial.Look(began).Findings[0].Verdict == routing.VerdictSafe }
		for n := uint64(10); n == 10 || !safe(); n += n / 10 {
			trial = compare.NewTrial(was, false)
			trial.Add(batchAt(time.Minute, arm(n, 0), arm(3*n, 0)))
		}
		trial.Watch(next)
		if safe() {
			t.Errorf("%s %s: %s", g.Metric, g.Bound, trial.Look(began).Findings[0].Text)
		}
	}
}
