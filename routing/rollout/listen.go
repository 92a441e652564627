package rollout

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Update is something that subscribers are told.
type Update struct {
	Record *Record // nil: only what Envoys or endpoints say has changed
	Status Status
	// Lost says that the subscriber was too slow and is told no more; the
	// channel is closed after it.
	Lost bool
}

// updateBuffer is how many updates a subscriber may be behind.
const updateBuffer = 256

// listeners are those who want to hear of changes.
type listeners struct {
	mu     sync.Mutex
	closed bool
	subs   map[chan Update]bool
	bells  map[chan struct{}]string // the model of each
}

// Subscribe returns what happens from now on, of all models. The channel is
// closed when ctx or the controller ends, or after an update that says that
// the subscriber was too slow.
func (c *Controller) Subscribe(ctx context.Context) <-chan Update {
	l := &c.listeners
	ch := make(chan Update, updateBuffer+1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		close(ch)
		return ch
	}
	if l.subs == nil {
		l.subs = map[chan Update]bool{}
	}
	l.subs[ch] = true
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drop(ch)
	})
	return ch
}

func (l *listeners) drop(ch chan Update) {
	if l.subs[ch] {
		delete(l.subs, ch)
		close(ch)
	}
}

// tell tells of a record, or of something that is not in the journal.
func (c *Controller) tell(e *entry, r *Record) {
	l := &c.listeners
	model := e.state.Model
	l.ring(model)
	if r != nil && r.Kind == KindCheckpoint || !l.any() {
		return
	}
	status, _ := c.Status(model)
	l.mu.Lock()
	defer l.mu.Unlock()
	for ch := range l.subs {
		if len(ch) == updateBuffer {
			ch <- Update{Lost: true}
			l.drop(ch)
			continue
		}
		ch <- Update{Record: r, Status: status}
	}
}

func (l *listeners) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.subs) > 0
}

// ring has those who wait for a model look again; "" is every model.
func (l *listeners) ring(model string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for bell, of := range l.bells {
		if model == "" || of == model {
			select {
			case bell <- struct{}{}:
			default:
			}
		}
	}
}

func (l *listeners) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for ch := range l.subs {
		l.drop(ch)
	}
}

// Wait returns the model's status as soon as fn holds for it. It fails when
// there is no such model, or ctx or the controller ends before.
func (c *Controller) Wait(ctx context.Context, model string, fn func(Status) bool) (Status, error) {
	bell := make(chan struct{}, 1)
	c.listeners.addBell(bell, model)
	defer c.listeners.removeBell(bell)
	for {
		status, ok := c.Status(model)
		if !ok {
			return Status{}, fmt.Errorf("%s: %w", model, ErrUnknownModel)
		}
		if fn(status) {
			return status, nil
		}
		select {
		case <-bell:
		case <-ctx.Done():
			return status, fmt.Errorf("wait for %s: %w", model, ctx.Err())
		case <-c.done:
			return status, fmt.Errorf("wait for %s: %w", model, ErrStopped)
		}
	}
}

func (l *listeners) addBell(bell chan struct{}, model string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bells == nil {
		l.bells = map[chan struct{}]string{}
	}
	l.bells[bell] = model
}

func (l *listeners) removeBell(bell chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.bells, bell)
}

// Status returns what is true of a configured model; false: there is none.
func (c *Controller) Status(model string) (Status, bool) {
	c.mu.RLock()
	e := c.entries[model]
	if e == nil || e.model == nil {
		c.mu.RUnlock()
		return Status{}, false
	}
	v := c.view(e)
	c.mu.RUnlock()
	v.Delivery = c.publisher.Delivery(model)
	return StatusOf(v, time.Now()), true
}

// view is called under mu.
func (c *Controller) view(e *entry) View {
	v := View{State: e.state, Stuck: e.stuck, Unpublished: !e.says(e.out)}
	if e.state.Phase == "" {
		v.Stuck = c.takeErr
	}
	if e.state.Running() && !e.state.Rollout.Reachable {
		v.Address = address(e.model.Version(e.state.Rollout.Candidate))
	}
	return v
}

// Statuses returns what is true of all configured models, sorted by name.
func (c *Controller) Statuses() []Status {
	c.mu.RLock()
	var views []View
	for _, e := range c.entries {
		if e.model != nil {
			views = append(views, c.view(e))
		}
	}
	c.mu.RUnlock()
	slices.SortFunc(views, func(a, b View) int {
		if a.State.Model < b.State.Model {
			return -1
		}
		return 1
	})
	now := time.Now()
	all := make([]Status, len(views))
	for i, v := range views {
		v.Delivery = c.publisher.Delivery(v.State.Model)
		all[i] = StatusOf(v, now)
	}
	return all
}

// Ready tells whether a configuration has been taken, or will be as soon as the
// first Envoy has told what it holds.
func (c *Controller) Ready() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cfg != nil || c.waiting != nil
}

// History returns a model's newest records, newest first, at most limit.
// Checkpoints are left out. Models that were retired have a history too.
func (c *Controller) History(ctx context.Context, model string, limit int) ([]Record, error) {
	for ask := limit; ; ask *= 4 {
		records, err := c.journal.History(ctx, model, ask)
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", model, err)
		}
		all := len(records) < ask
		records = slices.DeleteFunc(records, func(r Record) bool { return r.Kind == KindCheckpoint })
		if all || len(records) >= limit {
			return records[:min(limit, len(records))], nil
		}
	}
}
