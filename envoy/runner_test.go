package envoy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"
)

func awaitLive(t *testing.T, r *envoy.Runner) int {
	t.Helper()
	envoytest.Eventually(t, 20*time.Second, "Envoy is live", func() bool {
		return r.State().PID != 0 && r.Admin().Ready(t.Context()) == nil
	})
	return r.State().PID
}

func mustServe(t *testing.T, s *stage) {
	t.Helper()
	report := envoytest.Load(t.Context(), envoytest.LoadOptions{URL: s.url, Requests: 20})
	if report.Failed != 0 || report.Versions["v1"] != 20 {
		t.Fatal(report)
	}
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

func TestRunnerStartsAgain(t *testing.T) {
	s := newStage(t)
	r := s.runner(t)
	first := awaitLive(t, r)
	mustServe(t, s)

	kill(t, first, syscall.SIGKILL)
	envoytest.Eventually(t, 20*time.Second, "another Envoy", func() bool {
		pid := r.State().PID
		return pid != 0 && pid != first
	})
	awaitLive(t, r)
	mustServe(t, s)
	state := r.State()
	if state.Restarts != 1 || state.LastExit != "signal: killed" || state.Adopted || state.Outdated != "" {
		t.Fatalf("state %+v", state)
	}
}

func TestRunnerTellsWhyEnvoyEnds(t *testing.T) {
	s := newStage(t)
	s.bootstrap.StaticResources.Clusters[0].Name = "" // Envoy refuses it
	r := s.runner(t)
	envoytest.Eventually(t, 20*time.Second, "two ends", func() bool { return r.State().Restarts >= 2 })
	if exit := r.State().LastExit; !strings.HasPrefix(exit, "exit status 1: ") || !strings.Contains(exit, "Name") {
		t.Fatalf("last exit %q", exit)
	}
}

// another starts a process that runs the Envoy of s, as a headgate would.
func another(t *testing.T, s *stage) *exec.Cmd {
	t.Helper()
	text, err := protojson.Marshal(s.bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.dir+"/test.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), runAs+"="+s.dir, "ENVOY="+envoytest.Binary(t))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// recorded is what the state directory says of its Envoy.
func recorded(dir string) (pid int) {
	var about struct{ PID int }
	text, _ := os.ReadFile(dir + "/envoy.json")
	_ = json.Unmarshal(text, &about)
	return about.PID
}

func TestEnvoyOutlivesHeadgate(t *testing.T) {
	s := newStage(t)
	headgate := another(t, s)
	var pid int
	envoytest.Eventually(t, 20*time.Second, "a recorded Envoy", func() bool { pid = recorded(s.dir); return pid != 0 })
	admin := envoy.NewAdmin(envoy.Address{Unix: s.dir + "/admin.sock"})
	envoytest.Eventually(t, 20*time.Second, "Envoy is live", func() bool { return admin.Ready(t.Context()) == nil })

	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: s.url, Rate: 500})
	kill(t, headgate.Process.Pid, syscall.SIGKILL)
	_ = headgate.Wait()
	mustServe(t, s)

	r := s.runner(t)
	if got := awaitLive(t, r); got != pid {
		t.Fatalf("the next run has Envoy %d, want %d", got, pid)
	}
	if state := r.State(); !state.Adopted || state.Outdated != "" || state.Restarts != 0 || time.Since(state.Since) > time.Minute {
		t.Fatalf("state %+v", state)
	}
	if report := load.Stop(); report.Failed != 0 || report.Dials != 4 {
		t.Fatalf("during the change of headgates: %s", report)
	}

	kill(t, pid, syscall.SIGKILL)
	envoytest.Eventually(t, 20*time.Second, "another Envoy", func() bool {
		state := r.State()
		return state.PID != 0 && state.PID != pid && state.Restarts == 1 && !state.Adopted
	})
	awaitLive(t, r)
	mustServe(t, s)
}

// A headgate that dies between the start of Envoy and its record leaves the
// record of the intention, or an old one, or none.
func TestAdoptionWithoutRecord(t *testing.T) {
	tests := map[string]struct {
		damage   func(text string) string
		outdated string
	}{
		"intention only": {damage: func(text string) string {
			return strings.Replace(text, fmt.Sprintf(`"pid": %d`, recordedIn(text)), `"pid": 0`, 1)
		}},
		"half a record":          {damage: func(text string) string { return text[:len(text)/2] }, outdated: "it is not known with which bootstrap it was started"},
		"of an ended Envoy":      {damage: func(text string) string { return strings.Replace(text, `"start_time": `, `"start_time": 1`, 1) }, outdated: "it is not known with which bootstrap it was started"},
		"of another bootstrap":   {damage: func(text string) string { return strings.Replace(text, `"bootstrap": "`, `"bootstrap": "0`, 1) }, outdated: "it runs on an older bootstrap, 0"},
		"of another Envoy build": {damage: func(text string) string { return strings.Replace(text, `"version": "`, `"version": "0.`, 1) }, outdated: "it is Envoy 0.1."},
	}
	s := newStage(t)
	headgate := another(t, s)
	var pid int
	envoytest.Eventually(t, 20*time.Second, "a recorded Envoy", func() bool { pid = recorded(s.dir); return pid != 0 })
	kill(t, headgate.Process.Pid, syscall.SIGKILL)
	_ = headgate.Wait()
	text, err := os.ReadFile(s.dir + "/envoy.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(s.dir+"/envoy.json", []byte(test.damage(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			state, err := envoy.LockState(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = state.Close() }()
			r, err := envoy.NewRunner(envoy.RunnerOptions{State: state, Binary: binary(t), Bootstrap: s.bootstrap})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() { done <- r.Run(context.Background()) }()
			if got := awaitLive(t, r); got != pid {
				t.Errorf("Envoy %d, want %d", got, pid)
			}
			if got := r.State(); !got.Adopted || !strings.HasPrefix(got.Outdated, test.outdated) || (test.outdated == "") != (got.Outdated == "") {
				t.Errorf("state %+v", got)
			}
			r.Detach()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	s.runner(t) // adopts it, and stops it at the end
	mustServe(t, s)
}

func recordedIn(text string) int {
	var about struct{ PID int }
	_ = json.Unmarshal([]byte(text), &about)
	return about.PID
}

func TestStopDrains(t *testing.T) {
	s := newStage(t)
	r := s.runner(t)
	pid := awaitLive(t, r)
	s.model.SetDelay(time.Second)
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: s.url, Requests: 8, Connections: 8})
	envoytest.Eventually(t, 5*time.Second, "requests in flight", func() bool { return s.model.Count() == 8 })

	begin := time.Now()
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if report := load.Stop(); report.Failed != 0 || report.Versions["v1"] != 8 {
		t.Fatal(report)
	}
	if took > 4*time.Second {
		t.Fatalf("the drain took %s though every request ended within 1 s", took)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("Envoy %d after Stop: %v", pid, err)
	}
	if state := r.State(); state.PID != 0 || state.LastExit != "stopped" || state.Restarts != 0 {
		t.Fatalf("state %+v", state)
	}
}

