package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

// Tests run the program as its own process, so that they can kill it: the test
// binary is headgate when this variable is set.
const beHeadgate = "HEADGATE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beHeadgate) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// gate is a headgate process with its folders, and the Envoy that it runs.
type gate struct {
	t     testing.TB
	mode  string // run | serve
	conf  string
	state string
	admin string // host:port
	extra []string
	cmd   *exec.Cmd
	log   *bytes.Buffer
	ended chan struct{}
}

// newGate prepares folders; start runs the program. Whatever Envoy the program
// leaves behind is killed by its process id when the test ends.
func newGate(t testing.TB, mode string, extra ...string) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "hg")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{
		t: t, mode: mode, conf: filepath.Join(dir, "conf"), state: filepath.Join(dir, "state"),
		admin: fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)), extra: extra,
	}
	if err := os.Mkdir(g.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.kill()
		g.killEnvoy()
		if t.Failed() {
			g.dump()
		}
		_ = os.RemoveAll(dir)
	})
	return g
}

func (g *gate) write(name, content string) {
	g.t.Helper()
	tmp := filepath.Join(g.conf, "."+name+".tmp")
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(g.conf, name)); err != nil {
		g.t.Fatal(err)
	}
}

// start runs headgate and returns at once; ready waits.
func (g *gate) start() *gate {
	g.t.Helper()
	args := []string{g.mode, "--config", g.conf, "--state", g.state, "--admin", g.admin}
	if g.mode == "run" {
		args = append(args, "--envoy", envoytest.Binary(g.t))
	}
	g.cmd = exec.Command(os.Args[0], append(args, g.extra...)...)
	g.cmd.Env = append(os.Environ(), beHeadgate+"=1")
	g.log = new(bytes.Buffer)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(g.cmd)
	g.ended = ended
	return g
}

// ready waits until /readyz says yes.
func (g *gate) ready() *gate {
	g.t.Helper()
	g.eventually(20*time.Second, "ready", func() bool {
		resp, err := http.Get("http://" + g.admin + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return g
}

// eventually polls as envoytest.Eventually does, and gives up at once when the
// program has ended.
func (g *gate) eventually(timeout time.Duration, what string, ok func() bool) {
	g.t.Helper()
	deadline := time.Now().Add(timeout)
	for !ok() {
		select {
		case <-g.ended:
			g.t.Fatalf("waiting for %s: headgate has ended: %v", what, g.cmd.ProcessState)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("waited %s for %s", timeout, what)
		}
	}
}

// kill ends headgate with SIGKILL; its Envoy lives on.
func (g *gate) kill() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	_ = g.cmd.Process.Kill()
	<-g.ended
}

// term ends headgate with SIGTERM and returns its exit code.
func (g *gate) term() int {
	g.t.Helper()
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.ended:
	case <-time.After(15 * time.Second):
		g.t.Fatal("headgate did not end within 15 s of SIGTERM")
	}
	return g.cmd.ProcessState.ExitCode()
}

// envoyPID returns the process id that headgate recorded, or 0.
func (g *gate) envoyPID() int {
	data, err := os.ReadFile(filepath.Join(g.state, "envoy.json"))
	if err != nil {
		return 0
	}
	var rec struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return 0
	}
	return rec.PID
}

func (g *gate) killEnvoy() {
	if pid := g.envoyPID(); pid > 0 {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && strings.Contains(exe, "envoy") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (g *gate) dump() {
	if g.log != nil {
		g.t.Logf("headgate's log:\n%s", tail(g.log.Bytes(), 16<<10))
	}
	if data, err := os.ReadFile(filepath.Join(g.state, "envoy.log")); err == nil {
		g.t.Logf("envoy's log:\n%s", tail(data, 8<<10))
	}
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// cli runs a command of the program against this gate.
func (g *gate) cli(args ...string) (stdout string, code int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), beHeadgate+"=1", "HEADGATE_ADMIN="+g.admin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		g.t.Fatalf("headgate %s: %v", strings.Join(args, " "), err)
	}
	if stderr.Len() > 0 {
		g.t.Logf("headgate %s: %s", strings.Join(args, " "), stderr.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// must is cli for commands that have to succeed.
func (g *gate) must(args ...string) string {
	g.t.Helper()
	out, code := g.cli(args...)
	if code != 0 {
		g.t.Fatalf("headgate %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

func (g *gate) status(model string) rollout.Status {
	g.t.Helper()
	st, err := g.tryStatus(model)
	if err != nil {
		g.t.Fatal(err)
	}
	return st
}

// tryStatus asks the admin API, as `headgate status MODEL -o json` does.
func (g *gate) tryStatus(model string) (rollout.Status, error) {
	var st rollout.Status
	resp, err := http.Get("http://" + g.admin + "/v1/models/" + model)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return st, fmt.Errorf("status of %s: HTTP %d", model, resp.StatusCode)
	}
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// await waits until the model's status satisfies ok.
func (g *gate) await(model, what string, ok func(rollout.Status) bool) rollout.Status {
	g.t.Helper()
	var st rollout.Status
	var err error
	deadline := time.Now().Add(20 * time.Second)
	for {
		st, err = g.tryStatus(model)
		if err == nil && ok(st) {
			return st
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("waited 20 s for %s: %+v %v", what, st, err)
		}
		select {
		case <-g.ended:
			g.t.Fatalf("waiting for %s: headgate has ended: %v", what, g.cmd.ProcessState)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// serving waits until a version has a share (in percent) on every Envoy.
func (g *gate) serving(model, version string, percent float64) rollout.Status {
	g.t.Helper()
	return g.await(model, fmt.Sprintf("%s at %v%% acknowledged", version, percent), func(s rollout.Status) bool {
		return s.Acknowledged && s.Weights[version] == percent
	})
}
