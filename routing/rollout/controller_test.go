package rollout_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

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
