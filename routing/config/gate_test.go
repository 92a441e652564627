package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// Limits as they are compiled.
func TestLimits(t *testing.T) {
	gate := func(metric string, bound routing.BoundKind, limit float64, unit routing.Unit, written string) routing.Gate {
		return routing.Gate{Metric: metric, Bound: bound, Limit: limit, Unit: unit, Written: written, OnBreach: routing.OnBreachRollback}
	}
	none := gate("error_rate", routing.BoundMaxIncrease, 0, routing.UnitPoints, "0pp")
	none.Resolution = 0.005
	for in, want := range map[string]routing.Gate{
		"{metric: error_rate, max: 1%}":                gate("error_rate", routing.BoundMax, 0.01, routing.UnitRate, "1%"),
		"{metric: error_rate, max: 0.07%}":             gate("error_rate", routing.BoundMax, 0.0007, routing.UnitRate, "0.07%"),
		"{metric: error_rate, max: 99.999999%}":        gate("error_rate", routing.BoundMax, 0.99999999, routing.UnitRate, "99.999999%"),
		"{metric: error_rate, max_increase: 0.5pp}":    gate("error_rate", routing.BoundMaxIncrease, 0.005, routing.UnitPoints, "0.5pp"),
		"{metric: error_rate, max_increase: 0pp}":      none,
		"{metric: error_rate, max_increase: 100x}":     gate("error_rate", routing.BoundMaxIncrease, 100, routing.UnitRatio, "100x"),
		"{metric: latency_p99, max: 500ms}":            gate("latency_p99", routing.BoundMax, 0.5, routing.UnitSeconds, "500ms"),
		"{metric: latency_p99, max: 1m0.5s}":           gate("latency_p99", routing.BoundMax, 60.5, routing.UnitSeconds, "1m0.5s"),
		"{metric: latency_p99, max_increase: 10%}":     gate("latency_p99", routing.BoundMaxIncrease, 1.1, routing.UnitRatio, "10%"),
		"{metric: latency_p99, max_increase: 1.1x}":    gate("latency_p99", routing.BoundMaxIncrease, 1.1, routing.UnitRatio, "1.1x"),
		"{metric: latency_mean, max_increase: 0.1ms}":  gate("latency_mean", routing.BoundMaxIncrease, 0.0001, routing.UnitSeconds, "0.1ms"),
		"{metric: latency_p50, max: 0.09ms}":           {},
		"{metric: latency_p50, max: 9999999999h}":      {},
		"{metric: error_rate, max: 0.0000001%}":        {},
		"{metric: error_rate, max_increase: 1000000x}": {},
	} {
		got := append(gatesOf(in), routing.Gate{})[0]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", in, diff)
		}
	}
}

// gatesOf compiles a rollout with one gate; none when it is refused.
func gatesOf(gate string) []routing.Gate {
	c := compile("m.yaml", []byte("model: m\nlisten: 1.2.3.4:80\nrelease: v\nversions: {v: {dns: \"a.b:80\"}}\nrollout:\n  strategy: canary\n  gates:\n    - "+gate+"\n"), anyFile{})
	if c.model == nil {
		return nil
	}
	return c.model.Policy.Gates
}
