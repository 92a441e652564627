package main

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing/rollout"
)

// scene is one story that the demo can show: who answers at first, who comes,
// how, and what has to be true in the end.
type scene struct {
	number    int
	title     string
	stable    deployment
	candidate deployment
	shares    []string // of the users, step by step
	verdict   func(outcome) []string
}

// deployment is one version of the model as it is served.
type deployment struct {
	version string
	recipe  model.Recipe
	faults  server.Faults
}

// outcome is what a scene came to.
type outcome struct {
	status  rollout.Status
	account traffic.Account
}

// scenes are all there are, by number.
var scenes = []scene{{
	number:    1,
	title:     "a better model takes over",
	stable:    deployment{version: "v1.0.0", recipe: model.Size},
	candidate: deployment{version: "v2.0.0", recipe: model.Full},
	shares:    []string{"10%", "25%", "50%", "100%"},
	verdict:   takenOver,
}}

func listScenes() string {
	var b strings.Builder
	for _, s := range scenes {
		fmt.Fprintf(&b, "  %d  %s\n", s.number, s.title)
	}
	return b.String()
}

// takenOver returns what is wrong with an outcome in which the candidate had
// to reach everyone, unnoticed.
func takenOver(o outcome) []string {
	var wrong []string
	if o.status.Phase != rollout.PhaseCompleted {
		wrong = append(wrong, fmt.Sprintf("the rollout is %s, not completed: %s", o.status.Phase, o.status.Reason))
	}
	if o.account.Sent == 0 {
		wrong = append(wrong, "no request was sent")
	}
	if o.account.Failed > 0 {
		wrong = append(wrong, fmt.Sprintf("%d requests failed", o.account.Failed))
	}
	if o.account.Backwards > 0 {
		wrong = append(wrong, fmt.Sprintf("users went back to an older version %d times", o.account.Backwards))
	}
	return wrong
}
