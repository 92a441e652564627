package rollout

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// replan builds the plan of a model anew if it is another one.
func (c *Controller) replan(e *entry) {
	plan := planOf(e)
	if plan == e.plan {
		return
	}
	e.plan = plan
	c.replaced = append(c.replaced, e)
}

// planOf returns e.plan itself when nothing in it would change, and nil when
// the model is not to be published.
func planOf(e *entry) *routing.ModelPlan {
	if e.model == nil || !e.state.Known() {
		return nil
	}
	split := e.state.Split()
	if p := e.plan; p != nil && p.Model == e.model && p.Stable == e.state.Stable && sameSplit(p.Split, split) {
		return p
	}
	return &routing.ModelPlan{Model: e.model, Stable: e.state.Stable, Split: split}
}

// flush publishes what has changed. One model that changed costs a copy of the
// pointers to all.
func (c *Controller) flush() {
	if c.cfg == nil || c.plan != nil && len(c.replaced) == 0 {
		return
	}
	if !c.patch() {
		c.rebuild()
	}
	c.replaced = nil
	c.publisher.Publish(c.plan, c.hold)
}

// patch puts the models that changed into a copy of the plan. It fails when
// the plan gains or loses a model.
func (c *Controller) patch() bool {
	if c.plan == nil {
		return false
	}
	plan := &routing.Plan{Config: c.cfg, Models: slices.Clone(c.plan.Models)}
	for _, e := range c.replaced {
		i, found := slices.BinarySearchFunc(plan.Models, e.state.Model, func(p *routing.ModelPlan, name string) int {
			return strings.Compare(p.Model.Name, name)
		})
		if !found || e.plan == nil {
			return false
		}
		plan.Models[i] = e.plan
	}
	c.plan = plan
	return true
}

func (c *Controller) rebuild() {
	plan := &routing.Plan{Config: c.cfg, Models: make([]*routing.ModelPlan, 0, len(c.cfg.Models))}
	c.hold = nil
	for _, m := range c.cfg.Models {
		if e := c.entries[m.Name]; e.plan != nil {
			plan.Models = append(plan.Models, e.plan)
		} else {
			c.hold = append(c.hold, m.Name)
		}
	}
	c.plan = plan
}
