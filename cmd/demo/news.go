package main

import (
	"fmt"

	"github.com/headgate/headgate/routing/rollout"
)

// news says in words what changed from one status to the next.
func news(before, after rollout.Status) []string {
	var out []string
	running := after.Step >= 0 && after.Step < len(after.Steps)
	if running && after.Rollout != before.Rollout {
		out = append(out, fmt.Sprintf("rollout %d: from %s to %s in %d steps",
			after.Rollout, after.Stable, after.Candidate, len(after.Steps)))
	}
	if running && (after.Rollout != before.Rollout || after.Step != before.Step) {
		out = append(out, fmt.Sprintf("step %d of %d: %s of the users to %s",
			after.Step+1, len(after.Steps), percent(after.Steps[after.Step].Share), after.Candidate))
	}
	if after.Phase != before.Phase && before.Phase != "" && after.Phase != rollout.PhaseProgressing {
		out = append(out, fmt.Sprintf("%s: %s", after.Phase, after.Reason))
	}
	if after.Rejected != before.Rejected && after.Rejected != "" {
		out = append(out, "an Envoy refused the weights: "+after.Rejected)
	}
	return out
}

// stageOf names the stage of the account that a status belongs to.
func stageOf(s rollout.Status) string {
	if s.Step >= 0 && s.Step < len(s.Steps) {
		return percent(s.Steps[s.Step].Share)
	}
	return s.Stable + " alone"
}

func percent(v float64) string { return fmt.Sprintf("%g%%", v) }
