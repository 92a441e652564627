package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing/rollout"
)

func TestClient(t *testing.T) {
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		switch r.URL.Path {
		case "/readyz":
			http.Error(w, "no Envoy yet", http.StatusServiceUnavailable)
		case "/v1/models/tumor":
			_, _ = w.Write([]byte(`{"model":"tumor","phase":"progressing","step":1,"weights":{"v1":75,"v2":25}}`))
		case "/v1/models/tumor/rollback":
			w.WriteHeader(http.StatusAccepted)
		default:
			_, _ = w.Write([]byte(`[]`))
		}
	}))
	defer s.Close()
	c := Client{URL: s.URL}

	if err := c.Ready(t.Context()); err == nil || err.Error() != "GET /readyz: 503 Service Unavailable: no Envoy yet" {
		t.Errorf("ready: %v", err)
	}
	status, err := c.Status(t.Context(), "tumor")
	want := rollout.Status{
		Model: "tumor", Phase: rollout.PhaseProgressing, Step: 1,
		Weights: map[string]float64{"v1": 75, "v2": 25},
	}
	if diff := cmp.Diff(want, status); diff != "" || err != nil {
		t.Errorf("status: %v (-want +got):\n%s", err, diff)
	}
	if _, err := c.Status(t.Context(), "other"); err == nil || !strings.HasPrefix(err.Error(), "status of other: ") {
		t.Errorf("status that is none: %v", err)
	}
	if err := c.Do(t.Context(), "tumor", rollout.ActionRollback, "enough"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{
		"GET /readyz", "GET /v1/models/tumor", "GET /v1/models/other",
		`POST /v1/models/tumor/rollback {"reason":"enough"}`,
	}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// fake returns a program that stands for headgate.
func fake(t *testing.T, script string) Options {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "headgate")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Options{
		Headgate: path, Envoy: "/opt/envoy", Config: "conf", State: dir,
		Admin: "127.0.0.1:9900", Log: filepath.Join(dir, "log"),
	}
}

func TestStartAndStop(t *testing.T) {
	o := fake(t, `echo "$@"; exec sleep 100`)
	g, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("run --config conf --state %s --admin 127.0.0.1:9900 --envoy /opt/envoy\n", o.State)
	err = g.Await(t.Context(), "arguments", func(context.Context) error {
		if log, err := os.ReadFile(o.Log); err != nil || string(log) != want {
			return fmt.Errorf("log %q, %w", log, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
}

func TestAwaitTellsThatHeadgateEnded(t *testing.T) {
	g, err := Start(fake(t, `echo "conf/tumor.yaml:1: bad" >&2; exit 2`))
	if err != nil {
		t.Fatal(err)
	}
	err = g.Await(t.Context(), "ready", func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "headgate ended by itself: exit status 2: see ") {
		t.Errorf("error %v", err)
	}
}

func TestAwaitEndsWithTheContext(t *testing.T) {
	g, err := Start(fake(t, `exec sleep 100`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Stop() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Await(ctx, "ready", func(context.Context) error { return errors.New("no") }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// An Envoy that headgate left behind is ended, another process is not.
func TestLeftEnvoy(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	for name, killed := range map[string]bool{"envoy": true, "postgres": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, program, 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), path, "100")
			cmd.Args[0] = "sleep" // one program that has many names goes by this
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			record := fmt.Sprintf(`{"pid": %d}`, cmd.Process.Pid)
			if err := os.WriteFile(filepath.Join(dir, "envoy.json"), []byte(record), 0o600); err != nil {
				t.Fatal(err)
			}
			killLeftEnvoy(dir)
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			by := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
			if got := by == syscall.SIGKILL; got != killed {
				t.Errorf("ended by %s", by)
			}
		})
	}
}
