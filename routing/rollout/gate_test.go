package rollout_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

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
	judge   *oracle // nil: none
	stop    func()
}

// start runs a controller in a synctest bubble.
func start(t *testing.T, j *journal.Memory, f *fleet) *gate {
	t.Helper()
	g := &gate{t: t, fleet: f, journal: &faulty{Memory: j}, probe: &endpoints{}}
	g.open()
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
