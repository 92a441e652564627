package metrics

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate/headgate/routing/rollout"
)

// Collector gathers all of headgate's metrics.
type Collector struct {
	sources Sources
	detail  int

	mu           sync.Mutex
	acknowledged map[string]map[string]float64 // by model and version, in percent
}

// New returns a collector of the sources.
func New(sources Sources) *Collector {
	return &Collector{sources: sources, detail: DetailLimit, acknowledged: map[string]map[string]float64{}}
}

// Registry returns a registry with the collector, the Go runtime and the
// process.
func (c *Collector) Registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler answers a scrape.
func (c *Collector) Handler() http.Handler {
	return promhttp.HandlerFor(c.Registry(), promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 4,
	})
}

// Follow notes which shares the Envoys have acknowledged, until updates ends.
// Without it that is noted at scrapes only, and a state that came and went in
// between is missed.
func (c *Collector) Follow(updates <-chan rollout.Update) {
	for u := range updates {
		if !u.Lost {
			c.note(u.Status)
		}
	}
}

// Run does what Follow does until ctx ends. A subscription that ends because
// the collector was too slow is followed by another one; what was missed then
// is noted at the next scrape.
func (c *Collector) Run(ctx context.Context, subscribe func(context.Context) <-chan rollout.Update) {
	for ctx.Err() == nil {
		c.Follow(subscribe(ctx))
		select { // a source that has ended for good closes every subscription at once
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// note keeps the shares of a model when every Envoy has them, and returns the
// last ones that every Envoy had.
func (c *Collector) note(s rollout.Status) map[string]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Acknowledged {
		c.acknowledged[s.Model] = s.Weights
	}
	return c.acknowledged[s.Model]
}

// forget drops models that are gone.
func (c *Collector) forget(statuses []rollout.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acknowledged) <= len(statuses) {
		return
	}
	present := make(map[string]bool, len(statuses))
	for i := range statuses {
		present[statuses[i].Model] = true
	}
	for model := range c.acknowledged {
		if !present[model] {
			delete(c.acknowledged, model)
		}
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch}
	e.gauge(buildInfo, 1, c.sources.Version)
	var running map[string]bool
	limited := false
	if c.sources.Statuses != nil {
		statuses := c.sources.Statuses()
		limited = len(statuses) > c.detail
		running = c.collectModels(e, statuses, limited)
		c.forget(statuses)
	}
	e.gauge(metricsLimited, truth(limited))
	if c.sources.Traffic != nil {
		c.collectTraffic(e, running, limited)
	}
	if c.sources.Config != nil {
		collectConfig(e, c.sources.Config())
	}
	if c.sources.Fleet != nil {
		collectFleet(e, c.sources.Fleet())
	}
	if c.sources.Decisions != nil {
		collectDecisions(e, c.sources.Decisions())
	}
	if c.sources.JournalErrors != nil {
		e.counter(journalErrors, float64(c.sources.JournalErrors()))
	}
}

// collectModels tells of the models and returns which of them are in a rollout.
func (c *Collector) collectModels(e emitter, statuses []rollout.Status, limited bool) map[string]bool {
	running := map[string]bool{}
	for i := range statuses {
		s := &statuses[i]
		running[s.Model] = s.Phase == rollout.PhaseProgressing || s.Phase == rollout.PhasePaused
		for _, p := range phases {
			if !limited || p == s.Phase {
				e.gauge(rolloutPhase, truth(p == s.Phase), s.Model, string(p))
			}
		}
		e.gauge(rolloutStep, float64(s.Step), s.Model)
		if running[s.Model] {
			e.gates(s.Model, s.Gates)
		}
		acknowledged := c.note(*s)
		for version, percent := range s.Weights {
			e.gauge(shareWanted, percent/100, s.Model, version)
			if acknowledged != nil {
				e.gauge(shareAcknowledged, acknowledged[version]/100, s.Model, version)
			}
		}
		for version, percent := range acknowledged {
			if _, wanted := s.Weights[version]; !wanted {
				e.gauge(shareAcknowledged, percent/100, s.Model, version)
			}
		}
	}
	return running
}
