package compare

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/routing"
)

// JudgeOptions are what a [Judge] depends on. The zero value will do.
type JudgeOptions struct {
	Log *slog.Logger // nil: nothing is logged
	// Record is given all that a trial is given, to judge it again by another
	// policy. It must not wait, nor keep what it is given. Nil: nobody records.
	Record func(Recorded)
}

// Recorded is a batch that a trial was given.
type Recorded struct {
	Trial *routing.Trial
	Keyed bool // the split draws users
	Gap   bool // an Envoy's access log is lost in part: the batch is not all
	Batch *Batch
	Slow  []float64 // by gate, in seconds, see [Trial.Epoch]
}

// Judge takes observations and says what they show of the candidates that it
// watches. It is safe for concurrent use, and models do not wait for each other.
//
// An observation counts in the step in which its request began, by Envoy's
// clock: in the present one when that was at or after [routing.Trial].Since, in
// the one before when it comes late, else nowhere. So the two versions are
// compared over the same requests. Answers that are still on their way are
// missing on both sides alike, except that fast ones come first: for as long as
// an answer takes, a candidate whose errors are faster than its good answers
// looks worse than it is, and so does stable, beside which it is judged.
type Judge struct {
	log    *slog.Logger
	record func(Recorded) // nil: nobody records
	alarm  chan string
	// clock returns the time of the wall, and one that no clock change moves.
	clock func() (wall time.Time, running time.Duration)

	watched atomic.Pointer[map[string]*watched]
	gaps    nodeGaps
	users   atomic.Int64 // remembered over all models
	faults  judgeFaults

	mu      sync.Mutex // of Watch and Forget, and of what follows
	wall    time.Time  // at the last look at the clock
	running time.Duration
	present atomic.Int64 // wall, in nanoseconds
}

// JudgeFaults counts the observations that a judge could not use as they came.
type JudgeFaults struct {
	Future   uint64 // began more than 5 s from now: not counted
	Duration uint64 // its duration is negative or more than a day: counted without
	Class    uint64 // of no known class: not counted
	InGap    uint64 // began while its Envoy's access log was lost in part: not counted
	Early    uint64 // began before the step that it came in, and before the one before: not counted
}

type judgeFaults struct{ future, duration, class, inGap, early atomic.Uint64 }

const (
	// maxAhead is how far an Envoy's clock may be ahead.
	maxAhead = 5 * time.Second
	// maxJump is by how much a clock may be set without being noticed.
	maxJump = time.Second
	// alarmEvery is the least time between two alarms of a model.
	alarmEvery = 100 * time.Millisecond
	// alarms is how many models may wait for their look; beyond, they have their
	// regular one.
	alarms = 1024
)

// NewJudge returns a judge that watches nothing yet.
func NewJudge(o JudgeOptions) *Judge {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	began := time.Now()
	j := &Judge{log: o.Log, record: o.Record, alarm: make(chan string, alarms)}
	j.clock = func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(began)
	}
	j.watched.Store(&map[string]*watched{})
	j.gaps.nodes = map[string]*nodeGap{}
	return j
}

// Observe counts one request. Of a model that is not watched it costs a look
// into a map.
func (j *Judge) Observe(o Observation) {
	if w := (*j.watched.Load())[o.Model]; w != nil {
		w.observe(j, &o)
	}
}

// Gap says that what a node served in [from, to) may not have been told. A zero
// to opens a gap that lasts until the node's next call; while one is open,
// nothing is called safe. What comes of it all the same, and began in it, is not
// counted.
func (j *Judge) Gap(node string, from, to time.Time) { j.gaps.note(node, from, to) }

// Alarm receives the name of a model when its candidate has just given bad
// answers, at most every 100 ms, and when half of its last answers are bad.
func (j *Judge) Alarm() <-chan string { return j.alarm }

