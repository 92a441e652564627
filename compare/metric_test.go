package compare_test

import (
	"testing"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

func TestLookupMetric(t *testing.T) {
	for name, want := range map[string]bool{
		"error_rate": true, "client_error_rate": true, "latency_mean": true, "latency_p50": true, "latency_p99": true,
		"latency_p99.9": true, "latency_p75": true, "latency_p97.5": true,
		"": false, "latency": false, "latency_p": false, "latency_p49": false, "latency_p100": false, "latency_p99.95": false,
		"latency_p099": false, "latency_p99.0": false, "latency_p9e1": false, "latency_pNaN": false, "latency_p+99": false, "Error_rate": false,
	} {
		if m, ok := compare.LookupMetric(name); ok != want || ok && m.Name != name {
			t.Errorf("%q: %v %+v", name, ok, m)
		}
	}
}

func TestMetricTakes(t *testing.T) {
	for _, c := range []struct {
		metric string
		bound  routing.BoundKind
		unit   routing.Unit
		want   bool
	}{
		{"error_rate", routing.BoundMax, routing.UnitRate, true},
		{"error_rate", routing.BoundMax, routing.UnitPoints, false},
		{"error_rate", routing.BoundMaxIncrease, routing.UnitPoints, true},
		{"error_rate", routing.BoundMaxIncrease, routing.UnitRatio, true},
		{"error_rate", routing.BoundMaxDrop, routing.UnitPoints, false},
		{"latency_p99", routing.BoundMax, routing.UnitSeconds, true},
		{"latency_p99", routing.BoundMaxIncrease, routing.UnitRatio, true},
		{"latency_p99", routing.BoundMaxIncrease, routing.UnitSeconds, true},
		{"latency_mean", routing.BoundMaxIncrease, routing.UnitPoints, false},
	} {
		m, _ := compare.LookupMetric(c.metric)
		if got := m.Takes(c.bound, c.unit); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestRegisterMetric(t *testing.T) {
	for _, name := range []string{"", "error_rate", "latency_p42.5", "latency_p99"} {
		_, taken := compare.LookupMetric(name)
		if err := compare.RegisterMetric(compare.Metric{Name: name}); taken != (err != nil) && name != "" {
			t.Errorf("%q: %v", name, err)
		}
	}
	m := compare.Metric{
		Name: "disagreement", Unit: routing.UnitRate, Kind: compare.KindRate, Source: compare.SourcePairs,
		Bounds: []routing.BoundKind{routing.BoundMax},
	}
	if err := compare.RegisterMetric(m); err != nil {
		t.Fatal(err)
	}
	// A gate on it waits for nothing in a step that has no pairs.
	trial := compare.NewTrial(trialOf(10, routing.Gate{Metric: "disagreement", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate}), false)
	j := trial.Look(began)
	if f := j.Findings[0]; f.Reason != routing.ReasonNotMeasurable || !j.Safe() {
		t.Errorf("%+v", f)
	}
}
