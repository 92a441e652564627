package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// Apply takes a configuration, all of it or nothing. The error is a
// [*ConfigError] when it must not be taken. When it wraps [ErrJournal] the
// last configuration stays in force, and this one is taken as soon as the
// journal can be written, unless a newer one is applied.
func (c *Controller) Apply(ctx context.Context, cfg *routing.Config) error {
	var err error
	if callErr := c.call(ctx, func() { err = c.take(cfg) }); callErr != nil {
		return fmt.Errorf("apply the configuration: %w", callErr)
	}
	return err
}

// Check returns why a configuration must not be taken now; none: it may.
func (c *Controller) Check(cfg *routing.Config) []ConfigProblem {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, problems := c.changes(cfg, time.Now())
	return problems
}

// Moves returns the models, sorted, whose rollout a configuration would begin,
// change or end now: none, when it is what the journal was written with.
func (c *Controller) Moves(cfg *routing.Config) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	changes, _ := c.changes(cfg, time.Now())
	var models []string
	for _, ch := range changes {
		if len(writes(ch.effects)) > 0 {
			models = append(models, ch.name)
		}
	}
	return models
}

// change is what a configuration does to one model.
type change struct {
	name    string
	model   *routing.Model // nil: removed
	next    State
	effects []Effect
}

// changes asks Next about every model that the configuration changes. It
// changes nothing. What is the same pointer as before costs a comparison.
func (c *Controller) changes(cfg *routing.Config, now time.Time) ([]change, []ConfigProblem) {
	edited, gone := c.compare(cfg)
	changes := make([]change, 0, len(edited)+len(gone))
	var problems []ConfigProblem
	for _, m := range edited {
		before := State{Model: m.Name}
		if e := c.entries[m.Name]; e != nil {
			before = e.state
		}
		next, effects := Next(before, Configured{Wanted: WantedOf(m), Held: c.held[m.Name]}, now)
		problems = append(problems, problemsOf(m, effects)...)
		changes = append(changes, change{m.Name, m, next, effects})
	}
	for _, name := range gone {
		next, effects := Next(c.entries[name].state, Removed{}, now)
		changes = append(changes, change{name, nil, next, effects})
	}
	if len(cfg.Models) == 0 && len(gone) > 0 {
		problems = append(problems, ConfigProblem{
			Message: fmt.Sprintf("no model is configured, and %d serve: a configuration must not take all of them away", len(gone)),
		})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.name, b.name) })
	return changes, problems
}

// compare returns the models that are new or edited, and the names of those
// that are gone. Before the first configuration of a process all are edited.
func (c *Controller) compare(cfg *routing.Config) (edited []*routing.Model, gone []string) {
	if c.cfg == nil {
		for name, e := range c.entries {
			known := e.model != nil || e.state.Phase != "" && !e.state.Retired
			if _, there := slices.BinarySearchFunc(cfg.Models, name, byName); known && !there {
				gone = append(gone, name)
			}
		}
		return cfg.Models, gone
	}
	old := c.cfg.Models
	for _, m := range cfg.Models {
		for len(old) > 0 && old[0].Name < m.Name {
			gone, old = append(gone, old[0].Name), old[1:]
		}
		same := false
		if len(old) > 0 && old[0].Name == m.Name {
			same, old = sameModel(old[0], m), old[1:]
		}
		if !same {
			edited = append(edited, m)
		}
	}
	for _, m := range old {
		gone = append(gone, m.Name)
	}
	return edited, gone
}

func byName(m *routing.Model, name string) int { return cmp.Compare(m.Name, name) }

func problemsOf(m *routing.Model, effects []Effect) []ConfigProblem {
	var problems []ConfigProblem
	for _, effect := range effects {
		if r, ok := effect.(Refused); ok {
			problems = append(problems, ConfigProblem{Model: m.Name, Path: r.Path, Message: r.Reason, Position: m.Place(r.Path)})
		}
	}
	return problems
}

// take takes a configuration.
func (c *Controller) take(cfg *routing.Config) error {
	c.mu.Lock()
	c.untaken, c.takeErr = nil, nil
	c.mu.Unlock()
	if !c.settled {
		c.look()
	}
	changes, problems := c.changes(cfg, time.Now())
	if len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	if !c.settled {
		c.await(cfg)
		return nil
	}
	var records []*Record
	for _, ch := range changes {
		records = append(records, writes(ch.effects)...)
	}
	if err := c.append(records); err != nil {
		c.mu.Lock()
		c.untaken, c.takeErr = cfg, err
		c.mu.Unlock()
		c.tryLater()
		return err
	}
	c.commit(cfg, changes)
	return nil
}

// await keeps a configuration until it is known what the Envoys hold: with an
// empty journal, what serves cannot be told before.
func (c *Controller) await(cfg *routing.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = cfg
	c.entries = make(map[string]*entry, len(cfg.Models))
	for _, m := range cfg.Models {
		c.entries[m.Name] = &entry{state: State{Model: m.Name}, model: m}
	}
}

// look asks what the first Envoy holds.
func (c *Controller) look() {
	held, connected := c.publisher.Inventory()
	if !connected {
		return
	}
	c.mu.Lock()
	c.settled, c.held = true, held
	c.mu.Unlock()
}

// settle takes the configuration that waited for the first Envoy.
func (c *Controller) settle() {
	c.look()
	if !c.settled || c.waiting == nil {
		return
	}
	if err := c.take(c.waiting); err != nil && !errors.Is(err, ErrJournal) {
		c.log.Error("the configuration cannot be taken", "error", err)
	}
}

// commit makes what the journal has taken the state, and publishes it.
func (c *Controller) commit(cfg *routing.Config, changes []change) {
	touched := make([]*entry, len(changes))
	c.mu.Lock()
	c.cfg, c.waiting = cfg, nil
	for i, ch := range changes {
		e := c.entries[ch.name]
		if e == nil {
			e = &entry{}
			c.entries[ch.name] = e
		}
		e.state, e.model = ch.next, ch.model
		touched[i] = e
	}
	c.mu.Unlock()
	for i, e := range touched {
		c.watch(e)
		c.replan(e)
		c.carryOut(e, changes[i].effects)
	}
	c.flush()
	for _, e := range touched {
		c.follow(e)
	}
}

// sameModel tells whether two models differ in nothing but where they stand in
// a file.
func sameModel(a, b *routing.Model) bool {
	if a == b {
		return true
	}
	moved := *b
	moved.Source, moved.Places = a.Source, a.Places
	return reflect.DeepEqual(a, &moved)
}
