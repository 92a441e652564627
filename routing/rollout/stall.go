package rollout

import (
	"context"
	"fmt"
)

// append writes the records, all or none. A journal that refuses is told to
// whoever asked, as [ErrJournal]; what nobody asked for is tried again.
func (c *Controller) append(records []*Record) error {
	if len(records) == 0 {
		return nil
	}
	c.addEvidence(records)
	// What has begun is finished, so that an error means that nothing changed.
	if err := c.journal.Append(context.Background(), records...); err != nil {
		c.log.Error("the journal cannot be written", "error", err)
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	c.failures = 0
	for _, r := range records {
		if r.Evidence != nil {
			delete(c.unkept, r.Model)
		}
	}
	return nil
}

// stall keeps a model where it is, and has another look at it later.
func (c *Controller) stall(e *entry, err error) {
	c.stuck[e.state.Model] = e
	c.setStuck(e, err)
	c.tell(e, nil)
	c.tryLater()
}

func (c *Controller) setStuck(e *entry, err error) {
	c.mu.Lock()
	e.stuck = err
	c.mu.Unlock()
}

func (c *Controller) tryLater() {
	if c.trying {
		return
	}
	c.trying = true
	c.retry.Reset(backoff(c.failures))
	c.failures++
}

// again tries what the journal refused. One more refusal is enough to let all
// others wait too.
func (c *Controller) again() {
	c.trying = false
	if c.untaken != nil {
		if err := c.take(c.untaken); err != nil {
			c.log.Error("a configuration that waits for the journal cannot be taken", "error", err)
		}
	}
	for model, e := range c.stuck {
		if c.trying {
			return
		}
		delete(c.stuck, model)
		c.setStuck(e, nil)
		held := e.trial.held
		e.trial.held = nil
		switch {
		case held != nil:
			c.decide(e, *held)
		case e.state.needsProbe():
			c.startProbe(e, Probe{Rollout: e.state.Rollout.Number, Version: e.state.Rollout.Candidate})
		default:
			_ = c.drive(model, Tick{}) // stalls again when the journal refuses
		}
		c.tell(e, nil)
	}
}
