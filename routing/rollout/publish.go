package rollout

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// replan builds the plan of a model anew if it is another one.
func (c *Controller) replan(e *entry) {
	plan := planOf(e)
	if plan != nil && plan == e.plan {
		return
	}
	e.plan = plan // nil: the list of models on hold may be another one
	c.replaced = append(c.replaced, e)
}

// planOf returns e.plan itself when nothing in it would change, and nil when
// the model is not to be published.
func planOf(e *entry) *routing.ModelPlan {
	if e.model == nil || !e.state.Known() {
		return nil
	}
	if e.says(e.plan) {
		return e.plan
	}
	return &routing.ModelPlan{Model: e.model, Stable: e.state.Stable, Split: e.state.Split(), Mirrors: e.state.Mirrors()}
}

// says tells whether a plan is what the state asks for.
func (e *entry) says(p *routing.ModelPlan) bool {
	return p != nil && p.Model == e.model && p.Stable == e.state.Stable && sameSplit(p.Split, e.state.Split()) &&
		slices.Equal(p.Mirrors, e.state.Mirrors())
}

// flush publishes what has changed. One model that changed costs a copy of the
// pointers to all.
func (c *Controller) flush() {
	if c.cfg == nil || c.plan != nil && c.plan.Config == c.cfg && len(c.replaced) == 0 {
		return
	}
	plan := c.patch()
	if plan == nil {
		plan = c.rebuild()
	}
	replaced := c.replaced
	c.replaced = nil
	c.mu.Lock()
	c.plan = plan
	c.mu.Unlock()
	c.publisher.Publish(c.plan, c.hold)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range replaced {
		e.out = e.plan
	}
}

// patch puts the models that changed into a copy of the plan. It returns nil
// when the plan gains or loses a model.
func (c *Controller) patch() *routing.Plan {
	if c.plan == nil {
		return nil
	}
	plan := &routing.Plan{Config: c.cfg, Models: slices.Clone(c.plan.Models)}
	for _, e := range c.replaced {
		i, found := slices.BinarySearchFunc(plan.Models, e.state.Model, func(p *routing.ModelPlan, name string) int {
			return strings.Compare(p.Model.Name, name)
		})
		if !found || e.plan == nil {
			return nil
		}
		plan.Models[i] = e.plan
	}
	return plan
}

func (c *Controller) rebuild() *routing.Plan {
	plan := &routing.Plan{Config: c.cfg, Models: make([]*routing.ModelPlan, 0, len(c.cfg.Models))}
	c.hold = nil
	for _, m := range c.cfg.Models {
		if e := c.entries[m.Name]; e.plan != nil {
			plan.Models = append(plan.Models, e.plan)
		} else {
			c.hold = append(c.hold, m.Name)
		}
	}
	return plan
}
