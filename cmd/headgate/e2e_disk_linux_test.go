package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing/rollout"
)

// diskFull lets headgate, and not its Envoy, write nothing to any file, until
// the returned function is called.
func (g *gate) diskFull() (room func()) {
	g.t.Helper()
	var was unix.Rlimit
	noError(g.t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_FSIZE, nil, &was))
	noError(g.t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: was.Max}, nil))
	return func() {
		g.t.Helper()
		noError(g.t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_FSIZE, &was, nil))
	}
}

// TestFaultDiskFull fills the disk in mid-rollout: traffic is untouched,
// changes are refused with the reason, and all goes on when there is room.
func TestFaultDiskFull(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	g.write("churn.yaml", p.file("v2", "{traffic: 10%}", "{traffic: 50%}", "{traffic: 100%}"))
	before := g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 10 })
	load := p.load(t, 200)
	goesOn(t, load, 50)
	holds := g.envoyHolds()

	room := g.diskFull()
	status, body := g.post("churn", rollout.ActionSkip, admin.Order{})
	if status < 500 || !strings.Contains(body, "journal") {
		t.Errorf("skip on a full disk: HTTP %d: %s, want 5xx and the reason", status, body)
	}
	if out, code := g.cli("rollback", "churn"); code != 1 {
		t.Errorf("rollback on a full disk: exit code %d, want 1: %s", code, out)
	}
	g.write("churn.yaml", p.file("v2", "{traffic: 20%}", "{traffic: 50%}", "{traffic: 100%}"))
	c := g.awaitConfig("an edit that waits", refused)
	if !strings.Contains(c.Errors[0].Message, "journal") {
		t.Errorf("an edit on a full disk: %+v, want the reason", c.Errors)
	}
	if n := g.metric("headgate_journal_errors_total"); n == 0 {
		t.Error("no error of the journal is counted")
	}
	goesOn(t, load, 100)
	after := g.status("churn")
	if !cmp.Equal(after.Weights, before.Weights) || after.Step != before.Step || after.Phase != before.Phase {
		t.Errorf("on a full disk: %+v, was %+v", after, before)
	}
	if diff := cmp.Diff(holds, g.envoyHolds()); diff != "" {
		t.Errorf("Envoy was told something (-before +after):\n%s", diff)
	}

	room()
	g.serving("churn", "v2", 20)
	g.awaitConfig("the edit in force", inForce)
	g.must("skip", "churn", "--wait")
	g.serving("churn", "v2", 50)
	if moves := clean(t, load).Backwards("v1", "v2"); len(moves) != 0 {
		t.Errorf("%d users went back, the first: %+v", len(moves), moves[0])
	}
	for i, r := range g.history("churn") {
		if r.Seq != int64(i)+1 {
			t.Fatalf("record %d of the journal has position %d", i+1, r.Seq)
		}
	}
}
