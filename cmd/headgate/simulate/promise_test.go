package simulate

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// course is a rollout whose weight changes, and its gates.
const course = `
until: 80m
rollout:
  steps:
    - {traffic: 10%, for: 20m}
    - {traffic: 25%, for: 20m}
    - {traffic: 50%, for: 20m}
    - {traffic: 100%}
  gates:
    - {metric: error_rate, max: 1%}
    - {metric: error_rate, max_increase: 0pp}
    - {metric: client_error_rate, max_increase: 1.5x}
`

// busy are users of whom some are busier than others, and 1 % always fail.
const busy = "  users: {number: 5000, zipf: 1, failing: 1% at 30%}\n"

// promiseCase is a scenario, and what has to come out of it.
type promiseCase struct {
	name    string
	text    string
	every   time.Duration
	harm    bool    // look at the harmful world
	within  float64 // seconds in which 99 % of the harmful runs have to be back
	runs    int     // in tests
	heavy   bool    // benchmarks have 1,000 runs, not 10,000
	healthy bool    // look at the healthy world
}

func promiseCases() []promiseCase {
	var out []promiseCase
	for _, rate := range []float64{0.5, 2, 20, 200, 2000} {
		for _, people := range []struct{ name, text string }{
			{"requests", ""}, {"equal", "  users: {number: 5000}\n"}, {"zipf", busy},
		} {
			runs := 24
			if rate >= 20 {
				runs = 4
			}
			out = append(out, promiseCase{
				name: fmt.Sprintf("AA/%v/%s", rate, people.name), healthy: true, every: time.Second, runs: runs, heavy: rate >= 2000,
				text: fmt.Sprintf("traffic:\n  rate: %v/s\n%sstable: {errors: 0.5%%, client_errors: 1%%}\n", rate, people.text) + course,
			})
		}
	}
	return append(out,
		promiseCase{
			name: "AA/bursts", healthy: true, every: time.Second, runs: 4,
			text: "traffic:\n  rate: 20/s\n" + busy + "  bursts: {every: 5m, for: 20s, rate: 5x, errors: 20%}\nstable: {errors: 0.5%}\n" + course,
		},
		promiseCase{
			name: "AA/outages", healthy: true, every: time.Second, runs: 4,
			text: "traffic:\n  rate: 20/s\n" + busy + "  bursts: {every: 5m, for: 30s, rate: 2x, errors: 100%}\nstable: {errors: 0.5%}\n" + course,
		},
		promiseCase{
			name: "AA/gaps", healthy: true, every: time.Second, runs: 4,
			text: "traffic:\n  rate: 20/s\n" + busy + "  gaps: {every: 5m, for: 20s}\nstable: {errors: 0.5%}\n" + course,
		},
		promiseCase{
			name: "AA/rhythm", healthy: true, every: time.Second, runs: 4,
			text: "traffic:\n  rate: 20/s\n" + busy + "  rhythm: {period: 1h, swing: 90%}\nstable: {errors: 0.5%}\n" + course,
		},
		promiseCase{
			name: "AA/latency", healthy: true, runs: 2, heavy: true,
			text: `
traffic: {rate: 20/s, bursts: {every: 10m, for: 20s, latency: 3x}}
until: 80m
stable: {errors: 1%, latency: {median: 40ms, p99: 250ms}, error_latency: {median: 5ms, p99: 20ms}}
rollout:
  steps: [{traffic: 10%, for: 20m}, {traffic: 50%, for: 20m}, {traffic: 100%}]
  gates:
    - {metric: latency_p99, max: 500ms}
    - {metric: latency_p99, max_increase: 10%}
    - {metric: latency_p50, max_increase: 5ms}
    - {metric: latency_mean, max_increase: 10%}
`,
		},
		promiseCase{
			name: "harm/x4", harm: true, within: 3600, runs: 100,
			text: `
traffic: {rate: 4/s}
stable: {errors: 0.5%}
candidate: {errors: 4x}
rollout: {steps: [{traffic: 50%, for: 2h}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}
`,
		},
		promiseCase{
			name: "harm/x4 of stable", harm: true, within: 3600, runs: 100,
			text: `
traffic: {rate: 4/s}
stable: {errors: 0.5%}
candidate: {errors: 4x}
rollout: {steps: [{traffic: 50%, for: 2h}, {traffic: 100%}], gates: [{metric: error_rate, max_increase: 0pp}]}
`,
		},
		promiseCase{
			name: "harm/late", harm: true, within: 900, runs: 20,
			text: `
traffic: {rate: 20/s}
stable: {errors: 0.5%}
candidate: {from: 3h, errors: 5%}
rollout: {steps: [{traffic: 25%, for: 6h}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}
`,
		},
		promiseCase{
			name: "harm/everything", harm: true, within: 30, runs: 40, every: time.Second,
			text: `
traffic: {rate: 10/s}
stable: {errors: 0.5%}
candidate: {errors: 100%}
rollout: {steps: [{traffic: 50%, for: 1h}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}
`,
		},
		promiseCase{
			name: "harm/barely", harm: true, runs: 10,
			text: `
traffic: {rate: 20/s}
stable: {errors: 0.5%}
candidate: {errors: 1.05%}
until: 2h
rollout: {steps: [{traffic: 25%, for: 1h}, {traffic: 100%}], gates: [{metric: error_rate, max: 1%}]}
`,
		},
		promiseCase{
			name: "harm/slow", harm: true, within: 3600, runs: 2, heavy: true,
			text: `
traffic: {rate: 20/s}
stable: {latency: {median: 40ms, p99: 250ms}}
candidate: {latency: 1.5x}
rollout: {steps: [{traffic: 25%, for: 1h}, {traffic: 100%}], gates: [{metric: latency_p99, max_increase: 10%}]}
`,
		})
}

