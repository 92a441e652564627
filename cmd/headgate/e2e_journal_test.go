package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

// TestFaultSpoiledJournal starts on journals that cannot be used: headgate says
// so and ends, Envoy serves on, and the way back is the one that it names.
func TestFaultSpoiledJournal(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
	before := g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
	load := p.load(t, 200)
	g.kill()
	holds := g.envoyHolds()
	path := filepath.Join(g.state, "journal.db")
	away := filepath.Join(filepath.Dir(g.state), "away")
	noError(t, os.Mkdir(away, 0o700))
	move := func(from, to string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(from, "journal.db*"))
		noError(t, err)
		for _, name := range files {
			noError(t, os.Rename(name, filepath.Join(to, filepath.Base(name))))
		}
	}
	move(g.state, away)
	for _, tc := range []struct {
		name  string
		spoil func() error
		want  []string
	}{
		{"not a database", func() error { return os.WriteFile(path, bytes.Repeat([]byte("nonsense"), 1024), 0o600) },
			[]string{path, "is damaged", "headgate adopt MODEL VERSION"}},
		{"a folder", func() error { return os.Mkdir(path, 0o700) }, []string{path, "must be writable"}},
	} {
		noError(t, tc.spoil())
		code, printed := g.start().ends()
		if code != 1 {
			t.Errorf("%s: exit code %d, want 1", tc.name, code)
		}
		for _, want := range tc.want {
			if !strings.Contains(printed, want) {
				t.Errorf("%s: printed %q, want %q in it", tc.name, printed, want)
			}
		}
		noError(t, os.RemoveAll(path))
	}
	goesOn(t, load, 100)
	if diff := cmp.Diff(holds, g.envoyHolds()); diff != "" {
		t.Errorf("Envoy was told something (-before +after):\n%s", diff)
	}
	move(away, g.state)
	g.start().up()
	after := g.await("churn", "the step again", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
	if after.Rollout != before.Rollout || after.Step != before.Step {
		t.Errorf("with the journal back: %+v, was %+v", after, before)
	}
	if moves := clean(t, load).Moves(); len(moves) != 0 {
		t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
	}
}

// TestFaultServeEnds ends a `headgate serve` under load: its Envoy serves on
// untouched, and headgate finds it as it was.
func TestFaultServeEnds(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "serve")
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	e := g.envoyOf("edge")
	g.serving("churn", "v1", 100)
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
	g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
	p.answers(g)
	load := p.load(t, 200)
	for range times(2, 20) {
		goesOn(t, load, 50)
		holds := dumped(t, e.Admin("/config_dump"))
		begin := time.Now()
		if code := g.term(); code != 0 {
			t.Errorf("exit code %d after SIGTERM, want 0", code)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("ended after %s, want at most 10 s", took)
		}
		goesOn(t, load, 100)
		g.start().up()
		g.await("churn", "the step again", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
		if diff := cmp.Diff(holds, dumped(t, e.Admin("/config_dump"))); diff != "" {
			t.Errorf("Envoy was told something that it had (-before +after):\n%s", diff)
		}
	}
	if moves := clean(t, load).Moves(); len(moves) != 0 {
		t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
	}
}

// TestFaultReconnects has headgate killed and started again and again while one
// Envoy stays, then Envoys connect again and again while headgate stays.
// Nothing piles up in either.
func TestFaultReconnects(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "serve")
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	e := g.envoyOf("edge")
	g.serving("churn", "v1", 100)
	p.answers(g)
	load := p.load(t, 100)
	var early int
	rounds := times(20, 1000)
	for i := range rounds {
		g.kill()
		g.start().up()
		g.serving("churn", "v1", 100)
		if i == rounds/4 {
			early = memory(e)
		}
	}
	if late := memory(e); late > early+early/2 {
		t.Errorf("Envoy's memory grew from %d to %d bytes in %d restarts of headgate", early, late, rounds-rounds/4)
	}
	clean(t, load)

	reconnect := func(n int) {
		t.Helper()
		client := playEnvoy("other", "127.0.0.1:1")
		for range n {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); client.connect(ctx, filepath.Join(g.state, "grpc.sock")) }()
			g.eventually(20*time.Second, "another Envoy", func() bool { return g.metric("headgate_envoys_connected") == 2 })
			cancel()
			<-ended
			g.eventually(20*time.Second, "its end", func() bool { return g.metric("headgate_envoys_connected") == 1 })
		}
	}
	reconnect(5)
	goroutines, files := g.metric("go_goroutines"), g.metric("process_open_fds")
	reconnect(rounds)
	g.eventually(30*time.Second, "as many goroutines and files as before", func() bool {
		return g.metric("go_goroutines") <= goroutines+10 && g.metric("process_open_fds") <= files+5
	})
	if status, _, err := g.get("/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("/readyz: HTTP %d, %v", status, err)
	}
}

// memory is what an Envoy has allocated, in bytes.
func memory(e *envoytest.Envoy) int {
	return e.Stats("server.memory_allocated")["server.memory_allocated"]
}
