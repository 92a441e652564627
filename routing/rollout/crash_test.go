package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// mortal is a process that dies at its n-th write of records or evidence:
// before the journal has it, or after that and before anything is published.
type mortal struct {
	*journal.Memory
	mu      sync.Mutex
	fleet   *fleet
	appends int
	dieAt   int
	after   bool
	dead    bool
}

var errDead = errors.New("dead")

func (m *mortal) Append(ctx context.Context, records ...*rollout.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return m.write(func() error { return m.Memory.Append(ctx, records...) })
}

func (m *mortal) KeepEvidence(ctx context.Context, evidence ...rollout.Evidence) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return m.write(func() error { return m.Memory.KeepEvidence(ctx, evidence...) })
}

func (m *mortal) write(fn func() error) error {
	m.appends++
	if m.appends != m.dieAt {
		return fn()
	}
	m.dead = true
	m.fleet.unplug()
	if m.after {
		return fn()
	}
	return errDead
}

// unplug has the Envoys keep what they have, whatever is published.
func (f *fleet) unplug() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unplugged = true
}

// serves is what the Envoy has.
func (f *fleet) serves(envoy, model string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.envoys[envoy][model]; p != nil {
		return weights(p.Split)
	}
	return ""
}

// life is what happens in the story that the crashes interrupt: a rollout
// with all that a person can do, and an edit to a third version on the way.
func life(g *gate) {
	v := func(release string) {
		_ = g.Apply(g.t.Context(), config(churn(from("v1"), func(m *routing.Model) { m.Release = release })))
	}
	do := func(a rollout.Action) {
		_, _ = g.Do(g.t.Context(), rollout.Command{Model: "churn", Action: a, Actor: "cli"})
		synctest.Wait()
	}
	v("v1")
	v("v2")
	g.pass(30 * time.Minute)
	do(rollout.ActionPause)
	do(rollout.ActionResume)
	g.pass(30 * time.Minute)
	v("v3")
	g.pass(time.Hour)
	do(rollout.ActionRollback)
	do(rollout.ActionRetry)
	do(rollout.ActionSkip)
	do(rollout.ActionSkip)
	g.pass(time.Hour)
	do(rollout.ActionPromote)
	do(rollout.ActionRollback)
	g.pass(time.Hour)
}

// TestCrash lets the process die at every append of a life, before and after
// it, and starts it again.
func TestCrash(t *testing.T) {
	var total int
	for at := 1; at == 1 || at <= total; at++ {
		for _, after := range []bool{false, true} {
			bubble(t, fmt.Sprintf("append %d, after %t", at, after), func(t *testing.T) {
				if at == 1 && !after {
					total = appendsOf(t)
				}
				crash(t, at, after)
			})
		}
	}
	if total < 20 {
		t.Errorf("only %d appends in the story", total)
	}
}

func appendsOf(t *testing.T) int {
	m := &mortal{Memory: journal.NewMemory()}
	g, _ := liveOn(t, m, newAutoFleet())
	life(g)
	g.stop()
	return m.appends
}

func newAutoFleet() *fleet {
	f := newFleet("envoy-1")
	f.auto = true
	return f
}

func liveOn(t *testing.T, m *mortal, f *fleet) (*gate, *fleet) {
	t.Helper()
	m.fleet = f
	g := &gate{t: t, fleet: f, probe: &endpoints{}, journal: &faulty{Memory: m.Memory}}
	var err error
	g.Controller, err = rollout.New(t.Context(), rollout.Options{Journal: m, Publisher: f, Prober: g.probe})
	if err != nil {
		t.Fatal(err)
	}
	g.run()
	return g, f
}

func crash(t *testing.T, at int, after bool) {
	m := &mortal{Memory: journal.NewMemory(), dieAt: at, after: after}
	g, f := liveOn(t, m, newAutoFleet())
	life(g)
	g.stop()
	records := m.Records()
	served := f.serves("envoy-1", "churn")
	if !slices.Contains(lastWeights(t, records), served) {
		t.Fatalf("the Envoy serves %q, the journal's last states are %q", served, lastWeights(t, records))
	}
	for i, r := range records {
		if r.Seq != int64(i+1) {
			t.Fatalf("record %d has position %d", i+1, r.Seq)
		}
	}

	f = newAutoFleet()
	g = start(t, journal.NewMemory(records...), f)
	before := fold(t, records)
	wanted := before.Rollout.Candidate
	if wanted == "" {
		wanted = "v1"
	}
	g.apply(churn(from("v1"), release(wanted)))
	s, _ := g.Status("churn")
	if before.Phase != "" && (s.Phase != before.Phase || before.Running() && s.Step != before.Rollout.Step || s.Rollout != before.Rollout.Number) {
		// What was reached but not written may be reached again at once.
		if more := g.kinds()[len(kindsOf(records)):]; len(more) == 0 {
			t.Fatalf("after the start: %+v, the journal says %+v", s, before)
		}
	}
	if first := f.history[0]; before.Phase != "" && first != "churn: "+splitOf(before, wanted) {
		t.Fatalf("the first plan of the new process is %q, the journal's last state is %q", first, splitOf(before, wanted))
	}
	g.apply(churn(from("v1"), release("v3")))
	finish(g)
}

// finish brings v3 to everyone, whatever the state.
func finish(g *gate) {
	g.t.Helper()
	for range 20 {
		s, _ := g.Status("churn")
		switch {
		case s.Stable == "v3":
			g.want(s.Phase, -1, "v3 100%")
			return
		case s.Phase == rollout.PhaseRolledBack:
			g.do(rollout.ActionRetry)
		case s.Phase == rollout.PhasePaused:
			g.do(rollout.ActionResume)
		default:
			g.do(rollout.ActionSkip)
		}
		g.pass(time.Minute)
	}
	s, _ := g.Status("churn")
	g.t.Fatalf("v3 does not get there: %+v", s)
}

func fold(t *testing.T, records []rollout.Record) rollout.State {
	t.Helper()
	var s rollout.State
	for _, r := range records {
		var err error
		if s, err = rollout.Fold(s, r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func kindsOf(records []rollout.Record) []string {
	var kinds []string
	for _, r := range records {
		if r.Kind != rollout.KindCheckpoint {
			kinds = append(kinds, r.Kind)
		}
	}
	return kinds
}

func splitOf(s rollout.State, wanted string) string {
	w := rollout.WantedOf(churn(release(wanted)))
	s.Wanted = &w
	return weights(s.Split())
}

// lastWeights are the weights of the last states of the journal: one append
// has at most two records.
func lastWeights(t *testing.T, records []rollout.Record) []string {
	t.Helper()
	var all []string
	for back := range min(len(records)+1, 3) {
		s := fold(t, records[:len(records)-back])
		all = append(all, splitOf(s, "v1"))
	}
	return all
}
