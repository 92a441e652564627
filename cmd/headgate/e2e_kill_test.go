package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// post sends a command and returns the HTTP status; 0: no answer.
func (g *gate) post(model string, action rollout.Action, order admin.Order) (status int, body string) {
	g.t.Helper()
	data, err := json.Marshal(order)
	noError(g.t, err)
	resp, err := http.Post("http://"+g.admin+"/v1/models/"+model+"/"+string(action), "application/json", strings.NewReader(string(data)))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// settled tells whether nothing moves by itself any more, in a rollout without
// times: every Envoy has the weights, and the candidate has answered.
func settled(s rollout.Status) bool {
	return s.Acknowledged && (s.Phase != rollout.PhaseProgressing || s.StepStarted != nil)
}

// walk is a model whose steps have no times, and how it moves.
type walk struct {
	p      pair
	shares []int
}

func (w *walk) file() string {
	steps := make([]string, len(w.shares))
	for i, s := range w.shares {
		steps[i] = fmt.Sprintf("{traffic: %d%%}", s)
	}
	return w.p.file("v2", steps...)
}

// move is one transition, and what is true after it.
type move struct {
	action rollout.Action // empty: an edit
	phase  rollout.Phase
	weight float64 // of v2
}

// choose picks one that is possible. An edit changes w.shares.
func (w *walk) choose(s rollout.Status) move {
	var all []move
	switch s.Phase {
	case rollout.PhaseProgressing:
		next := move{rollout.ActionSkip, rollout.PhaseCompleted, 100} // the last step has no time
		if s.Step+2 < len(w.shares) {
			next = move{rollout.ActionSkip, rollout.PhaseProgressing, float64(w.shares[s.Step+1])}
		}
		all = []move{
			next, next, {rollout.ActionPromote, rollout.PhaseCompleted, 100},
			{rollout.ActionRollback, rollout.PhaseRolledBack, 0}, {rollout.ActionPause, rollout.PhasePaused, s.Weights["v2"]},
			{"", rollout.PhaseProgressing, s.Weights["v2"] + 1},
		}
	case rollout.PhasePaused:
		all = []move{
			{rollout.ActionResume, rollout.PhaseProgressing, s.Weights["v2"]},
			{rollout.ActionRollback, rollout.PhaseRolledBack, 0},
		}
	case rollout.PhaseRolledBack:
		all = []move{{rollout.ActionRetry, rollout.PhaseProgressing, float64(w.shares[0])}}
	case rollout.PhaseCompleted:
		all = []move{{rollout.ActionRollback, rollout.PhaseRolledBack, 0}}
	}
	m := all[rand.IntN(len(all))]
	if m.action == "" {
		w.shares[s.Step]++
	}
	return m
}

// TestFaultKilledInTransition kills headgate around every kind of transition,
// under load. Afterwards the weights are the old or the new ones; what was
// confirmed is kept; Envoy serves what status tells.
func TestFaultKilledInTransition(t *testing.T) {
	t.Parallel()
	w := &walk{p: newPair(t), shares: []int{5, 25, 50, 100}}
	g := newGate(t, "run")
	g.write("churn.yaml", w.p.file("v1"))
	g.start().ready()
	g.serving("churn", "v1", 100)
	w.p.answers(g)
	load := w.p.load(t, 100)
	g.write("churn.yaml", w.file())
	g.serving("churn", "v2", 5)
	kept := map[string]int{}
	for i := range times(12, 100) {
		old := g.await("churn", "rest", settled)
		m := w.choose(old)
		confirmed := make(chan bool, 1)
		go func() {
			if m.action == "" {
				g.write("churn.yaml", w.file())
				confirmed <- true // the file is there, whenever it is read
				return
			}
			status, _ := g.post("churn", m.action, admin.Order{Reason: "killed soon"})
			confirmed <- status == http.StatusOK
		}()
		<-time.After(rand.N([]time.Duration{2, 30}[i%2] * time.Millisecond))
		g.kill()
		must := <-confirmed
		g.start().up()
		now := g.await("churn", "rest after a kill", func(s rollout.Status) bool {
			if got := s.Weights["v2"]; got != old.Weights["v2"] && got != m.weight {
				t.Fatalf("kill %d in %+v: v2 has %v %%, want the old or the new weight: %+v, before %+v", i, m, got, s, old)
			}
			return settled(s) && (!must || s.Phase == m.phase && s.Weights["v2"] == m.weight)
		})
		switch {
		case now.Phase == m.phase && now.Weights["v2"] == m.weight:
			kept["new"]++
		case now.Phase == old.Phase && now.Weights["v2"] == old.Weights["v2"] && now.Step == old.Step:
			kept["old"]++
		default:
			t.Fatalf("kill %d in %+v: neither as before nor as after: %+v, before %+v", i, m, now, old)
		}
		w.p.servesAs(t, now)
	}
	clean(t, load)
	t.Logf("the state after a kill: %v", kept)
	for i, r := range g.history("churn") {
		if r.Seq != int64(i)+1 {
			t.Fatalf("record %d of the journal has position %d: a gap or a double", i+1, r.Seq)
		}
	}
}

// servesAs asks for 50 users and compares with the split that a status tells.
func (p pair) servesAs(t *testing.T, s rollout.Status) {
	t.Helper()
	salt := fmt.Sprintf("churn-r%d", s.Rollout)
	weight := routing.Share(s.Weights["v2"] * float64(routing.Whole) / 100)
	split := routing.Split{Salt: salt, Ranges: []routing.Range{{Version: "v2", Weight: weight}, {Version: "v1", Weight: routing.Whole - weight}}}
	for _, user := range userIDs(50) {
		want := split.Version(routing.Bucket(salt, user))
		if got, err := p.ask(user); err != nil || got != want {
			t.Fatalf("%s is answered by %q (%v), want %s: %+v", user, got, err, want, s)
		}
	}
}
