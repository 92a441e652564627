package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// Trial is what a judge has to watch now; false: nobody is on trial. It is on
// from the candidate's first user to the end of the rollout, in pauses too.
func (s State) Trial() (routing.Trial, bool) {
	r := &s.Rollout
	if !s.Known() || !s.Running() || !r.Reachable || s.Wanted == nil {
		return routing.Trial{}, false
	}
	t := routing.Trial{
		Model: s.Model, Rollout: r.Number, Step: r.Step, Steps: max(1, len(r.Steps)),
		Stable: s.Stable, Candidate: r.Candidate, Share: s.Share(), Since: s.InForce.Round(0), Policy: s.policy(),
	}
	if r.Promoted {
		return t, true
	}
	// A standing shadow of the same version can have more copies made.
	if s.shadowing() {
		t.Shadow = s.copied(r.Candidate)
	}
	if t.Control = r.step().Control; t.Control.Mirror && t.Control.Share > 0 {
		t.Control.Share = max(t.Control.Share, s.copied(s.Stable))
	}
	return t, true
}

// usual is the policy of who gives none.
var usual = routing.Policy{
	Promise: routing.Promise{FalseRollback: 0.05, FalsePromotion: 0.05},
	Mode:    routing.ModeAct,
}

// policy never returns nil.
func (s State) policy() *routing.Policy {
	if s.Wanted == nil || s.Wanted.Policy == nil {
		return &usual
	}
	return s.Wanted.Policy
}

// Observes tells whether verdicts and time move nothing, and only people do.
func (s State) Observes() bool { return s.policy().Mode == routing.ModeObserve }

// judged takes what is shown by now.
func (t *transition) judged(j routing.Judgement) {
	trial, ok := t.s.Trial()
	if !ok || j.Rollout != trial.Rollout || j.Step != trial.Step {
		return
	}
	j.Findings, j.Evidence = finite(j.Findings), nil
	t.s.Judgement = &j
	t.breaches()
	t.look()
}

// finite drops numbers that no journal can keep.
func finite(findings []routing.Finding) []routing.Finding {
	ok := func(p *float64) bool { return p == nil || !math.IsNaN(*p) && !math.IsInf(*p, 0) }
	clean := slices.Clone(findings)
	for i := range clean {
		f := &clean[i]
		for _, p := range []**float64{&f.Estimate, &f.Low, &f.High} {
			if !ok(*p) {
				*p = nil
			}
		}
		if !ok(&f.Limit) {
			f.Limit = 0
		}
	}
	return clean
}

// breaches does what the gates that are broken ask for.
func (t *transition) breaches() {
	var back, pause []*routing.Finding
	for i := range t.s.Judgement.Findings {
		f := &t.s.Judgement.Findings[i]
		switch {
		case f.Verdict != routing.VerdictBreach:
		case f.HardRule || f.OnBreach == routing.OnBreachRollback || f.OnBreach == "":
			back = append(back, f)
		case f.OnBreach == routing.OnBreachPause:
			if t.s.overruledBy(f) == "" {
				pause = append(pause, f)
			}
		default:
			t.once(KindWarned, ActorJudge, gateID(f), reasonOf(f))
		}
	}
	switch {
	case t.s.Observes():
		for _, f := range back {
			t.once(KindWouldRollBack, ActorJudge, gateID(f), reasonOf(f))
		}
		for _, f := range pause {
			if !t.s.wouldBeBack() {
				t.once(KindWouldPause, ActorJudge, gateID(f), reasonOf(f))
			}
		}
	case len(back) > 0:
		t.rollBack(ActorJudge, reasonOf(back[0]))
	case t.s.Phase == PhaseProgressing && !t.s.Rollout.Promoted:
		t.pauseFor(pause)
	}
}

// wouldBeBack tells whether this step would have gone back, so that nothing else
// would have followed.
func (s State) wouldBeBack() bool {
	return slices.ContainsFunc(s.Rollout.Told, func(told string) bool { return strings.HasPrefix(told, KindWouldRollBack+" ") })
}

// wouldBeOver tells whether this step would have ended.
func (s State) wouldBeOver() bool {
	return s.wouldBeBack() || slices.Contains(s.Rollout.Told, KindWouldAdvance+" ")
}

// pauseFor stops for gates that have not done so in this step.
func (t *transition) pauseFor(broken []*routing.Finding) {
	var told []string
	var reason string
	for _, f := range broken {
		if id := KindPaused + " " + gateID(f); !slices.Contains(t.s.Rollout.Told, id) {
			told = append(told, id)
			reason = also(reason, reasonOf(f))
		}
	}
	if len(told) > 0 {
		t.write(KindPaused, ActorJudge, reason, data{Elapsed: t.s.Elapsed(t.now), Told: told})
	}
}

// once notes something about a gate, or another thing, once in a step.
func (t *transition) once(kind, actor, about, reason string) {
	id := kind + " " + about
	if !slices.Contains(t.s.Rollout.Told, id) {
		t.note(kind, actor, reason, data{Told: []string{id}})
	}
}

// gateID tells a gate from the others of its rollout.
func gateID(f *routing.Finding) string {
	return fmt.Sprintf("%s %s %v", f.Metric, f.Bound, f.Limit)
}

// gateName names a gate for people.
func gateName(metric string, bound routing.BoundKind) string {
	return strings.TrimSpace(metric + " " + string(bound))
}

