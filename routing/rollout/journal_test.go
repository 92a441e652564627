package rollout_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

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
		g.wantReason("10% since 00:00 UTC, 300 of at least 60 min; nothing moves, because the journal cannot be written: disk full")
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
