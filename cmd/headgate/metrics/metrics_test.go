package metrics

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

func moving(model string, share float64, acknowledged bool) rollout.Status {
	return rollout.Status{
		Model: model, Phase: rollout.PhaseProgressing, Step: 1, Acknowledged: acknowledged,
		Weights: map[string]float64{"v1": 100 - share, "v2": share},
	}
}

// judged gives a status one gate that has measured, and one that has nothing.
func judged(s rollout.Status) rollout.Status {
	estimate, low, high := 0.012, 0.004, 0.029
	s.Gates = []routing.Finding{
		{Metric: "error_rate", Bound: routing.BoundMax, Verdict: routing.VerdictSafe, Limit: 0.05, Unit: routing.UnitRate,
			Estimate: &estimate, Low: &low, High: &high, N: 440},
		{Metric: "latency_p99", Bound: routing.BoundMaxIncrease, Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoTraffic,
			Limit: 1.1, Unit: routing.UnitRatio},
	}
	return s
}

func observed(models ...string) *compare.Ledger {
	l := compare.NewLedger(compare.Limits{})
	for _, m := range models {
		for i, d := range []time.Duration{2 * time.Millisecond, 40 * time.Millisecond, time.Minute} {
			l.Observe(compare.Observation{
				Node: "edge-1", Model: m, Version: fmt.Sprintf("v%d", i%2+1), Start: time.Now(),
				Code: 200, Class: compare.ClassSuccess, Duration: d,
			})
		}
		l.Observe(compare.Observation{Model: m, Version: "v2", Start: time.Now(), Code: 503, Class: compare.ClassError, Duration: -1})
	}
	return l
}

// everything returns sources of which each has something to tell.
func everything() Sources {
	l := observed("churn")
	l.Gap("edge-1", time.Now().Add(-1500*time.Millisecond), time.Now())
	return Sources{
		Version:  "v0.1.0",
		Statuses: func() []rollout.Status { return []rollout.Status{judged(moving("churn", 25, true))} },
		Traffic:  l,
		Config:   func() Config { return Config{OK: true, Success: time.Unix(1700000000, 5e8), Hash: "abc"} },
		Fleet: func() Fleet {
			return Fleet{
				Connected: 2, Streams: map[string]int{"xds": 2, "ext_proc": 3, "access_log": 2},
				NACKs: map[string]uint64{"cluster": 1}, Refused: 1, Restarts: 4, ChildAlive: true,
			}
		},
		Decisions: func() Decisions {
			return Decisions{
				Decisions: []Decision{{"churn", "v2", "key", 7}}, Undecided: 2, Failures: map[string]uint64{"panic": 1},
			}
		},
		JournalErrors: func() uint64 { return 3 },
	}
}

