package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

func number64(v float64) *float64 { return &v }

// judgedModel is a model in its second step with a gate of each verdict.
func judgedModel(began time.Time) admin.Model {
	started := began.Add(time.Minute)
	ends := began.Add(time.Hour + time.Minute)
	return admin.Model{
		Status: rollout.Status{
			Model: "churn", Rollout: 3, Phase: rollout.PhaseProgressing, Stable: "v1.0.0", Candidate: "v2.0.0", Step: 1,
			Steps:       []rollout.StepStatus{{Kind: "traffic", Share: 10, For: "1h0m0s"}, {Kind: "traffic", Share: 25, For: "1h0m0s"}},
			Weights:     map[string]float64{"v2.0.0": 25, "v1.0.0": 75},
			StepStarted: &started, StepEnds: &ends, Since: began, Envoys: 1, Acknowledged: true,
			Reason: "25% since 09:12 UTC, 41 of at least 60 min, waits for latency_p99: 2,100 of about 3,200 requests",
			Gates: []routing.Finding{
				{Metric: "error_rate", Bound: routing.BoundMax, Verdict: routing.VerdictSafe, Limit: 0.01, Unit: routing.UnitRate,
					Estimate: number64(0.0012), Low: number64(0.0003), High: number64(0.0049), N: 2110,
					Text: "0.12% (0.03% to 0.49%) of 2,110 requests, limit 1%"},
				{Metric: "client_error_rate", Bound: routing.BoundMaxIncrease, Verdict: routing.VerdictBreach, Limit: 0.005, Unit: routing.UnitPoints,
					Estimate: number64(0.031), Low: number64(0.0106), High: number64(0.052), N: 2110},
				{Metric: "latency_p99", Bound: routing.BoundMaxIncrease, Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoEvidence,
					Limit: 1.1, Unit: routing.UnitRatio, Estimate: number64(1.031), Low: number64(0.96), High: number64(1.124), N: 2100, Needed: 3200},
				{Metric: "latency_mean", Bound: routing.BoundMaxIncrease, Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoTraffic,
					Limit: 0.02, Unit: routing.UnitSeconds},
				{Metric: "gross_failure", Bound: routing.BoundMax, Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoEvidence, HardRule: true, N: 20},
			},
		},
		Promise: &admin.Promise{FalseRollback: 0.05, FalsePromotion: 0.05},
	}
}

func TestExplain(t *testing.T) {
	began := time.Date(2026, 3, 1, 9, 11, 0, 0, time.UTC)
	e := explanation{Model: judgedModel(began), Records: []admin.Record{
		{Time: began, Rollout: 3, Kind: "started", Actor: "config", Summary: "v1.0.0 → v2.0.0: rollout 3 begins"},
		{Time: began.Add(time.Minute), Rollout: 3, Kind: "advanced", Actor: "judge", Summary: "v1.0.0 → v2.0.0: 10% → 25%"},
	}}
	var b strings.Builder
	screen{}.explain(&b, e, began.Add(42*time.Minute))
	compareGolden(t, "testdata/explain.txt", b.String())
}

func TestRecordsOfTheRollout(t *testing.T) {
	newestFirst := []admin.Record{{Seq: 5, Rollout: 2}, {Seq: 4, Rollout: 2}, {Seq: 3, Rollout: 1}}
	got := ofRollout(newestFirst, 2)
	if len(got) != 2 || got[0].Seq != 4 || got[1].Seq != 5 {
		t.Errorf("%v", got)
	}
	if got := ofRollout(newestFirst, 7); got == nil || len(got) != 0 {
		t.Errorf("%v, want an empty list", got)
	}
}

