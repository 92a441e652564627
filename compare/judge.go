package compare

import (
	"log/slog"
	"time"

	"github.com/headgate/headgate/routing"
)

// JudgeOptions are what a [Judge] depends on. The zero value will do.
type JudgeOptions struct {
	Log *slog.Logger // nil: nothing is logged
}

// Judge takes observations and says what they show of the candidates that it
// watches. It is safe for concurrent use, and models do not wait for each other.
type Judge struct {
	alarm chan string
}

// NewJudge returns a judge that watches nothing yet.
func NewJudge(o JudgeOptions) *Judge { return &Judge{alarm: make(chan string, 1024)} }

// Observe counts one request.
func (j *Judge) Observe(o Observation) {}

// Gap says that what a node served in [from, to) may not have been told; see
// [Ledger.Gap].
func (j *Judge) Gap(node string, from, to time.Time) {}

// Watch says what to judge from now on. Evidence goes on through the steps of
// one rollout; kept is what an earlier process had found, else nil.
func (j *Judge) Watch(t routing.Trial, kept []byte) {}

// Forget ends the judgement of a model.
func (j *Judge) Forget(model string) {}

// Look returns what is shown by now.
func (j *Judge) Look(model string, now time.Time) routing.Judgement { return routing.Judgement{} }

// Alarm receives the name of a model whose candidate has just given bad answers.
func (j *Judge) Alarm() <-chan string { return j.alarm }
