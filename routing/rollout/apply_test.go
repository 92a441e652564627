package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

func named(name string) func(*routing.Model) {
	return func(m *routing.Model) {
		m.Name = name
		m.Source = routing.Position{File: name + ".yaml", Line: 1}
	}
}

func dropped(version int) func(*routing.Model) {
	return func(m *routing.Model) {
		m.Versions = append(m.Versions[:version-1:version-1], m.Versions[version:]...)
	}
}

// midway is a gate with churn at 10 % of v2.
func midway(t *testing.T) *gate {
	t.Helper()
	g := start(t, journal.NewMemory(), newAutoFleet())
	g.apply(churn(from("v1"), release("v2")), churn(named("fraud")))
	g.pass(10 * time.Minute)
	g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
	return g
}

func TestRefusedEdits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := midway(t)
		before := g.fleet.plan
		cfg := config(
			churn(release("v2"), dropped(1), func(m *routing.Model) {
				m.Key.Name = "x-account"
				m.Places = []routing.Place{{Path: "key", At: routing.Position{File: "churn.yaml", Line: 9}}}
			}),
			churn(named("fraud"), dropped(1), release("v2"), func(m *routing.Model) { m.Steps[0].Kind = "magic" }),
		)
		err := g.Apply(t.Context(), cfg)
		want := `churn.yaml:1: versions: v1: must stay, it serves 90% of the users
churn.yaml:9: key: header x-account, absent: cookie: must stay "header x-user-id, absent: cookie" while the rollout of v2 runs, or users would change versions; promote it or roll it back first
fraud.yaml:1: rollout.steps[0]: magic: no code implements this kind of step; there is [shadow traffic]
fraud.yaml:1: versions: v1: must stay, it serves 100% of the users`
		if err == nil || err.Error() != want {
			t.Errorf("apply: %v\nwant: %s", err, want)
		}
		var refused *rollout.ConfigError
		if !errors.As(err, &refused) {
			t.Fatalf("not a ConfigError: %T", err)
		}
		if diff := cmp.Diff(refused.Problems, g.Check(cfg)); diff != "" {
			t.Errorf("Check says something else than Apply (-apply +check):\n%s", diff)
		}
		if g.fleet.plan != before {
			t.Error("a refused configuration was published")
		}
		err = g.Apply(t.Context(), config())
		if err == nil || err.Error() != "no model is configured, and 2 serve: a configuration must not take all of them away" {
			t.Errorf("apply of nothing: %v", err)
		}
		if problems := g.Check(config(churn(release("v2")), churn(named("fraud")))); len(problems) > 0 {
			t.Errorf("what is in force is refused: %v", problems)
		}
	})
}

func TestEdits(t *testing.T) {
	for name, test := range map[string]struct {
		edit    []func(*routing.Model)
		phase   rollout.Phase
		number  int
		step    int
		weights string
		after   []string // kinds of records that the edit wrote
	}{
		"a third version": {
			[]func(*routing.Model){release("v3")},
			rollout.PhaseProgressing, 2, 0, "v3 10%, v1 90%", []string{"superseded", "started", "reachable", "acknowledged"},
		},
		"back": {
			[]func(*routing.Model){release("v1")}, rollout.PhaseRolledBack, 1, -1, "v2 0%, v1 100%", []string{"rolled_back"},
		},
		"the candidate's endpoints": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) { m.Versions[1].Definition = "other" }},
			rollout.PhaseProgressing, 2, 0, "v2 10%, v1 90%", []string{"superseded", "started", "reachable", "acknowledged"},
		},
		"the stable version's endpoints": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) {
				m.Versions[0].Definition = "other"
				m.Versions[0].Endpoints = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9999")}
			}},
			rollout.PhaseProgressing, 1, 0, "v2 10%, v1 90%", nil,
		},
		"the present step's share": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) { m.Steps[0].Share = 500 }},
			rollout.PhaseProgressing, 1, 0, "v2 5%, v1 95%", []string{"steps", "acknowledged"},
		},
		"the present step's time, which is over then": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) { m.Steps[0].For = time.Minute }},
			rollout.PhaseProgressing, 1, 1, "v2 25%, v1 75%", []string{"steps", "advanced", "acknowledged"},
		},
		"fewer steps": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) { m.Steps = m.Steps[2:] }},
			rollout.PhaseProgressing, 1, 0, "v2 100%, v1 0%", []string{"steps", "acknowledged"},
		},
		"a timeout": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) { m.Timeout = time.Second }},
			rollout.PhaseProgressing, 1, 0, "v2 10%, v1 90%", nil,
		},
		"lines moved": {
			[]func(*routing.Model){release("v2"), func(m *routing.Model) { m.Source.Line = 9 }},
			rollout.PhaseProgressing, 1, 0, "v2 10%, v1 90%", nil,
		},
	} {
		bubble(t, name, func(t *testing.T) {
			g := midway(t)
			wrote := len(g.kinds())
			fraud := g.fleet.plan.Model("fraud")
			g.apply(churn(append(test.edit, from("v1"))...), churn(named("fraud")))
			g.want(test.phase, test.step, test.weights)
			if s, _ := g.Status("churn"); s.Rollout != test.number {
				t.Errorf("rollout %d, want %d", s.Rollout, test.number)
			}
			if diff := cmp.Diff(test.after, g.kinds()[wrote:], cmpEmpty); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if g.fleet.plan.Model("fraud") != fraud {
				t.Error("the plan of a model that did not change is another pointer")
			}
		})
	}
}

