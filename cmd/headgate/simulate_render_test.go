package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/routing/rollout"
)

// TestSimulationTable has the columns that a result needs, each world's under its
// name.
func TestSimulationTable(t *testing.T) {
	part, low, high := 0.004, 0.000_368, 0.996_3
	rule := func(name string, healthy, harmful simulate.Ends) simulate.RuleResult {
		return simulate.RuleResult{Rule: name, FalseRollback: &part, FalseRollbackLow: &low, FalseRollbackHigh: &high, Healthy: healthy, Harmful: harmful}
	}
	for name, c := range map[string]struct {
		healthy, harmful simulate.Ends
		want             string
	}{
		"all ended": {
			simulate.Ends{Promoted: 10}, simulate.Ends{RolledBack: 10}, `
              healthy candidate              harmful candidate
RULE          FALSE ROLLBACK  DONE IN  OPEN  FALSE PROMOTION  BACK IN  99 % IN  OPEN
headgate  0.4% (0.037-99.63)        -    0%                -        -        -    0%
`,
		},
		"open": {
			simulate.Ends{Promoted: 5, Paused: 4, Waiting: 1}, simulate.Ends{RolledBack: 10, Early: 3}, `
              healthy candidate                         harmful candidate
RULE          FALSE ROLLBACK  DONE IN  PAUSED  WAITING  FALSE PROMOTION  BACK IN  99 % IN  TOO EARLY  OPEN
headgate  0.4% (0.037-99.63)        -     40%      10%                -        -        -        30%    0%
`,
		},
	} {
		var b strings.Builder
		r := &simulate.Result{Runs: 10, UntilSeconds: 7200, Rules: []simulate.RuleResult{rule("headgate", c.healthy, c.harmful)}}
		table := tableOf(r)
		table.write(&b, screen{})
		if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if legend := table.legend(r); !strings.Contains(legend, "after 2h00m, when a run is given up (until)") || strings.Contains(legend, "TOO EARLY") != (c.harmful.Early > 0) {
			t.Errorf("%s: the legend is\n%s", name, legend)
		}
	}
}

// TestReplayedTable leaves out what comes with every step, and says where the
// recording ends.
func TestReplayedTable(t *testing.T) {
	r := &simulate.Replayed{Model: "churn", Would: rollout.PhaseProgressing, Ended: true, Step: 1, Steps: 3, Events: []simulate.Event{
		{What: simulate.WhatVerdict, Text: "error_rate max: waiting (no traffic)", Minor: true},
		{What: simulate.WhatVerdict, Text: "error_rate max: safe"},
	}}
	for _, verbose := range []bool{false, true} {
		var b strings.Builder
		screen{}.replayed(&b, r, verbose)
		if got := b.String(); strings.Contains(got, "waiting") != verbose || !strings.Contains(got, ": safe") || !strings.Contains(got, "This policy: in step 2 of 3; the recording ends here.") {
			t.Errorf("verbose %v:\n%s", verbose, got)
		}
	}
}
