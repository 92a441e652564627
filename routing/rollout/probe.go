package rollout

import (
	"context"
	"time"
)

// probeTimeout bounds one try to reach a candidate.
const probeTimeout = 5 * time.Second

// probing is a question under way.
type probing struct{ cancel context.CancelFunc }

type probeResult struct {
	model  string
	probed Probed
	of     *probing
}

// startProbe asks, in a goroutine of its own, whether the candidate answers.
func (c *Controller) startProbe(e *entry, p Probe) {
	e.stopProbe()
	ctx, cancel := context.WithCancel(context.Background()) // cancelled by stopProbe
	of := &probing{cancel}
	e.probing = of
	version := e.model.Version(p.Version)
	model := e.state.Model
	go func() {
		select {
		case <-time.After(p.After):
		case <-ctx.Done():
			return
		}
		result := probeResult{model: model, probed: Probed{Rollout: p.Rollout}, of: of}
		once, stop := context.WithTimeout(ctx, probeTimeout)
		err := c.prober.Probe(once, version)
		stop()
		if err != nil {
			result.probed.Err = err.Error()
		}
		select {
		case c.probes <- result:
		case <-ctx.Done():
		}
	}()
}

func (c *Controller) probed(p probeResult) {
	e := c.entries[p.model]
	if e == nil || e.probing != p.of {
		return // nobody waits for it any more
	}
	e.stopProbe()
	_ = c.drive(p.model, p.probed) // a journal that refuses is seen in the status, and tried again
	if p.probed.Err != "" {
		c.tell(e, nil)
	}
}

func (e *entry) stopProbe() {
	if e.probing != nil {
		e.probing.cancel()
		e.probing = nil
	}
}
