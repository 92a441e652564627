package rollout

import (
	"bytes"
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// trialState is what the controller knows of a model's trial.
type trialState struct {
	watched  *routing.Trial     // as the judge was told; nil: it does not watch
	turn     int                // how often it was told something
	evidence []byte             // the newest of the rollout; nil: none in this process
	held     *routing.Judgement // came while the journal refused what the last one asked for
}

// watch tells the judge what is on trial, when that is something else than it
// was.
func (c *Controller) watch(e *entry) {
	if c.judge == nil {
		return
	}
	next, on := e.state.Trial()
	on = on && e.model != nil
	was := e.trial.watched
	if was != nil && (!on || was.Rollout != next.Rollout) {
		c.forget(e)
		was = nil
	}
	if !on || was != nil && sameTrial(was, &next) {
		return
	}
	var kept []byte
	if was == nil {
		kept = c.takeKept(&next)
	}
	e.trial.watched, e.trial.held = &next, nil
	e.trial.turn++
	c.judge.Watch(next, kept)
	c.looks.set(next.Model, e.trial.turn)
}

func (c *Controller) forget(e *entry) {
	model := e.state.Model
	c.judge.Forget(model)
	c.looks.remove(model)
	delete(c.unkept, model)
	e.trial = trialState{turn: e.trial.turn + 1}
}

// takeKept returns what an earlier process had found about a rollout.
func (c *Controller) takeKept(t *routing.Trial) []byte {
	kept := c.kept[t.Model]
	delete(c.kept, t.Model)
	if kept.Rollout != t.Rollout {
		return nil
	}
	return kept.Data
}

// sameTrial tells whether there is nothing to tell to the judge. A file that was
// read anew has its policy at another place.
func sameTrial(a, b *routing.Trial) bool {
	x, y := *a, *b
	x.Policy, y.Policy = nil, nil
	return x == y && (a.Policy == b.Policy || reflect.DeepEqual(a.Policy, b.Policy))
}

// judged takes what came of looks.
func (c *Controller) judged(batch lookBatch) {
	for i := range batch.looked {
		l := &batch.looked[i]
		e := c.entries[l.model]
		if e == nil || e.trial.watched == nil || e.trial.turn != l.turn {
			continue
		}
		c.found(e, &l.judgement)
		if e.stuck != nil {
			e.trial.held = &l.judgement // tried when the journal is tried again
			continue
		}
		e.trial.held = nil
		c.decide(e, l.judgement)
	}
	if batch.end {
		c.keepEvidence()
	}
}

// found takes the evidence out of a judgement. It is written soon.
func (c *Controller) found(e *entry, j *routing.Judgement) {
	evidence := j.Evidence
	j.Evidence = nil
	if evidence == nil || j.Rollout != e.trial.watched.Rollout || bytes.Equal(evidence, e.trial.evidence) {
		return
	}
	e.trial.evidence = evidence
	c.unkept[e.state.Model] = e
}

// decide has a judgement do what follows from it.
func (c *Controller) decide(e *entry, j routing.Judgement) {
	before := e.state.Judgement
	wrote, err := c.handle(e, Judged{j})
	switch {
	case err != nil:
	case wrote:
		c.flush()
		c.follow(e)
	case verdictsMoved(before, e.state.Judgement):
		c.tell(e, nil)
	default:
		c.listeners.ring(e.state.Model)
	}
}

// verdictsMoved tells whether a gate says something else than before. Numbers
// alone move all the time.
func verdictsMoved(a, b *routing.Judgement) bool {
	if a == nil || b == nil {
		return a != b
	}
	return !slices.EqualFunc(a.Findings, b.Findings, func(a, b routing.Finding) bool {
		return a.Metric == b.Metric && a.Bound == b.Bound && a.Verdict == b.Verdict && a.Reason == b.Reason
	})
}

// addEvidence puts what was found but not written yet to the last record of
// the same rollout, so that both are on the disk or none.
func (c *Controller) addEvidence(records []*Record) {
	if len(c.unkept) == 0 {
		return
	}
	for _, r := range slices.Backward(records) {
		e := c.unkept[r.Model]
		if e == nil || e.trial.watched == nil || e.trial.watched.Rollout != r.Rollout {
			continue
		}
		if !slices.ContainsFunc(records, func(o *Record) bool { return o.Model == r.Model && o.Evidence != nil }) {
			r.Evidence = e.trial.evidence
		}
	}
}

// keepEvidence writes what was found since the last time. What the journal does
// not take is tried again with the next, a second later.
func (c *Controller) keepEvidence() {
	if len(c.unkept) == 0 {
		return
	}
	all := make([]Evidence, 0, len(c.unkept))
	for model, e := range c.unkept {
		all = append(all, Evidence{Model: model, Rollout: e.trial.watched.Rollout, Data: e.trial.evidence})
	}
	if err := c.journal.KeepEvidence(context.Background(), all...); err != nil {
		if c.unkeptTimes.Add(1); !c.unkeptTold {
			c.log.Error("what was found about candidates cannot be written; it is tried again each second", "models", len(all), "error", err)
		}
		c.unkeptTold = true
		return
	}
	if c.unkeptTold {
		c.log.Info("what was found about candidates is written again", "models", len(all))
	}
	c.unkeptTold = false
	clear(c.unkept)
}

// EvidenceFailures returns how often what was found about candidates could not
// be written.
func (c *Controller) EvidenceFailures() uint64 { return c.unkeptTimes.Load() }

// lastLook takes the evidence as of now, before the process ends.
func (c *Controller) lastLook() {
	now := time.Now()
	for model, e := range c.entries {
		if e.trial.watched != nil {
			j := c.judge.Look(model, now)
			c.found(e, &j)
		}
	}
}
