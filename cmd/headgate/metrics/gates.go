package metrics

import "github.com/headgate/headgate/routing"

var verdicts = []routing.Verdict{routing.VerdictSafe, routing.VerdictBreach, routing.VerdictWaiting}

// gates tells of the gates of a rollout that runs.
func (e emitter) gates(model string, findings []routing.Finding) {
	for i := range findings {
		f := &findings[i]
		of := []string{model, f.Metric, string(f.Bound)}
		for _, v := range verdicts {
			e.gauge(gateVerdict, truth(f.Verdict == v), append(of[:3:3], string(v))...)
		}
		if f.Verdict == routing.VerdictWaiting && f.Reason != "" {
			e.gauge(gateWaiting, 1, append(of[:3:3], string(f.Reason))...)
		}
		e.gauge(gateLimit, f.Limit, of...)
		e.gauge(gateRequests, float64(f.N), of...)
		if f.Estimate != nil {
			e.gauge(gateEstimate, *f.Estimate, of...)
		}
		if f.Low != nil && f.High != nil {
			e.gauge(gateLow, *f.Low, of...)
			e.gauge(gateHigh, *f.High, of...)
		}
	}
}
