package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// The kinds of records, which are the events of the journal.
const (
	KindSeen         = "seen"         // the model is new, or is back: stable serves
	KindBlocked      = "blocked"      // Envoys hold versions that the journal does not know
	KindAdopted      = "adopted"      // a person said which version serves
	KindStarted      = "started"      // a rollout begins at its first step
	KindReachable    = "reachable"    // an endpoint of the candidate answered: the step's share is in force
	KindAcknowledged = "acknowledged" // every Envoy has the step's share: its clock starts
	KindCheckpoint   = "checkpoint"   // how long the step has run
	KindAdvanced     = "advanced"     // the next step begins
	KindSteps        = "steps"        // the steps were edited in mid-rollout
	KindPaused       = "paused"
	KindResumed      = "resumed"
	KindPromoted     = "promoted"    // no steps are left: the candidate serves everyone
	KindCompleted    = "completed"   // every Envoy has that: the candidate is the stable version
	KindRolledBack   = "rolled_back" // the stable version, or the one before it, serves everyone
	KindSuperseded   = "superseded"  // the rollout ended because another one begins
	KindSettled      = "settled"     // the file agrees with an earlier way back
	KindRetired      = "retired"     // the configuration no longer has the model
	KindPolicy       = "policy"      // the gates, or what else judges, were edited in mid-rollout
	KindWarned       = "warned"      // a gate of on_breach: warn is broken

	// With mode: observe, what would have been done.

	KindWouldAdvance  = "would_advance"
	KindWouldPause    = "would_pause"
	KindWouldRollBack = "would_roll_back"
)

// tellsFindings are the kinds of records that keep what the gates said then.
var tellsFindings = map[string]bool{
	KindAdvanced: true, KindPaused: true, KindPromoted: true, KindCompleted: true, KindRolledBack: true,
	KindSuperseded: true, KindPolicy: true, KindWarned: true,
	KindWouldAdvance: true, KindWouldPause: true, KindWouldRollBack: true,
}

// dataVersion is the version of the form of Record.Data. A reader refuses
// what it does not know: a newer headgate's journal must not be half
// understood. Version 1 knew no judge; every record of it is one of version 2.
const (
	dataVersion    = 2
	oldDataVersion = 1
)

// data is Record.Data. Which fields are set depends on the kind.
type data struct {
	Version    int           `json:"v"`
	Stable     string        `json:"stable,omitempty"`
	Previous   string        `json:"previous,omitempty"`
	Candidate  string        `json:"candidate,omitempty"`
	Definition string        `json:"definition,omitempty"`
	Steps      []stepData    `json:"steps,omitempty"`
	Key        *KeyID        `json:"key,omitempty"`
	Step       int           `json:"step,omitempty"`
	Elapsed    time.Duration `json:"elapsed_ns,omitempty"`
	Held       []string      `json:"held,omitempty"`
	// SameShare says that an edit of the steps left the share of the present
	// one as it was.
	SameShare   bool              `json:"same_share,omitempty"`
	CountedFrom time.Duration     `json:"counted_from_ns,omitempty"` // see [Rollout]
	Policy      []string          `json:"policy,omitempty"`          // see [Rollout]
	Told        []string          `json:"told,omitempty"`            // what [Rollout].Told gains
	Overruled   []string          `json:"overruled,omitempty"`       // the gates that the actor overrules
	Findings    []routing.Finding `json:"findings,omitempty"`        // what the gates said
	NotSafe     []string          `json:"not_safe,omitempty"`        // the gates in spite of which somebody moved traffic
	// Text says for people what happened. The fold does not need it.
	Text string `json:"text,omitempty"`
}

type stepData struct {
	Kind  routing.StepKind `json:"kind"`
	Share routing.Share    `json:"share,omitempty"` // hundredths of a percent
	For   time.Duration    `json:"for_ns,omitempty"`
	Hold  bool             `json:"hold,omitempty"`

	AtMost    time.Duration     `json:"at_most_ns,omitempty"`
	OnTimeout routing.OnTimeout `json:"on_timeout,omitempty"`
	Mirror    bool              `json:"mirror,omitempty"`  // the control is a mirror
	Control   routing.Share     `json:"control,omitempty"` // its share
}

