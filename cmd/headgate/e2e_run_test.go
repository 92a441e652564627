package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

// pair is a model with two versions behind one listener.
type pair struct {
	port   int
	v1, v2 *envoytest.Upstream
}

func newPair(t testing.TB) pair {
	return pair{port: envoytest.FreePort(t), v1: envoytest.NewUpstream(t, "v1"), v2: envoytest.NewUpstream(t, "v2")}
}

// servedPair is a pair behind a `headgate run`, all of it on v1.
func servedPair(t testing.TB) (pair, *gate) {
	t.Helper()
	p, g := newPair(t), newGate(t, "run")
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	g.serving("churn", "v1", 100)
	return p, g
}

func (p pair) url() string { return fmt.Sprintf("http://127.0.0.1:%d/predict", p.port) }

// file returns the model's file; steps are flow mappings like
// "{traffic: 10%, for: 1h}".
func (p pair) file(release string, steps ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `model: churn
listen: 127.0.0.1:%d
match: {prefix: /predict}
versions:
  v1: {endpoints: ["%s"]}
  v2: {endpoints: ["%s"]}
release: %s
key: {header: x-user-id, absent: cookie}
overrides:
  - {header: canary, equals: "true", version: v2}
`, p.port, p.v1.Addr, p.v2.Addr, release)
	if len(steps) > 0 {
		b.WriteString("rollout:\n  steps:\n")
		for _, s := range steps {
			b.WriteString("    - " + s + "\n")
		}
	}
	return b.String()
}

func userIDs(n int) []string {
	users := make([]string, n)
	for i := range users {
		users[i] = fmt.Sprintf("user-%d", i)
	}
	return users
}

// load sends requests of many users, steadily.
func (p pair) load(t testing.TB, rate float64) *envoytest.Loader {
	return envoytest.StartLoad(t, envoytest.LoadOptions{URL: p.url(), Rate: rate, Users: userIDs(500), Connections: 8})
}

// TestRolloutByEdit walks a rollout from an edited file to its end, under
// load: nobody fails, nobody goes back.
func TestRolloutByEdit(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	if st := g.serving("churn", "v1", 100); st.Phase != rollout.PhaseIdle {
		t.Fatalf("phase %s before the first release, want idle", st.Phase)
	}
	load := p.load(t, 300)
	g.write("churn.yaml", p.file("v2", "{traffic: 10%, for: 1s}", "{traffic: 25%, for: 1s}", "{traffic: 50%}", "{traffic: 100%, for: 1s}"))
	g.serving("churn", "v2", 10)
	g.serving("churn", "v2", 25)
	g.serving("churn", "v2", 50)
	g.must("skip", "churn", "--reason", "looks good", "--wait")
	st := g.await("churn", "completion", func(s rollout.Status) bool { return s.Phase == rollout.PhaseCompleted })
	report := load.Stop()
	if report.Failed != 0 {
		t.Errorf("requests failed: %s", report)
	}
	if back := report.Backwards("v1", "v2"); len(back) != 0 {
		t.Errorf("%d users went back, the first: %+v", len(back), back[0])
	}
	if st.Stable != "v2" || st.Weights["v2"] != 100 {
		t.Errorf("after the rollout: %+v", st)
	}
	for _, want := range []string{"looks good", "v2"} {
		if out := g.must("history", "churn"); !strings.Contains(out, want) {
			t.Errorf("history has no %q:\n%s", want, out)
		}
	}
}

// TestEnvoyOutlivesHeadgate kills headgate in mid-rollout: Envoy serves on, and
// the next run adopts it at the same step with the same weights.
func TestEnvoyOutlivesHeadgate(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
	before := g.serving("churn", "v2", 30)
	pid := g.envoyPID()
	if pid == 0 {
		t.Fatal("no Envoy recorded")
	}
	load := p.load(t, 300)
	g.kill()
	envoytest.Eventually(t, 10*time.Second, "requests after the kill", func() bool { return load.Sent() > 300 })
	g.start().ready()
	after := g.serving("churn", "v2", 30)
	sent := load.Sent()
	envoytest.Eventually(t, 10*time.Second, "requests after the start", func() bool { return load.Sent() > sent+300 })
	report := load.Stop()
	if report.Failed != 0 {
		t.Errorf("requests failed: %s", report)
	}
	if moves := report.Moves(); len(moves) != 0 {
		t.Errorf("%d users moved, the first: %+v, the last %+v", len(moves), moves[0], moves[len(moves)-1])
	}
	if got := g.envoyPID(); got != pid {
		t.Errorf("Envoy's process changed from %d to %d", pid, got)
	}
	if after.Rollout != before.Rollout || after.Step != before.Step || after.Phase != before.Phase {
		t.Errorf("resumed at %+v, was at %+v", after, before)
	}
}

// TestEnvoyIsRestarted kills the Envoy of `headgate run`.
func TestEnvoyIsRestarted(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	pid := g.envoyPID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.eventually(20*time.Second, "a new Envoy that serves", func() bool {
		if g.envoyPID() == pid {
			return false
		}
		resp, err := http.Post(p.url(), "application/json", strings.NewReader("{}"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// TestTermination ends headgate under load: what was accepted is answered, and
// the exit code is 0.
func TestTermination(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.v1.SetDelay(300 * time.Millisecond)
	g := newGate(t, "run")
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	g.serving("churn", "v1", 100)
	pid := g.envoyPID()
	answers := make(chan error, 10)
	arrived := p.v1.Count()
	for range cap(answers) {
		go func() {
			resp, err := http.Post(p.url(), "application/json", strings.NewReader("{}"))
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("HTTP %d", resp.StatusCode)
				}
			}
			answers <- err
		}()
	}
	g.eventually(5*time.Second, "requests in flight", func() bool { return p.v1.Count() >= arrived+cap(answers) })
	begin := time.Now()
	if code := g.term(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("ended after %s, want at most 10 s", took)
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Errorf("a request in flight failed: %v", err)
		}
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("Envoy %d is still there", pid)
	}
}
