package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSimulate checks what scripts rely on, and that a seed gives the same
// again.
func TestSimulate(t *testing.T) {
	args := words("simulate simulate/examples/quiet.yaml --runs 5 --seed 3 -o json")
	got := cli(t, args)
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	if again := cli(t, args); again.stdout != got.stdout {
		t.Error("the same seed gives another result")
	}
	var result struct {
		Seed  uint64
		Rules []map[string]any
	}
	if err := json.Unmarshal([]byte(got.stdout), &result); err != nil {
		t.Fatal(err)
	}
	if result.Seed != 3 || len(result.Rules) != 5 || result.Rules[0]["rule"] != "headgate" {
		t.Errorf("seed %d, rules %v", result.Seed, result.Rules)
	}
	for _, name := range []string{"rule", "false_rollback", "false_promotion", "median_seconds_to_rollback"} {
		for _, rule := range result.Rules {
			if rule[name] == nil {
				t.Errorf("%v has no %s", rule["rule"], name)
			}
		}
	}
	table := cli(t, words("simulate simulate/examples/quiet.yaml --runs 2"))
	if !strings.Contains(table.stdout, "seed ") || !strings.Contains(table.stdout, "argo-rollouts") || strings.Contains(table.stdout, "\x1b") {
		t.Errorf("the table is:\n%s", table.stdout)
	}
}

// simulated is a model's file.
const simulated = `model: churn
listen: 127.0.0.1:8080
versions:
  v1: {endpoints: ["127.0.0.1:9101"]}
  v2: {endpoints: ["127.0.0.1:9102"]}
release: v2
rollout:
  steps: [{traffic: 50%, for: 10m}, {traffic: 100%}]
  gates: [{metric: error_rate, max: 1%}]
`

// TestSimulateModel takes the traffic of a model's file from flags, and tells of
// mistakes.
func TestSimulateModel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "churn.yaml")
	if err := os.WriteFile(file, []byte(simulated), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line   string
		code   int
		stdout string
		stderr string
	}{
		{"simulate {file} --rate 20/s --errors 0.1% --candidate-errors 9% --runs 2", exitOK, "The harmful candidate breaks error_rate max 1%.", ""},
		{"simulate {file} --rate 20/s --errors 0.1% --runs 2 --rules headgate", exitOK, "No harmful candidate is described", ""},
		{"simulate {file}", exitNo, "", "traffic.rate: is missing; give it in a scenario, or as --rate 20/s"},
		{"simulate {file} --rate 20", exitUsage, "", "--rate: 20: must be a rate like 20/s or 90/min"},
		{"simulate {file} --rate 20/s --rules headgate,spinnaker", exitUsage, "", `--rules: "spinnaker": must be some of headgate, `},
		{"simulate {file} --rate 20/s --runs 1 --interval 5m --failure-limit 2", exitOK, "argo-rollouts: each gate is measured every 5m on that time alone; back when more than 2 measurements", ""},
		{"simulate {file} --rate 20/s --runs 1 --interval 20m", exitOK, "the other rules never measure", ""},
		{"simulate {file} --rate 20/s --interval 90s", exitUsage, "", "--interval: 1m30s: must be whole minutes, at most 24h"},
		{"simulate {file} --rate 20/s --failure-limit -1", exitUsage, "", "--failure-limit: -1: must be from 0 to 1000"},
		{"simulate {file} --rate 20/s --runs 0", exitUsage, "", "--runs: 0: must be from 1 to 1000000"},
		{"simulate {file}.not", exitNo, "", "churn.yaml.not: no such file or directory"},
		{"simulate {file} --replay {file}", exitNo, "", "line 1: is not the beginning of a recording"},
		{"plan {file} --rate 20/s --errors 0.1%", exitOK, "The rollout takes 10m00s", ""},
		{"plan {file} --rate 20/s --errors 5%", exitOK, "The rollout never ends: step 1 waits, error_rate max 1% is never safe at 5% errors.", ""},
		{"plan {file} --rate 20/s", exitOK, "20 requests a second, 0% errors (not told; give --errors)", ""},
	} {
		got := cli(t, words(c.line, "{file}", file))
		if got.code != c.code || !strings.Contains(got.stdout, c.stdout) || !strings.Contains(got.stderr, c.stderr) {
			t.Errorf("%s: exit %d\n%s%s", c.line, got.code, got.stdout, got.stderr)
		}
	}
}

// TestPlanJSON has what is expected of each step.
func TestPlanJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "churn.yaml")
	if err := os.WriteFile(file, []byte(simulated), 0o600); err != nil {
		t.Fatal(err)
	}
	got := cli(t, words("plan {file} --rate 20/s --errors 0.1% -o json", "{file}", file))
	var plan struct {
		Steps []struct {
			Seconds *float64
			Gates   []struct {
				Metric       string
				SafeAfter    *float64 `json:"safe_after_seconds"`
				SmallestHarm *float64 `json:"smallest_harm"`
			}
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &plan); err != nil {
		t.Fatalf("%v: %s%s", err, got.stdout, got.stderr)
	}
	if len(plan.Steps) != 2 || len(plan.Steps[0].Gates) != 1 || plan.Steps[0].Gates[0].SmallestHarm == nil || plan.Steps[0].Gates[0].SafeAfter == nil {
		t.Errorf("the plan is %s", got.stdout)
	}
}