func TestMetrics(t *testing.T) {
	want := `
# HELP headgate_config_info Always 1; says which configuration is in force.
# TYPE headgate_config_info gauge
headgate_config_info{hash="abc"} 1
# HELP headgate_config_last_reload_success_timestamp_seconds When configuration files were last taken.
# TYPE headgate_config_last_reload_success_timestamp_seconds gauge
headgate_config_last_reload_success_timestamp_seconds 1.7000000005e+09
# HELP headgate_config_last_reload_successful Whether the configuration files as they are now are in force.
# TYPE headgate_config_last_reload_successful gauge
headgate_config_last_reload_successful 1
# HELP headgate_envoy_restarts_total Times that the Envoy run by headgate was started again.
# TYPE headgate_envoy_restarts_total counter
headgate_envoy_restarts_total 4
# HELP headgate_ext_proc_decisions_total Requests that the ext_proc service decided on.
# TYPE headgate_ext_proc_decisions_total counter
headgate_ext_proc_decisions_total{model="churn",reason="key",version="v2"} 7
# HELP headgate_gate_estimate What a gate measures in the present step, in the unit of its limit.
# TYPE headgate_gate_estimate gauge
headgate_gate_estimate{bound="max",metric="error_rate",model="churn"} 0.012
# HELP headgate_gate_requests The candidate's requests behind the estimate.
# TYPE headgate_gate_requests gauge
headgate_gate_requests{bound="max",metric="error_rate",model="churn"} 440
headgate_gate_requests{bound="max_increase",metric="latency_p99",model="churn"} 0
# HELP headgate_gate_verdict 1 for the verdict of a gate of a rollout that runs.
# TYPE headgate_gate_verdict gauge
headgate_gate_verdict{bound="max",metric="error_rate",model="churn",verdict="breach"} 0
headgate_gate_verdict{bound="max",metric="error_rate",model="churn",verdict="safe"} 1
headgate_gate_verdict{bound="max",metric="error_rate",model="churn",verdict="waiting"} 0
headgate_gate_verdict{bound="max_increase",metric="latency_p99",model="churn",verdict="breach"} 0
headgate_gate_verdict{bound="max_increase",metric="latency_p99",model="churn",verdict="safe"} 0
headgate_gate_verdict{bound="max_increase",metric="latency_p99",model="churn",verdict="waiting"} 1
# HELP headgate_gate_waiting 1 for the reason why a gate has shown nothing yet.
# TYPE headgate_gate_waiting gauge
headgate_gate_waiting{bound="max_increase",metric="latency_p99",model="churn",reason="no_traffic"} 1
# HELP headgate_journal_errors_total Writes and reads of the journal that failed.
# TYPE headgate_journal_errors_total counter
headgate_journal_errors_total 3
# HELP headgate_log_gaps_total Times in which an Envoy's records may have been lost.
# TYPE headgate_log_gaps_total counter
headgate_log_gaps_total 1
# HELP headgate_request_duration_seconds Time from the last byte to the version to the last byte back. Bounds are exact within 1 %.
# TYPE headgate_request_duration_seconds histogram
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.001"} 0
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.0025"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.005"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.01"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.025"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.05"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.1"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.25"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="0.5"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="1"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="2.5"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="5"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="10"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="30"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v1",le="+Inf"} 2
headgate_request_duration_seconds_sum{model="churn",version="v1"} 60.002
headgate_request_duration_seconds_count{model="churn",version="v1"} 2
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.001"} 0
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.0025"} 0
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.005"} 0
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.01"} 0
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.025"} 0
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.05"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.1"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.25"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="0.5"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="1"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="2.5"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="5"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="10"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="30"} 1
headgate_request_duration_seconds_bucket{model="churn",version="v2",le="+Inf"} 1
headgate_request_duration_seconds_sum{model="churn",version="v2"} 0.04
headgate_request_duration_seconds_count{model="churn",version="v2"} 1
# HELP headgate_requests_total Requests that a version was asked to answer.
# TYPE headgate_requests_total counter
headgate_requests_total{class="aborted",model="churn",version="v1"} 0
headgate_requests_total{class="aborted",model="churn",version="v2"} 0
headgate_requests_total{class="client_error",model="churn",version="v1"} 0
headgate_requests_total{class="client_error",model="churn",version="v2"} 0
headgate_requests_total{class="error",model="churn",version="v1"} 0
headgate_requests_total{class="error",model="churn",version="v2"} 1
headgate_requests_total{class="success",model="churn",version="v1"} 2
headgate_requests_total{class="success",model="churn",version="v2"} 1
# HELP headgate_rollout_phase 1 for the phase in which the model is.
# TYPE headgate_rollout_phase gauge
headgate_rollout_phase{model="churn",phase="blocked"} 0
headgate_rollout_phase{model="churn",phase="completed"} 0
headgate_rollout_phase{model="churn",phase="idle"} 0
headgate_rollout_phase{model="churn",phase="paused"} 0
headgate_rollout_phase{model="churn",phase="progressing"} 1
headgate_rollout_phase{model="churn",phase="rolled_back"} 0
# HELP headgate_rollout_step Index of the rollout's step, from 0; -1 while none runs.
# TYPE headgate_rollout_step gauge
headgate_rollout_step{model="churn"} 1
# HELP headgate_share_wanted_ratio Share of the users that a version should have.
# TYPE headgate_share_wanted_ratio gauge
headgate_share_wanted_ratio{model="churn",version="v1"} 0.75
headgate_share_wanted_ratio{model="churn",version="v2"} 0.25
# HELP headgate_xds_nacks_total Resources that an Envoy has refused.
# TYPE headgate_xds_nacks_total counter
headgate_xds_nacks_total{type="cluster"} 1
`
	names := []string{}
	for line := range strings.Lines(want) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	if err := testutil.CollectAndCompare(New(everything()), strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	registry := New(everything()).Registry()
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, f := range families {
		told[f.GetName()] = true
	}
	for _, d := range all {
		name := strings.Split(d.String(), `"`)[1]
		if !told[name] {
			t.Errorf("%s is described and never told", name)
		}
	}
}

func TestAcknowledgedSharesAreTheLastOnesThatEveryEnvoyHad(t *testing.T) {
	status := moving("churn", 10, false)
	c := New(Sources{Statuses: func() []rollout.Status { return []rollout.Status{status} }})
	check := func(step, want string) {
		t.Helper()
		header := "# HELP headgate_share_acknowledged_ratio Share that every connected Envoy has acknowledged last.\n" +
			"# TYPE headgate_share_acknowledged_ratio gauge\n"
		if want == "" {
			header = ""
		}
		err := testutil.CollectAndCompare(c, strings.NewReader(header+want), "headgate_share_acknowledged_ratio")
		if err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	check("nothing was acknowledged yet", "")

	updates := make(chan rollout.Update, 3)
	updates <- rollout.Update{Status: moving("churn", 10, true)}
	updates <- rollout.Update{Status: moving("churn", 25, true)} // between two scrapes
	updates <- rollout.Update{Lost: true}
	close(updates)
	c.Follow(updates)
	status = rollout.Status{Model: "churn", Weights: map[string]float64{"v1": 100}}
	check("the way back is on its way", "headgate_share_acknowledged_ratio{model=\"churn\",version=\"v1\"} 0.75\n"+
		"headgate_share_acknowledged_ratio{model=\"churn\",version=\"v2\"} 0.25\n")

	status.Acknowledged = true
	check("and has arrived", "headgate_share_acknowledged_ratio{model=\"churn\",version=\"v1\"} 1\n")
}

func TestALostSubscriptionIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := New(Sources{})
		subscriptions := 0
		c.Run(ctx, func(context.Context) <-chan rollout.Update {
			subscriptions++
			updates := make(chan rollout.Update, 1)
			if subscriptions == 3 {
				updates <- rollout.Update{Status: moving("churn", 25, true)}
				cancel()
			} else {
				updates <- rollout.Update{Lost: true}
			}
			close(updates)
			return updates
		})
		if subscriptions != 3 || c.acknowledged["churn"]["v2"] != 25 {
			t.Errorf("%d subscriptions, noted %v", subscriptions, c.acknowledged)
		}
	})
}

