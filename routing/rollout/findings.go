package rollout

import (
	"encoding/json"

	"github.com/headgate/headgate/routing"
)

// Findings returns what the gates said when a record was written, and the gates
// in spite of which somebody moved traffic, with why they were not safe. Both
// are empty for a record that has none.
func Findings(r Record) (findings []routing.Finding, notSafe []string) {
	var d struct {
		Findings []routing.Finding `json:"findings"`
		NotSafe  []string          `json:"not_safe"`
	}
	_ = json.Unmarshal(r.Data, &d) // what cannot be read is left out
	return d.Findings, d.NotSafe
}
