package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// fleet stands in for the Envoys, so that a test says when they acknowledge.
type fleet struct {
	mu       sync.Mutex
	plan     *routing.Plan
	hold     []string
	history  []string // of every plan published: what it says of the models
	envoys   map[string]map[string]*routing.ModelPlan
	rejected string
	held     map[string][]string
	seen     bool
	auto     bool
	changed  chan struct{}
	// unplugged Envoys keep what they have.
	unplugged bool
	before    func() // is called when a plan comes, nil: nothing
}

func newFleet(envoys ...string) *fleet {
	f := &fleet{envoys: map[string]map[string]*routing.ModelPlan{}, changed: make(chan struct{}, 1)}
	for _, e := range envoys {
		f.connect(e)
	}
	return f
}

func (f *fleet) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fleet) connect(envoy string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.envoys[envoy], f.seen = map[string]*routing.ModelPlan{}, true
	if f.auto {
		f.ackLocked(envoy)
	}
	f.poke()
}

func (f *fleet) disconnect(envoy string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.envoys, envoy)
	f.poke()
}

func (f *fleet) ackLocked(envoy string) {
	if f.plan == nil {
		return
	}
	for _, m := range f.plan.Models {
		f.envoys[envoy][m.Model.Name] = m
	}
}

// ack has Envoys acknowledge all that was published.
func (f *fleet) ack(envoys ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range envoys {
		f.ackLocked(e)
	}
	f.poke()
}

func (f *fleet) Publish(plan *routing.Plan, hold []string) {
	if f.before != nil {
		f.before()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unplugged {
		return
	}
	f.plan, f.hold = plan, hold
	var all []string
	for _, m := range plan.Models {
		if err := m.Split.Validate(); err != nil {
			panic(err)
		}
		all = append(all, m.Model.Name+": "+weights(m.Split))
	}
	f.history = append(f.history, strings.Join(all, "; "))
	if f.auto {
		for e := range f.envoys {
			f.ackLocked(e)
		}
		f.poke()
	}
}

func weights(s routing.Split) string {
	var all []string
	for _, r := range s.Ranges {
		all = append(all, fmt.Sprintf("%s %s", r.Version, r.Weight))
	}
	return strings.Join(all, ", ")
}

func (f *fleet) Delivery(model string) rollout.Delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := rollout.Delivery{Envoys: len(f.envoys), Rejected: f.rejected}
	var want *routing.ModelPlan
	if f.plan != nil {
		want = f.plan.Model(model)
	}
	for name, has := range f.envoys {
		if has[model] != want || want == nil {
			d.Waiting = append(d.Waiting, name)
		}
	}
	slices.Sort(d.Waiting)
	return d
}

func (f *fleet) Inventory() (map[string][]string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held, f.seen
}

func (f *fleet) Changed() <-chan struct{} { return f.changed }

func (f *fleet) weights(model string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan == nil || f.plan.Model(model) == nil {
		return ""
	}
	return weights(f.plan.Model(model).Split)
}

// endpoints stands in for the network.
type endpoints struct {
	mu   sync.Mutex
	errs map[string]error
	asks []string
}

func (p *endpoints) Probe(_ context.Context, v *routing.Version) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks = append(p.asks, v.Name)
	return p.errs[v.Name]
}

func (p *endpoints) fail(version string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.errs == nil {
		p.errs = map[string]error{}
	}
	p.errs[version] = err
}

// faulty is a journal that can refuse.
type faulty struct {
	*journal.Memory
	mu  sync.Mutex
	err error
}

func (j *faulty) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
}

func (j *faulty) Append(ctx context.Context, records ...*rollout.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	return j.Memory.Append(ctx, records...)
}

// churn is a model with three versions and the steps 10, 25 and 100 %.
func churn(change ...func(*routing.Model)) *routing.Model {
	m := &routing.Model{
		Name: "churn", Release: "v1", Source: routing.Position{File: "churn.yaml", Line: 1},
		Key: routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie},
		Steps: []routing.Step{
			{Kind: routing.StepTraffic, Share: 1000, For: time.Hour},
			{Kind: routing.StepTraffic, Share: 2500, Hold: true},
			{Kind: routing.StepTraffic, Share: routing.Whole, For: 2 * time.Hour},
		},
	}
	for i := range 3 {
		name := fmt.Sprintf("v%d", i+1)
		m.Versions = append(m.Versions, &routing.Version{
			Name: name, Definition: "def-" + name,
			Endpoints: []netip.AddrPort{netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:910%d", i+1))},
		})
	}
	for _, c := range change {
		c(m)
	}
	return m
}

func release(v string) func(*routing.Model) { return func(m *routing.Model) { m.Release = v } }
func from(v string) func(*routing.Model)    { return func(m *routing.Model) { m.From = v } }

