package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/demo/process"
)

// start runs a shell script, which prints a line when it is set up.
func start(t *testing.T, script string, leash bool) *process.Process {
	t.Helper()
	first := process.NewFirstLine()
	p, err := process.Start(process.Spec{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script},
		Log: filepath.Join(t.TempDir(), "log"), Leash: leash, Output: first,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(0) })
	select {
	case <-first.C():
	case <-time.After(time.Minute):
		t.Fatal("no line within a minute")
	}
	return p
}

func alive(p *process.Process) bool {
	return !errors.Is(syscall.Kill(p.PID(), 0), syscall.ESRCH)
}

func TestStopAsks(t *testing.T) {
	p := start(t, `trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done`, false)
	if err := p.Stop(time.Minute); err != nil {
		t.Error(err)
	}
	if alive(p) {
		t.Errorf("pid %d is alive", p.PID())
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	p := start(t, `trap '' TERM; echo up; while :; do sleep 0.01; done`, false)
	err := p.Stop(50 * time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "did not end within 50ms and was killed") {
		t.Errorf("error %v", err)
	}
	if alive(p) {
		t.Errorf("pid %d is alive", p.PID())
	}
}

func TestLeash(t *testing.T) {
	p := start(t, `trap '' TERM; echo up; read x; exit 0`, true)
	if err := p.Stop(time.Minute); err != nil {
		t.Error(err)
	}
}

func TestEndedByItself(t *testing.T) {
	p := start(t, `echo up; echo broken >&2; exit 3`, false)
	<-p.Done()
	if err := p.Ended(); !strings.Contains(err.Error(), "script ended by itself: exit status 3: see ") {
		t.Errorf("error %v", err)
	}
	if log, err := os.ReadFile(p.Log); err != nil || string(log) != "broken\n" {
		t.Errorf("log %q, %v", log, err)
	}
	if err := p.Stop(time.Second); err != nil {
		t.Error(err)
	}
}

func TestStartErrors(t *testing.T) {
	for name, s := range map[string]process.Spec{
		"no program": {Name: "x", Path: "/nonexistent", Log: filepath.Join(t.TempDir(), "log")},
		"no folder":  {Name: "x", Path: "/bin/sh", Log: filepath.Join(t.TempDir(), "none", "log")},
	} {
		if _, err := process.Start(s); err == nil || !strings.HasPrefix(err.Error(), "start x: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
