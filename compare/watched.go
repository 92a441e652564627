package compare

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/routing"
)

// watched is one rollout that is judged.
type watched struct {
	model   string
	rollout int

	look  sync.Mutex // taken before mu; for the trial, which Observe does not touch
	trial *Trial

	mu                sync.Mutex
	candidate, stable string
	copies, copied    copies // of the present step, and of the one before
	comparable        bool
	from              time.Time // when the judge began with the rollout
	floor             time.Time // what began before was counted by another process
	base              time.Time // the batches' time when the running clock was at began
	began             time.Duration
	since             time.Time // Trial.Since as it was told
	current, previous []segment // of the present step, and of the one before
	pending, late     Batch
	last, stableLast  lastOutcomes
	keyed             bool
	// heard is how many gaps had ended when the candidate was last heard of in
	// the step; -1: it has not been since a restart. An Envoy without requests is
	// as silent as one that cannot tell: no news must not be taken for good news.
	heard       int64
	users       userSets
	changed     bool // since the evidence was last written
	alarmed     time.Duration
	alarmedHalf bool
}

// segment is a time in which one share was in force everywhere. A zero to has
// not come yet.
type segment struct{ from, to time.Time }

// copies says who answers copies of requests in a step.
type copies struct {
	control bool          // the stable version does, of the candidate's requests
	shadow  routing.Share // the candidate does, of this share of the requests; 0: it does not
}

func copiesOf(t *routing.Trial) copies {
	return copies{control: t.Share >= routing.Whole && t.Control.Mirror, shadow: t.Shadow}
}

// real tells whether an answer says something: copies only of the version that
// is asked them, and then nothing else of that version does.
func (c copies) real(o *Observation, candidate bool) bool {
	if candidate {
		return o.Mirrored == (c.shadow > 0)
	}
	return o.Mirrored == c.control
}

// unit tells whether a request is compared with the other version's. Beside
// copies, only requests of the kind that is copied are.
func (c copies) unit(o *Observation) bool {
	if c.control || c.shadow > 0 {
		return o.Mirrored || o.Copied
	}
	return o.Drawn
}

// maxSegments bounds how often a step's share may come into force.
const maxSegments = 16

func within(segments []segment, t time.Time) bool {
	for i := len(segments) - 1; i >= 0; i-- {
		s := &segments[i]
		if !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to)) {
			return true
		}
	}
	return false
}