// Clients that keep asking are told to close their connections and then find
// the port closed. None has a request cut off.
func TestStopUnderLoad(t *testing.T) {
	s := newStage(t)
	r := s.runner(t)
	awaitLive(t, r)
	s.model.SetDelay(20 * time.Millisecond)
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: s.url, Connections: 16, Rate: 500})
	envoytest.Eventually(t, 5*time.Second, "load", func() bool { return load.Sent() > 200 })
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := load.Stop()
	cut := 0
	for _, result := range report.Results {
		if result.Err != nil && !errors.Is(result.Err, syscall.ECONNREFUSED) || result.Status >= 400 {
			cut++
			t.Log(result.Err, result.Status)
		}
	}
	if cut != 0 || report.Failed == 0 {
		t.Fatalf("%d requests cut off: %s", cut, report)
	}
}

// Requests that never end, and an Envoy that does not listen to anybody.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	t.Run("hanging request", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		r := s.runner(t)
		awaitLive(t, r)
		s.model.Hang(true)
		load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: s.url, Requests: 1, Connections: 1, Timeout: 20 * time.Second})
		envoytest.Eventually(t, 5*time.Second, "a request in flight", func() bool { return s.model.Count() == 1 })
		begin := time.Now()
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 4*time.Second || took > 9*time.Second {
			t.Fatalf("took %s, want the 5 s of the drain and little more", took)
		}
		if report := load.Stop(); report.Failed != 1 {
			t.Fatal(report)
		}
	})
	t.Run("frozen Envoy", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		r := s.runner(t)
		kill(t, awaitLive(t, r), syscall.SIGSTOP)
		begin := time.Now()
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 9*time.Second {
			t.Fatalf("took %s", took)
		}
	})
}