func config(models ...*routing.Model) *routing.Config {
	slices.SortFunc(models, func(a, b *routing.Model) int { return strings.Compare(a.Name, b.Name) })
	return &routing.Config{Models: models}
}

// gate is a controller with its surroundings.
type gate struct {
	*rollout.Controller
	t       *testing.T
	fleet   *fleet
	journal *faulty
	probe   *endpoints
	stop    func()
}

// start runs a controller in a synctest bubble.
func start(t *testing.T, j *journal.Memory, f *fleet) *gate {
	t.Helper()
	g := &gate{t: t, fleet: f, journal: &faulty{Memory: j}, probe: &endpoints{}}
	var err error
	g.Controller, err = rollout.New(t.Context(), rollout.Options{Journal: g.journal, Publisher: f, Prober: g.probe})
	if err != nil {
		t.Fatal(err)
	}
	g.run()
	return g
}

func (g *gate) run() {
	ctx, cancel := context.WithCancel(g.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			g.t.Errorf("run: %v", err)
		}
	})
	g.t.Cleanup(g.stop)
}

func (g *gate) apply(models ...*routing.Model) {
	g.t.Helper()
	if err := g.Apply(g.t.Context(), config(models...)); err != nil {
		g.t.Fatalf("apply: %v", err)
	}
	synctest.Wait()
}

func (g *gate) do(action rollout.Action, version ...string) {
	g.t.Helper()
	cmd := rollout.Command{Model: "churn", Action: action, Actor: "cli", Reason: "why not", Version: strings.Join(version, "")}
	if _, err := g.Do(g.t.Context(), cmd); err != nil {
		g.t.Fatalf("%s: %v", action, err)
	}
	synctest.Wait()
}

func (g *gate) ack(envoys ...string) {
	g.fleet.ack(envoys...)
	synctest.Wait()
}

func (g *gate) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// want compares the phase, the step and what is published.
func (g *gate) want(phase rollout.Phase, step int, weights string) {
	g.t.Helper()
	s, _ := g.Status("churn")
	if s.Phase != phase || s.Step != step || g.fleet.weights("churn") != weights {
		g.t.Fatalf("%s, step %d, %q; want %s, step %d, %q (%s)",
			s.Phase, s.Step, g.fleet.weights("churn"), phase, step, weights, s.Reason)
	}
}

func (g *gate) wantReason(reason string) {
	g.t.Helper()
	if s, _ := g.Status("churn"); s.Reason != reason {
		g.t.Errorf("reason %q, want %q", s.Reason, reason)
	}
}

func (g *gate) kinds() []string {
	var kinds []string
	for _, r := range g.journal.Records() {
		if r.Kind != rollout.KindCheckpoint {
			kinds = append(kinds, r.Kind)
		}
	}
	return kinds
}

func bubble(t *testing.T, name string, fn func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, fn) })
}

