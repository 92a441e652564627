package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/routing"
)

// Options are the parts that a [Controller] works with. All are needed but
// Judge and Log.
type Options struct {
	Journal   Journal
	Publisher Publisher
	Prober    Prober
	Judge     Judge        // nil: nobody judges, and a step with gates waits for a person
	Log       *slog.Logger // nil: nothing is logged
}

// Controller keeps the states of all models. One goroutine, Run, owns them;
// all methods may be called from any goroutine.
type Controller struct {
	journal   Journal
	publisher Publisher
	prober    Prober
	judge     Judge // nil: none
	log       *slog.Logger
	looks     looks

	calls  chan func()
	wakes  chan string
	probes chan probeResult
	done   chan struct{} // closed when Run has ended

	// Only Run writes what follows, and holds mu for it; others read under mu.
	mu      sync.RWMutex
	entries map[string]*entry
	cfg     *routing.Config // in force; nil: none yet
	waiting *routing.Config // for the first Envoy, before it can be taken
	plan    *routing.Plan   // published; nil: none yet
	untaken *routing.Config // the journal could not be written for it; tried again
	takeErr error           // why
	settled bool            // what Envoys held is known, or does not matter
	held    map[string][]string

	// Only Run uses what follows.
	hold     []string
	replaced []*entry          // whose plan is newer than c.plan
	watched  map[string]*entry // running, or not acknowledged since the last change
	stuck    map[string]*entry // waiting for the journal
	retry    *time.Timer       // of what the journal refused
	failures int               // of the journal, in a row
	trying   bool              // retry is running

	kept        map[string]Evidence // of an earlier process, until it is asked for
	unkept      map[string]*entry   // with evidence that is not written yet
	unkeptTold  bool
	unkeptTimes atomic.Uint64

	listeners listeners
}

// entry is a model.
type entry struct {
	state State
	model *routing.Model     // nil: not configured
	plan  *routing.ModelPlan // nil: not published
	out   *routing.ModelPlan // what the publisher was given last; nil: nothing. Under mu
	stuck error              // of the journal

	trial    trialState
	delivery Delivery
	timer    *time.Timer
	probing  *probing
}

