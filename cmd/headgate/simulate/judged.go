package simulate

import (
	"slices"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// judged is a run under the real judge and the real state machine.
type judged struct {
	h      *history
	m      *machine
	trial  *compare.Trial
	src    source
	every  time.Duration // between looks; 0: see spacing
	now    time.Duration
	since  time.Duration // when the step began
	watch  routing.Trial // what the trial was told last
	lost   bool          // telemetry
	batch  compare.Batch
	first  firsts
	last   [2][]compare.Outcome
	said   []verdict // at the last look
	saidOf int       // its step
	err    error
	// record is told of what each look was given; nil: nobody is.
	record func(*Interval) error
}

// judge runs a rollout under the real judge.
func (h *history) judge(every time.Duration) (outcome, error) {
	j, err := h.judged(every)
	if err != nil {
		return outcome{}, err
	}
	return j.run()
}

func (h *history) judged(every time.Duration) (*judged, error) {
	m, err := newMachine(h.w.s.Model, begins, true)
	if err != nil {
		return nil, err
	}
	t, _ := m.state.Trial()
	return &judged{
		h: h, m: m, src: newSource(h.seed, h.run, 7), every: every,
		trial: compare.NewTrial(t, h.people != nil), watch: t,
	}, nil
}

// run lets a rollout pass to its end. Nobody resumes after a pause; until the
// time is over, what the gates and the hard rules show in it still sends the
// candidate back.
func (j *judged) run() (outcome, error) {
	for j.now < j.h.w.s.Until && j.m.state.Running() && j.err == nil {
		j.cell()
	}
	return j.outcome(), j.err
}

func (j *judged) outcome() outcome {
	out := outcome{end: EndWaiting, at: j.now}
	switch j.m.state.Phase {
	case rollout.PhaseCompleted:
		out.end = EndPromoted
	case rollout.PhaseRolledBack:
		out.end = EndRolledBack
	case rollout.PhasePaused:
		out.end = EndPaused
	}
	if out.end == EndRolledBack || out.end == EndPaused {
		out.why = j.why(out.end)
	}
	return out
}

// atMost is what stands for a gate where it was the time of a step.
const atMost = "at_most"

// why is the gate, as it is written, or the hard rule that has ended a run so.
// Of several it is the first, as in what a server tells.
func (j *judged) why(end End) string {
	if j.m.state.Cause.Actor == rollout.ActorTimer {
		return atMost
	}
	gates := j.h.w.s.Model.Policy.Gates
	for i, f := range j.m.state.Rollout.Findings {
		back := f.HardRule || f.OnBreach == routing.OnBreachRollback || f.OnBreach == ""
		switch {
		case f.Verdict != routing.VerdictBreach || back != (end == EndRolledBack) || f.OnBreach == routing.OnBreachWarn:
		case f.HardRule || i >= len(gates):
			return f.Metric
		default:
			return gateName(&gates[i])
		}
	}
	return ""
}

// gateName is a gate as it is written.
func gateName(g *routing.Gate) string { return g.Metric + " " + string(g.Bound) + " " + g.Written }

// cell lets a cell pass, or what of it comes before requests go elsewhere.
func (j *judged) cell() {
	c, place := j.h.at(j.now), j.m.place
	rest := j.h.draw(c, place)
	j.gap(c)
	for j.now < c.to && j.running(place) {
		to := c.to
		if j.m.wake > j.now {
			to = min(to, j.m.wake)
		}
		part := rest
		if to < c.to {
			part = rest.take(j.src, float64(to-j.now)/float64(c.to-j.now))
		}
		j.pass(part, span{j.now, to}, max(j.since, c.since), place)
	}
}

// running tells whether the rollout goes on with requests going where they did.
func (j *judged) running(place placement) bool {
	return j.err == nil && j.m.state.Running() && j.m.place == place
}

// pass lets a time pass in which the requests of t come. It is halved until
// there is no more to see in it, or it is as short as looks are apart. Without
// a bad answer of the candidate no evidence against it can rise, so that a
// longer time shows as much as many looks.
func (j *judged) pass(t *tally, s span, since time.Duration, place placement) {
	length := s.to - s.from
	quiet := j.h.w.grid == nil && t[candidate].failed()+t[candidate].client == 0
	if apart := j.spacing(s.from - since); quiet || length <= apart {
		j.look(t, s)
		return
	}
	half := (length / 2).Truncate(time.Second)
	if half == 0 {
		half = length / 2
	}
	early := t.take(j.src, float64(half)/float64(length))
	j.pass(early, span{s.from, s.from + half}, since, place)
	if j.running(place) {
		j.pass(t, span{s.from + half, s.to}, since, place)
	}
}

// spacing is the time between looks when nothing has changed for so long.
func (j *judged) spacing(quiet time.Duration) time.Duration {
	if j.every > 0 {
		return j.every
	}
	return min(max(quiet/25, time.Second), minute)
}

// look gives the requests to the judge, and what it finds to the machine.
func (j *judged) look(t *tally, s span) {
	j.now = s.to
	if !j.lost {
		j.fill(t)
		j.trial.Add(&j.batch)
	}
	before := j.watch
	found := j.trial.Verdicts(begins.Add(j.now))
	due := j.m.wake >= 0 && j.m.wake <= j.now
	if due || j.news(&found) {
		j.feed(rollout.Judged{Judgement: found})
	}
	if due {
		j.feed(rollout.Tick{})
	}
	if step := j.m.step(); step.Hold && found.Safe() && j.m.state.Phase == rollout.PhaseProgressing {
		j.feed(rollout.Command{Model: j.m.state.Model, Action: rollout.ActionSkip, Actor: "simulate"})
	}
	if j.record != nil && j.err == nil {
		j.err = j.record(j.interval(&before))
	}
}

// interval is what the last look was given, as a server would record it.
func (j *judged) interval(t *routing.Trial) *Interval {
	out := &Interval{
		Step: t.Step, Share: t.Share, Shadow: t.Shadow, Control: t.Control, Since: t.Since, Gap: j.lost,
		Batch: j.batch, Slow: slices.Clone(j.first.limits),
	}
	out.Batch.To = begins.Add(j.now)
	if j.lost {
		out.Batch = compare.Batch{To: out.Batch.To}
	}
	if c := j.m.state.Cause; c.Kind != rollout.KindStarted && j.m.state.Since.Equal(out.Batch.To) {
		out.Did = append(out.Did, Deed{Kind: c.Kind, Actor: c.Actor, Reason: c.Reason})
	}
	return out
}

// news tells whether findings say something else than those before. The machine
// acts on verdicts and on time, so it need not hear the same again before the
// time that it asked for.
func (j *judged) news(found *routing.Judgement) bool {
	changed := len(found.Findings) != len(j.said) || found.Step != j.saidOf
	j.saidOf, j.said = found.Step, slices.Grow(j.said[:0], len(found.Findings))[:len(found.Findings)]
	for i := range found.Findings {
		said := verdict{found.Findings[i].Verdict, found.Findings[i].Reason}
		if j.said[i] != said {
			j.said[i], changed = said, true
		}
	}
	return changed
}

// verdict is the part of a finding that moves traffic.
type verdict struct {
	verdict routing.Verdict
	reason  routing.VerdictReason
}

// feed tells the machine, and the trial of what the machine made of it.
func (j *judged) feed(e rollout.Event) {
	if j.err != nil {
		return
	}
	j.err = j.m.feed(e, j.now)
	if t, ok := j.m.state.Trial(); ok && t != j.watch {
		if t.Step != j.watch.Step {
			j.since = j.now
		}
		j.watch = t
		j.trial.Watch(t)
	}
}
