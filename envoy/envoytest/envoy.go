package envoytest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// Envoy is a running Envoy process that belongs to one test.
type Envoy struct {
	// PID is the process id. Signals go to it and to nothing else.
	PID int
	// LogPath is the file with everything that Envoy printed.
	LogPath string

	t      testing.TB
	admin  *http.Client
	closed chan struct{} // closed when the process has ended
	exit   error         // valid after closed
}

// Option changes how [Start] starts an Envoy.
type Option func(*settings)

type settings struct {
	args []string
	wait bool
}

// Args adds command line arguments.
func Args(args ...string) Option {
	return func(s *settings) { s.args = append(s.args, args...) }
}

// NoWait makes [Start] return as soon as the admin interface answers, for an
// Envoy that stays uninitialized until an xDS server appears.
func NoWait() Option {
	return func(s *settings) { s.wait = false }
}

// Start runs a real Envoy on a bootstrap in YAML or JSON and returns when it
// is live, within 20 s. A bootstrap without `admin` gets one on a free port of
// loopback, one without `node` gets the name of the test. Listeners may use
// port 0, see [Envoy.Listener]. The log is printed when the test fails.
func Start(t testing.TB, bootstrap string, options ...Option) *Envoy {
	t.Helper()
	set := settings{wait: true}
	for _, o := range options {
		o(&set)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(config, complete(t, bootstrap), 0o600); err != nil {
		t.Fatal(err)
	}
	addressFile := filepath.Join(dir, "admin")
	args := append([]string{
		"--config-path", config,
		"--use-dynamic-base-id",
		// No shared memory either: a killed Envoy leaves nothing behind.
		"--disable-hot-restart",
		"--concurrency", "2",
		"--log-level", "info",
		"--component-log-level", "main:warning", // without the list of extensions
		"--admin-address-path", addressFile,
	}, set.args...)
	e := launch(t, dir, args)
	e.awaitAdmin(addressFile)
	if set.wait {
		e.AwaitLive(20 * time.Second)
	}
	return e
}

// complete adds to a bootstrap what every test needs.
func complete(t testing.TB, bootstrap string) []byte {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(bootstrap), &doc); err != nil {
		t.Fatalf("bootstrap: %v", err)
	}
	if doc == nil {
		doc = map[string]any{}
	}
	if _, ok := doc["admin"]; !ok {
		doc["admin"] = map[string]any{"address": map[string]any{
			"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0},
		}}
	}
	if _, ok := doc["node"]; !ok {
		doc["node"] = map[string]any{"id": t.Name(), "cluster": "test"}
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		t.Fatalf("bootstrap: %v", err)
	}
	return out
}

func launch(t testing.TB, dir string, args []string) *Envoy {
	t.Helper()
	logPath := filepath.Join(dir, "envoy.log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(Binary(t), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Envoy: %v", err)
	}
	e := &Envoy{PID: cmd.Process.Pid, LogPath: logPath, t: t, closed: make(chan struct{})}
	go func() {
		e.exit = cmd.Wait()
		close(e.closed)
	}()
	t.Cleanup(e.cleanup)
	return e
}

func (e *Envoy) cleanup() {
	e.Kill()
	if e.admin != nil {
		e.admin.CloseIdleConnections()
	}
	if e.t.Failed() {
		e.t.Logf("log of Envoy %d:\n%s", e.PID, e.Log())
	}
}

// Log returns the last 64 KiB of what Envoy printed.
func (e *Envoy) Log() string {
	text, err := os.ReadFile(e.LogPath)
	if err != nil {
		return err.Error()
	}
	if len(text) > 64<<10 {
		text = text[len(text)-64<<10:]
	}
	return string(text)
}

func (e *Envoy) awaitAdmin(addressFile string) {
	e.t.Helper()
	var address []byte
	e.poll(20*time.Second, "the admin address", func() bool {
		address, _ = os.ReadFile(addressFile)
		return len(bytes.TrimSpace(address)) > 0
	})
	network, target := "tcp", string(bytes.TrimSpace(address))
	if strings.HasPrefix(target, "/") {
		network = "unix"
	}
	e.admin = &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, target)
			},
		},
	}
	e.poll(20*time.Second, "an answer of the admin interface", func() bool {
		_, _, err := e.request(http.MethodGet, "/ready")
		return err == nil
	})
}

