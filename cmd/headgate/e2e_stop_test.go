package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/headgate/headgate/envoy"
)

// TestKeepEnvoy restarts headgate in mid-rollout and under load, as for an
// upgrade: nobody notices.
func TestKeepEnvoy(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run", "--keep-envoy")
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	g.serving("churn", "v1", 100)
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
	before := g.serving("churn", "v2", 30)
	pid := g.envoyPID()
	load := p.load(t, 200)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		goesOn(t, load, 100)
		_ = g.cmd.Process.Signal(sig)
		if code, _ := g.ends(); code != 0 {
			t.Errorf("exit code %d after %s, want 0", code, sig)
		}
		quiet(t, g)
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("Envoy %d after %s: %v", pid, sig, err)
		}
		goesOn(t, load, 100)
		g.start().ready()
		if g.envoyPID() != pid {
			t.Errorf("Envoy's process changed from %d to %d after %s", pid, g.envoyPID(), sig)
		}
		after := g.serving("churn", "v2", 30)
		if after.Rollout != before.Rollout || after.Step != before.Step || after.Phase != before.Phase {
			t.Errorf("resumed at %+v, was at %+v", after, before)
		}
	}
	if moves := clean(t, load).Moves(); len(moves) != 0 {
		t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
	}
}

// TestOrderlyEnd leaves nothing but the state folder, and raises no alarm.
func TestOrderlyEnd(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	g.state = filepath.Join(filepath.Dir(g.state), strings.Repeat("long", 25))
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	g.serving("churn", "v1", 100)
	p.answers(g)
	socket, err := envoy.SocketPath(g.state, "grpc.sock")
	noError(t, err)
	if strings.HasPrefix(socket, g.state) {
		t.Fatalf("%s: is short enough for sockets, this test wants a longer one", g.state)
	}
	if code := g.term(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	quiet(t, g)
	if left, err := filepath.Glob(filepath.Dir(socket) + "*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// quiet tells whether headgate ended without a false alarm. It has ended.
func quiet(t *testing.T, g *gate) {
	t.Helper()
	_, end, found := strings.Cut(g.log.String(), `msg="headgate ends`)
	if !found {
		t.Error("the log does not say that headgate ends")
	}
	for line := range strings.Lines(end) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") || strings.Contains(line, "has ended") {
			t.Errorf("alarm at an orderly end: %s", line)
		}
	}
}

// TestFailedStart has the admin address taken: nothing is begun.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	g := newGate(t, "run")
	taken, err := net.Listen("tcp", g.admin)
	noError(t, err)
	defer func() { _ = taken.Close() }()
	g.start()
	if code, log := g.ends(); code != 1 || !strings.Contains(log, "listen on --admin") {
		t.Errorf("exit code %d, want 1: %s", code, log)
	}
	var left []string
	entries, err := os.ReadDir(g.state)
	noError(t, err)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"headgate.lock"}; !slices.Equal(left, want) {
		t.Errorf("left behind: %v, want %v", left, want)
	}
}
