package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
	"github.com/headgate/headgate/routing/rollout"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// outcome is what a command line came to.
type outcome struct {
	code           int
	stdout, stderr string
}

// cli runs a command line. Env are pairs of names and values.
func cli(t *testing.T, args []string, env ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return cliIn(ctx, args, env...)
}

func cliIn(ctx context.Context, args []string, env ...string) outcome {
	var stdout, stderr admintest.Buffer
	code := run(ctx, args, &stdout, &stderr, func(name string) string {
		for i := 0; i+1 < len(env); i += 2 {
			if env[i] == name {
				return env[i+1]
			}
		}
		return ""
	})
	return outcome{code, stdout.String(), stderr.String()}
}

// words splits a command line; {admin} and {dir} are replaced.
func words(line string, replace ...string) []string {
	return strings.Fields(strings.NewReplacer(replace...).Replace(line))
}

// TestCommandLines compares what commands print with testdata/cli. Each golden
// file has the command line, the exit code, stdout and stderr.
func TestCommandLines(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	g.Settle()
	g.Serve("v1", 900, 0, 8*time.Millisecond)
	g.Serve("v2", 100, 3, 11*time.Millisecond)
	dir := configDirs(t)
	used := map[string]bool{}
	for _, tc := range []struct{ name, line string }{
		{"help", "--help"},
		{"nothing", ""},
		{"unknown-command", "statsu"},
		{"unknown-flag", "status --wach"},
		{"unknown-flag-far", "status --frobnicate"},
		{"unknown-command-far", "frobnicate"},
		{"envoys-help", "envoys --help"},
		{"status-help", "status --help"},
		{"run-help", "run --help"},
		{"history-help", "history --help"},
		{"promote-help", "promote --help"},
		{"status", "status --admin {admin}"},
		{"status-model", "status churn --admin {admin}"},
		{"status-idle", "status fraud --admin {admin}"},
		{"status-unknown", "status nobody -o json --admin {admin}"},
		{"status-two", "status churn fraud --admin {admin}"},
		{"status-bad-output", "status churn -o yaml --admin {admin}"},
		{"pause-help", "pause --help"},
		{"pause", "pause churn --reason lunch --wait --admin {admin}"},
		{"pause-again", "pause churn --admin {admin}"},
		{"status-paused", "status churn --admin {admin}"},
		{"resume", "resume churn --wait --admin {admin}"},
		{"skip", "skip churn --wait --admin {admin}"},
		{"status-second-step", "status churn --admin {admin}"},
		{"explain", "explain churn --admin {admin}"},
		{"explain-key", "explain churn --key ada --admin {admin}"},
		{"rollback", "rollback churn --reason complaints --wait --admin {admin}"},
		{"rollback-again", "rollback churn --wait --admin {admin}"},
		{"retry", "retry churn --wait --admin {admin}"},
		{"promote", "promote churn --wait --admin {admin}"},
		{"promote-again", "promote churn --wait --admin {admin}"},
		{"promote-nothing", "promote --admin {admin}"},
		{"promote-two", "promote churn fraud --admin {admin}"},
		{"promote-unknown", "promote nobody --admin {admin}"},
		{"promote-empty", "promote  --timeout 0s churn --admin {admin}"},
		{"adopt", "adopt churn v1 --admin {admin}"},
		{"adopt-no-version", "adopt churn --admin {admin}"},
		{"explain-help", "explain --help"},
		{"explain-override", "explain churn --key ada --header canary=true --admin {admin}"},
		{"explain-unknown", "explain nobody --admin {admin}"},
		{"history", "history churn --admin {admin}"},
		{"history-limit", "history churn --limit 0 --admin {admin}"},
		{"history-unknown", "history nobody --admin {admin}"},
		{"envoys", "envoys --admin {admin}"},
		{"config", "config --admin {admin}"},
		{"no-server", "status --admin 127.0.0.1:1"},
		{"no-socket", "status --admin unix:/nonexistent/headgate.sock"},
		{"bad-address", "status --admin 9900"},
		{"bad-url", "status --admin http://u:p@h/"},
		{"run-nothing", "run"},
		{"run-exposed", "run --config {dir}/fine --admin 0.0.0.0:9900"},
		{"serve-exposed", "serve --config {dir}/fine --grpc 0.0.0.0:9901 --grpc-cert x"},
		{"serve-bad-flags", "serve --config {dir}/fine --admin 9900 --log-format xml --drain-timeout 1m --admin-key k"},
		{"serve-envoy", "serve --config {dir}/fine --envoy /usr/bin/envoy"},
		{"validate-fine", "validate {dir}/fine"},
		{"validate-fine-json", "validate {dir}/fine -o json"},
		{"validate-broken", "validate {dir}/broken"},
		{"validate-broken-json", "validate {dir}/broken -o json"},
		{"validate-running", "validate {dir}/fine --admin {admin}"},
		{"validate-running-broken", "validate {dir}/broken --admin 127.0.0.1:1"},
		{"validate-nobody-runs", "validate {dir}/fine --admin 127.0.0.1:1"},
		{"validate-help", "validate --help"},
		{"validate-missing", "validate {dir}/missing"},
		{"validate-nothing", "validate"},
		{"bootstrap-nothing", "bootstrap"},
		{"bootstrap-exposed", "bootstrap --server headgate.internal:9901"},
		{"bootstrap-bad", "bootstrap --server 9901"},
	} {
		file := filepath.Join("testdata", "cli", tc.name+".golden")
		used[file] = true
		got := cli(t, words(tc.line, "{admin}", g.Address, "{dir}", dir))
		compareGolden(t, file, golden(tc.line, got, g.Address, dir))
	}
	files, err := filepath.Glob(filepath.Join("testdata", "cli", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !used[file] && *update {
			_ = os.Remove(file)
		} else if !used[file] {
			t.Errorf("%s: no case has this name", file)
		}
	}
}

// passing is what differs from run to run.
var passing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b(for|since) \d+s\b`), "$1 Ns"},
	{regexp.MustCompile(`\bran \d+s, (1h|59m\d\ds|1h30m|1h29m) left( \(began.*)?`), "ran Ns, T left"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "YYYY-MM-DD hh:mm:ssZ"},
	{regexp.MustCompile(`\b\d\d:\d\d UTC`), "hh:mm UTC"},
	{regexp.MustCompile(`(not let in|what was read) \d+s ago`), "$1 Ns ago"},
	{regexp.MustCompile(`(edge-1  1\.40\.0 +)\d+s +`), "${1}Ns  "},
}

func golden(line string, o outcome, address, dir string) string {
	text := "$ headgate " + line + "\nexit " + string(rune('0'+o.code)) + "\n--- stdout\n" + o.stdout + "--- stderr\n" + o.stderr
	text = strings.NewReplacer(address, "{admin}", dir, "{dir}").Replace(text)
	for _, p := range passing {
		text = p.pattern.ReplaceAllString(text, p.with)
	}
	return text
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v (write it with -update)", err)
		return
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// configDirs returns a folder with the configurations fine and broken.
func configDirs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const fine = `model: churn
listen: 127.0.0.1:8080
match: {prefix: /predict}
versions:
  v1: {endpoints: ["127.0.0.1:9101"]}
  v2: {endpoints: ["127.0.0.1:9102"]}
release: v1
`
	for name, content := range map[string]string{
		"fine/churn.yaml":   fine,
		"broken/churn.yaml": strings.Replace(fine, "release: v1", "release: v9", 1),
		"broken/other.yaml": "model: other\nlisten: nowhere\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestStatusJSON checks what scripts rely on.
func TestStatusJSON(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	got := cli(t, []string{"status", "churn", "-o", "json", "--admin", g.Address})
	var v map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v: %v", got, err)
	}
	want := map[string]any{
		"model": "churn", "rollout": 1.0, "phase": "progressing", "stable": "v1", "candidate": "v2", "step": 0.0,
		"weights": map[string]any{"v1": 90.0, "v2": 10.0}, "acknowledged": true,
	}
	for field, value := range want {
		if diff := cmp.Diff(value, v[field]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", field, diff)
		}
	}
	if reason, ok := v["reason"].(string); !ok || reason == "" {
		t.Errorf("reason: %v", v["reason"])
	}
	all := cli(t, []string{"status", "-o", "json", "--admin", g.Address})
	var list []map[string]any
	if err := json.Unmarshal([]byte(all.stdout), &list); err != nil || len(list) != 2 || list[0]["model"] != "churn" {
		t.Errorf("all: %+v: %v", all, err)
	}
	for _, line := range []string{"history churn", "envoys", "version"} {
		got := cli(t, append(strings.Fields(line), "-o", "json", "--admin", g.Address)[:len(strings.Fields(line))+2], "HEADGATE_ADMIN", g.Address)
		if !json.Valid([]byte(got.stdout)) || got.code != exitOK {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

// TestCommandJSON has the status after a command for scripts.
func TestCommandJSON(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	for _, tc := range []struct {
		line, phase string
		code        int
	}{
		{"pause churn -o json", "paused", exitOK},
		{"resume churn -o json --wait", "progressing", exitOK},
		{"rollback churn -o json --wait --timeout 200ms", "rolled_back", exitLosses},
	} {
		if tc.code == exitLosses {
			g.Envoys.Freeze()
		}
		got := cli(t, strings.Fields(tc.line), "HEADGATE_ADMIN", g.Address)
		var m map[string]any
		if err := json.Unmarshal([]byte(got.stdout), &m); err != nil || m["phase"] != tc.phase || got.code != tc.code {
			t.Errorf("%s: %+v: %v", tc.line, got, err)
		}
	}
}

// TestWhoAsked shows that the journal has the person where no tokens are.
func TestWhoAsked(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	for user, want := range map[string]string{"": "cli", "alice": "cli (alice)", "a\x1b[2J b(c)": "cli (ax1b2Jbc)"} {
		got := cli(t, strings.Fields("pause churn"), "HEADGATE_ADMIN", g.Address, "USER", user)
		records := g.Journal.Records()
		if last := records[len(records)-1]; got.code != exitOK || last.Actor != want {
			t.Errorf("%q: actor %q, want %q: %+v", user, last.Actor, want, got)
		}
		cli(t, strings.Fields("resume churn"), "HEADGATE_ADMIN", g.Address)
	}
}

// TestWait looks at what --wait says of Envoys that do not follow.
func TestWait(t *testing.T) {
	for _, tc := range []struct {
		name   string
		envoys func(*admintest.Envoys)
		code   int
		want   string // on stderr
	}{
		{"all follow", func(*admintest.Envoys) {}, exitOK, ""},
		{"one is frozen", (*admintest.Envoys).Freeze, exitLosses, "these Envoys have not acknowledged: edge-1"},
		{"none is connected", (*admintest.Envoys).Leave, exitLosses, "no Envoy is connected"},
		{"one refuses", func(e *admintest.Envoys) { e.Freeze(); e.Reject("bad\x1b[2J cluster") }, exitLosses, `an Envoy refuses it (bad\x1b[2J cluster)`},
	} {
		g := admintest.Start(t, admintest.Options{})
		tc.envoys(g.Envoys)
		got := cli(t, []string{"rollback", "churn", "--wait", "--timeout", "300ms"}, "HEADGATE_ADMIN", g.Address)
		if got.code != tc.code || !strings.Contains(got.stderr, tc.want) {
			t.Errorf("%s: %+v; want exit %d and %q", tc.name, got, tc.code, tc.want)
		}
		if strings.ContainsAny(got.stderr, "\x1b\r") {
			t.Errorf("%s: raw control characters: %q", tc.name, got.stderr)
		}
		if s, _ := g.Controller.Status("churn"); s.Phase != rollout.PhaseRolledBack {
			t.Errorf("%s: phase %s, want it to hold all the same", tc.name, s.Phase)
		}
	}
}

// TestWaitEndsWhenItComesAbout has the Envoy acknowledge after a while, and
// another person undo the command.
func TestWaitEndsWhenItComesAbout(t *testing.T) {
	for name, tc := range map[string]struct {
		then func(*admintest.Gate)
		code int
	}{
		"acknowledged": {func(g *admintest.Gate) { g.Envoys.Thaw() }, exitOK},
		"undone": {func(g *admintest.Gate) {
			_, _ = g.Controller.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionRollback, Actor: "bob"})
		}, exitNo},
	} {
		g := admintest.Start(t, admintest.Options{})
		g.Envoys.Freeze()
		ended := make(chan outcome)
		go func() {
			ended <- cliIn(t.Context(), []string{"promote", "churn", "--wait", "--admin", g.Address})
		}()
		g.Await(t, "churn", func(s rollout.Status) bool { return s.Weights["v2"] == 100 })
		select {
		case got := <-ended:
			t.Errorf("%s: did not wait: %+v", name, got)
		default:
		}
		tc.then(g)
		if got := <-ended; got.code != tc.code {
			t.Errorf("%s: %+v; want exit %d", name, got, tc.code)
		}
	}
}

func TestWatch(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr admintest.Buffer
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"status", "churn", "--watch", "-o", "json", "--admin", g.Address}, &stdout, &stderr,
			func(string) string { return "" })
	}()
	lines := func() []string { return strings.Split(strings.TrimSpace(stdout.String()), "\n") }
	eventually(t, "a first line", func() bool { return strings.Contains(stdout.String(), `"phase":"progressing"`) })
	if _, err := g.Controller.Do(t.Context(), rollout.Command{Model: "churn", Action: rollout.ActionPause, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool { return strings.Contains(stdout.String(), `"phase":"paused"`) })
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d after an interrupt, want 0", code)
	}
	for _, line := range lines() {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// TestConnect reaches headgate in every way that there is.
func TestConnect(t *testing.T) {
	dir := t.TempDir()
	line, secret := admintest.Token("alice", admin.RoleOperator)
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokensFile := filepath.Join(dir, "tokens.yaml")
	if err := os.WriteFile(tokensFile, []byte("tokens:\n"+line), 0o600); err != nil {
		t.Fatal(err)
	}
	var o serverOptions
	o.LogFormat = "json"
	tokens, err := admin.LoadTokens(tokensFile, o.logger(&bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	open := admintest.Start(t, admintest.Options{Address: "unix:" + filepath.Join(dir, "s")})
	closed := admintest.Start(t, admintest.Options{Tokens: tokens})
	secure := httptest.NewTLSServer(closed.Server)
	defer secure.Close()
	ca := filepath.Join(dir, "ca.pem")
	writePEM(t, ca, secure.Certificate().Raw)

	for _, tc := range []struct {
		name string
		args string
		env  []string
		code int
		want string
	}{
		{"unix", "status --admin " + open.Address, nil, exitOK, ""},
		{"unix path", "status --admin " + strings.TrimPrefix(open.Address, "unix:"), nil, exitOK, ""},
		{"environment", "status", []string{"HEADGATE_ADMIN", open.Address}, exitOK, ""},
		{"flag before environment", "status --admin " + open.Address, []string{"HEADGATE_ADMIN", "127.0.0.1:1"}, exitOK, ""},
		{"no token", "status --admin " + closed.Address, nil, exitNo, "needs a token"},
		{"wrong token", "status --admin " + closed.Address, []string{"HEADGATE_TOKEN", "x"}, exitNo, "the token is unknown or expired"},
		{"token", "status --admin " + closed.Address, []string{"HEADGATE_TOKEN", secret}, exitOK, ""},
		{"token file", "status --token-file " + tokenFile + " --admin " + closed.Address, []string{"HEADGATE_TOKEN", "x"}, exitOK, ""},
		{"no token file", "status --token-file /nonexistent --admin " + closed.Address, nil, exitUsage, "--token-file: "},
		{"role", "adopt churn v1 --token-file " + tokenFile + " --admin " + closed.Address, nil, exitNo, "alice is operator: this needs admin"},
		{"http URL", "status --token-file " + tokenFile + " --admin " + closed.URL + "/", nil, exitOK, ""},
		{"https, unknown authority", "status --token-file " + tokenFile + " --admin " + secure.URL, nil, exitNo, "certificate"},
		{"https", "status --token-file " + tokenFile + " --admin-ca " + ca + " --admin " + secure.URL, nil, exitOK, ""},
		{"no authority", "status --admin-ca " + tokenFile + " --admin " + secure.URL, nil, exitUsage, "no certificate in it"},
	} {
		got := cli(t, strings.Fields(tc.args), tc.env...)
		if got.code != tc.code || !strings.Contains(got.stderr, tc.want) || tc.code == exitOK && !strings.Contains(got.stdout, "churn") {
			t.Errorf("%s: %+v; want exit %d and %q", tc.name, got, tc.code, tc.want)
		}
		if strings.Contains(got.stdout+got.stderr, secret) {
			t.Errorf("%s: shows the token: %+v", tc.name, got)
		}
	}
	last := closed.Journal.Records()
	if got := cli(t, strings.Fields("pause churn --admin "+closed.Address), "HEADGATE_TOKEN", secret); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	for _, r := range closed.Journal.Records()[len(last):] {
		if r.Actor != "alice" {
			t.Errorf("actor %q, want alice", r.Actor)
		}
	}
}

// TestOddServers talks to what is no headgate.
func TestOddServers(t *testing.T) {
	var sent []string
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }, "does not answer like headgate"},
		"not ours": {http.NotFound, "answers 404 Not Found"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			sent = append(sent, r.URL.Path)
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, "answers 302 Found"},
		"ANSI": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"detail":"\u001b[2Jgone\r\u202e"}`))
		}, `headgate: \x1b[2Jgone\r\u202e`},
	} {
		s := httptest.NewServer(tc.handler)
		got := cli(t, []string{"status", "--admin", s.URL}, "HEADGATE_TOKEN", "secret")
		s.Close()
		if got.code != exitNo || !strings.Contains(got.stderr, tc.want) {
			t.Errorf("%s: %+v; want exit 1 and %q", name, got, tc.want)
		}
	}
	if len(sent) != 1 {
		t.Errorf("the redirect was followed: %v", sent)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan outcome)
	go func() { ended <- cliIn(ctx, []string{"status", "--admin", l.Addr().String()}) }()
	if conn, err := l.Accept(); err == nil { // accepts and never answers
		defer conn.Close()
	}
	cancel()
	if got := <-ended; got.code != exitNo {
		t.Errorf("interrupted: %+v", got)
	}
}

// TestLostOutput shows that nobody is told "fine" when the disk is full.
func TestLostOutput(t *testing.T) {
	var stderr admintest.Buffer
	code := run(t.Context(), []string{"version"}, fullDisk{}, &stderr, func(string) string { return "" })
	if code != exitNo || !strings.Contains(stderr.String(), "write output") {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
