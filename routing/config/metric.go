package config

import (
	"fmt"
	"slices"
	"strings"
)

// metric is the name of what a gate limits.
type metric string

// measure is what a metric's value is.
type measure int

const (
	measureRate     measure = iota + 1 // a part of the requests
	measureDuration                    // a latency
)

// metricForms are the metrics that gates can name. Package compare measures
// them and has the registry; a test holds the two together.
var metricForms = []struct {
	pattern pattern
	measure measure
}{
	{form(`^(error_rate|client_error_rate)$`, ""), measureRate},
	{form(`^(latency_mean|latency_p([5-9][0-9](\.[1-9])?))$`, ""), measureDuration},
}

// The names that people are told of.
var metricNames = []string{"error_rate", "client_error_rate", "latency_p50", "latency_p90", "latency_p99", "latency_p99.9", "latency_mean"}

var plannedMetrics = []string{
	"disagreement", "invalid_rate", "accuracy", "precision", "recall", "auc", "mae", "rmse", "drift",
}

// What people write who come from elsewhere.
var foreignMetrics = map[string]string{
	"success_rate":         "write error_rate; its max is what lacks to 100%",
	"request_success_rate": "write error_rate; its max is what lacks to 100%",
	"availability":         "write error_rate; its max is what lacks to 100%",
	"request_duration":     "write latency_p99",
	"duration":             "write latency_p99",
	"latency":              "write latency_p99, or latency_mean",
	"response_time":        "write latency_p99, or latency_mean",
	"latency_average":      "write latency_mean",
	"latency_avg":          "write latency_mean",
	"mean_latency":         "write latency_mean",
	"average_latency":      "write latency_mean",
	"latency_median":       "write latency_p50",
	"median_latency":       "write latency_p50",
	"latency_p100":         "the largest value says little and is not measured; write latency_p99.9",
	"latency_max":          "the largest value says little and is not measured; write latency_p99.9",
	"max_latency":          "the largest value says little and is not measured; write latency_p99.9",
	"errors":               "write error_rate",
	"error":                "write error_rate",
	"error_percentage":     "write error_rate",
	"error_count":          "write error_rate; a number of errors too many is max_excess in rollout",
	"excess_errors":        "is always watched; its limit is max_excess in rollout",
	"gross_failure":        "is always watched, and has no limit",
	"5xx":                  "write error_rate",
	"http_5xx":             "write error_rate",
	"4xx":                  "write client_error_rate",
	"http_4xx":             "write client_error_rate",
	"f1":                   "is not implemented in this version of headgate",
	"mse":                  "is not implemented in this version of headgate",
	"psi":                  "is not implemented in this version of headgate",
}

func (m *metric) set(word string) error {
	if *m = metric(word); m.measure() != 0 {
		return nil
	}
	plain := strings.ToLower(strings.NewReplacer("-", "_", " ", "_").Replace(word))
	if slices.Contains(plannedMetrics, plain) {
		return fmt.Errorf("is not implemented in this version of headgate")
	}
	if hint, ok := foreignMetrics[plain]; ok {
		return fmt.Errorf("is no metric; %s", hint)
	}
	if n := nearestMetric(plain); n != "" {
		return fmt.Errorf("is no metric; did you mean %s?", n)
	}
	return fmt.Errorf("is no metric; known are error_rate, client_error_rate, latency_p50 to latency_p99.9 and latency_mean")
}

// nearestMetric returns the metric that a person probably meant, or "".
func nearestMetric(word string) string {
	if metric(word).measure() != 0 {
		return word
	}
	// p99, p99_latency, latency99
	digits := strings.Trim(strings.NewReplacer("latency", "", "_", "", "p", "", "ms", "").Replace(word), " ")
	if strings.ContainsAny(word, "pl") && metric("latency_p"+digits).measure() != 0 {
		return "latency_p" + digits
	}
	return nearest(word, metricNames)
}

// measure is 0 of what is no metric.
func (m metric) measure() measure {
	for _, known := range metricForms {
		if known.pattern.re.MatchString(string(m)) {
			return known.measure
		}
	}
	return 0
}

func (*metric) schema() schema {
	var forms []schema
	for _, known := range metricForms {
		forms = append(forms, known.pattern.schema())
	}
	return schema{"type": "string", "anyOf": forms, "examples": metricNames}
}