// watch goes on with a trial. The locks are held, and what came before is
// flushed.
func (w *watched) watch(j *Judge, t routing.Trial) {
	now := &w.trial.now
	if turns(now, &t) {
		w.stop(j.wall)
		w.previous, w.current = w.current, nil
		w.copied = w.copies
		w.since = time.Time{}
	}
	since := t.Since.Round(0)
	if !since.Equal(w.since) {
		w.stop(j.wall)
		w.since = since
		if !since.IsZero() {
			w.current = append(w.current, segment{from: later(since, w.floor)})
			if len(w.current) > maxSegments {
				w.current = w.current[1:]
			}
		}
	}
	w.candidate, w.stable = t.Candidate, t.Stable
	w.copies = copiesOf(&t)
	w.trial.Watch(t)
	w.comparable = w.trial.comparable()
	w.changed = true
	w.users.follow(j, w.trial)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// stop ends the segment that is open.
func (w *watched) stop(at time.Time) {
	if n := len(w.current); n > 0 && w.current[n-1].to.IsZero() {
		w.current[n-1].to = at
	}
}

// shift moves all moments along with the clock.
func (w *watched) shift(by time.Duration) {
	w.from, w.floor = w.from.Add(by), moved(w.floor, by)
	for _, segments := range [...][]segment{w.current, w.previous} {
		for i := range segments {
			segments[i].from, segments[i].to = moved(segments[i].from, by), moved(segments[i].to, by)
		}
	}
}

func moved(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(by)
}

// observe counts one request of the model.
func (w *watched) observe(j *Judge, o *Observation) {
	if o.Class == ClassAborted {
		return
	}
	if j.future(o.Start) {
		j.faults.future.Add(1)
		return
	}
	if j.gaps.covers(o.Node, o.Start) {
		j.faults.inGap.Add(1)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	candidate := o.Version == w.candidate
	present := within(w.current, o.Start)
	late := !present && within(w.previous, o.Start)
	copies := w.copies
	if late {
		copies = w.copied
	}
	if !candidate && o.Version != w.stable || !copies.real(o, candidate) {
		return
	}
	if o.Class != ClassSuccess && o.Class != ClassError && o.Class != ClassClientError {
		j.faults.class.Add(1)
		return
	}
	w.answer(j, o, candidate)
	switch {
	case present:
		if candidate {
			w.heard = j.gaps.ended.Load()
		}
		w.count(j, o, arm(&w.pending, candidate), copies, candidate, true)
	case late:
		w.count(j, o, arm(&w.late, candidate), copies, candidate, false)
	default:
		j.faults.early.Add(1)
	}
}

func arm(b *Batch, candidate bool) *Arm {
	if candidate {
		return &b.Candidate
	}
	return &b.Stable
}

// answer remembers an outcome as one of the last.
func (w *watched) answer(j *Judge, o *Observation, candidate bool) {
	if o.Start.Before(w.from) || o.Start.Before(w.floor) {
		return
	}
	bad := o.Class == ClassError
	a, last := &w.pending.Stable, &w.stableLast
	if candidate {
		a, last = &w.pending.Candidate, &w.last
	}
	a.Answers++
	if bad {
		a.BadAnswers++
	}
	last.add(Outcome{User: userOf(o), Bad: bad})
	if candidate {
		w.alert(j, bad)
	}
}

// userOf is the user of an outcome; 0 where there is none.
func userOf(o *Observation) uint64 {
	if !o.HasUser {
		return 0
	}
	return max(o.User, 1)
}

// alert asks for a look when the candidate fails.
func (w *watched) alert(j *Judge, bad bool) {
	half := w.last.bad >= LastOutcomes/2
	urgent := half && !w.alarmedHalf
	w.alarmedHalf = half
	if !bad {
		return
	}
	_, running := j.clock()
	if !urgent && w.alarmed > 0 && running-w.alarmed < alarmEvery {
		return
	}
	select {
	case j.alarm <- w.model:
		w.alarmed = max(running, 1)
	default:
	}
}

// absurdLatency is more than any answer takes.
const absurdLatency = 24 * time.Hour

// count counts a request in an arm; with firsts, its user too.
func (w *watched) count(j *Judge, o *Observation, a *Arm, c copies, candidate, firsts bool) {
	drawn := c.unit(o)
	a.Requests++
	if drawn {
		a.Drawn++
	}
	switch o.Class {
	case ClassError:
		a.Errors++
		if drawn {
			a.DrawnErrors++
		}
	case ClassClientError:
		a.ClientErrors++
		if drawn {
			a.DrawnClientErrors++
		}
	case ClassSuccess, ClassAborted:
	}
	latency := -1.0
	if o.Duration >= 0 && o.Duration <= absurdLatency {
		latency = o.Duration.Seconds()
		if drawn || !w.comparable {
			a.Latency.Add(latency, 1)
		}
	} else if o.Duration != -1 {
		j.faults.duration.Add(1)
	}
	if drawn && firsts && w.comparable {
		w.keyed = w.keyed || o.HasUser
		if c.shadow == 0 {
			w.users.count(j, o, a, latency, c.control && !candidate)
		}
	}
}

// flush gives the trial what was counted since the last time. The locks are
// held. It tells whether there is evidence that was not written.
func (w *watched) flush(j *Judge, running time.Duration) bool {
	if w.keyed && !w.trial.keyed {
		w.trial.SetKeyed()
	}
	w.pending.To = w.base.Add(max(0, running-w.began))
	w.last.take(&w.pending.Candidate)
	w.stableLast.take(&w.pending.Stable)
	if w.late.Candidate.Requests+w.late.Stable.Requests > 0 {
		w.late.To, w.late.Late = w.pending.To, true
		w.recorded(j, &w.late)
		w.trial.Add(&w.late)
		w.late.reset()
		w.changed = true
	}
	if w.pending.Candidate.Answers+w.pending.Stable.Answers > 0 || !w.pending.empty() {
		w.changed = true
	}
	w.recorded(j, &w.pending)
	w.trial.Add(&w.pending)
	w.pending.reset()
	if w.users.full {
		w.trial.NextEpoch()
	}
	w.users.follow(j, w.trial)
	changed := w.changed
	w.changed = false
	return changed
}

// recorded tells whoever records what the trial is about to be given.
func (w *watched) recorded(j *Judge, b *Batch) {
	if j.record == nil {
		return
	}
	_, slow := w.trial.Epoch()
	j.record(Recorded{Trial: &w.trial.now, Keyed: w.trial.keyed, Gap: j.gaps.open.Load() > 0, Batch: b, Slow: slow})
}

// reset empties a batch and keeps its memory.
func (b *Batch) reset() {
	for _, a := range [...]*Arm{&b.Candidate, &b.Stable} {
		h, slow, last := a.Latency, a.FirstSlow, a.Last
		h.Reset()
		clear(slow)
		*a = Arm{Latency: h, FirstSlow: slow, Last: last[:0]}
	}
	b.Late = false
}

func (w *watched) forget(j *Judge) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users.clear(j)
	w.candidate, w.stable = "", ""
}

// keptEvidence is what the judge keeps of a rollout.
type keptEvidence struct {
	Trial json.RawMessage `json:"trial"`
	// Users were counted in the present epoch, by what they were counted for. Nil
	// when they are too many: then another epoch begins after a restart.
	Users [][]uint64 `json:"users"`
}

// keep writes the evidence; nil when it cannot be written.
func (w *watched) keep(j *Judge, users [][]uint64) []byte {
	trial, err := w.trial.MarshalBinary()
	var data []byte
	if err == nil {
		data, err = json.Marshal(keptEvidence{Trial: trial, Users: users})
	}
	if err != nil {
		j.log.Error("what was found about a rollout cannot be kept", "model", w.model, "error", err)
		return nil
	}
	return data
}

// restore takes up kept evidence.
func (w *watched) restore(j *Judge, t routing.Trial, kept []byte) error {
	var e keptEvidence
	if err := json.Unmarshal(kept, &e); err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	trial := &Trial{}
	if err := trial.UnmarshalBinary(e.Trial); err != nil {
		return err
	}
	if trial.now.Model != t.Model || trial.now.Rollout != t.Rollout {
		return fmt.Errorf("it is of rollout %d of %s", trial.now.Rollout, trial.now.Model)
	}
	w.trial, w.keyed = trial, trial.keyed
	if e.Users == nil {
		trial.NextEpoch()
	}
	w.users.follow(j, trial)
	w.users.restore(j, e.Users)
	return nil
}

// lastOutcomes are the newest outcomes since they were last taken, and how many
// of the newest are bad in all.
type lastOutcomes struct {
	ring  [LastOutcomes]Outcome
	n     int // ever
	fresh int // of them, not taken
	bad   int // in the ring
}

func (l *lastOutcomes) add(o Outcome) {
	at := &l.ring[l.n%LastOutcomes]
	if l.n >= LastOutcomes && at.Bad {
		l.bad--
	}
	if o.Bad {
		l.bad++
	}
	*at = o
	l.n++
	l.fresh = min(l.fresh+1, LastOutcomes)
}

// take appends the fresh outcomes to an arm.
func (l *lastOutcomes) take(a *Arm) {
	for i := l.n - l.fresh; i < l.n; i++ {
		a.Last = append(a.Last, l.ring[i%LastOutcomes])
	}
	l.fresh = 0
}
