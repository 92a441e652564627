package compare

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/headgate/headgate/routing"
)

// Kind is what sort of figure a metric is, and so how it is tested.
type Kind string

// The kinds.
const (
	KindRate     Kind = "rate"     // the part of the requests that has a property
	KindQuantile Kind = "quantile" // the value that a part of the requests does not exceed
	KindMean     Kind = "mean"     // the average of a value
)

// Source is where a metric's data come from, and so which steps can measure it.
type Source string

// The sources.
const (
	SourceTraffic  Source = "traffic"  // Envoys' access logs: every step that sends requests to the candidate
	SourcePairs    Source = "pairs"    // two versions' answers to one request
	SourceOutcomes Source = "outcomes" // what is told of a request later
)

// Event is what makes a request count in a metric of [KindRate].
type Event string

// The events that access logs tell of.
const (
	EventError       Event = "error"
	EventClientError Event = "client_error"
)

// Metric is something that a gate can limit.
type Metric struct {
	Name   string       // as in a gate: "error_rate"
	Unit   routing.Unit // of its own value, and of a limit `max`
	Kind   Kind
	Source Source
	Bounds []routing.BoundKind // that a gate may set
	// Event is what a rate of [SourceTraffic] counts.
	Event Event
	// Quantile of a KindQuantile, in (0, 1).
	Quantile float64
	About    string // one line: what it is a figure of
}

// Takes tells whether a gate may set bound in unit on the metric. Rates take
// rates, points and ratios; latencies take seconds and ratios.
func (m *Metric) Takes(bound routing.BoundKind, unit routing.Unit) bool {
	return slices.Contains(m.Bounds, bound) && slices.Contains(m.Units(bound), unit)
}

// Units are those in which a bound on the metric may be written.
func (m *Metric) Units(bound routing.BoundKind) []routing.Unit {
	switch {
	case bound == routing.BoundMax:
		return []routing.Unit{m.Unit}
	case m.Unit == routing.UnitRate:
		return []routing.Unit{routing.UnitPoints, routing.UnitRatio}
	}
	return []routing.Unit{routing.UnitRatio, m.Unit}
}

// Quantiles that a latency gate may name, in percent.
const (
	minQuantile = 50
	maxQuantile = 99.9
)

var trafficBounds = []routing.BoundKind{routing.BoundMax, routing.BoundMaxIncrease}

var registry = struct {
	sync.RWMutex
	metrics []Metric
}{metrics: []Metric{
	{
		Name: "error_rate", Unit: routing.UnitRate, Kind: KindRate, Source: SourceTraffic, Bounds: trafficBounds,
		Event: EventError, About: "the part of the requests that ended in a 5xx, a reset or a timeout",
	},
	{
		Name: "client_error_rate", Unit: routing.UnitRate, Kind: KindRate, Source: SourceTraffic, Bounds: trafficBounds,
		Event: EventClientError, About: "the part of the requests that were answered with a 4xx",
	},
	latencyQuantile("50"), latencyQuantile("90"), latencyQuantile("95"), latencyQuantile("99"), latencyQuantile("99.9"),
	{
		Name: "latency_mean", Unit: routing.UnitSeconds, Kind: KindMean, Source: SourceTraffic, Bounds: trafficBounds,
		About: "the average time from the last byte to the version to the last byte back",
	},
}}

// latencyQuantile is the metric latency_pNN, NN in percent as it is written.
func latencyQuantile(percent string) Metric {
	p, _ := strconv.ParseFloat(percent, 64)
	return Metric{
		Name: "latency_p" + percent, Unit: routing.UnitSeconds, Kind: KindQuantile, Source: SourceTraffic,
		Bounds: trafficBounds, Quantile: p / 100,
		About: "the time, from the last byte to the version to the last byte back, that " + percent + " % of the answers do not exceed",
	}
}

// Metrics returns the registered metrics. Of the latencies, every quantile
// from p50 to p99.9 may be named; the usual ones are listed.
func Metrics() []Metric {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Clone(registry.metrics)
}

// LookupMetric returns the metric of that name.
func LookupMetric(name string) (Metric, bool) {
	registry.RLock()
	i := slices.IndexFunc(registry.metrics, func(m Metric) bool { return m.Name == name })
	var found Metric
	if i >= 0 {
		found = registry.metrics[i]
	}
	registry.RUnlock()
	if i >= 0 {
		return found, true
	}
	percent, ok := strings.CutPrefix(name, "latency_p")
	if !ok || strings.Trim(percent, "0123456789.") != "" {
		return Metric{}, false
	}
	p, err := strconv.ParseFloat(percent, 64)
	// One way of writing each: neither p99.0 nor p099.
	if err != nil || p < minQuantile || p > maxQuantile || strconv.FormatFloat(p, 'f', -1, 64) != percent {
		return Metric{}, false
	}
	return latencyQuantile(percent), true
}

// RegisterMetric adds a metric of another source. Its name must be free.
func RegisterMetric(m Metric) error {
	if _, taken := LookupMetric(m.Name); taken || m.Name == "" {
		return fmt.Errorf("metric %q: must be a name that is not taken", m.Name)
	}
	registry.Lock()
	defer registry.Unlock()
	registry.metrics = append(registry.metrics, m)
	return nil
}
