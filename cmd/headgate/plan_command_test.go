package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
)

// planOf plans a model of two steps of an hour, with more of its rollout.
func planOf(t *testing.T, rollout, flags string) outcome {
	t.Helper()
	file := filepath.Join(t.TempDir(), "churn.yaml")
	text, _, _ := strings.Cut(simulated, "rollout:")
	text += "rollout:\n  steps: [{traffic: 10%, for: 1h}, {traffic: 50%, for: 1h}, {traffic: 100%}]\n" + rollout
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return cli(t, words("plan {file} "+flags, "{file}", file))
}

// TestPlanTimesOut has steps that do not wait for ever, and never adds up what
// does not end.
func TestPlanTimesOut(t *testing.T) {
	const gate = "  gates: [{metric: error_rate, max: 1%}]\n"
	for name, c := range map[string]struct {
		rollout, flags string
		want           []string
		total          bool
	}{
		"never": {
			"  at_most: 2d\n" + gate, "--rate 20/s --errors 2%",
			[]string{"AT MOST", "2d0h  pauses", "The rollout pauses in step 1 after 2d0h: error_rate max 1% is never safe at 2% errors.\n"}, false,
		},
		"late": {
			"  at_most: 90m\n  on_timeout: rollback\n" + gate, "--rate 1/s --errors 0.2%",
			[]string{"More than half of healthy rollouts go back in step 1 after 1h30m: error_rate max 1% is safe in "}, false,
		},
		"goes on": {
			"  at_most: 90m\n  on_timeout: promote\n" + gate, "--rate 1/s --errors 0.2%",
			[]string{"More than half of healthy rollouts go on in step 1 after 1h30m: ", "The rollout takes 2h30m,"}, true,
		},
		"in time":  {"  at_most: 90m\n" + gate, "--rate 50/s --errors 0.2%", []string{"The rollout takes 2h00m,"}, true},
		"observed": {"  mode: observe\n" + gate, "--rate 50/s --errors 0.2%", []string{"people move the rollout"}, true},
		"no gates": {"", "--rate 50/s", []string{"There are no gates: nothing is judged but the hard rules."}, true},
	} {
		got := planOf(t, c.rollout, c.flags)
		for _, want := range c.want {
			if got.code != exitOK || !strings.Contains(got.stdout, want) {
				t.Errorf("%s: exit %d, no %q in\n%s%s", name, got.code, want, got.stdout, got.stderr)
			}
		}
		if strings.Contains(got.stdout, "The rollout takes") != c.total {
			t.Errorf("%s: a total is there, or is not:\n%s", name, got.stdout)
		}
	}
}

// TestPlanOfLatency does not guess how long answers take, and writes times and
// increases as people do.
func TestPlanOfLatency(t *testing.T) {
	const gates = "  gates: [{metric: latency_p99, max: 2s}, {metric: latency_p50, max_increase: 10%}, {metric: client_error_rate, max_increase: 1pp}]\n"
	got := planOf(t, gates, "--rate 50/s --errors 1%")
	if got.code != exitNo || !strings.Contains(got.stderr, "give --latency 40ms/250ms") {
		t.Errorf("without a latency: exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	got = planOf(t, gates, "--rate 50/s --errors 1% --latency 800ms/1200ms")
	first, rest, _ := strings.Cut(got.stdout, "\n")
	if want := "1% errors, 0% client errors (not told; give --client-errors), p50 80"; !strings.Contains(first, want) {
		t.Errorf("the first line is %q, without %q", first, want)
	}
	for _, pattern := range []string{`latency_p99 max 2s .* 2\.\d+s\n`, `latency_p50 .* \d+ms \(\+[\d.]+ms\)\n`, `client_error_rate .*% \(\+[\d.]+pp\)\n`} {
		if !regexp.MustCompile(pattern).MatchString(rest) {
			t.Errorf("nothing is like %s in\n%s", pattern, rest)
		}
	}
	if strings.Contains(rest, "e+") {
		t.Errorf("an amount has an exponent:\n%s", rest)
	}
}

// TestPlanOfAYoungServer divides the requests by the time in which they came.
func TestPlanOfAYoungServer(t *testing.T) {
	began := time.Now()
	g := admintest.Start(t, admintest.Options{})
	g.Serve("v1", 900, 9, 8*time.Millisecond)
	got := planOf(t, "", "--admin "+g.Address)
	match := regexp.MustCompile(`churn: ([\d.]+) requests a second \(seen for (\d+)s only\), 1% errors`).FindStringSubmatch(got.stdout)
	if match == nil {
		if time.Since(began) < time.Minute {
			t.Fatalf("exit %d\n%s%s", got.code, got.stdout, got.stderr)
		}
		return
	}
	rate, _ := strconv.ParseFloat(match[1], 64)
	if seen, _ := strconv.ParseFloat(match[2], 64); rate*(seen+1) < 900 || rate*seen > 901 {
		t.Errorf("900 requests in %v s are %v a second", seen, rate)
	}
}
