// Package rollout moves a model from one version to another.
//
// What is true of a model is a [State], and a state is the fold of the events
// in the journal. [Next] is the only place where a state changes: it is pure,
// and returns what has to be done as effects. The [Controller] is one
// goroutine that takes what happens (an edited file, a command, an
// acknowledgement, a deadline), asks Next, writes the event to the journal and
// only then carries the effects out. A crash at any instant therefore resumes
// with the weights of the last event written.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// Phase is where a model is in its release.
type Phase string

// The phases.
const (
	PhaseIdle        Phase = "idle"        // the release serves, nothing to do
	PhaseProgressing Phase = "progressing" // a rollout is moving through its steps
	PhasePaused      Phase = "paused"      // a rollout that a person stopped where it is
	PhaseRolledBack  Phase = "rolled_back" // the last rollout went back
	PhaseCompleted   Phase = "completed"   // the last rollout's candidate serves
	PhaseBlocked     Phase = "blocked"     // headgate does not know what serves
)

// Record is one line of the journal.
type Record struct {
	Seq     int64 // position in the journal, from 1; given by the journal
	Model   string
	Rollout int // number of the model's rollout, from 1; 0 before the first
	Time    time.Time
	Kind    string // the event's name, e.g. "started", "advanced", "paused"
	Actor   string // who asked for it: "config", "timer", "cli", a token's name
	Reason  string // free text, from the actor or from headgate
	Data    []byte // JSON of the event; everything that the fold needs
	// Evidence, when not nil, becomes the model's kept evidence in the same
	// transaction. Only the newest is kept; it is no part of the history.
	Evidence []byte
}

// Evidence is what a judge had found about a rollout when it was last written.
type Evidence struct {
	Model   string
	Rollout int
	Data    []byte
}

// Journal keeps the records. Append is durable when it returns.
type Journal interface {
	// Append writes the records in order, all or none, and sets their Seq.
	Append(ctx context.Context, records ...*Record) error
	// Replay calls fn for every record in order.
	Replay(ctx context.Context, fn func(Record) error) error
	// History returns a model's newest records, newest first, at most limit.
	History(ctx context.Context, model string, limit int) ([]Record, error)
	// KeepEvidence replaces the kept evidence of models, all or none. Durable when
	// it returns.
	KeepEvidence(ctx context.Context, evidence ...Evidence) error
	// Evidence returns what is kept, by model.
	Evidence(ctx context.Context) (map[string]Evidence, error)
	// Fresh tells whether the journal had no records when this process opened
	// it, so that an Envoy can know more than it does.
	Fresh() bool
}

// Publisher carries plans to the Envoys.
type Publisher interface {
	// Publish makes plan what every Envoy should serve. It does not wait.
	// Models in hold are left as each Envoy has them: headgate does not know
	// their state.
	Publish(plan *routing.Plan, hold []string)
	// Delivery tells how far the model's part of the last published plan has
	// come.
	Delivery(model string) Delivery
	// Inventory returns the versions of each model that connected Envoys held
	// before this process told them anything, and whether any Envoy has
	// connected yet.
	Inventory() (held map[string][]string, connected bool)
	// Changed receives a value after a Delivery or the Inventory may have
	// changed. It is never closed; values coalesce.
	Changed() <-chan struct{}
}

// Delivery is how far a model's plan has come.
type Delivery struct {
	Envoys   int      // connected and counted in the quorum
	Waiting  []string // ids of the Envoys among them that have not acknowledged it, sorted
	Late     []string // ids among Waiting that had 30 s and more
	Rejected string   // Envoy's own words, when one refused it; the last accepted serves
	// Unpublished is why the plan was given to no Envoy; the one before serves.
	Unpublished string
}

// Acknowledged tells whether there is an Envoy and each has the plan.
func (d Delivery) Acknowledged() bool {
	return d.Envoys > 0 && len(d.Waiting) == 0 && d.Rejected == "" && d.Unpublished == ""
}

// Prober asks whether a version's endpoints can be reached, before it gets its
// first user.
type Prober interface {
	// Probe returns nil when at least one endpoint of the version accepts a
	// connection.
	Probe(ctx context.Context, v *routing.Version) error
}

// Judge says what is shown about the candidates of rollouts. Its methods may be
// called from any goroutine, and do not wait.
type Judge interface {
	// Watch says what to judge from now on. It is called when a step begins, when
	// its share is in force everywhere or no longer is (Trial.Since), and when the
	// policy was edited. Evidence goes on through the steps of one rollout; kept is
	// what the journal has of it when an earlier process judged it, else nil.
	Watch(t routing.Trial, kept []byte)
	// Forget ends the judgement of a model.
	Forget(model string)
	// Look returns what is shown by now.
	Look(model string, now time.Time) routing.Judgement
	// Alarm receives the name of a model when a look should not wait for the next
	// regular one: its candidate has just given bad answers. Values may coalesce.
	Alarm() <-chan string
}