// AwaitLive returns when Envoy says that it is live, or fails the test.
func (e *Envoy) AwaitLive(timeout time.Duration) {
	e.t.Helper()
	e.poll(timeout, "the state LIVE", func() bool {
		status, body, err := e.request(http.MethodGet, "/ready")
		return err == nil && status == http.StatusOK && strings.HasPrefix(body, "LIVE")
	})
}

// poll asks every 5 ms until ok, and fails the test when Envoy ends or the
// time is over.
func (e *Envoy) poll(timeout time.Duration, what string, ok func() bool) {
	e.t.Helper()
	deadline := time.Now().Add(timeout)
	for !ok() {
		select {
		case <-e.closed:
			e.t.Fatalf("Envoy %d ended (%v) before %s", e.PID, e.exit, what)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("Envoy %d: no %s within %s", e.PID, what, timeout)
		}
	}
}

func (e *Envoy) request(method, path string) (int, string, error) {
	req, err := http.NewRequest(method, "http://admin"+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := e.admin.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// Admin asks the admin interface: Admin("/stats?format=json"). The test fails
// when it does not answer.
func (e *Envoy) Admin(path string) string {
	e.t.Helper()
	_, body, err := e.request(http.MethodGet, path)
	if err != nil {
		e.t.Fatalf("admin GET %s: %v", path, err)
	}
	return body
}

// AdminPost is [Envoy.Admin] for the paths that change something.
func (e *Envoy) AdminPost(path string) string {
	e.t.Helper()
	_, body, err := e.request(http.MethodPost, path)
	if err != nil {
		e.t.Fatalf("admin POST %s: %v", path, err)
	}
	return body
}

// Stats returns the counters and gauges whose names begin with prefix.
func (e *Envoy) Stats(prefix string) map[string]int {
	e.t.Helper()
	stats := map[string]int{}
	for line := range strings.Lines(e.Admin("/stats")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		if n, err := strconv.Atoi(value); err == nil {
			stats[name] = n
		}
	}
	return stats
}

// Listener returns the host:port of a listener by its name, which is how a
// test finds one that was configured with port 0.
func (e *Envoy) Listener(name string) string {
	e.t.Helper()
	for line := range strings.Lines(e.Admin("/listeners")) {
		if address, ok := strings.CutPrefix(strings.TrimSpace(line), name+"::"); ok {
			return address
		}
	}
	e.t.Fatalf("Envoy %d has no listener %q", e.PID, name)
	return ""
}

// Pause freezes the process with SIGSTOP, until [Envoy.Resume].
func (e *Envoy) Pause() { e.signal(syscall.SIGSTOP) }

// Resume lets a frozen process go on.
func (e *Envoy) Resume() { e.signal(syscall.SIGCONT) }

// Kill ends the process with SIGKILL and waits for its end. It may be called
// again.
func (e *Envoy) Kill() {
	select {
	case <-e.closed:
	default:
		e.signal(syscall.SIGKILL)
		<-e.closed
	}
}

// Ended is closed when the process has ended.
func (e *Envoy) Ended() <-chan struct{} { return e.closed }

func (e *Envoy) signal(sig syscall.Signal) {
	if err := syscall.Kill(e.PID, sig); err != nil && err != syscall.ESRCH {
		e.t.Errorf("send %s to Envoy %d: %v", sig, e.PID, err)
	}
}

// FreePort returns a port of 127.0.0.1 that nothing listens on. It is none of
// those that connections get: on a busy machine one of them would have it
// before it is used. Another process can still take it: prefer port 0 where
// possible.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
	t.Fatal("found no free port of 127.0.0.1")
	return 0
}

// Eventually polls until ok, every 5 ms, and fails the test after timeout.
// It is for waiting on real processes; code with its own clock is tested with
// testing/synctest.
func Eventually(t testing.TB, timeout time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(timeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, timeout)
		}
	}
}
