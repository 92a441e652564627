package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"testing"

	"github.com/headgate/headgate/envoy/envoytest"
)

// buildHeadgate builds the program that the demo is about, with the race
// detector when the test has it: its packages are compiled that way already.
func buildHeadgate(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "headgate")
	args := []string{"build", "-ldflags=-s -w", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "../headgate")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build headgate: %v\n%s", err, out)
	}
	return path
}

// The scenes with headgate and a real Envoy, in short.
func TestScenesOnEnvoy(t *testing.T) {
	headgate, envoy := buildHeadgate(t), envoytest.Binary(t)
	lenient := []string{
		"{metric: error_rate, max: 5%}", "{metric: error_rate, max_increase: 3pp}", "{metric: latency_p90, max: 4s}",
	}
	for _, tc := range []struct {
		name   string
		scenes string
		gates  []string
		want   []string
	}{
		// Limits that are sooner shown to be kept, and that a busy machine keeps.
		{"a better version", "1", lenient, []string{
			`error_rate 0%.*: safe\n(?:.*\n)*?.*step 2 of 4: 25% of the users to v2\.0\.0`,
			`step 4 of 4: 100% of the users to v2\.0\.0`,
			`v2\.0\.0 serves everyone`,
			`requests sent +\d{3,}\n`,
			`\n  failed +0\n`,
			`users who changed version backwards +0\n`,
			`accuracy of v2\.0\.0 +9\d\.\d%`,
			// Requests under way when the weights change are counted where they end.
			`\n  v1\.0\.0 alone .* 0\.\d%\n`,
			`\n  100% .* (9\d|100)\.\d%\n`,
			`\nscene 1  done: \d+ requests, 0 failed, v2\.0\.0 serves everyone after \d+ s\n`,
		}},
		{"a broken version", "2", gates, []string{
			`error_rate .*: broken\n.*rolled back by judge`,
			`\nscene 2  done: \d+ requests, \d+ failed \(all by v2\.0\.0\), \d+\.\d s from the first bad answer to the last request on v2\.0\.0\n`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			usual := gates
			t.Cleanup(func() { gates = usual })
			gates = tc.gates
			prepare(t, "")
			code, stdout, stderr := demo(t, "--headgate", headgate, "--envoy", envoy, "--step", "1s", "--rate", "300", "--scene", tc.scenes)
			if code != exitFine || stderr != "" {
				t.Fatalf("exit code %d\n%s\n%s", code, stdout, stderr)
			}
			for _, want := range tc.want {
				if !regexp.MustCompile(want).MatchString(stdout) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
		})
	}
}
