package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/routing/rollout"
)

// TestFaultEmptyJournalOfTwo loses the journal of two models on one port. That
// somebody says what is true of the one takes nothing from the other.
func TestFaultEmptyJournalOfTwo(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
	other := strings.NewReplacer("model: churn", "model: other", "/predict", "/other").Replace(p.file("v1"))
	g.write("other.yaml", other)
	g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
	g.serving("other", "v1", 100)
	load := p.load(t, 200)
	goesOn(t, load, 100)
	g.kill()
	lost, err := filepath.Glob(filepath.Join(g.state, "journal.db*"))
	noError(t, err)
	for _, name := range lost {
		noError(t, os.Remove(name))
	}
	g.start().up()
	for _, name := range []string{"churn", "other"} {
		g.await(name, "the question what serves", func(s rollout.Status) bool {
			return s.Phase == rollout.PhaseBlocked && strings.Contains(s.Reason, "`headgate adopt "+name)
		})
	}
	g.must("adopt", "other", "v1")
	g.await("other", "its state", func(s rollout.Status) bool { return s.Phase == rollout.PhaseIdle })
	goesOn(t, load, 500)
	if moves := load.Report().Moves(); len(moves) != 0 {
		t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
	}
	g.must("adopt", "churn", "v2")
	g.serving("churn", "v2", 100)
	g.serving("other", "v1", 100)
	clean(t, load)
}