func TestAmounts(t *testing.T) {
	for _, test := range []struct {
		value float64
		unit  routing.Unit
		want  string
	}{
		{0, routing.UnitRate, "0%"}, {0.01, routing.UnitRate, "1%"}, {0.0004567, routing.UnitRate, "0.0457%"}, {1, routing.UnitRate, "100%"},
		{0.005, routing.UnitPoints, "+0.5pp"}, {-0.005, routing.UnitPoints, "-0.5pp"}, {0, routing.UnitPoints, "0pp"},
		{1.1, routing.UnitRatio, "+10%"}, {1.5, routing.UnitRatio, "+50%"}, {0.93, routing.UnitRatio, "-7%"}, {1, routing.UnitRatio, "0%"},
		{0.5, routing.UnitSeconds, "+500ms"}, {-0.02, routing.UnitSeconds, "-20ms"}, {0, routing.UnitSeconds, "0s"}, {50, routing.UnitCount, "50"},
	} {
		f := routing.Finding{Metric: "latency_p99", Bound: routing.BoundMaxIncrease, Unit: test.unit}
		if got := amount(&f, test.value); got != test.want {
			t.Errorf("amount(%v, %s) = %q, want %q", test.value, test.unit, got, test.want)
		}
	}
	latency := routing.Finding{Metric: "latency_p99", Bound: routing.BoundMax, Unit: routing.UnitSeconds}
	if got := amount(&latency, 0.5); got != "500ms" {
		t.Errorf("a latency is %q, want 500ms without a sign", got)
	}
	rate := routing.Finding{Metric: "error_rate", Bound: routing.BoundMaxIncrease, Unit: routing.UnitRatio}
	if got := amount(&rate, 1.5); got != "1.5x" {
		t.Errorf("a ratio of rates is %q, want 1.5x as it is written in files", got)
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestGatesSayWhy looks at what is half known, overruled, or not measured.
func TestGatesSayWhy(t *testing.T) {
	m := rollout.Status{
		Phase: rollout.PhaseProgressing, Stable: "v1", Candidate: "v2", Weights: map[string]float64{"v2": 100},
		Gates: []routing.Finding{
			{Metric: "latency_p99", Bound: routing.BoundMax, Limit: 0.5, Unit: routing.UnitSeconds, Verdict: routing.VerdictBreach,
				OnBreach: routing.OnBreachPause, Low: number64(1.516), Estimate: number64(1.7), N: 900, OverruledBy: "ada\x1b"},
			{Metric: "latency_p50", Bound: routing.BoundMax, Limit: 0.5, Unit: routing.UnitSeconds, Verdict: routing.VerdictSafe, High: number64(0.2), N: 900},
			{Metric: "error_rate", Bound: routing.BoundMaxIncrease, Limit: 0.01, Unit: routing.UnitPoints, Verdict: routing.VerdictWaiting, Reason: routing.ReasonNotMeasurable},
		},
	}
	draw := func() string {
		var b strings.Builder
		screen{}.gates(&b, m, false)
		return b.String()
	}
	want := `  GATE         LIMIT      VERDICT            ESTIMATE  BETWEEN  REQUESTS
  latency_p99  max 500ms  breach, overruled      1.7s  ≥ 1.52s       900
  latency_p50  max 500ms  safe                      -  ≤ 200ms       900
  error_rate   max +1pp   not measurable            -  -               0
  not measurable: v2 serves everyone, so nobody is left to compare it with; control: 1% or control: mirror in its step changes that
  overruled: latency_p99 by ada\x1b; no step of this rollout waits for it, and it pauses no more
`
	if diff := cmp.Diff(want, draw()); diff != "" {
		t.Errorf("gates (-want +got):\n%s", diff)
	}
	m.Phase, m.Stable, m.Candidate = rollout.PhaseCompleted, "v2", ""
	if !strings.Contains(draw(), "not measurable: v2 serves everyone") {
		t.Errorf("after the rollout:\n%s", draw())
	}
	m.Phase, m.Candidate, m.Weights = rollout.PhaseProgressing, "v3", map[string]float64{"v3": 0, "v2": 100}
	if strings.Contains(draw(), "not measurable: ") {
		t.Errorf("while stable serves everyone:\n%s", draw())
	}
}

// TestStepsSayWhatFollows looks at controls, and at steps that time out.
func TestStepsSayWhatFollows(t *testing.T) {
	ends := noon.Add(72 * time.Second)
	m := rollout.Status{
		Phase: rollout.PhaseProgressing, StepStarted: minus(5 * time.Minute), StepTimesOut: &ends, Step: 1,
		Steps: []rollout.StepStatus{
			{Kind: "shadow", Share: 10, For: "1h0m0s"},
			{Kind: "traffic", Share: 25, For: "1m0s", AtMost: "6m12s", OnTimeout: routing.OnTimeoutPause},
			{Kind: "traffic", Share: 100, For: "2h0m0s", AtMost: "24h0m0s", OnTimeout: routing.OnTimeoutPromote, Control: "5%"},
			{Kind: "traffic", Share: 100, Control: "mirror 20%"},
		},
	}
	draw := func() string {
		var b strings.Builder
		screen{}.steps(&b, m, noon)
		return b.String()
	}
	want := `     STEP  KIND                 SHARE  FOR         AT MOST            STATE
        1  shadow                 10%  1h          -                  done
  >     2  traffic                25%  1m          6m12s, then pause  since 5m; pauses at 12:01:12 UTC unless the gates are safe
        3  traffic   95% (5% control)  2h          24h, then promote
        4  traffic  100% (mirror 20%)  until told  -
`
	if diff := cmp.Diff(want, draw()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	for step, want := range map[int]string{2: "goes on at 12:01 UTC safe or not"} {
		if m.Step = step; !strings.Contains(draw(), want) {
			t.Errorf("step %d:\n%s", step, draw())
		}
	}
	m.Steps[2].OnTimeout = routing.OnTimeoutRollback
	if !strings.Contains(draw(), "rolls back at 12:01 UTC unless the gates are safe") {
		t.Error(draw())
	}
	m.Mode = routing.ModeObserve
	if strings.Contains(draw(), "12:01") {
		t.Error(draw())
	}
}
