package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
)

// The language of files and package compare, which do not know each other, know
// the same metrics, and let gates limit the same of them.
func TestGatesAreMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.yaml")
	var names []string
	for _, m := range compare.Metrics() {
		names = append(names, m.Name)
	}
	for tenths := 500; tenths < 1000; tenths += 3 {
		names = append(names, fmt.Sprintf("latency_p%v", float64(tenths)/10))
	}
	for _, name := range names {
		m, ok := compare.LookupMetric(name)
		if !ok {
			t.Errorf("%s: compare does not know it", name)
			continue
		}
		want := map[string]bool{}
		for _, bound := range []routing.BoundKind{routing.BoundMax, routing.BoundMaxIncrease, routing.BoundMaxDrop} {
			for _, unit := range []routing.Unit{routing.UnitRate, routing.UnitPoints, routing.UnitRatio, routing.UnitSeconds, routing.UnitCount} {
				if m.Takes(bound, unit) {
					want[fmt.Sprint(bound, " ", unit)] = true
				}
			}
		}
		got := map[string]bool{}
		for _, bound := range []string{"max", "max_increase", "max_drop"} {
			for _, limit := range []string{"1%", "0.5pp", "1.5x", "500ms"} {
				if g, err := gateIn(file, fmt.Sprintf("{metric: %s, %s: %s}", name, bound, limit)); err == nil {
					got[fmt.Sprint(g.Bound, " ", g.Unit)] = true
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: bounds and units (-compare +language)\n%s", name, diff)
		}
	}
	for _, name := range []string{"latency_p49.9", "latency_p100", "latency_p99.0", "latency_p099", "latency_p9", "latency_p", "Error_rate", "throughput"} {
		_, known := compare.LookupMetric(name)
		if _, err := gateIn(file, "{metric: "+name+", max: 1s}"); known || err == nil {
			t.Errorf("%s: is a metric: %t in compare, %v in the language", name, known, err)
		}
	}
}

// What a file is told not to be implemented is not there.
func TestPlannedMetrics(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.yaml")
	for _, name := range []string{"disagreement", "invalid_rate", "accuracy", "precision", "recall", "auc", "mae", "rmse", "drift"} {
		_, known := compare.LookupMetric(name)
		_, err := gateIn(file, "{metric: "+name+", max: 1%}")
		if planned := err != nil && strings.Contains(err.Error(), name+": is not implemented in this version of headgate"); planned == known {
			t.Errorf("%s: compare knows it: %t; the language says: %v", name, known, err)
		}
	}
}

// gateIn compiles a model with one gate.
func gateIn(file, gate string) (routing.Gate, error) {
	m, err := config.Parse(file, []byte(`model: m
listen: 1.2.3.4:80
release: v
versions: {v: {dns: "a.b:80"}}
rollout:
  strategy: canary
  gates: [`+gate+`]
`))
	if err != nil {
		return routing.Gate{}, err
	}
	if len(m.Policy.Gates) != 1 {
		return routing.Gate{}, errors.New("has no gate")
	}
	return m.Policy.Gates[0], nil
}
