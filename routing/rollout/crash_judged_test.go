package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// judgedModel has short steps, so that a life of it has few looks.
func judgedModel(change ...func(*routing.Model)) *routing.Model {
	m := churn(append([]func(*routing.Model){from("v1"), release("v2"), gates}, change...)...)
	m.Steps = []routing.Step{
		{Kind: routing.StepTraffic, Share: 1000, For: 2 * time.Second, AtMost: 6 * time.Second, OnTimeout: routing.OnTimeoutPause},
		{Kind: routing.StepTraffic, Share: 5000, For: time.Second},
		{Kind: routing.StepTraffic, Share: routing.Whole, For: 2 * time.Second, Control: routing.Control{Share: 100}},
	}
	return m
}

// judgedLife is all that verdicts can do: a time out, a pause, a way back,
// warnings, an edit of the gates, and a rollout that goes all the way.
func judgedLife(g *gate) {
	do := func(a rollout.Action) {
		_, _ = g.Do(g.t.Context(), rollout.Command{Model: "churn", Action: a, Actor: "cli"})
	}
	warn := func(m *routing.Model) { m.Policy.Gates[0].OnBreach = routing.OnBreachWarn }
	_ = g.Apply(g.t.Context(), config(judgedModel(warn)))
	g.judge.say("bw")
	g.pass(7*time.Second + time.Millisecond) // warned, timed out
	do(rollout.ActionResume)
	g.judge.say("bb")
	g.pass(time.Second) // paused by a gate
	_ = g.Apply(g.t.Context(), config(judgedModel()))
	g.pass(time.Second) // rolled back in the pause
	do(rollout.ActionRetry)
	g.judge.say("s")
	g.pass(10 * time.Second) // completed
	_ = g.Apply(g.t.Context(), config(judgedModel(release("v1"))))
	g.pass(time.Second)
}

// TestCrashJudged lets the process die at every write of a judged life, before
// and after it. What the Envoys serve is a state of the journal, and the next
// process is given the evidence of the last write, of its own rollout.
func TestCrashJudged(t *testing.T) {
	var total int
	for at := 1; at == 1 || at <= total; at++ {
		for _, after := range []bool{false, true} {
			bubble(t, fmt.Sprintf("write %d, after %t", at, after), func(t *testing.T) {
				if at == 1 && !after {
					total = judgedWrites(t)
				}
				crashJudged(t, at, after)
			})
		}
	}
	if total < 25 {
		t.Errorf("only %d writes in the story", total)
	}
}

func judgedWrites(t *testing.T) int {
	t.Helper()
	m := &mortal{Memory: journal.NewMemory()}
	g := judgedOn(t, m)
	judgedLife(g)
	g.stop()
	want := "seen started reachable acknowledged warned paused resumed paused policy rolled_back " +
		"started reachable acknowledged advanced acknowledged advanced acknowledged promoted completed rolled_back"
	if got := strings.Join(kindsOf(m.Records()), " "); got != want {
		t.Fatalf("the story is\n%s, want\n%s", got, want)
	}
	return m.appends
}

func judgedOn(t *testing.T, m *mortal) *gate {
	t.Helper()
	m.fleet = newAutoFleet()
	g := &gate{t: t, fleet: m.fleet, journal: &faulty{Memory: m.Memory}, probe: &endpoints{}, judge: newOracle("w")}
	var err error
	g.Controller, err = rollout.New(t.Context(), rollout.Options{Journal: m, Publisher: m.fleet, Prober: g.probe, Judge: g.judge})
	if err != nil {
		t.Fatal(err)
	}
	g.run()
	return g
}

func crashJudged(t *testing.T, at int, after bool) {
	m := &mortal{Memory: journal.NewMemory(), dieAt: at, after: after}
	g := judgedOn(t, m)
	judgedLife(g)
	g.stop()
	records := m.Records()
	if served := g.fleet.serves("envoy-1", "churn"); !slices.Contains(lastWeights(t, records), served) {
		t.Fatalf("the Envoy serves %q, the journal's last states are %q", served, lastWeights(t, records))
	}
	before := fold(t, records)
	evidence := g.kept()
	m.dead, m.dieAt = false, 0
	g = judgedOn(t, m)
	g.apply(judgedModel())
	first := ""
	for _, call := range g.judge.took() {
		if strings.HasPrefix(call, "watch") {
			first = call
			break
		}
	}
	if before.Running() && before.Rollout.Reachable {
		mine := strings.TrimPrefix(evidence, fmt.Sprintf("#%d ", before.Rollout.Number))
		if _, kept, found := strings.Cut(first, " kept "); found && kept != mine || !found && mine != evidence {
			t.Fatalf("the journal has evidence %q, the judge was told %q", evidence, first)
		}
		if !strings.Contains(first, fmt.Sprintf("#%d step %d/", before.Rollout.Number, before.Rollout.Step)) {
			t.Fatalf("the journal says rollout %d step %d, the judge was told %q", before.Rollout.Number, before.Rollout.Step, first)
		}
	}
	g.judge.say("s")
	g.apply(judgedModel(release("v3")))
	finish(g)
}
