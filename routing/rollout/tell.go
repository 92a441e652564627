package rollout

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/headgate/headgate/routing"
)

// Summary says in a line what a record of the journal is about, with versions
// and shares, and the reason that was given for it:
// "v1.0.0 → v2.0.0: 10% → 25%; looks good".
func Summary(r Record) string {
	var d struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(r.Data, &d) // what cannot be read is left out
	var parts []string
	for _, part := range []string{d.Text, r.Reason} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// tell says what a record has changed; empty: the reason says all.
func tell(before, after State, kind string) string {
	from := before.Share()
	switch {
	case kind == KindCheckpoint || kind == KindBlocked || kind == KindRetired:
		return ""
	case kind == KindCompleted:
		return fmt.Sprintf("%s serves everyone, after %s", after.Stable, after.Previous)
	case !after.Running():
		return ended(before, after, from)
	}
	text := after.Stable + " → " + after.Rollout.Candidate
	switch {
	case kind == KindStarted:
		return text + fmt.Sprintf(": rollout %d begins", after.Rollout.Number)
	case before.Running() && before.gets() != after.gets():
		return fmt.Sprintf("%s: %s → %s", text, before.gets(), after.gets())
	}
	return text + ": " + after.gets()
}

// ended says what is left after a rollout, or without one.
func ended(before, after State, share routing.Share) string {
	text := after.Stable + " serves everyone"
	switch {
	case before.Running() && share > 0:
		return fmt.Sprintf("%s: %s → 0%%, %s", before.Rollout.Candidate, share, text)
	case before.Stable != "" && before.Stable != after.Stable:
		return before.Stable + " → " + text
	}
	return text
}

// shares is a split for the log: "v2.0.0=10% v1.0.0=90%".
func shares(s routing.Split) string {
	parts := make([]string, 0, len(s.Ranges))
	for _, r := range s.Ranges {
		parts = append(parts, r.Version+"="+r.Weight.String())
	}
	return strings.Join(parts, " ")
}