func reasonOf(f *routing.Finding) string {
	if f.Text != "" {
		return f.Text
	}
	return gateName(f.Metric, f.Bound) + " is broken"
}

// safe tells whether every gate that the step waits for is safe. What nobody
// has judged is not.
func (s State) safe() bool {
	gates := len(s.policy().Gates)
	if gates == 0 {
		return true
	}
	if s.Judgement == nil {
		return false
	}
	for i := range s.Judgement.Findings {
		f := &s.Judgement.Findings[i]
		if s.awaits(f) && f.Verdict != routing.VerdictSafe {
			return false
		}
		if !f.HardRule {
			gates--
		}
	}
	return gates <= 0
}

// notSafe names the gates that are not safe, and says why.
func (s State) notSafe() []string {
	var names []string
	if s.Judgement == nil {
		for i := range s.policy().Gates {
			g := &s.policy().Gates[i]
			names = append(names, gateName(g.Metric, g.Bound)+" (not judged)")
		}
		return names
	}
	for i := range s.Judgement.Findings {
		f := &s.Judgement.Findings[i]
		broken := f.Verdict == routing.VerdictBreach
		if !broken && (f.Verdict == routing.VerdictSafe || !s.awaits(f)) {
			continue
		}
		names = append(names, s.notSafeName(f))
	}
	return names
}

func (s State) notSafeName(f *routing.Finding) string {
	why := cmp.Or(string(f.Reason), string(f.Verdict))
	if by := s.overruledBy(f); by != "" {
		why += ", overruled by " + by
	}
	return gateName(f.Metric, f.Bound) + " (" + why + ")"
}

// broken tells whether something is in breach that would end the rollout.
func (s State) broken() bool {
	return s.Judgement != nil && slices.ContainsFunc(s.Judgement.Findings, func(f routing.Finding) bool {
		return f.Verdict == routing.VerdictBreach && (f.HardRule || f.OnBreach != routing.OnBreachWarn) && s.overruledBy(&f) == ""
	})
}

// goOn ends a step that has lasted long enough and is safe.
func (t *transition) goOn(reason string) {
	actor := ActorTimer
	var d data
	if len(t.s.policy().Gates) > 0 {
		actor, reason, d.NotSafe = ActorJudge, also(reason, t.s.safeWords()), t.s.overruledNames()
	}
	switch {
	case !t.s.Observes():
		t.advance(actor, reason, d)
	case !t.s.broken():
		t.once(KindWouldAdvance, actor, "", reason)
	}
}

// safeWords names the gates that let a step end.
func (s State) safeWords() string {
	var names []string
	overruled := false
	for i := range s.Judgement.Findings {
		f := &s.Judgement.Findings[i]
		if s.awaits(f) {
			names = append(names, gateName(f.Metric, f.Bound))
		}
		overruled = overruled || s.overruledBy(f) != ""
	}
	switch {
	case len(names) > 0:
		return "safe: " + strings.Join(names, ", ")
	case overruled:
		return "no other gate can be measured here"
	}
	return "no gate can be measured here"
}

// endsAtOnce tells whether the step is a last one of 100 % that nobody asked to
// watch: it ends when it is in force, whatever is shown.
func (r *Rollout) endsAtOnce() bool {
	return r.Step >= len(r.Steps)-1 && r.step().Unwatched()
}

// limit is how long the step may run until its gates have to be safe; 0: as long
// as it likes.
func (s State) limit() time.Duration {
	step := s.Rollout.step()
	if step.AtMost == 0 || step.Hold {
		return 0
	}
	return s.Rollout.CountedFrom + step.AtMost
}

// deadline is the limit, and what is waited for a first look.
func (s State) deadline() time.Duration {
	d := s.limit()
	if d > 0 && s.Judgement == nil {
		d += firstLook
	}
	return d
}

// firstLook is how long a step waits for somebody to judge it at all, before it
// times out: a process that has just started finds a step's time over and has
// not looked at it.
const firstLook = 10 * time.Second

func (s State) timedOut(elapsed time.Duration) bool {
	deadline := s.deadline()
	return deadline > 0 && elapsed >= deadline
}

// timeOut does what the file says of a step that has lasted for at_most, and is
// not safe.
func (t *transition) timeOut(step routing.Step) {
	names := t.s.notSafe()
	reason := fmt.Sprintf("at_most %s is over, and not safe: %s", step.AtMost, strings.Join(names, ", "))
	observes := t.s.Observes()
	if observes && t.s.wouldBeOver() {
		return
	}
	switch step.OnTimeout {
	case routing.OnTimeoutPromote:
		if observes {
			t.once(KindWouldAdvance, ActorTimer, "", reason)
			return
		}
		t.advance(ActorTimer, reason, data{NotSafe: names})
	case routing.OnTimeoutRollback:
		if observes {
			t.once(KindWouldRollBack, ActorTimer, "at_most", reason)
			return
		}
		t.rollBack(ActorTimer, reason)
	default:
		if observes {
			t.once(KindWouldPause, ActorTimer, "at_most", reason)
			return
		}
		t.write(KindPaused, ActorTimer, reason, data{Elapsed: t.s.Elapsed(t.now)})
	}
}

// also joins two reasons, of which each may be empty.
func also(reason, more string) string {
	if reason == "" || more == "" {
		return reason + more
	}
	return reason + "; " + more
}
