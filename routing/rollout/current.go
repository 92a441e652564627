package rollout

import "github.com/headgate/headgate/routing"

// Plan returns what was published last; nil: nothing yet.
func (c *Controller) Plan() *routing.Plan {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.plan
}