// Faults returns what could not be used as it came.
func (j *Judge) Faults() JudgeFaults {
	f := &j.faults
	return JudgeFaults{
		Future: f.future.Load(), Duration: f.duration.Load(), Class: f.class.Load(),
		InGap: f.inGap.Load(), Early: f.early.Load(),
	}
}

// Watch says what to judge from now on. Evidence goes on through the steps of
// one rollout. Kept is what [routing.Judgement].Evidence was in an earlier
// process, else nil: that process has counted what began before this call, so
// none of it is counted again. Kept evidence that cannot be read, or is of
// another rollout, is left out, and the trial begins anew.
func (j *Judge) Watch(t routing.Trial, kept []byte) {
	running := j.tell()
	j.mu.Lock()
	defer j.mu.Unlock()
	all := *j.watched.Load()
	w := all[t.Model]
	if w == nil || w.rollout != t.Rollout {
		if w != nil {
			w.forget(j)
		}
		w = j.newWatched(t, kept)
		next := maps.Clone(all)
		next[t.Model] = w
		j.watched.Store(&next)
		return
	}
	w.look.Lock()
	defer w.look.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush(j, running)
	w.watch(j, t)
}

// newWatched begins to watch a rollout.
func (j *Judge) newWatched(t routing.Trial, kept []byte) *watched {
	w := &watched{model: t.Model, rollout: t.Rollout, from: j.wall, base: j.wall, began: j.running, heard: j.gaps.ended.Load()}
	w.trial = NewTrial(t, false)
	if kept != nil {
		w.floor, w.heard = j.wall, -1
		if err := w.restore(j, t, kept); err != nil {
			j.log.Warn("what was found about a rollout before cannot be used: its judgement begins anew",
				"model", t.Model, "rollout", t.Rollout, "error", err)
		}
	}
	w.watch(j, t)
	return w
}

// Forget ends the judgement of a model.
func (j *Judge) Forget(model string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := *j.watched.Load()
	w := all[model]
	if w == nil {
		return
	}
	next := maps.Clone(all)
	delete(next, model)
	j.watched.Store(&next)
	w.forget(j)
}

// Look returns what is shown by now. Of a model that is not watched it is
// empty.
func (j *Judge) Look(model string, now time.Time) routing.Judgement {
	running := j.tell()
	w := (*j.watched.Load())[model]
	if w == nil {
		return routing.Judgement{}
	}
	w.look.Lock()
	defer w.look.Unlock()
	w.mu.Lock()
	changed := w.flush(j, running)
	users := w.users.kept(changed)
	w.trial.Unheard(w.heard != j.gaps.ended.Load())
	w.mu.Unlock()
	w.trial.Gap(j.gaps.anyOpen())
	judgement := w.trial.Look(now)
	if changed {
		judgement.Evidence = w.keep(j, users)
	}
	return judgement
}

// tell looks at the clock. When it was set, the moments from which on requests
// count are set along: what Envoys tell comes by the new time. It returns the
// clock that no change moves.
func (j *Judge) tell() (running time.Duration) {
	wall, running := j.clock()
	j.mu.Lock()
	defer j.mu.Unlock()
	jump := time.Duration(0)
	if !j.wall.IsZero() {
		jump = wall.Sub(j.wall) - (running - j.running)
	}
	j.wall, j.running = wall, running
	j.present.Store(wall.UnixNano())
	if jump.Abs() <= maxJump {
		return running
	}
	j.log.Warn("the clock was set", "by", jump)
	for _, w := range *j.watched.Load() {
		w.mu.Lock()
		w.shift(jump)
		w.mu.Unlock()
	}
	return running
}

// future tells whether a time is further ahead than clocks may be.
func (j *Judge) future(t time.Time) bool {
	if t.UnixNano() <= j.present.Load()+int64(maxAhead) {
		return false
	}
	now, _ := j.clock() // the last look may be long ago
	j.present.Store(now.UnixNano())
	return t.Sub(now) > maxAhead
}
