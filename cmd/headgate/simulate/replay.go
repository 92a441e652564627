package simulate

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// Replayed is what another policy would have decided about a recorded rollout.
type Replayed struct {
	Model     string    `json:"model"`
	Rollout   int       `json:"rollout"`
	Stable    string    `json:"stable"`
	Candidate string    `json:"candidate"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	// Would is how the rollout would have stood at the end of what can be told,
	// and Did how the recorded one ended.
	Would rollout.Phase `json:"would"`
	Did   string        `json:"did"` // kind of the last deed; empty: it goes on
	// Told is until when there is something to tell: a way back that did not
	// happen ends it.
	Told time.Time `json:"told_until"`
	// Ended says that the recording was over before this policy's rollout was,
	// which stood in Step then.
	Ended  bool    `json:"recording_ended"`
	Step   int     `json:"step"`   // the last that was told of, from 0
	Steps  int     `json:"steps"`  // in all
	Events []Event `json:"events"` // in order
	// Limits are what the recording cannot tell about this policy.
	Limits []string          `json:"limits"`
	Gates  []routing.Finding `json:"gates"` // the last findings
}

// Event is something that did or would have happened.
type Event struct {
	Time time.Time `json:"time"`
	Step int       `json:"step"` // of the recording
	What string    `json:"what"` // did | would | verdict | note
	Text string    `json:"text"`
	// Minor ones come with every step: a gate that waits for its first requests.
	Minor bool `json:"minor,omitempty"`
}

// The values of Event.What.
const (
	WhatDid     = "did"     // it was recorded
	WhatWould   = "would"   // the policy would have done it
	WhatVerdict = "verdict" // a gate would have said it
	WhatNote    = "note"    // where recording and policy part
)

// replay is a replay under way.
type replay struct {
	r     *Reader
	model *routing.Model
	m     *machine
	trial *compare.Trial
	out   *Replayed
	now   *Interval
	at    time.Duration // since the beginning
	acked bool
	said  map[string]verdict // by gate
	limit map[string]bool
	near  map[int]bool // gates whose recorded threshold was noted to be another
	// Of the candidate's requests those where a gate asks which users were slow,
	// and of them those where that was not recorded.
	asked, unknown uint64
}

// Replay runs the real judge and the real state machine, under the policy of a
// model's file, over what was recorded.
//
// The shares were what they were: a policy that would have gone on sooner is
// shown to wait for the recording, one that would have gone on later is moved
// along with it, and both are noted. After a way back that did not happen
// nothing more is told.
func Replay(r *Reader, model *routing.Model) (*Replayed, error) {
	p := &replay{r: r, said: map[string]verdict{}, limit: map[string]bool{}, near: map[int]bool{}}
	h := &r.Header
	p.out = &Replayed{
		Model: h.Model, Rollout: h.Rollout, Stable: h.Stable, Candidate: h.Candidate,
		Events: []Event{}, Limits: []string{}, Gates: []routing.Finding{},
	}
	p.adapt(model)
	for {
		next, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.interval(next)
		}
		if err != nil {
			return nil, err
		}
		if !p.m.state.Running() {
			break
		}
	}
	if p.m == nil {
		return nil, errors.New("the recording has no interval")
	}
	p.end()
	return p.out, p.rest()
}

// end tells what is known when the recording or the policy's rollout is over.
func (p *replay) end() {
	r := &p.m.state.Rollout
	p.out.Step, p.out.Steps = min(r.Step, len(p.model.Steps)-1), len(p.model.Steps)
	if p.out.Ended = p.m.state.Running(); p.out.Ended {
		p.event(WhatNote, "the recording ends here; this policy would still wait%s", p.waits())
	}
	const all = "which users were slow was not recorded"
	switch {
	case p.unknown == 0:
	case p.unknown == p.asked:
		p.cannot(all + ": latency gates cannot be shown to be broken")
	case p.unknown > p.asked/20:
		p.cannot(fmt.Sprintf("%s for %d of %d requests of the candidate: latency gates may be shown to be broken later than they were",
			all, p.unknown, p.asked))
	}
}

// adapt takes the policy of the model, and its steps where they are the
// recorded ones with other times.
func (p *replay) adapt(model *routing.Model) {
	m, steps := *model, p.r.Header.steps()
	same := len(m.Steps) == len(steps)
	for i := range steps {
		same = same && m.Steps[i].Kind == steps[i].Kind && m.Steps[i].Share == steps[i].Share && m.Steps[i].Control == steps[i].Control
	}
	if !same {
		p.cannot("the steps of the file have other shares than the recorded ones: the recorded steps are used")
		m.Steps = steps
	}
	m.Policy.Mode = routing.ModeAct
	p.model = &m
}

// cannot notes once what the recording cannot tell.
func (p *replay) cannot(what string) {
	if !p.limit[what] {
		p.limit[what] = true
		p.out.Limits = append(p.out.Limits, what)
	}
}

func (p *replay) event(what, format string, args ...any) {
	p.out.Events = append(p.out.Events, Event{Time: p.out.Told, Step: p.now.Step, What: what, Text: fmt.Sprintf(format, args...)})
}

// begin starts the rollout with the first interval.
func (p *replay) begin(i *Interval) error {
	start := i.Batch.To
	if !i.Since.IsZero() && i.Since.Before(start) {
		start = i.Since
	}
	p.out.From, p.out.Told = start, start
	m, err := newMachine(p.model, start, false)
	if err != nil {
		return err
	}
	p.m = m
	p.trial = compare.NewTrial(p.watch(i), p.r.Header.Keyed)
	return nil
}

// watch is what the trial is told to judge: what was recorded, by the policy of
// the file.
func (p *replay) watch(i *Interval) routing.Trial {
	h := &p.r.Header
	return routing.Trial{
		Model: h.Model, Rollout: h.Rollout, Step: i.Step, Steps: len(h.Steps), Stable: h.Stable, Candidate: h.Candidate,
		Share: i.Share, Shadow: i.Shadow, Control: i.Control, Since: i.Since, Policy: &p.model.Policy,
	}
}

// interval lets one interval pass.
func (p *replay) interval(i *Interval) error {
	p.now = i
	if p.m == nil {
		if err := p.begin(i); err != nil {
			return err
		}
	}
	if err := p.follow(i); err != nil {
		return err
	}
	p.at, p.out.To, p.out.Told = i.Batch.To.Sub(p.out.From), i.Batch.To, i.Batch.To
	p.trial.Watch(p.watch(i))
	p.trial.Gap(i.Gap)
	p.slow(i)
	p.trial.Add(&i.Batch)
	if err := p.decide(i); err != nil {
		return err
	}
	for _, d := range i.Did {
		p.out.Did = d.Kind
		p.event(WhatDid, "%s", told(d.Kind, d.Actor, d.Reason))
		if d.Kind == rollout.KindCompleted && p.step() >= i.Step {
			if err := p.completed(); err != nil {
				return err
			}
		}
	}
	return nil
}

// completed says to the policy's rollout that every Envoy has what the recorded
// one ended with. A rollout that is over as soon as that is so has no interval
// in which it is.
func (p *replay) completed() error {
	before, at := p.m.state.Phase, p.step()
	err := p.feed(rollout.Delivered{Acknowledged: true})
	p.moved(before, at)
	return err
}

func told(kind, actor, reason string) string {
	text := strings.ReplaceAll(kind, "_", " ")
	if actor != "" {
		text += " by " + actor
	}
	if reason != "" {
		text += ": " + reason
	}
	return text
}

// follow brings the policy's rollout to the step of the recording, and its
// clock to run only while the recording has its share.
func (p *replay) follow(i *Interval) error {
	for p.m.state.Running() && p.step() < i.Step {
		p.event(WhatNote, "the recording goes on to step %d; this policy would still wait%s", i.Step+1, p.waits())
		p.acked = false
		if err := p.feed(rollout.Command{Model: p.model.Name, Action: rollout.ActionSkip, Actor: "recording"}); err != nil {
			return err
		}
	}
	acked := p.step() == i.Step && !i.Since.IsZero()
	if acked == p.acked {
		return nil
	}
	p.acked = acked
	return p.feed(rollout.Delivered{Acknowledged: acked})
}

// step is the step of the policy's rollout, counted as the recording's.
func (p *replay) step() int {
	if p.m.state.Rollout.Promoted {
		return len(p.r.Header.Steps)
	}
	return p.m.state.Rollout.Step
}

// waits names the gates that are waited for.
func (p *replay) waits() string {
	var names []string
	for i := range p.out.Gates {
		if f := &p.out.Gates[i]; f.Required() && f.Verdict != routing.VerdictSafe {
			names = append(names, f.Metric+" "+string(f.Bound))
		}
	}
	if len(names) == 0 {
		return " for its time to be over"
	}
	return " for " + strings.Join(names, ", ")
}

// decide looks, and lets the machine act.
func (p *replay) decide(i *Interval) error {
	found := p.trial.Look(i.Batch.To)
	found.Evidence = nil
	p.out.Gates = found.Findings
	p.verdicts(found.Findings)
	found.Rollout = p.m.state.Rollout.Number
	if p.step() != i.Step {
		// It waits for the recording to have its share. What breaks is broken.
		found.Step = p.m.state.Rollout.Step
	}
	before, at := p.m.state.Phase, p.step()
	if err := p.feed(rollout.Judged{Judgement: found}); err != nil {
		return err
	}
	if p.m.wake >= 0 && p.m.wake <= p.at {
		if err := p.feed(rollout.Tick{}); err != nil {
			return err
		}
	}
	if p.m.state.Phase == rollout.PhasePaused {
		p.event(WhatWould, "pause: %s", p.m.state.Cause.Reason)
		p.event(WhatNote, "what follows is as if somebody had resumed at once")
		if err := p.feed(rollout.Command{Model: p.model.Name, Action: rollout.ActionResume, Actor: "recording"}); err != nil {
			return err
		}
	}
	p.moved(before, at)
	return nil
}

// moved tells of what the policy's rollout did, which was in another phase and
// step.
func (p *replay) moved(before rollout.Phase, at int) {
	now := &p.m.state
	p.out.Would = now.Phase
	if p.step() != at {
		p.acked = false // the next step's share is not in force yet
	}
	switch {
	case now.Phase == rollout.PhaseRolledBack && before != now.Phase:
		p.event(WhatWould, "roll back: %s", now.Cause.Reason)
	case now.Phase == rollout.PhaseCompleted && before != now.Phase:
		p.event(WhatWould, "complete")
	case p.step() == at:
	case now.Rollout.Promoted:
		p.event(WhatWould, "give everyone to the candidate")
	default:
		p.event(WhatWould, "go on to step %d of %d", p.step()+1, len(p.r.Header.Steps))
	}
}

// verdicts tells of the gates that say something new.
func (p *replay) verdicts(findings []routing.Finding) {
	for i := range findings {
		f := &findings[i]
		id := f.Metric + " " + string(f.Bound)
		said := verdict{f.Verdict, f.Reason}
		before, known := p.said[id]
		p.said[id] = said
		if said == before || !known && f.Verdict == routing.VerdictWaiting || f.HardRule && f.Verdict != routing.VerdictBreach {
			continue
		}
		text := strings.TrimSpace(id) + ": " + string(f.Verdict)
		if f.Reason != "" {
			text += " (" + strings.ReplaceAll(string(f.Reason), "_", " ") + ")"
		}
		if f.Text != "" {
			text += ": " + f.Text
		}
		p.event(WhatVerdict, "%s", text)
		p.out.Events[len(p.out.Events)-1].Minor = said.minor()
	}
}

// minor tells whether a verdict comes with every step: a gate waits for what it
// judges by.
func (v verdict) minor() bool {
	return v.verdict == routing.VerdictWaiting &&
		(v.reason == routing.ReasonNotAcknowledged || v.reason == routing.ReasonNoTraffic || v.reason == routing.ReasonNoEvidence)
}

func (p *replay) feed(e rollout.Event) error { return p.m.feed(e, p.at) }

// rest reads what the recorded rollout did after the policy's had ended.
func (p *replay) rest() error {
	for {
		next, err := p.r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.out.To = next.Batch.To
		for _, d := range next.Did {
			p.out.Did = d.Kind
			p.out.Events = append(p.out.Events, Event{Time: next.Batch.To, Step: next.Step, What: WhatDid, Text: told(d.Kind, d.Actor, d.Reason)})
		}
	}
}

// slow gives each gate the users that were slow by the recorded threshold which
// is nearest to its own.
func (p *replay) slow(i *Interval) {
	if !p.r.Header.Keyed {
		return // requests count, and their latencies were recorded
	}
	_, wanted := p.trial.Epoch()
	have := i.Slow
	p.count(wanted, i)
	for arm, a := range []*compare.Arm{&i.Batch.Candidate, &i.Batch.Stable} {
		counted := a.FirstSlow
		a.FirstSlow = make([]uint64, len(wanted))
		for gate, limit := range wanted {
			if limit <= 0 || a.Drawn == 0 {
				continue
			}
			best, distance := -1, math.Inf(1)
			for k := range min(len(have), len(counted)) {
				if have[k] <= 0 {
					continue
				}
				if d := math.Abs(math.Log(have[k] / limit)); d < distance {
					best, distance = k, d
				}
			}
			if best < 0 {
				continue
			}
			if distance > 0.02 && arm == candidate && !p.near[gate] {
				p.near[gate] = true
				p.cannot(fmt.Sprintf("users were recorded as slow above %.3gs, nearest to the %.3gs that this policy asks for", have[best], limit))
			}
			a.FirstSlow[gate] = counted[best]
		}
	}
}

// count counts the requests of an interval of which it is asked which users were
// slow.
func (p *replay) count(wanted []float64, i *Interval) {
	positive := func(limit float64) bool { return limit > 0 }
	if !slices.ContainsFunc(wanted, positive) {
		return
	}
	n := i.Batch.Candidate.Drawn
	p.asked += n
	if !slices.ContainsFunc(i.Slow, positive) {
		p.unknown += n
	}
}
