package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
)

// scene is one story that the demo can show: who answers at first, who comes,
// how, and what has to be true in the end.
type scene struct {
	number    int
	title     string
	before    string // one sentence: what is about to happen
	stable    deployment
	candidate deployment
	shares    []string // of the users, step by step
	back      bool     // the candidate is to be sent back; else it takes over
	// patience is how long an answer may take in a scene about slow ones; 0: a
	// bad answer is one that fails.
	patience time.Duration
}

// deployment is one version of the model as it is served.
type deployment struct {
	version string
	recipe  model.Recipe
	faults  server.Faults
}

// The two models. The new one is better; how it is served differs.
var (
	first  = deployment{version: "v1.0.0", recipe: model.Size}
	second = deployment{version: "v2.0.0", recipe: model.Full}
)

// tooSlow is the limit of the latency gate.
const tooSlow = time.Second

// gates are the same in every scene. The second takes longest to be shown safe:
// about 8,600 requests at 10 % of the users, 3,500 at 25 %, 1,800 at 50 %, which
// at the usual rate are 22, 9 and 5 seconds.
var gates = []string{
	"{metric: error_rate, max: 1%}",
	"{metric: error_rate, max_increase: 0.5pp}",
	"{metric: latency_p95, max: " + tooSlow.String() + "}",
}

// scenes are all there are, by number.
var scenes = []scene{
	{
		number:    1,
		title:     "a better model takes over",
		before:    "A better model. It gets more users each time it is shown to keep every limit.",
		stable:    first,
		candidate: second,
		shares:    []string{"10%", "25%", "50%", "100%"},
	}, {
		number:    2,
		title:     "a v2 that fails some requests",
		before:    "A better model, but 1 in 30 of its answers is an error. headgate is not told.",
		stable:    first,
		candidate: second.with(server.Faults{FailRate: 1.0 / 30}),
		shares:    []string{"10%", "25%", "50%", "100%"},
		back:      true,
	}, {
		number:    3,
		title:     "a v2 with slow answers",
		before:    "A better model, but 1 in 8 of its answers is 1.5 s late. headgate is not told.",
		stable:    first,
		candidate: second.with(server.Faults{Delay: 1500 * time.Millisecond, SlowRate: 1.0 / 8}),
		shares:    []string{"10%", "25%", "50%", "100%"},
		back:      true,
		patience:  tooSlow,
	},
}

// with returns the deployment with faults.
func (d deployment) with(f server.Faults) deployment {
	d.faults = f
	return d
}

func listScenes() string {
	var b strings.Builder
	for _, s := range scenes {
		fmt.Fprintf(&b, "  %d  %s\n", s.number, s.title)
	}
	return b.String()
}

// findScenes returns the scenes of a list like "1,3", or all.
func findScenes(list string) ([]scene, error) {
	if list == "all" {
		return scenes, nil
	}
	var found []scene
	for number := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(scenes, func(s scene) bool { return strconv.Itoa(s.number) == number })
		if i < 0 {
			return nil, fmt.Errorf("--scene %q: must be numbers from 1 to %d like 1,2, or all", list, len(scenes))
		}
		found = append(found, scenes[i])
	}
	return found, nil
}