func stepsData(steps []routing.Step) []stepData {
	out := make([]stepData, 0, len(steps))
	for _, s := range steps {
		out = append(out, stepData{
			Kind: s.Kind, Share: s.Share, For: s.For, Hold: s.Hold,
			AtMost: s.AtMost, OnTimeout: s.OnTimeout, Mirror: s.Control.Mirror, Control: s.Control.Share,
		})
	}
	return out
}

func (d data) steps() []routing.Step {
	if len(d.Steps) == 0 {
		return nil
	}
	out := make([]routing.Step, 0, len(d.Steps))
	for _, s := range d.Steps {
		out = append(out, routing.Step{
			Kind: s.Kind, Share: s.Share, For: s.For, Hold: s.Hold,
			AtMost: s.AtMost, OnTimeout: s.OnTimeout, Control: routing.Control{Mirror: s.Mirror, Share: s.Control},
		})
	}
	return out
}

// Fold returns the state after a record of the journal. It fails on a record
// that this version of headgate does not understand.
func Fold(s State, r Record) (State, error) {
	var d data
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(r.Data, &v); err != nil {
		return s, fmt.Errorf("record %d (%s of %s): data: %w", r.Seq, r.Kind, r.Model, err)
	}
	if v.Version < oldDataVersion || v.Version > dataVersion || !folds(r.Kind) {
		return s, fmt.Errorf("record %d (%s of %s, form %d): was written by a newer headgate, which has to be used to go on",
			r.Seq, r.Kind, r.Model, v.Version)
	}
	dec := json.NewDecoder(bytes.NewReader(r.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return s, fmt.Errorf("record %d (%s of %s): was written by a newer headgate, which has to be used to go on: %w",
			r.Seq, r.Kind, r.Model, err)
	}
	return apply(s, r, d), nil
}

// apply is the fold itself, the same for a record that was just made and for
// one that is replayed. It stops the clock: whoever made the record starts it
// again when it should go on.
func apply(s State, r Record, d data) State {
	s.Model = r.Model
	s.Clock = Clock{}
	if fold, ok := phaseFolds[r.Kind]; ok {
		s.Since = r.Time
		s.Cause = Cause{Kind: r.Kind, Actor: r.Actor, Reason: r.Reason}
		s = fold(s, r, d)
	} else {
		s = stepFolds[r.Kind](s, r, d)
	}
	if len(d.Findings) > 0 {
		s.Rollout.Findings = d.Findings
	}
	if len(d.Told) > 0 {
		s.Rollout.Told = append(slices.Clip(s.Rollout.Told), d.Told...)
	}
	for _, gate := range d.Overruled {
		s.Rollout.Overruled = append(slices.Clip(s.Rollout.Overruled), Overruled{Gate: gate, By: r.Actor})
	}
	if !s.Running() {
		s.InForce, s.Judgement = time.Time{}, nil
	}
	return s
}

func folds(kind string) bool {
	return phaseFolds[kind] != nil || stepFolds[kind] != nil
}

type foldFunc func(State, Record, data) State

// phaseFolds are the records with which a phase begins.
var phaseFolds = map[string]foldFunc{
	KindSeen:       settle,
	KindAdopted:    settle,
	KindBlocked:    foldBlocked,
	KindStarted:    foldStarted,
	KindPaused:     foldPaused,
	KindResumed:    foldResumed,
	KindPromoted:   foldPromoted,
	KindCompleted:  foldCompleted,
	KindRolledBack: foldRolledBack,
	KindSuperseded: foldEnded,
	KindSettled:    foldEnded,
	KindRetired:    foldRetired,
}

// stepFolds are the records within a phase.
var stepFolds = map[string]foldFunc{
	KindReachable: func(s State, _ Record, _ data) State {
		s.Rollout.Reachable = true
		s.Probe = ProbeState{}
		return s
	},
	KindAcknowledged: func(s State, r Record, _ data) State {
		s.Rollout.StepStarted = r.Time
		return s
	},
	KindCheckpoint:    foldNote,
	KindWarned:        foldNote,
	KindWouldAdvance:  foldNote,
	KindWouldPause:    foldNote,
	KindWouldRollBack: foldNote,
	KindPolicy: func(s State, r Record, d data) State {
		s.Rollout.Policy, s.Rollout.Told, s.Judgement = d.Policy, nil, nil
		return foldNote(s, r, d)
	},
	KindAdvanced: func(s State, _ Record, d data) State {
		s.Rollout.Step = d.Step
		return s.stepBegins()
	},
	KindSteps: foldSteps,
}

// foldSteps keeps the time that a step of the same share has run. What was shown
// in another step, or beside another control, is not true of this one.
func foldSteps(s State, _ Record, d data) State {
	step, control := s.Rollout.Step, s.Rollout.step().Control
	s.Rollout.Steps, s.Rollout.Step = d.steps(), d.Step
	if !d.SameShare {
		return s.stepBegins()
	}
	s.Rollout.Elapsed = d.Elapsed
	if s.Rollout.Step != step {
		s.Judgement = nil
	}
	if s.Rollout.step().Control != control && !s.Rollout.Promoted {
		s.InForce, s.Judgement = time.Time{}, nil
	}
	return s
}

// foldNote is what a record does that only tells something.
func foldNote(s State, _ Record, d data) State {
	s.Rollout.Elapsed = d.Elapsed
	return s
}

// settle makes a version the stable one without a rollout.
func settle(s State, r Record, d data) State {
	return State{
		Model: s.Model, Phase: PhaseIdle, Since: s.Since, Cause: s.Cause, Stable: d.Stable,
		Rollout: Rollout{Number: r.Rollout}, Wanted: s.Wanted,
	}
}

func foldBlocked(s State, r Record, d data) State {
	return State{
		Model: s.Model, Phase: PhaseBlocked, Since: s.Since, Cause: s.Cause, Held: d.Held,
		Rollout: Rollout{Number: r.Rollout}, Wanted: s.Wanted,
	}
}

func foldStarted(s State, r Record, d data) State {
	s.Phase, s.Declined, s.Probe = PhaseProgressing, Declined{}, ProbeState{}
	s.Rollout = Rollout{Number: r.Rollout, Candidate: d.Candidate, Definition: d.Definition, Steps: d.steps(), Policy: d.Policy}
	s.InForce, s.Judgement = time.Time{}, nil
	if d.Key != nil {
		s.Rollout.Key = *d.Key
	}
	return s
}

func foldPaused(s State, _ Record, d data) State {
	s.Phase, s.Rollout.Elapsed, s.Probe = PhasePaused, d.Elapsed, ProbeState{}
	return s
}

func foldResumed(s State, _ Record, d data) State {
	s.Phase = PhaseProgressing
	s.Rollout.CountedFrom = max(s.Rollout.CountedFrom, d.CountedFrom)
	return s
}

func foldPromoted(s State, _ Record, _ data) State {
	s.Phase = PhaseProgressing
	s.Rollout.Promoted = true
	s.Rollout.Step = max(0, len(s.Rollout.Steps)-1)
	return s.stepBegins()
}

func foldCompleted(s State, _ Record, d data) State {
	s.Phase, s.Stable, s.Previous, s.PreviousDefinition = PhaseCompleted, d.Stable, d.Previous, d.Definition
	return s
}

func foldRolledBack(s State, _ Record, d data) State {
	s.Phase, s.Probe = PhaseRolledBack, ProbeState{}
	if s.Stable != d.Stable {
		s.Stable, s.Previous, s.PreviousDefinition = d.Stable, "", ""
	}
	s.Declined = Declined{Version: d.Candidate, Definition: d.Definition}
	return s
}

func foldEnded(s State, _ Record, _ data) State {
	s.Phase, s.Declined, s.Probe = PhaseIdle, Declined{}, ProbeState{}
	return s
}

func foldRetired(s State, _ Record, _ data) State {
	s.Phase, s.Declined, s.Probe, s.Held = PhaseIdle, Declined{}, ProbeState{}, nil
	s.Retired, s.Wanted = true, nil
	return s
}

func (s State) stepBegins() State {
	s.Rollout.StepStarted, s.Rollout.Elapsed, s.Rollout.CountedFrom, s.Rollout.Told = time.Time{}, 0, 0, nil
	s.InForce, s.Judgement = time.Time{}, nil
	return s
}
