package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
	"github.com/headgate/headgate/routing/rollout"
)

// The test binary is also the demo, for the model servers that it starts, and
// the fake headgate.
func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" && len(os.Args) > 1 && os.Args[1] == "run" {
		os.Exit(runFake(mode, os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == serveCommand {
		main()
	}
	os.Exit(m.Run())
}

// prepare sets the environment of the program: folders that vanish, and
// children that do not linger for a second, as the race detector has them do.
func prepare(t *testing.T, mode string) {
	t.Helper()
	t.Setenv(fakeMode, mode)
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
}

// demo runs the program and returns its exit code and what it printed.
func demo(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, errs := create(t, "stdout"), create(t, "stderr")
	code = run(t.Context(), args, strings.NewReader(""), out, errs)
	return code, logged(out), logged(errs)
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// withFake runs the demo on a fake headgate.
func withFake(t *testing.T, mode, scenes string) (code int, stdout, stderr string) {
	t.Helper()
	prepare(t, mode)
	return demo(t, "--headgate", os.Args[0], "--step", "1s", "--scene", scenes)
}

func TestFailuresAndUsersWhoGoBackAreToldAndCount(t *testing.T) {
	code, stdout, stderr := withFake(t, "bad", "1")
	for _, want := range []string{
		`not as it should be: users went back to an older version \d+ times`,
		`not as it should be: \d+ requests failed`,
		`failed \d+ times: HTTP 503: no healthy upstream`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if code != exitNo || !strings.Contains(stderr, "demo: logs, configuration and state are in ") {
		t.Errorf("exit code %d, want 1: %s", code, stderr)
	}
}

func TestBrokenVersionThatIsSentBack(t *testing.T) {
	code, stdout, stderr := withFake(t, "judges", "2")
	for _, want := range []string{
		`\d\d:\d\d  3 bad answers`,
		`\d\d:\d\d  error_rate is broken`,
		`v2\.0\.0 was sent back \d+\.\d s after its first bad answer`,
		`\nscene 2  done: \d+ requests, \d+ failed \(all by v2\.0\.0\), \d+\.\d s from the first bad answer to the last request on v2\.0\.0`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if code != exitFine || stderr != "" {
		t.Errorf("exit code %d, want 0: %s", code, stderr)
	}
}

func TestBrokenVersionThatIsNotSentBack(t *testing.T) {
	code, stdout, stderr := withFake(t, "good", "2,1")
	for _, want := range []string{
		`not as it should be: the rollout is completed, not rolled_back: `,
		`\nscene 2  FAILED: .*\nscene 1  done: .*, 0 failed, v2\.0\.0 serves everyone after \d+ s$`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if code != exitNo || !strings.Contains(stderr, "demo: logs, configuration and state are in ") {
		t.Errorf("exit code %d, want 1: %s", code, stderr)
	}
}

func TestHeadgateThatDoesNotStart(t *testing.T) {
	code, stdout, stderr := withFake(t, "dies", "1")
	if code != exitNo || !strings.Contains(stderr, "tumor.yaml:1: a mistake") ||
		!strings.Contains(stderr, "demo: headgate ended by itself: exit status 1: see ") {
		t.Errorf("exit code %d, want 1\n%s\n%s", code, stdout, stderr)
	}
}

func TestInterruptEndsEverything(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, errs := create(t, "stdout"), create(t, "stderr")
	prepare(t, "good")
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--headgate", os.Args[0], "--step", "1m"}, strings.NewReader(""), out, errs)
	}()
	deadline := time.After(time.Minute)
	for !strings.Contains(logged(out), " wanted ") {
		select {
		case code := <-ended:
			t.Fatalf("ended with %d: %s\n%s", code, logged(out), logged(errs))
		case <-deadline:
			t.Fatalf("no traffic: %s", logged(out))
		case <-time.After(20 * time.Millisecond):
		}
	}
	addresses := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(logged(out), -1)
	if len(addresses) != 4 { // two models, Envoy, headgate
		t.Errorf("addresses %v, want 4", addresses)
	}
	cancel()
	if code := <-ended; code != exitNo || !strings.Contains(logged(errs), "interrupted; everything is ended") {
		t.Errorf("exit code %d: %s", code, logged(errs))
	}
	for _, a := range addresses {
		if _, err := http.Get("http://" + a + "/healthz"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want connection refused", a, err)
		}
	}
}

func TestWrongUse(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--scene", "99"}, `demo: --scene "99": must be numbers from 1 to 3 like 1,2, or all`},
		{[]string{"--scene", "1,,2"}, `demo: --scene "1,,2": must be numbers`},
		{[]string{"--headgate", "/nonexistent"}, `demo: --headgate: `},
		{[]string{"--rate", "0"}, `demo: --rate 0: must be from 1 to 5000`},
		{[]string{"--step", "1ms"}, `demo: --step 1ms: must be from 1s to 1h`},
		{[]string{"faster"}, `demo: "faster": is no option`},
		{[]string{"--faster"}, `flag provided but not defined: -faster`},
		{[]string{serveCommand, "--skew", "x"}, `invalid value "x" for flag -skew: must be FEATURE=FACTOR`},
		{[]string{serveCommand, "now"}, `demo serve-model: "now": is no option`},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			code, _, stderr := demo(t, tc.args...)
			if code != exitUsage || !strings.HasPrefix(stderr, tc.want) {
				t.Errorf("exit code %d, %s\nwant 2, %s", code, stderr, tc.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	code, _, stderr := demo(t, "--help")
	if code != exitFine || !strings.Contains(stderr, "1  a better model takes over\n  2  a v2 that fails") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestServeModelRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		`demo serve-model: --recipe: "best": must be one of size, full, surface`: {"--recipe", "best"},
		`demo serve-model: skew: area_mean: the model does not read it`:          {"--skew", "area_mean=2"},
	} {
		code, _, stderr := demo(t, append([]string{serveCommand}, args...)...)
		if code != exitNo || stderr != want {
			t.Errorf("exit code %d, %s\nwant 1, %s", code, stderr, want)
		}
	}
}

func TestServeModelEndsWithItsLeash(t *testing.T) {
	code, stdout, stderr := demo(t, serveCommand, "--leash") // standard input is at its end
	if code != exitFine || !strings.HasPrefix(stdout, "v1.0.0: 2 features, 89.9% right on 227 held-out rows, at 127.0.0.1:") {
		t.Errorf("exit code %d, %s\n%s", code, stdout, stderr)
	}
}

func TestServeArguments(t *testing.T) {
	o := serveOptions{version: "v2.0.0", recipe: "full", listen: "127.0.0.1:0", leash: true}
	o.faults = server.Faults{
		FailRate: 0.05, Delay: 300 * time.Millisecond, SlowRate: 0.2, Skew: map[string]float64{"area_mean": 0.01},
	}
	got, err := parseServe(o.args()[1:], os.Stderr)
	if diff := cmp.Diff(o, got, cmp.AllowUnexported(serveOptions{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := parseServe([]string{"--help"}, create(t, "stderr")); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
}

// The ready example is what the demo would write, and headgate takes it.
func TestExample(t *testing.T) {
	got, err := release{
		Listen: "127.0.0.1:8080", Stable: "v1.0.0", StableAt: "127.0.0.1:9101",
		Candidate: "v2.0.0", CandidateAt: "127.0.0.1:9102", Shares: scenes[0].shares, For: 5 * time.Second, Gates: gates,
	}.text()
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join("example", "tumor.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(example), "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("example (-file +demo):\n%s", diff)
	}
	if _, err := config.Load("example"); err != nil {
		t.Error(err)
	}
}

func TestEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tumor.yaml")
	if err := os.WriteFile(path, []byte("model: tumor\nrelease: v1\nrollout: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := edit(path, "v2"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "model: tumor\nrelease: v2\nrollout: {}\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("model: tumor\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := edit(path, "v2"); err == nil || err.Error() != "tumor.yaml: has no release" {
		t.Errorf("error %v", err)
	}
}

func TestNews(t *testing.T) {
	steps := []rollout.StepStatus{{Share: 10}, {Share: 100}}
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	idle := rollout.Status{Phase: rollout.PhaseIdle, Stable: "v1", Step: -1, Since: at}
	first := rollout.Status{Phase: rollout.PhaseProgressing, Stable: "v1", Candidate: "v2", Rollout: 1, Steps: steps}
	second := first
	second.Step, second.StepStarted = 1, &at
	paused := second
	paused.Phase, paused.Reason = rollout.PhasePaused, "paused at 10%"
	refused := second
	refused.Rejected = "bad route"
	done := rollout.Status{Phase: rollout.PhaseCompleted, Stable: "v2", Rollout: 1, Step: -1, Since: at, Reason: "v2 serves everyone"}
	shown, earlier, broken := second, first, done
	shown.Gates = []routing.Finding{
		{Metric: "error_rate", Verdict: routing.VerdictSafe, Text: "0 of 300 failed: safe"},
		{Metric: "gross_failure", Verdict: routing.VerdictSafe, HardRule: true},
	}
	earlier.Gates = shown.Gates
	unknown := earlier
	unknown.Gates = []routing.Finding{{Metric: "error_rate", Verdict: routing.VerdictWaiting}}
	broken.Phase, broken.Stable, broken.Reason = rollout.PhaseRolledBack, "v1", "rolled back: 9 of 300 failed"
	broken.Gates = []routing.Finding{{Metric: "error_rate", Verdict: routing.VerdictBreach, Text: "9 of 300 failed: broken"}}
	for name, tc := range map[string]struct {
		before, after rollout.Status
		want          []string
		stage         string
	}{
		"first look": {rollout.Status{}, idle, nil, "v1 alone"},
		"no change":  {first, first, nil, ""},
		"begins":     {idle, first, []string{"rollout 1: from v1 to v2 in 2 steps", "step 1 of 2: 10% of the users to v2"}, ""},
		"goes on":    {first, second, []string{"step 2 of 2: 100% of the users to v2"}, "100%"},
		"paused":     {second, paused, []string{"paused at 10%"}, "100%"},
		"refused":    {second, refused, []string{"an Envoy refused the weights: bad route"}, "100%"},
		"shown":      {second, shown, []string{"0 of 300 failed: safe"}, "100%"},
		"found so":   {rollout.Status{Rollout: 1, Step: 1}, shown, nil, "100%"},
		"known":      {shown, shown, nil, "100%"},
		"ends":       {unknown, shown, []string{"0 of 300 failed: safe", "step 2 of 2: 100% of the users to v2"}, "100%"},
		"anew":       {earlier, shown, []string{"step 2 of 2: 100% of the users to v2"}, "100%"},
		"broken":     {shown, broken, []string{"9 of 300 failed: broken", "rolled back: 9 of 300 failed"}, "v1 alone"},
		"completed":  {second, done, []string{"v2 serves everyone"}, "v2 alone"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, news(tc.before, tc.after)); diff != "" {
				t.Errorf("news (-want +got):\n%s", diff)
			}
			got, began, ok := stageOf(tc.after)
			if got != tc.stage || ok != (got != "") || ok != began.Equal(at) {
				t.Errorf("stage %q since %s, want %q since %s", got, began, tc.stage, at)
			}
		})
	}
}

// What is suggested is what was not played.
func TestSuggestions(t *testing.T) {
	const always = "  make demo SCENE=1 ARGS=--stay  goes on until Ctrl-C, with commands to try\n" +
		"  cmd/demo/example               the same by hand: two models and headgate\n"
	want := "What to try next:\n" +
		"  make demo SCENE=1              a better model takes over\n" +
		"  make demo SCENE=2              a v2 that fails some requests\n" + always
	if diff := cmp.Diff(want, suggestions(scenes[2:])); diff != "" {
		t.Errorf("after scene 3 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("What to try next:\n"+always, suggestions(scenes)); diff != "" {
		t.Errorf("after all (-want +got):\n%s", diff)
	}
}

// A command line is refused before anything is fetched or started for it.
func TestCheck(t *testing.T) {
	if code, stdout, stderr := demo(t, "--check", "--headgate", os.Args[0], "--scene", "3"); code != exitFine || stdout+stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, _, stderr := demo(t, "--check", "--headgate", os.Args[0], "--scene", "9")
	if want := fmt.Sprintf("demo: --scene %q: must be numbers from 1 to %d like 1,2, or all", "9", len(scenes)); code != exitUsage || stderr != want {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// The example's README has the commands that its configuration is for, and a
// request that the models understand.
func TestExampleByHand(t *testing.T) {
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join("example", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	readme, file := read("README.md"), read("tumor.yaml")
	for line := range strings.Lines(file) {
		if command, ok := strings.CutPrefix(line, "#   "); ok && !strings.Contains(readme, "\n"+command) {
			t.Errorf("README.md does not have %s", command)
		}
	}
	for _, want := range regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(file, -1) {
		if !strings.Contains(readme, want) {
			t.Errorf("README.md does not have %s", want)
		}
	}
	data, err := model.Load()
	if err != nil {
		t.Fatal(err)
	}
	want, err := traffic.Body(data.Features, data.HeldOut[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want)+"\n", read("request.json")); diff != "" {
		t.Errorf("request.json (-want +got):\n%s", diff)
	}
}
