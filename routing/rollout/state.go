package rollout

import (
	"cmp"
	"strconv"
	"time"

	"github.com/headgate/headgate/routing"
)

// State is what is true of a model. It is a value: Next returns a new one and
// never changes what an old one points to.
type State struct {
	Model    string
	Phase    Phase // empty: never seen
	Since    time.Time
	Cause    Cause // of the phase
	Stable   string
	Previous string // what served before Stable: the way back after completion
	// PreviousDefinition is what Previous was when it served; empty: not known.
	PreviousDefinition string
	Declined           Declined // what went back although the file wants it
	Held               []string // while blocked: the versions that Envoys were found to hold
	Retired            bool     // the configuration does not have the model
	Rollout            Rollout  // the one that runs, or the last one

	// What follows is not in the journal: it is true of this process only.

	Wanted *Wanted // nil until this process has read a configuration
	Clock  Clock
	Probe  ProbeState
	// InForce is since when every connected Envoy, and at least one, has served
	// what the step says without a break. Zero: not now.
	InForce time.Time
	// Judgement is the last one of the present step; nil: none yet.
	Judgement *routing.Judgement
}

// Cause is why a phase began.
type Cause struct {
	Kind, Actor, Reason string
}

// Declined is a version that went back. It is not tried again until it is
// asked for again, or is no longer the same.
type Declined struct {
	Version, Definition string
}

// Rollout is one way of a model from a version to another.
type Rollout struct {
	Number     int // from 1, per model; 0: there was none
	Candidate  string
	Definition string // of the candidate
	Steps      []routing.Step
	Key        KeyID
	Step       int
	// Reachable is set when an endpoint of the candidate has answered. Before,
	// the candidate gets nobody.
	Reachable bool
	// Promoted is set when all steps are over: the candidate serves everyone,
	// and the rollout completes when the Envoys have acknowledged that.
	Promoted bool
	// StepStarted is when every Envoy first had the step's share.
	StepStarted time.Time
	// Elapsed is how long the step has run, as far as the journal knows.
	Elapsed time.Duration
	// CountedFrom is the Elapsed from which the step's AtMost counts: more than 0
	// after a person went on with a step that had timed out.
	CountedFrom time.Duration
	// Told is what is not to be told or done again in this step: the kind of a
	// record and the gate that it was about.
	Told []string
	// Overruled are the gates in spite of which persons went on.
	Overruled []Overruled
	// Policy is how the candidate was judged when that was last written, in
	// words, see [policyWords]. Nil: written by a headgate without a judge.
	Policy []string
	// Findings are those of the last record that had any.
	Findings []routing.Finding
}

// Clock measures how long a step runs. It only runs while every connected
// Envoy, and at least one, serves the step's share. Since keeps the monotonic
// reading of the process, so a wall clock that is set does not move it.
type Clock struct {
	Since time.Time     // zero: stopped
	Ran   time.Duration // until Since, and not yet in Rollout.Elapsed
}

// ProbeState is what is known of the candidate's endpoints before they get
// their first user.
type ProbeState struct {
	Failures int
	Err      string
}

// Running tells whether a rollout is under way, paused or not.
func (s State) Running() bool {
	return s.Phase == PhaseProgressing || s.Phase == PhasePaused
}

// Known tells whether it is known what serves, so that it can be published.
func (s State) Known() bool {
	return s.Phase != "" && s.Phase != PhaseBlocked && !s.Retired
}

// Share is the candidate's share of the users.
func (s State) Share() routing.Share {
	r := &s.Rollout
	switch {
	case !s.Running() || !r.Reachable:
		return 0
	case r.Promoted:
		return routing.Whole
	}
	return r.share()
}

// Split is what the Envoys should serve; it is empty while that is not known.
// After a way back the candidate stays in it with nobody, so that going back
// changes a weight and no route.
func (s State) Split() routing.Split {
	if !s.Known() {
		return routing.Split{}
	}
	candidate := s.candidate()
	if !s.Running() && (!s.configured(candidate) || candidate == s.Stable) {
		return routing.Split{Ranges: []routing.Range{{Version: s.Stable, Weight: routing.Whole}}}
	}
	share := s.Share()
	return routing.Split{
		Salt: s.Model + "-r" + strconv.Itoa(s.Rollout.Number),
		Ranges: []routing.Range{
			{Version: candidate, Weight: share},
			{Version: s.Stable, Weight: routing.Whole - share},
		},
	}
}

// candidate is the version that is on its way in, or that went back; else empty.
// What went back last need not be the last rollout's candidate: a person can
// take back the stable version too.
func (s State) candidate() string {
	switch {
	case s.Running():
		return s.Rollout.Candidate
	case s.Phase == PhaseRolledBack:
		return cmp.Or(s.Declined.Version, s.Rollout.Candidate)
	}
	return ""
}

// Elapsed is how long the present step has run.
func (s State) Elapsed(now time.Time) time.Duration {
	return s.Rollout.Elapsed + s.Clock.ran(now)
}

func (s State) configured(version string) bool {
	if s.Wanted == nil {
		return false
	}
	_, ok := s.Wanted.Versions[version]
	return ok
}

func (s State) definition(version string) string {
	if s.Wanted == nil {
		return ""
	}
	return s.Wanted.Versions[version]
}

func (c Clock) ran(now time.Time) time.Duration {
	if c.Since.IsZero() {
		return c.Ran
	}
	return c.Ran + max(0, now.Sub(c.Since))
}

// step is the present step; a rollout without steps has one that is over at
// once.
func (r *Rollout) step() routing.Step {
	if r.Step < 0 || r.Step >= len(r.Steps) {
		return routing.Step{Kind: routing.StepTraffic, Share: routing.Whole}
	}
	return r.Steps[r.Step]
}

func (r *Rollout) share() routing.Share {
	step := r.step()
	return kindOf(step).Share(step)
}