func TestRollout(t *testing.T) {
	bubble(t, "by time and by hand to the end", func(t *testing.T) {
		g := start(t, journal.NewMemory(), newFleet("envoy-1", "envoy-2"))
		g.apply(churn())
		g.want(rollout.PhaseIdle, -1, "v1 100%")
		g.ack("envoy-1", "envoy-2")
		g.apply(churn(release("v2")))
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.ack("envoy-1")
		g.pass(3 * time.Hour)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.wantReason("10%: waits for envoy-2 to acknowledge")
		g.ack("envoy-2")
		g.pass(41 * time.Minute)
		g.wantReason("10% since 03:00 UTC, 41 of at least 60 min")
		g.pass(19*time.Minute - time.Second)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.pass(time.Second)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
		g.ack("envoy-1", "envoy-2")
		g.pass(100 * time.Hour)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
		g.wantReason("25% since 04:00 UTC, waits for a person: `headgate skip churn` ends the step")
		g.do(rollout.ActionSkip)
		g.want(rollout.PhaseProgressing, 2, "v2 100%, v1 0%")
		g.ack("envoy-1", "envoy-2")
		g.pass(2 * time.Hour)
		g.want(rollout.PhaseCompleted, -1, "v2 100%")
		want := []string{"seen", "started", "reachable", "acknowledged", "advanced", "acknowledged", "advanced", "acknowledged", "completed"}
		if diff := cmp.Diff(want, g.kinds()); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
		g.do(rollout.ActionRollback)
		g.want(rollout.PhaseRolledBack, -1, "v2 0%, v1 100%")
	})
	bubble(t, "without an Envoy nothing moves", func(t *testing.T) {
		g := start(t, journal.NewMemory(), newFleet("envoy-1"))
		g.apply(churn(from("v1"), release("v2")))
		g.ack("envoy-1")
		g.pass(30 * time.Minute)
		g.fleet.disconnect("envoy-1")
		g.pass(10 * time.Hour)
		g.wantReason("10%: no Envoy is connected, nothing moves")
		g.fleet.connect("envoy-1")
		g.ack("envoy-1")
		g.pass(29 * time.Minute)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.pass(time.Minute)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
	})
	bubble(t, "a promotion completes when it is acknowledged", func(t *testing.T) {
		g := start(t, journal.NewMemory(), newFleet("envoy-1"))
		g.apply(churn(from("v1"), release("v2")))
		g.do(rollout.ActionPromote)
		g.pass(time.Hour)
		g.want(rollout.PhaseProgressing, 2, "v2 100%, v1 0%")
		g.ack("envoy-1")
		g.want(rollout.PhaseCompleted, -1, "v2 100%")
	})
	bubble(t, "a pause keeps the weights and the time", func(t *testing.T) {
		f := newFleet("envoy-1")
		f.auto = true
		g := start(t, journal.NewMemory(), f)
		g.apply(churn(from("v1"), release("v2")))
		g.pass(50 * time.Minute)
		g.do(rollout.ActionPause)
		g.pass(10 * time.Hour)
		g.want(rollout.PhasePaused, 0, "v2 10%, v1 90%")
		g.do(rollout.ActionResume)
		g.pass(10*time.Minute - time.Second)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.pass(time.Second)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
	})
	bubble(t, "no steps: everyone at once", func(t *testing.T) {
		f := newFleet("envoy-1")
		f.auto = true
		g := start(t, journal.NewMemory(), f)
		none := func(m *routing.Model) { m.Steps = nil }
		g.apply(churn(from("v1"), release("v2"), none))
		g.want(rollout.PhaseCompleted, -1, "v2 100%")
	})
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet("envoy-1")
		f.auto = true
		g := start(t, journal.NewMemory(), f)
		g.probe.fail("v2", errors.New("connection refused"))
		g.apply(churn(from("v1"), release("v2")))
		g.want(rollout.PhaseProgressing, 0, "v2 0%, v1 100%")
		g.wantReason("endpoint 127.0.0.1:9102 of v2 does not answer: connection refused; tried 1 times")
		g.pass(10 * time.Minute)
		if n := len(g.probe.asks); n < 10 || n > 30 {
			t.Errorf("asked %d times in 10 minutes", n)
		}
		g.do(rollout.ActionPause)
		g.probe.fail("v2", nil)
		g.pass(time.Hour)
		g.want(rollout.PhasePaused, 0, "v2 0%, v1 100%")
		g.do(rollout.ActionResume)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
	})
}

func TestEmptyJournal(t *testing.T) {
	bubble(t, "waits for the first Envoy", func(t *testing.T) {
		g := start(t, journal.NewMemory(), newFleet())
		g.apply(churn())
		g.want(rollout.PhaseIdle, -1, "")
		g.wantReason("waits for the first Envoy, to see what it holds: the journal is empty")
		_, err := g.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionPause})
		if !errors.As(err, &rollout.Refused{}) || len(g.fleet.history) > 0 {
			t.Errorf("pause: %v, published %q", err, g.fleet.history)
		}
		g.fleet.connect("envoy-1")
		synctest.Wait()
		g.want(rollout.PhaseIdle, -1, "v1 100%")
	})
	bubble(t, "is blocked by what an Envoy holds until a version is adopted", func(t *testing.T) {
		f := newFleet()
		f.held = map[string][]string{"churn": {"v1", "v2"}}
		j := journal.NewMemory()
		g := start(t, j, f)
		other := churn(func(m *routing.Model) { m.Name = "fraud" })
		g.apply(churn(release("v2")), other)
		f.connect("envoy-1")
		synctest.Wait()
		g.want(rollout.PhaseBlocked, -1, "")
		g.wantReason("the journal is empty, and Envoys hold v1, v2: say which version serves with `headgate adopt churn VERSION`")
		if diff := cmp.Diff([]string{"churn"}, f.hold); diff != "" || f.weights("fraud") != "v1 100%" {
			t.Errorf("hold (-want +got):\n%s; fraud %s", diff, f.weights("fraud"))
		}
		g.stop()
		g = start(t, journal.NewMemory(j.Records()...), f)
		g.apply(churn(release("v2")), other)
		g.want(rollout.PhaseBlocked, -1, "")
		_, err := g.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionAdopt, Version: "v9"})
		if !errors.As(err, &rollout.Refused{}) {
			t.Errorf("adopting an unknown version: %v", err)
		}
		g.do(rollout.ActionAdopt, "v1")
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		if len(f.hold) != 0 {
			t.Errorf("still on hold: %v", f.hold)
		}
	})
	bubble(t, "what could not be noted of the first Envoy is noted later", func(t *testing.T) {
		f := newFleet()
		g := start(t, journal.NewMemory(), f)
		g.apply(churn(), churn(named("fraud")))
		g.journal.fail(errors.New("disk full"))
		f.connect("envoy-1")
		g.pass(time.Minute)
		if _, err := g.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionPause}); err == nil {
			t.Error("pause is not refused")
		}
		if err := g.Apply(t.Context(), config(churn())); !errors.Is(err, rollout.ErrJournal) {
			t.Errorf("apply: %v", err)
		}
		g.journal.fail(nil)
		g.pass(time.Minute)
		g.want(rollout.PhaseIdle, -1, "v1 100%")
		if all := g.Statuses(); len(all) != 1 {
			t.Errorf("%d models, want 1", len(all))
		}
	})
	bubble(t, "what is on hold follows the configuration", func(t *testing.T) {
		f := newFleet()
		f.held = map[string][]string{"churn": {"v1"}, "later": {"v1"}}
		g := start(t, journal.NewMemory(), f)
		g.apply(churn(), churn(named("fraud")))
		f.connect("envoy-1")
		synctest.Wait()
		g.apply(churn(), churn(named("fraud")), churn(named("later")))
		if diff := cmp.Diff([]string{"churn", "later"}, f.hold); diff != "" {
			t.Errorf("hold (-want +got):\n%s", diff)
		}
		g.apply(churn(named("fraud")), churn(named("later")))
		if diff := cmp.Diff([]string{"later"}, f.hold); diff != "" {
			t.Errorf("hold (-want +got):\n%s", diff)
		}
		g.apply(churn(named("fraud")), churn(named("later")), churn())
		g.want(rollout.PhaseIdle, -1, "v1 100%")
	})
}

func TestJournalRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet("envoy-1")
		f.auto = true
		g := start(t, journal.NewMemory(), f)
		g.apply(churn(from("v1"), release("v2")))
		g.journal.fail(errors.New("disk full"))
		published := len(f.history)
		_, err := g.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionPromote})
		if !errors.Is(err, rollout.ErrJournal) || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("promote: %v", err)
		}
		if err := g.Apply(t.Context(), config(churn(from("v1"), release("v3")))); !errors.Is(err, rollout.ErrJournal) {
			t.Errorf("apply: %v", err)
		}
		if err := g.Apply(t.Context(), config(churn(from("v1"), release("v2")))); err != nil {
			t.Errorf("apply of what is in force: %v", err)
		}
		g.pass(5 * time.Hour)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.wantReason("10% since 00:00 UTC, 60 of at least 60 min; nothing moves, because the journal cannot be written: disk full")
		if n := len(f.history) - published; n > 1 {
			t.Errorf("published %d times while nothing could be written", n)
		}
		g.journal.fail(nil)
		g.pass(time.Minute)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
		g.wantReason("25% since 05:00 UTC, waits for a person: `headgate skip churn` ends the step")
	})
	bubble(t, "an answer that could not be noted is asked for again", func(t *testing.T) {
		g := start(t, journal.NewMemory(), newAutoFleet())
		g.probe.fail("v2", errors.New("connection refused"))
		g.apply(churn(from("v1"), release("v2")))
		g.journal.fail(errors.New("disk full"))
		g.probe.fail("v2", nil)
		g.pass(time.Minute)
		g.want(rollout.PhaseProgressing, 0, "v2 0%, v1 100%")
		g.wantReason("endpoint 127.0.0.1:9102 of v2 does not answer: connection refused; tried 1 times; nothing moves, because the journal cannot be written: disk full")
		g.journal.fail(nil)
		g.probe.fail("v2", errors.New("no route"))
		g.pass(time.Minute)
		s, _ := g.Status("churn")
		if !strings.Contains(s.Reason, "no route") || strings.Contains(s.Reason, "disk full") {
			t.Errorf("reason %q", s.Reason)
		}
		g.probe.fail("v2", nil)
		g.pass(time.Minute)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
	})
	bubble(t, "a configuration is taken when there is room again", func(t *testing.T) {
		f := newFleet("envoy-1")
		f.auto = true
		g := start(t, journal.NewMemory(), f)
		g.apply(churn())
		g.journal.fail(errors.New("disk full"))
		if err := g.Apply(t.Context(), config(churn(release("v2")))); !errors.Is(err, rollout.ErrJournal) {
			t.Errorf("apply: %v", err)
		}
		g.pass(time.Hour)
		g.want(rollout.PhaseIdle, -1, "v1 100%")
		g.journal.fail(nil)
		g.pass(time.Minute)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
	})
}