func scenario(t testing.TB, text string) *Scenario {
	t.Helper()
	s, err := parse("scenario.yaml", []byte(text))
	if err == nil {
		err = s.check("scenario.yaml")
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *promiseCase) run(t testing.TB, runs int) *RuleResult {
	t.Helper()
	s := scenario(t, c.text)
	r, err := Run(context.Background(), s, Options{
		Runs: runs, Seed: 20260105, Rules: []string{Headgate}, Every: c.every, OnlyHarmful: !c.healthy,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &r.Rules[0]
}

// TestPromise runs each scenario a few times: a judge that breaks its promise
// grossly fails here, and one that only just keeps it does in one of 10,000 of
// these tests. The benchmark measures.
func TestPromise(t *testing.T) {
	for _, c := range promiseCases() {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			got := c.run(t, c.runs)
			most := 0
			for (distuv.Binomial{N: float64(c.runs), P: 0.05}).CDF(float64(most)) < 1-1e-4 {
				most++
			}
			if c.healthy && got.Healthy.RolledBack > most {
				t.Errorf("of %d healthy runs %d went back by %v, may be %d", c.runs, got.Healthy.RolledBack, got.Healthy.By, most)
			}
			if c.harm && got.Harmful.Promoted > most {
				t.Errorf("of %d harmful runs %d were promoted, may be %d", c.runs, got.Harmful.Promoted, most)
			}
			if c.within > 0 && (got.P99SecondsToRollback == nil || *got.P99SecondsToRollback > c.within) {
				t.Errorf("99 %% of the harmful runs are back in %v s, has to be %v", show(got.P99SecondsToRollback), c.within)
			}
		})
	}
}

func show(v *float64) any {
	if v == nil {
		return "never"
	}
	return *v
}

// BenchmarkPromise runs each scenario thousands of times and reports how often
// what happens.
func BenchmarkPromise(b *testing.B) {
	for _, c := range promiseCases() {
		b.Run(strings.ReplaceAll(c.name, " ", "_"), func(b *testing.B) {
			runs := 10_000
			if c.heavy {
				runs = 1_000
			}
			for b.Loop() {
				got := c.run(b, runs)
				b.ReportMetric(float64(runs), "runs")
				if c.healthy {
					b.ReportMetric(*got.FalseRollback, "false_rollback")
					b.ReportMetric(float64(got.Healthy.Waiting)/float64(runs), "waiting")
				}
				if c.harm {
					b.ReportMetric(float64(got.Harmful.Promoted)/float64(runs), "false_promotion")
				}
				for unit, v := range map[string]*float64{"median_s_to_rollback": got.MedianSecondsToRollback, "p99_s_to_rollback": got.P99SecondsToRollback} {
					if c.harm && v != nil {
						b.ReportMetric(*v, unit)
					}
				}
			}
		})
	}
}