func TestManyModelsAreToldInShort(t *testing.T) {
	statuses := []rollout.Status{
		moving("churn", 25, true),
		{Model: "fraud", Phase: rollout.PhaseIdle, Step: -1, Weights: map[string]float64{"v1": 100}},
	}
	c := New(Sources{
		Statuses: func() []rollout.Status { return statuses },
		Traffic:  observed("churn", "fraud"),
	})
	count := func(name string) int { return testutil.CollectAndCount(c, "headgate_"+name) }
	if phases, histograms := count("rollout_phase"), count("request_duration_seconds"); phases != 12 || histograms != 4 {
		t.Errorf("in full: %d phases, %d histograms; want 12, 4", phases, histograms)
	}
	c.detail = 1
	if phases, histograms := count("rollout_phase"), count("request_duration_seconds"); phases != 2 || histograms != 2 {
		t.Errorf("in short: %d phases, %d histograms; want 2, and the 2 of the model in a rollout", phases, histograms)
	}
	statuses = statuses[:1]
	c.detail = 100
	count("rollout_phase")
	if len(c.acknowledged) > 1 {
		t.Errorf("models that are gone are kept: %v", c.acknowledged)
	}
}

// BenchmarkScrape is a scrape of 10,000 models with two versions each.
func BenchmarkScrape(b *testing.B) {
	var statuses []rollout.Status
	var names []string
	for i := range 10_000 {
		names = append(names, fmt.Sprintf("model-%05d", i))
		s := moving(names[i], 25, true)
		if i >= 10 {
			s.Phase = rollout.PhaseCompleted
		}
		statuses = append(statuses, s)
	}
	registry := New(Sources{
		Statuses: func() []rollout.Status { return statuses },
		Traffic:  observed(names...),
	}).Registry()
	b.ReportAllocs()
	series := 0
	for b.Loop() {
		families, err := registry.Gather()
		if err != nil {
			b.Fatal(err)
		}
		series = 0
		for _, f := range families {
			series += len(f.GetMetric())
		}
	}
	b.ReportMetric(float64(series), "metrics")
}