// New reads the journal. It fails when the journal cannot be read or was
// written by a newer headgate.
func New(ctx context.Context, o Options) (*Controller, error) {
	c := &Controller{
		journal: o.Journal, publisher: o.Publisher, prober: o.Prober, judge: o.Judge, log: o.Log,
		looks: looks{judge: o.Judge, out: make(chan lookBatch), trials: map[string]int{}}, unkept: map[string]*entry{},
		calls: make(chan func()), wakes: make(chan string), probes: make(chan probeResult),
		done: make(chan struct{}), entries: map[string]*entry{}, watched: map[string]*entry{}, stuck: map[string]*entry{},
		settled: !o.Journal.Fresh(),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	err := o.Journal.Replay(ctx, func(r Record) error {
		e := c.entries[r.Model]
		if e == nil {
			e = &entry{state: State{Model: r.Model}}
			c.entries[r.Model] = e
		}
		var err error
		e.state, err = Fold(e.state, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	if c.judge != nil {
		if c.kept, err = o.Journal.Evidence(ctx); err != nil {
			return nil, fmt.Errorf("read the evidence in the journal: %w", err)
		}
	}
	return c, nil
}

// Run does the work until ctx ends. It must be called once. What was asked of
// the controller before waits for it. Before it returns it notes in the
// journal how long the running steps have run.
func (c *Controller) Run(ctx context.Context) error {
	defer close(c.done)
	defer c.listeners.closeAll()
	c.retry = time.NewTimer(0)
	c.retry.Stop()
	if c.judge != nil {
		looking, end := context.WithCancel(ctx)
		defer end()
		go c.looks.run(looking)
	}
	for {
		select {
		case <-ctx.Done():
			c.stop()
			return nil
		case call := <-c.calls:
			call()
		case <-c.publisher.Changed():
			c.changed()
		case model := <-c.wakes:
			_ = c.drive(model, Tick{}) // a journal that refuses is in the status, and tried again
		case p := <-c.probes:
			c.probed(p)
		case batch := <-c.looks.out:
			c.judged(batch)
		case <-c.retry.C:
			c.again()
		}
	}
}

// stop ends timers and probes, and writes clocks and evidence down.
func (c *Controller) stop() {
	now := time.Now()
	records := make([]*Record, 0, len(c.watched))
	for _, e := range c.entries {
		e.stopTimer()
		e.stopProbe()
		_, effects := Next(e.state, Stopping{}, now)
		records = append(records, writes(effects)...)
	}
	c.retry.Stop()
	c.lastLook()
	if err := c.append(records); err != nil {
		c.log.Error("the time that running steps have run could not be noted", "error", err)
	}
	c.keepEvidence()
}

// call has fn run by Run, and waits for its end.
func (c *Controller) call(ctx context.Context, fn func()) error {
	finished := make(chan struct{})
	select {
	case c.calls <- func() { defer close(finished); fn() }:
		<-finished
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return ErrStopped
	}
}

// Do carries out a command. When it returns without an error the command is in
// the journal; the Envoys follow. The error is [Refused] when the command
// makes no sense now, and wraps [ErrUnknownModel] or [ErrJournal] otherwise.
func (c *Controller) Do(ctx context.Context, cmd Command) (Status, error) {
	var status Status
	var err error
	callErr := c.call(ctx, func() {
		e := c.entries[cmd.Model]
		if e == nil || e.model == nil {
			err = fmt.Errorf("%s: %w", cmd.Model, ErrUnknownModel)
			return
		}
		err = c.drive(cmd.Model, cmd)
		status, _ = c.Status(cmd.Model)
	})
	if callErr != nil {
		return Status{}, fmt.Errorf("%s %s: %w", cmd.Action, cmd.Model, callErr)
	}
	return status, err
}

// drive takes an event of one model and what follows from it at once: a step
// whose share every Envoy has already starts, one without time is over.
func (c *Controller) drive(model string, ev Event) error {
	e := c.entries[model]
	if e == nil {
		return nil
	}
	_, err := c.handle(e, ev)
	c.flush()
	if err == nil {
		c.follow(e)
	}
	return err
}

// follow tells the model what the Envoys have of it, until nothing changes.
func (c *Controller) follow(e *entry) {
	for e.state.Running() && e.model != nil {
		d := c.publisher.Delivery(e.state.Model)
		wrote, err := c.handle(e, Delivered{d.Acknowledged()})
		c.flush()
		if err != nil || !wrote {
			return
		}
	}
}

// handle takes one event of one model. It tells whether a record was written.
func (c *Controller) handle(e *entry, ev Event) (bool, error) {
	next, effects := Next(e.state, ev, time.Now())
	if r, ok := refusal(effects); ok {
		return false, r
	}
	records := writes(effects)
	if err := c.append(records); err != nil {
		if _, asked := ev.(Command); !asked {
			c.stall(e, err)
		}
		return false, err
	}
	c.mu.Lock()
	e.state = next
	if len(records) > 0 {
		e.stuck = nil
		delete(c.stuck, e.state.Model)
	}
	c.mu.Unlock()
	c.watch(e)
	c.carryOut(e, effects)
	return len(records) > 0, nil
}

// carryOut does what the effects say, after the records were written.
func (c *Controller) carryOut(e *entry, effects []Effect) {
	if e.state.Running() {
		c.watched[e.state.Model] = e
	}
	for _, effect := range effects {
		switch effect := effect.(type) {
		case Publish:
			c.watched[e.state.Model] = e
			c.replan(e)
		case Probe:
			c.startProbe(e, effect)
		case Wake:
			c.wake(e, effect.After)
		}
	}
	if !e.state.needsProbe() {
		e.stopProbe()
	}
	for _, effect := range effects {
		if w, ok := effect.(Write); ok {
			c.note(e, w.Record)
		}
	}
}

// note logs a record and tells the subscribers.
func (c *Controller) note(e *entry, r *Record) {
	if r.Kind != KindCheckpoint && r.Kind != KindSeen {
		c.log.Info("rollout", "model", r.Model, "rollout", r.Rollout, "event", r.Kind,
			"actor", r.Actor, "reason", Summary(*r), "weights", shares(e.state.Split()))
	}
	c.tell(e, r)
}

func (c *Controller) wake(e *entry, after time.Duration) {
	e.stopTimer()
	if after < 0 {
		return
	}
	model := e.state.Model
	e.timer = time.AfterFunc(after, func() {
		select {
		case c.wakes <- model:
		case <-c.done:
		}
	})
}

func (e *entry) stopTimer() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// changed follows the Envoys: what they acknowledge, and what the first of
// them holds.
func (c *Controller) changed() {
	if !c.settled {
		c.settle()
	}
	for _, e := range c.watched {
		c.delivered(e)
	}
	c.listeners.ring("")
}

func (c *Controller) delivered(e *entry) {
	d := c.publisher.Delivery(e.state.Model)
	moved := !sameDelivery(d, e.delivery)
	e.delivery = d
	if e.model == nil || d.Acknowledged() && !e.state.Running() {
		delete(c.watched, e.state.Model)
	}
	c.follow(e)
	if moved {
		c.tell(e, nil)
	}
}

func refusal(effects []Effect) (Refused, bool) {
	if len(effects) > 0 {
		r, ok := effects[0].(Refused)
		return r, ok
	}
	return Refused{}, false
}

func writes(effects []Effect) []*Record {
	var records []*Record
	for _, effect := range effects {
		if w, ok := effect.(Write); ok {
			records = append(records, w.Record)
		}
	}
	return records
}

func sameDelivery(a, b Delivery) bool {
	return a.Envoys == b.Envoys && a.Rejected == b.Rejected && a.Unpublished == b.Unpublished &&
		slices.Equal(a.Waiting, b.Waiting) && slices.Equal(a.Late, b.Late)
}
