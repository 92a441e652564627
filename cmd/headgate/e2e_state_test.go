package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

// TestFaultCommands moves a model by the command line, and compares exit codes
// and the fields that scripts rely on.
func TestFaultCommands(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	g.write("churn.yaml", p.file("v2", "{traffic: 10%}", "{traffic: 50%}", "{traffic: 100%, for: 1h}"))
	g.await("churn", "the first step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 10 })
	load := p.load(t, 100)
	for _, step := range []struct {
		line   string
		code   int
		phase  rollout.Phase
		weight float64 // of v2
	}{
		{"resume churn", 1, rollout.PhaseProgressing, 10},
		{"retry churn", 1, rollout.PhaseProgressing, 10},
		{"adopt churn v1", 1, rollout.PhaseProgressing, 10},
		{"pause churn --reason lunch --wait", 0, rollout.PhasePaused, 10},
		{"pause churn", 1, rollout.PhasePaused, 10},
		{"skip churn", 1, rollout.PhasePaused, 10},
		{"resume churn --wait", 0, rollout.PhaseProgressing, 10},
		{"skip churn --wait", 0, rollout.PhaseProgressing, 50},
		{"rollback churn --reason complaints --wait", 0, rollout.PhaseRolledBack, 0},
		{"rollback churn", 1, rollout.PhaseRolledBack, 0},
		{"promote churn", 1, rollout.PhaseRolledBack, 0},
		{"retry churn --wait", 0, rollout.PhaseProgressing, 10},
		{"promote churn --wait", 0, rollout.PhaseCompleted, 100},
		{"promote churn", 1, rollout.PhaseCompleted, 100},
		{"rollback churn --wait", 0, rollout.PhaseRolledBack, 0},
		{"pause nobody", 1, rollout.PhaseRolledBack, 0},
		{"pause", 2, rollout.PhaseRolledBack, 0},
		{"pause churn fraud", 2, rollout.PhaseRolledBack, 0},
		{"pause churn --timeout soon", 2, rollout.PhaseRolledBack, 0},
	} {
		out, code := g.cli(strings.Fields(step.line)...)
		if code != step.code {
			t.Fatalf("headgate %s: exit code %d, want %d: %s", step.line, code, step.code, out)
		}
		s := g.status("churn")
		if s.Phase != step.phase || s.Weights["v2"] != step.weight || (step.code == 0 && !s.Acknowledged) {
			t.Fatalf("after headgate %s: %+v, want %s and v2 at %v %%", step.line, s, step.phase, step.weight)
		}
	}
	clean(t, load)
	checkStatusFields(t, g.must("status", "churn", "-o", "json"))
	if out, code := g.cli("status", "nobody", "-o", "json"); code != 1 {
		t.Errorf("status of nobody: exit code %d, want 1: %s", code, out)
	}
}

// checkStatusFields checks names and kinds of what scripts rely on.
func checkStatusFields(t *testing.T, out string) {
	t.Helper()
	var fields map[string]any
	noError(t, json.Unmarshal([]byte(out), &fields))
	got := map[string]string{}
	for _, name := range []string{"model", "rollout", "phase", "stable", "candidate", "step", "weights", "acknowledged", "reason"} {
		got[name] = fmt.Sprintf("%T", fields[name])
	}
	want := map[string]string{
		"model": "string", "rollout": "float64", "phase": "string", "stable": "string", "candidate": "string",
		"step": "float64", "weights": "map[string]interface {}", "acknowledged": "bool", "reason": "string",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields of the status (-want +got):\n%s\n%s", diff, out)
	}
}

// TestFaultWaitForFrozen has --wait wait for an Envoy that does not answer: the
// exit code tells that the command holds and something is missing.
func TestFaultWaitForFrozen(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	g.write("churn.yaml", p.file("v2", "{traffic: 10%}", "{traffic: 50%}", "{traffic: 100%}"))
	g.await("churn", "the first step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 10 })
	pid := g.envoyPID()
	noError(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	if out, code := g.cli("skip", "churn", "--wait", "--timeout", "1s"); code != 3 {
		t.Errorf("exit code %d, want 3: %s", code, out)
	}
	if s := g.status("churn"); s.Acknowledged || s.Weights["v2"] != 50 {
		t.Errorf("status while Envoy is frozen: %+v", s)
	}
	noError(t, syscall.Kill(pid, syscall.SIGCONT))
	g.serving("churn", "v2", 50)
}

// TestFaultRollbackTime measures how long users still reach the candidate after
// a rollback was asked for.
func TestFaultRollbackTime(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	g.write("churn.yaml", p.file("v2", "{traffic: 50%}", "{traffic: 100%}"))
	load := p.load(t, 500)
	for range times(3, 50) {
		g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 50 })
		goesOn(t, load, 50)
		asked := time.Now()
		if status, body := g.post("churn", rollout.ActionRollback, admin.Order{Reason: "measured"}); status != http.StatusOK {
			t.Fatalf("rollback: HTTP %d: %s", status, body)
		}
		confirmed := time.Since(asked)
		g.await("churn", "the way back", func(s rollout.Status) bool { return s.Acknowledged && s.Weights["v2"] == 0 })
		acknowledged := time.Now()
		goesOn(t, load, 100)
		var last time.Duration
		for _, r := range load.Report().Results {
			if r.Start.After(asked) && r.Version == "v2" {
				last = max(last, r.Start.Sub(asked))
				if r.Start.After(acknowledged) {
					t.Errorf("a request began %s after every Envoy had acknowledged, and was answered by the candidate", r.Start.Sub(acknowledged))
				}
			}
		}
		t.Logf("rollback confirmed after %s; the last request that reached the candidate began after %s", confirmed, last)
		if status, body := g.post("churn", rollout.ActionRetry, admin.Order{}); status != http.StatusOK {
			t.Fatalf("retry: HTTP %d: %s", status, body)
		}
	}
	clean(t, load)
}

// third adds a third version to the pair's file.
func third(file string, u *envoytest.Upstream) string {
	return strings.Replace(file, "release:", fmt.Sprintf("  v3: {endpoints: [\"%s\"]}\nrelease:", u.Addr), 1)
}

// TestFaultEditsInMidRollout changes its mind while a rollout runs.
func TestFaultEditsInMidRollout(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	v3 := envoytest.NewUpstream(t, "v3")
	g := newGate(t, "run")
	g.write("churn.yaml", third(p.file("v1"), v3))
	g.start().ready()
	g.serving("churn", "v1", 100)
	p.answers(g)
	load := p.load(t, 200)
	steps := []string{"{traffic: 30%}", "{traffic: 100%}"}
	to2, to3 := third(p.file("v2", steps...), v3), third(p.file("v3", steps...), v3)
	g.write("churn.yaml", to2)
	before := g.await("churn", "v2's step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })

	for _, tc := range []struct{ name, path, file string }{
		{"another key", "key", strings.Replace(to2, "x-user-id", "x-account", 1)},
		{"stable removed", "versions", strings.Replace(to2, fmt.Sprintf("  v1: {endpoints: [\"%s\"]}\n", p.v1.Addr), "", 1)},
		{"all steps removed", "rollout.steps", third(p.file("v2"), v3)},
	} {
		g.write("churn.yaml", tc.file)
		c := g.awaitConfig("refusal of "+tc.name, refused)
		checkLine(t, tc.name, c.Errors, admin.ConfigLine{File: "churn.yaml", Path: tc.path})
		if c.Errors[0].Line == 0 {
			t.Errorf("%s: without a line: %+v", tc.name, c.Errors)
		}
		if now := g.status("churn"); !cmp.Equal(now.Weights, before.Weights) || now.Rollout != before.Rollout || now.Step != before.Step {
			t.Errorf("%s: became %+v, was %+v", tc.name, now, before)
		}
		g.write("churn.yaml", to2)
		g.awaitConfig("the mended file", inForce)
	}
	// What touches no user is no reason to begin anew.
	g.write("churn.yaml", "# a comment\n"+to2+"timeout: 7s\n")
	g.awaitConfig("another timeout in force", inForce)
	if now := g.status("churn"); now.Rollout != before.Rollout || !cmp.Equal(now.Weights, before.Weights) {
		t.Errorf("an unrelated edit: became %+v, was %+v", now, before)
	}

	g.write("churn.yaml", to3)
	after := g.await("churn", "v3's step", func(s rollout.Status) bool { return settled(s) && s.Weights["v3"] == 30 })
	if after.Rollout != before.Rollout+1 || after.Stable != "v1" || after.Candidate != "v3" || after.Weights["v2"] != 0 {
		t.Errorf("release of a third version in mid-rollout: %+v", after)
	}
	g.write("churn.yaml", third(p.file("v1", steps...), v3))
	back := g.await("churn", "everyone on v1", func(s rollout.Status) bool { return s.Acknowledged && s.Weights["v1"] == 100 })
	if back.Phase != rollout.PhaseRolledBack && back.Phase != rollout.PhaseIdle {
		t.Errorf("release set back to stable: %+v", back)
	}
	clean(t, load)
}

// TestFaultEmptyJournal loses the journal while Envoy holds a rollout: nothing
// is touched until somebody says what is true.
func TestFaultEmptyJournal(t *testing.T) {
	for _, tc := range []struct {
		adopt string
		phase rollout.Phase
		share float64 // of v2, in the end
	}{
		{"v2", rollout.PhaseIdle, 100},
		{"v1", rollout.PhaseProgressing, 30}, // the release of v2 begins anew
	} {
		t.Run("adopt "+tc.adopt, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			g := newGate(t, "run")
			g.write("churn.yaml", p.file("v1"))
			g.start().ready()
			g.serving("churn", "v1", 100)
			p.answers(g)
			g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
			g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
			load := p.load(t, 200)
			goesOn(t, load, 100)
			g.kill()
			holds := g.envoyHolds()
			lost, err := filepath.Glob(filepath.Join(g.state, "journal.db*"))
			noError(t, err)
			if len(lost) == 0 {
				t.Fatal("there is no journal")
			}
			for _, name := range lost {
				noError(t, os.Rename(name, filepath.Join(filepath.Dir(g.state), filepath.Base(name))))
			}
			g.start().up()
			asks := func(s rollout.Status) bool {
				return s.Phase == rollout.PhaseBlocked && strings.Contains(s.Reason, "`headgate adopt churn VERSION`")
			}
			if blocked := g.await("churn", "the question what serves", asks); blocked.Rejected != "" {
				t.Errorf("refused by an Envoy that was told nothing: %q", blocked.Rejected)
			}
			for line, code := range map[string]int{"promote churn": 1, "adopt churn v9": 1, "adopt churn": 2} {
				if out, got := g.cli(strings.Fields(line)...); got != code {
					t.Errorf("headgate %s: exit code %d, want %d: %s", line, got, code, out)
				}
			}
			goesOn(t, load, 300)
			if moves := load.Report().Moves(); len(moves) != 0 {
				t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
			}
			if diff := cmp.Diff(holds, g.envoyHolds()); diff != "" {
				t.Errorf("Envoy was told something (-before +after):\n%s", diff)
			}
			// That it is blocked outlives a restart.
			g.kill()
			g.start().up()
			g.await("churn", "the question after a restart", asks)

			g.must("adopt", "churn", tc.adopt, "--reason", "seen in the access log", "--wait")
			end := g.await("churn", "the adopted state", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == tc.share })
			if end.Phase != tc.phase || end.Stable != tc.adopt {
				t.Errorf("after adopt: %+v", end)
			}
			g.ready()
			clean(t, load)
		})
	}
}
