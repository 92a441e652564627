package metrics

import "github.com/headgate/headgate/compare"

func (c *Collector) collectTraffic(e emitter, running map[string]bool, limited bool) {
	totals := c.sources.Traffic.AllTotals()
	for i := range totals {
		t := &totals[i]
		for _, class := range compare.Classes() {
			e.counter(requests, float64(t.Tally.Of(class)), t.Model, t.Version, string(class))
		}
		if !limited || running[t.Model] {
			e.latency(t.Model, t.Version, &t.Tally.Latency)
		}
	}
	gaps := c.sources.Traffic.GapTotals()
	e.counter(logGaps, float64(gaps.Gaps))
	e.counter(logGapTime, gaps.Lost.Seconds())
	e.gauge(logGapOpen, float64(gaps.Open))
	faults := c.sources.Traffic.Faults()
	e.counter(logInvalid, float64(faults.Malformed), "malformed")
	e.counter(logInvalid, float64(faults.Overflow), "overflow")
	e.counter(logInvalid, float64(faults.Early), "early")
	e.counter(logInvalid, float64(faults.Late), "late")
}

func collectConfig(e emitter, c Config) {
	e.gauge(configOK, truth(c.OK))
	var success float64
	if !c.Success.IsZero() {
		success = float64(c.Success.UnixMilli()) / 1000
	}
	e.gauge(configSuccess, success)
	if c.Hash != "" {
		e.gauge(configInfo, 1, c.Hash)
	}
	e.gauge(configPolling, truth(c.Polling))
}

func collectFleet(e emitter, f Fleet) {
	e.gauge(envoys, float64(f.Connected))
	for service, n := range f.Streams {
		e.gauge(streams, float64(n), service)
	}
	for kind, n := range f.NACKs {
		e.counter(nacks, float64(n), kind)
	}
	e.counter(refusedEnvoys, float64(f.Refused))
	e.counter(restarts, float64(f.Restarts))
	e.gauge(childAlive, truth(f.ChildAlive))
}

func collectDecisions(e emitter, d Decisions) {
	for _, n := range d.Decisions {
		e.counter(decisions, float64(n.Count), n.Model, n.Version, n.Reason)
	}
	e.counter(undecided, float64(d.Undecided))
	for kind, n := range d.Failures {
		e.counter(failures, float64(n), kind)
	}
}
