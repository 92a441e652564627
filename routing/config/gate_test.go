package config

import (
	"reflect"
	"strings"
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

// An edit of anything that judges a rollout makes another model.
func TestPolicyEdits(t *testing.T) {
	const base = `model: m
listen: 1.2.3.4:80
repeatable: true
release: v
versions: {v: {dns: "a.b:80"}}
rollout:
  steps:
    - {traffic: 10%, for: 1h}
    - {traffic: 100%, for: 24h, at_most: 30h, on_timeout: rollback, control: mirror}
  gates:
    - {metric: error_rate, max: 1%}
    - {metric: client_error_rate, max_increase: 0pp, resolution: 0.1pp}
  promise: {false_rollback: 4%, false_promotion: 4%}
  at_most: 48h
  on_timeout: pause
  mode: act
  max_excess: 9
`
	before := compile("m.yaml", []byte(base), anyFile{})
	if before.model == nil {
		t.Fatal(before.errs)
	}
	for from, to := range map[string]string{
		"error_rate, max: 1%": "error_rate, max: 2%", "resolution: 0.1pp": "resolution: 0.2pp", "max: 1%}": "max: 1%, on_breach: warn}",
		"{metric: error_rate, max: 1%}": "{metric: latency_p99, max: 1s}", "max_increase: 0pp": "max_increase: 1pp",
		"false_rollback: 4%": "false_rollback: 3%", "false_promotion: 4%": "false_promotion: 3%",
		"at_most: 48h": "at_most: 49h", "on_timeout: pause": "on_timeout: promote", "mode: act": "mode: observe", "max_excess: 9": "max_excess: 8",
		"at_most: 30h": "at_most: 31h", "on_timeout: rollback": "on_timeout: pause", "control: mirror": "control: mirror 10%", "mirror": "1%",
	} {
		text := strings.Replace(base, from, to, 1)
		if from == "max_increase: 0pp" {
			text = strings.Replace(text, ", resolution: 0.1pp", "", 1)
		}
		after := compile("m.yaml", []byte(text), anyFile{})
		if after.model == nil {
			t.Errorf("%s: %v", to, after.errs)
			continue
		}
		after.model.Places = before.model.Places
		if reflect.DeepEqual(before.model, after.model) || fingerprint(before.model) == fingerprint(after.model) {
			t.Errorf("%s: is the same model", to)
		}
	}
}

// Where an edit that is refused stands.
func TestPolicyPlaces(t *testing.T) {
	for name, want := range map[string]map[string]int{
		"gates": {
			"rollout": 12, "rollout.steps[3].control": 16, "rollout.gates[2]": 25, "rollout.gates[2].max_increase": 25, "rollout.gates[9]": 23,
			"rollout.promise.false_rollback": 21, "rollout.mode": 19, "rollout.max_excess": 20, "rollout.at_most": 17, "rollout.on_timeout": 18,
		},
		"canary": {"rollout.steps[2]": 9, "rollout.gates[0]": 9, "rollout.strategy": 9, "": 1, "decide": 1},
	} {
		c := compile(name+".yaml", readFile(t, "testdata/good/"+name+".yaml"), anyFile{})
		for path, line := range want {
			if got := c.model.Place(path); got.Line != line {
				t.Errorf("%s: %s: got line %d, want %d", name, path, got.Line, line)
			}
		}
	}
}