// cmpEmpty takes nil and empty lists for the same.
var cmpEmpty = cmp.Transformer("empty", func(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
})

// The stable version can be taken back after a later candidate has gone back.
func TestBackTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, journal.NewMemory(), newAutoFleet())
		g.apply(churn())
		g.apply(churn(release("v2")))
		g.do(rollout.ActionPromote)
		g.apply(churn(release("v3")))
		g.do(rollout.ActionRollback)
		g.apply(churn(release("v2")))
		g.want(rollout.PhaseIdle, -1, "v2 100%")
		g.do(rollout.ActionRollback)
		g.want(rollout.PhaseRolledBack, -1, "v2 0%, v1 100%")
		if s, _ := g.Status("churn"); s.Candidate != "v2" {
			t.Errorf("candidate %q, want v2", s.Candidate)
		}
	})
}

func TestRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := midway(t)
		g.do(rollout.ActionPromote)
		g.want(rollout.PhaseCompleted, -1, "v2 100%")
		g.apply(churn(named("fraud")))
		if _, ok := g.Status("churn"); ok || g.fleet.weights("churn") != "" {
			t.Errorf("a removed model is still told or published")
		}
		if _, err := g.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionRollback}); !errors.Is(err, rollout.ErrUnknownModel) {
			t.Errorf("rollback of a removed model: %v", err)
		}
		if h, err := g.History(t.Context(), "churn", 1); err != nil || len(h) != 1 || h[0].Kind != rollout.KindRetired {
			t.Errorf("history: %v, %v", h, err)
		}
		g.apply(churn(named("fraud")), churn(from("v1"), release("v3")))
		g.want(rollout.PhaseProgressing, 0, "v3 10%, v2 90%")
	})
}

// TestSameModel changes every field of a model in turn: each must count but
// the place in the file.
func TestSameModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := midway(t)
		fields := reflect.TypeFor[routing.Model]()
		for i := range fields.NumField() {
			name := fields.Field(i).Name
			switch name {
			case "Name", "Release", "From", "Versions", "Steps", "Key": // they mean more, see the other tests
				continue
			}
			before := g.fleet.plan.Model("churn")
			changed := churn(from("v1"), release("v2"))
			fill(reflect.ValueOf(changed).Elem().Field(i))
			g.apply(changed, churn(named("fraud")))
			if same := g.fleet.plan.Model("churn") == before; same != (name == "Source" || name == "Places") {
				t.Errorf("a changed %s: same plan is %t", name, same)
			}
			g.apply(churn(from("v1"), release("v2")), churn(named("fraud")))
		}
	})
}

// fill sets something in v that is not its zero value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("filled")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.AddrPort]() {
			v.Set(reflect.ValueOf(netip.MustParseAddrPort("127.0.0.1:1")))
			return
		}
		fill(v.Field(0))
	case reflect.Uint32:
		v.SetUint(7)
	case reflect.Int64:
		v.SetInt(7)
	default:
		panic("no value for " + v.Type().String())
	}
}

