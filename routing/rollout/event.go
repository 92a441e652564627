package rollout

import (
	"time"

	"github.com/headgate/headgate/routing"
)

// Event is something that happened to a model. The events are [Configured],
// [Removed], [Delivered], [Probed], [Judged], [Tick], [Stopping] and [Command].
type Event interface{ event() }

// Configured says what the configuration now says of the model. It comes for
// the first configuration of a process and for every one that changed the
// model.
type Configured struct {
	Wanted Wanted
	// Held are the versions that Envoys held before an empty journal's process
	// told them anything. It only counts for a model never seen before.
	Held []string
}

// Removed says that the configuration no longer has the model.
type Removed struct{}

// Delivered says whether every connected Envoy, and at least one, serves what
// was last published of the model.
type Delivered struct{ Acknowledged bool }

// Probed is the outcome of a [Probe]. Err is empty when an endpoint answered.
type Probed struct {
	Rollout int
	Err     string
}

// Judged is what a judge says of a model's [State.Trial]. One of another
// rollout or step says nothing. Its evidence is the Controller's business.
type Judged struct{ routing.Judgement }

// Tick says that time has passed.
type Tick struct{}

// Stopping says that the process is about to end, in order.
type Stopping struct{}

func (Configured) event() {}
func (Removed) event()    {}
func (Delivered) event()  {}
func (Probed) event()     {}
func (Judged) event()     {}
func (Tick) event()       {}
func (Stopping) event()   {}
func (Command) event()    {}

// Effect is something that has to be done because of an event. The effects are
// [Write], [Publish], [Probe], [Wake] and [Refused].
type Effect interface{ effect() }

// Write is a record for the journal. The new state counts, and the other
// effects may be carried out, only when the journal has taken it.
type Write struct{ Record *Record }

// Publish says that the model's split or its mirrors have changed.
type Publish struct{}

// Probe asks whether the candidate's endpoints answer. A later Probe of the
// same model replaces an earlier one.
type Probe struct {
	Rollout int
	Version string
	After   time.Duration
}

// Wake asks for a [Tick]. A later Wake of the same model replaces an earlier
// one; a negative After means that none is needed.
type Wake struct{ After time.Duration }

// Refused says that the event cannot be: the state stays as it was and there
// is no other effect. As an error it is the answer to a command, as part of a
// [ConfigError] the answer to an edit.
//
//nolint:errname // it is an effect first
type Refused struct {
	Path   string // in the model's file; empty for a command
	Reason string
}

// Error returns the reason.
func (r Refused) Error() string {
	if r.Path == "" {
		return r.Reason
	}
	return r.Path + ": " + r.Reason
}

func (Write) effect()   {}
func (Publish) effect() {}
func (Probe) effect()   {}
func (Wake) effect()    {}
func (Refused) effect() {}

// Wanted is what the configuration says of a model, as far as a rollout is
// concerned. It is immutable.
type Wanted struct {
	Release  string
	From     string
	Versions map[string]string // name to definition
	Steps    []routing.Step
	Shadows  []routing.Shadow // standing ones, each version once
	Key      KeyID
	Policy   *routing.Policy // nil: no gates, and the usual promise
}

// KeyID is what makes two keys the same key.
type KeyID struct {
	Source routing.Source `json:"source,omitempty"`
	Name   string         `json:"name,omitempty"`
	Absent routing.Absent `json:"absent,omitempty"`
}

// String returns the key as it is written in a file.
func (k KeyID) String() string {
	if k.Source == "" {
		return "none"
	}
	s := string(k.Source) + " " + k.Name
	if k.Absent != "" {
		s += ", absent: " + string(k.Absent)
	}
	return s
}

// WantedOf returns what a model's file wants.
func WantedOf(m *routing.Model) Wanted {
	w := Wanted{
		Release:  m.Release,
		From:     m.From,
		Versions: make(map[string]string, len(m.Versions)),
		Steps:    m.Steps,
		Shadows:  m.Shadows,
		Key:      KeyID{Source: m.Key.Source, Name: m.Key.Name, Absent: m.Key.Absent},
		Policy:   &m.Policy,
	}
	for _, v := range m.Versions {
		w.Versions[v.Name] = v.Definition
	}
	return w
}
