package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing/rollout"
)

// buckets are the bounds of the latency histogram, in seconds. They are those
// that most dashboards know, plus 1 and 2.5 ms below and 30 s above: models
// answer in less time than web pages, or in much more.
var buckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

var phases = []rollout.Phase{
	rollout.PhaseIdle, rollout.PhaseProgressing, rollout.PhasePaused,
	rollout.PhaseRolledBack, rollout.PhaseCompleted, rollout.PhaseBlocked,
}

var all []*prometheus.Desc

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("headgate_"+name, help, labels, nil)
	all = append(all, d)
	return d
}

var (
	buildInfo      = desc("build_info", "Always 1; says which version of headgate runs.", "version")
	metricsLimited = desc("metrics_limited", "1 while there are too many models to tell each in full.")

	configOK      = desc("config_last_reload_successful", "Whether the configuration files as they are now are in force.")
	configSuccess = desc("config_last_reload_success_timestamp_seconds", "When configuration files were last taken.")
	configInfo    = desc("config_info", "Always 1; says which configuration is in force.", "hash")
	configPolling = desc("config_polling", "1 while the system tells no file changes and the files are read again and again.")

	shareWanted       = desc("share_wanted_ratio", "Share of the users that a version should have.", "model", "version")
	shareAcknowledged = desc("share_acknowledged_ratio", "Share that every connected Envoy has acknowledged last.", "model", "version")
	rolloutPhase      = desc("rollout_phase", "1 for the phase in which the model is.", "model", "phase")
	rolloutStep       = desc("rollout_step", "Index of the rollout's step, from 0; -1 while none runs.", "model")

	gateVerdict  = desc("gate_verdict", "1 for the verdict of a gate of a rollout that runs.", "model", "metric", "bound", "verdict")
	gateWaiting  = desc("gate_waiting", "1 for the reason why a gate has shown nothing yet.", "model", "metric", "bound", "reason")
	gateEstimate = desc("gate_estimate", "What a gate measures in the present step, in the unit of its limit.", "model", "metric", "bound")
	gateLow      = desc("gate_low", "Lower end of the interval in which the true value lies.", "model", "metric", "bound")
	gateHigh     = desc("gate_high", "Upper end of the interval in which the true value lies.", "model", "metric", "bound")
	gateLimit    = desc("gate_limit", "The gate's limit: a rate, a difference of rates, a ratio, seconds or a count.", "model", "metric", "bound")
	gateRequests = desc("gate_requests", "The candidate's requests behind the estimate.", "model", "metric", "bound")

	requests = desc("requests_total", "Requests that a version was asked to answer.", "model", "version", "class")
	duration = desc("request_duration_seconds",
		"Time from the last byte to the version to the last byte back. Bounds are exact within 1 %.", "model", "version")
	logGaps    = desc("log_gaps_total", "Times in which an Envoy's records may have been lost.")
	logGapTime = desc("log_gap_seconds_total", "Length of the times in which an Envoy's records may have been lost.")
	logGapOpen = desc("log_gaps_open", "Envoys whose records are not coming in now.")
	logInvalid = desc("log_entries_misplaced_total",
		"Records that no window has (early, late), or that are counted nowhere (malformed, overflow).", "reason")

	envoys        = desc("envoys_connected", "Envoys with an xDS stream.")
	streams       = desc("streams", "Open streams of Envoys.", "service")
	nacks         = desc("xds_nacks_total", "Resources that an Envoy has refused.", "type")
	refusedEnvoys = desc("xds_refused_total", "Envoys that were not let in.")
	restarts      = desc("envoy_restarts_total", "Times that the Envoy run by headgate was started again.")
	childAlive    = desc("envoy_up", "Whether the Envoy run by headgate is alive; 0 when it runs none.")

	decisions = desc("ext_proc_decisions_total", "Requests that the ext_proc service decided on.", "model", "version", "reason")
	undecided = desc("ext_proc_undecided_total", "Requests that it could not decide on: they went to the version with the larger share.")
	failures  = desc("ext_proc_failures_total", "Messages that went wrong in the ext_proc service.", "kind")

	journalErrors = desc("journal_errors_total", "Writes and reads of the journal that failed.")
)

// emitter sends metrics to a scrape.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) counter(d *prometheus.Desc, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (e emitter) latency(model, version string, s *compare.Sketch) {
	below := s.AtMost(buckets)
	cumulative := make(map[float64]uint64, len(buckets))
	for i, bound := range buckets {
		cumulative[bound] = below[i]
	}
	e.ch <- prometheus.MustNewConstHistogram(duration, s.Count(), s.Sum().Seconds(), cumulative, model, version)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
