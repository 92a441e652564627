package main

import (
	"fmt"
	"time"

	"github.com/headgate/headgate/cmd/demo/screen"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// news says in words what changed from one status to the next.
func news(before, after rollout.Status) []string {
	out := verdicts(before, after)
	running := after.Step >= 0 && after.Step < len(after.Steps)
	if running && after.Rollout != before.Rollout {
		out = append(out, fmt.Sprintf("rollout %d: from %s to %s in %d steps",
			after.Rollout, after.Stable, after.Candidate, len(after.Steps)))
	}
	if running && (after.Rollout != before.Rollout || after.Step != before.Step) {
		out = append(out, fmt.Sprintf("step %d of %d: %s to %s",
			after.Step+1, len(after.Steps), what(after.Steps[after.Step]), after.Candidate))
	}
	if after.Phase != before.Phase && before.Phase != "" && after.Phase != rollout.PhaseProgressing {
		out = append(out, after.Reason)
	}
	if after.Rejected != before.Rejected && after.Rejected != "" {
		out = append(out, "an Envoy refused the weights: "+after.Rejected)
	}
	return out
}

// verdicts says which gates have shown something since the status before, in
// headgate's words.
func verdicts(before, after rollout.Status) []string {
	if before.Phase == "" {
		return nil // it was shown before anyone looked
	}
	known := map[string]routing.Verdict{}
	for i := range before.Gates {
		known[screen.Limit(&before.Gates[i])] = before.Gates[i].Verdict
	}
	var out []string
	for i := range after.Gates {
		f := &after.Gates[i]
		shown := f.Verdict == routing.VerdictBreach || f.Verdict == routing.VerdictSafe && !f.HardRule
		if shown && f.Verdict != known[screen.Limit(f)] {
			out = append(out, f.Text)
		}
	}
	return out
}

// stageOf names the stage of the account that a status belongs to, and says
// when it began. It is not ok between two stages, while new weights are on
// their way.
func stageOf(s rollout.Status) (name string, began time.Time, ok bool) {
	switch {
	case s.Step < 0 || s.Step >= len(s.Steps):
		return s.Stable + " alone", s.Since, true
	case s.StepStarted == nil:
		return "", time.Time{}, false
	}
	if step := s.Steps[s.Step]; step.Kind == routing.StepShadow {
		return "copies " + percent(step.Share), *s.StepStarted, true
	}
	return percent(s.Steps[s.Step].Share), *s.StepStarted, true
}

// what says what a step gives to the candidate.
func what(s rollout.StepStatus) string {
	if s.Kind == routing.StepShadow {
		return "copies of " + percent(s.Share) + " of the requests"
	}
	return percent(s.Share) + " of the users"
}

func percent(v float64) string { return fmt.Sprintf("%g%%", v) }