// A headgate that is killed at any moment of the start leaves one Envoy or
// none, and the next one finds what there is.
func TestNeverTwoEnvoys(t *testing.T) {
	s := newStage(t)
	none, unrecorded, adopted := 0, 0, 0
	for _, moment := range []time.Duration{0, 300, 1000, 2000, 50_000} { // µs
		headgate := another(t, s)
		for deadline := time.Now().Add(10 * time.Second); ; { // until it has noted that it will start an Envoy
			if _, err := os.Stat(s.dir + "/envoy.json"); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no record of a start")
			}
		}
		time.Sleep(moment * time.Microsecond) // the moment is what is varied
		kill(t, headgate.Process.Pid, syscall.SIGKILL)
		_ = headgate.Wait()
		before := envoysOf(t, s.dir)
		switch {
		case len(before) == 0:
			none++
		case recorded(s.dir) == 0:
			unrecorded++
		default:
			adopted++
		}
		t.Run(fmt.Sprintf("%dµs", moment), func(t *testing.T) {
			r := s.runner(t)
			pid := awaitLive(t, r)
			after := envoysOf(t, s.dir)
			if len(before) > 1 || len(after) != 1 || after[0] != pid || len(before) == 1 && (before[0] != pid || !r.State().Adopted) {
				t.Fatalf("Envoys %v, then %v, state %+v", before, after, r.State())
			}
			if state := r.State(); state.Outdated != "" {
				t.Errorf("state %+v", state)
			}
			mustServe(t, s)
		})
	}
	t.Logf("%d rounds without an Envoy, %d with an unrecorded, %d with a recorded one", none, unrecorded, adopted)
}

// envoysOf finds the Envoys that were started from a state directory.
func envoysOf(t *testing.T, dir string) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), dir+"/envoy.yaml") {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// What cannot be written must not keep users from being served.
func TestServesWithoutRecord(t *testing.T) {
	s := newStage(t)
	if err := os.MkdirAll(s.dir+"/envoy.json/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	r := s.runner(t)
	awaitLive(t, r)
	mustServe(t, s)
}

func TestStopAfterRun(t *testing.T) {
	s := newStage(t)
	state, err := envoy.LockState(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = state.Close() }()
	r, err := envoy.NewRunner(envoy.RunnerOptions{State: state, Binary: binary(t), Bootstrap: s.bootstrap})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	pid := awaitLive(t, r)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustServe(t, s)
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("Envoy %d after Stop: %v", pid, err)
	}
	if err := r.Run(t.Context()); err != nil || r.State().PID != 0 {
		t.Fatalf("Run after Stop: %v, state %+v", err, r.State())
	}
}

// The path of a socket is limited to about a hundred bytes, that of a state
// directory is not.
func TestLongStateDirectory(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	path, err := envoy.SocketPath(long, "admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(path)) })
	if again, err := envoy.SocketPath(long+"/", "admin.sock"); err != nil || again != path || len(path) > 103 {
		t.Fatalf("%q, then %q, %v", path, again, err)
	}
	if other, err := envoy.SocketPath(long+"/x", "admin.sock"); err != nil || other == path {
		t.Fatalf("%q for two directories, %v", other, err)
	} else {
		_ = os.RemoveAll(filepath.Dir(other))
	}
	s := newStage(t)
	s.dir = long
	s.bootstrap.Admin.Address.GetPipe().Path = path
	awaitLive(t, s.runner(t))
	mustServe(t, s)

	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := envoy.SocketPath(long, "xds.sock"); err == nil || !strings.Contains(err.Error(), "mode 0700") {
		t.Fatalf("a directory that others can read: %v", err)
	}
}

func TestStateDirIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	state, err := envoy.LockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = envoy.LockState(dir)
	want := fmt.Sprintf("state directory is in use: %s: by headgate process %d: stop that one, or choose another directory with --state", dir, os.Getpid())
	if !errors.Is(err, envoy.ErrStateInUse) || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := envoy.LockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}
