package rollout

import (
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// Kind is what a kind of step does. Implementations are pure: they are asked
// again and again, also about steps of long ago.
type Kind interface {
	// Check returns what is wrong with a step.
	Check(step routing.Step) error
	// Share is the candidate's share of the users while the step runs.
	Share(step routing.Step) routing.Share
	// Mirrors are the versions that get copies of requests while the step runs.
	Mirrors(step routing.Step, stable, candidate string) []routing.Mirror
	// Progress tells how far a step is that has run for elapsed, the time in
	// which every connected Envoy served the step's share.
	Progress(step routing.Step, elapsed time.Duration) Progress
}

// Progress is how far a step is.
type Progress struct {
	Done   bool
	After  time.Duration // ask again then; 0: only when something happens
	Reason string        // in words, with numbers: "41 of at least 60 min"
}

// kinds is the registry of what can be a step. A kind that is not here does
// not run: configurations with it are refused.
var kinds = map[routing.StepKind]Kind{
	routing.StepTraffic: traffic{},
	routing.StepShadow:  shadow{},
}

// Kinds returns the kinds of steps that can run, sorted.
func Kinds() []routing.StepKind { return slices.Sorted(maps.Keys(kinds)) }

// kindOf never returns nil: a step of an unknown kind gives nobody to the
// candidate and does not end by itself.
func kindOf(step routing.Step) Kind {
	if k, ok := kinds[step.Kind]; ok {
		return k
	}
	return unknown{step.Kind}
}