func TestSubscribe(t *testing.T) {
	bubble(t, "records come with the status after them", func(t *testing.T) {
		g := midway(t)
		ctx, cancel := context.WithCancel(t.Context())
		updates := g.Subscribe(ctx)
		g.do(rollout.ActionPause)
		u := <-updates
		if u.Record == nil || u.Record.Kind != rollout.KindPaused || u.Record.Seq == 0 || u.Status.Phase != rollout.PhasePaused {
			t.Errorf("update %+v", u)
		}
		g.fleet.disconnect("envoy-1")
		if u := <-updates; u.Record != nil || u.Status.Envoys != 0 {
			t.Errorf("update %+v", u)
		}
		cancel()
		synctest.Wait()
		if _, ok := <-updates; ok {
			t.Error("the channel is open after the context ended")
		}
	})
	bubble(t, "who is slow is told so and let go", func(t *testing.T) {
		g := midway(t)
		updates := g.Subscribe(t.Context())
		for range 150 {
			g.do(rollout.ActionPause)
			g.do(rollout.ActionResume)
		}
		var last rollout.Update
		n := 0
		for last = range updates {
			n++
		}
		if !last.Lost || n != 257 {
			t.Errorf("%d updates, the last %+v", n, last)
		}
	})
	bubble(t, "acknowledgements of a way back are told", func(t *testing.T) {
		f := newFleet("envoy-1", "envoy-2", "envoy-3")
		g := start(t, journal.NewMemory(), f)
		g.apply(churn(from("v1"), release("v2")))
		g.ack("envoy-1", "envoy-2", "envoy-3")
		g.do(rollout.ActionRollback)
		updates := g.Subscribe(t.Context())
		for i := 3; i > 0; i-- {
			g.ack(fmt.Sprintf("envoy-%d", i))
			if u := <-updates; len(u.Status.Waiting) != i-1 || u.Status.Acknowledged != (i == 1) {
				t.Errorf("update %+v, want %d Envoys to wait for", u, i-1)
			}
		}
	})
	bubble(t, "the end of the controller closes it", func(t *testing.T) {
		g := midway(t)
		updates := g.Subscribe(t.Context())
		g.stop()
		if _, ok := <-updates; ok {
			t.Error("an update after the end")
		}
		if _, err := g.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionPause}); !errors.Is(err, rollout.ErrStopped) {
			t.Errorf("a command after the end: %v", err)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet("envoy-1")
		g := start(t, journal.NewMemory(), f)
		g.apply(churn(from("v1"), release("v2")))
		g.do(rollout.ActionRollback)
		done := make(chan rollout.Status)
		go func() {
			s, err := g.Wait(t.Context(), "churn", func(s rollout.Status) bool { return s.Acknowledged })
			if err != nil {
				t.Errorf("wait: %v", err)
			}
			done <- s
		}()
		g.pass(time.Hour)
		select {
		case s := <-done:
			t.Fatalf("waited for nothing: %+v", s)
		default:
		}
		f.ack("envoy-1")
		if s := <-done; s.Phase != rollout.PhaseRolledBack {
			t.Errorf("%+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := g.Wait(ctx, "churn", func(rollout.Status) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
		if _, err := g.Wait(ctx, "nobody", func(rollout.Status) bool { return false }); !errors.Is(err, rollout.ErrUnknownModel) {
			t.Errorf("wait: %v", err)
		}
	})
}

// TestStop: the time that a step has run is kept over an orderly restart, and
// the time between does not count.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := midway(t)
		g.pass(49*time.Minute + 30*time.Second)
		g.stop()
		<-time.After(24 * time.Hour)
		f := newAutoFleet()
		g = start(t, journal.NewMemory(g.journal.Records()...), f)
		g.apply(churn(from("v1"), release("v2")), churn(named("fraud")))
		g.pass(29 * time.Second)
		g.want(rollout.PhaseProgressing, 0, "v2 10%, v1 90%")
		g.pass(time.Second)
		g.want(rollout.PhaseProgressing, 1, "v2 25%, v1 75%")
	})
}

func TestNewerJournal(t *testing.T) {
	for name, r := range map[string]rollout.Record{
		"kind":  {Model: "churn", Kind: "teleported", Data: []byte(`{"v":2}`)},
		"form":  {Model: "churn", Kind: rollout.KindPaused, Data: []byte(`{"v":3}`)},
		"field": {Model: "churn", Kind: rollout.KindPaused, Data: []byte(`{"v":2,"colour":"red"}`)},
	} {
		_, err := rollout.New(t.Context(), rollout.Options{Journal: journal.NewMemory(r), Publisher: newFleet(), Prober: &endpoints{}})
		want := fmt.Sprintf("read the journal: record 1 (%s of churn", r.Kind)
		if err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("%s: %v, want %s…", name, err, want)
		}
	}
}