// Action is what a person can ask for.
type Action string

// The actions.
const (
	ActionPromote  Action = "promote"  // skip the remaining steps: the candidate serves everyone
	ActionPause    Action = "pause"    // stay at the present weights
	ActionResume   Action = "resume"   // go on after a pause
	ActionRollback Action = "rollback" // back to the stable version, now
	ActionRetry    Action = "retry"    // after going back: a new rollout of the same version
	ActionSkip     Action = "skip"     // end this step and begin the next
	ActionAdopt    Action = "adopt"    // say which version serves, when headgate does not know
)

// Command is what a person asks of a model.
type Command struct {
	Model   string
	Action  Action
	Version string // for adopt
	Actor   string
	Reason  string
}

// Status is what is told of a model, in the JSON form that scripts rely on.
type Status struct {
	Model        string             `json:"model"`
	Rollout      int                `json:"rollout"`
	Phase        Phase              `json:"phase"`
	Stable       string             `json:"stable"`
	Candidate    string             `json:"candidate"`
	Step         int                `json:"step"` // index of the step; -1 when none runs
	Steps        []StepStatus       `json:"steps"`
	Weights      map[string]float64 `json:"weights"`      // version to percent, as wanted
	Acknowledged bool               `json:"acknowledged"` // every connected Envoy has the weights
	Envoys       int                `json:"envoys"`
	Waiting      []string           `json:"waiting"` // Envoys that have not acknowledged
	Late         []string           `json:"late"`
	Rejected     string             `json:"rejected,omitempty"`     // Envoy's words
	Reason       string             `json:"reason"`                 // why it is where it is, in words
	Release      string             `json:"release"`                // what the file says should serve
	StepStarted  *time.Time         `json:"step_started,omitempty"` // when every Envoy had the step's weights
	StepEnds     *time.Time         `json:"step_ends,omitempty"`    // earliest end; none while paused or by hand
	Since        time.Time          `json:"since"`                  // when the phase began
	// StepTimesOut is when on_timeout follows, if the gates are not safe by then.
	// None without at_most, and while the step's clock stands still.
	StepTimesOut *time.Time        `json:"step_times_out,omitempty"`
	Mode         routing.Mode      `json:"mode"`  // act | observe: whether verdicts move traffic
	Gates        []routing.Finding `json:"gates"` // of the rollout that runs, or what the last one ended with
}

// StepStatus is one step of a rollout as told to people.
type StepStatus struct {
	Kind  routing.StepKind `json:"kind"`
	Share float64          `json:"percent"`
	For   string           `json:"for"` // "1h0m0s"; empty: until told
	// AtMost is how long the step waits for its gates, "3h0m0s", and OnTimeout what
	// follows then; both empty: as long as it takes.
	AtMost    string            `json:"at_most,omitempty"`
	OnTimeout routing.OnTimeout `json:"on_timeout,omitempty"`
	Control   string            `json:"control,omitempty"` // what a candidate with 100 % is compared with: "5%" of the users, "mirror"; empty: nothing
}

// ErrJournal is wrapped by the errors of what could not be done because the
// journal could not be written. Nothing has changed then.
var ErrJournal = errors.New("the journal cannot be written")

// ErrUnknownModel is wrapped by the answers about a model that there is not.
var ErrUnknownModel = errors.New("no such model")

// ErrStopped is returned by what is asked of a Controller that has ended.
var ErrStopped = errors.New("the controller has stopped")

// ConfigProblem is one reason not to take a configuration.
type ConfigProblem struct {
	Model    string
	Path     string // in the model's file, like rollout.steps[1]
	Message  string // value: rule
	Position routing.Position
}

// ConfigError is the answer to a configuration that would take away a version
// that serves, or move users without a word. None of it has been taken.
type ConfigError struct {
	Problems []ConfigProblem // at least one, in the order of the models
}

// Error lists the problems, one a line, as file:line: path: value: rule.
func (e *ConfigError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if p.Position.File != "" {
			fmt.Fprintf(&b, "%s:%d: ", p.Position.File, p.Position.Line)
		}
		if p.Path != "" {
			b.WriteString(p.Path + ": ")
		}
		b.WriteString(p.Message)
	}
	return b.String()
}
