package rollout

import (
	"context"
	"time"
)

// probeTimeout bounds one try to reach a candidate.
const probeTimeout = 5 * time.Second

type probeResult struct {
	model  string
	probed Probed
	ctx    context.Context // ended: nobody waits for it any more
}

// startProbe asks, in a goroutine of its own, whether the candidate answers.
func (c *Controller) startProbe(e *entry, p Probe) {
	if e.cancelProbe != nil {
		e.cancelProbe()
	}
	ctx, cancel := context.WithCancel(c.ctx)
	e.cancelProbe = cancel
	version := e.model.Version(p.Version)
	model := e.state.Model
	go func() {
		select {
		case <-time.After(p.After):
		case <-ctx.Done():
			return
		}
		result := probeResult{model: model, probed: Probed{Rollout: p.Rollout}, ctx: ctx}
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
	if p.ctx.Err() != nil {
		return
	}
	_ = c.drive(p.model, p.probed) // a journal that refuses is seen in the status, and tried again
	e := c.entries[p.model]
	if p.probed.Err != "" {
		c.tell(e, nil)
	}
}
