package rollout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// configured takes what the configuration now says.
func (t *transition) configured(e Configured) {
	w := e.Wanted
	t.check(w)
	if len(t.refused) > 0 {
		return
	}
	retired := t.s.Retired
	t.s.Wanted, t.s.Retired = &w, false
	switch {
	case t.s.Phase == "" && len(e.Held) > 0:
		t.write(KindBlocked, ActorEnvoy, "the journal is empty, and Envoys hold "+strings.Join(e.Held, ", "),
			data{Held: slices.Clone(e.Held)})
	case t.s.Phase == "" || retired:
		t.seen()
		t.release()
	case t.s.Phase == PhaseBlocked:
	case t.s.Running():
		t.edited()
	default:
		t.release()
	}
}

// check refuses an edit that would take a serving version away, or move users
// without a word.
func (t *transition) check(w Wanted) {
	if _, ok := w.Versions[w.Release]; !ok {
		t.refuse("release", "%s: is not one of the versions", w.Release)
	}
	for i, step := range w.Steps {
		if err := kindOf(step).Check(step); err != nil {
			t.refuse(fmt.Sprintf("rollout.steps[%d]", i), "%s", err)
		}
	}
	if !t.s.Known() {
		return
	}
	r := &t.s.Rollout
	t.checkServes(w, t.s.Stable, routing.Whole-t.s.Share())
	if !t.s.Running() {
		return
	}
	t.checkServes(w, r.Candidate, t.s.Share())
	if w.Release != r.Candidate || w.Versions[r.Candidate] != r.Definition {
		return // another rollout begins, or none is left
	}
	if w.Key != r.Key {
		t.refuse("key", "%s: must stay %q while the rollout of %s runs, or users would change versions; promote it or roll it back first",
			w.Key, r.Key, r.Candidate)
	}
	if atOnce(w.Steps) && !atOnce(r.Steps) {
		t.refuse("rollout.steps", "must not become empty while the rollout of %s runs; to give it everyone, use `headgate promote %s`",
			r.Candidate, t.s.Model)
	}
}

// atOnce tells whether steps give everyone to the candidate without any delay.
// A file without a rollout says so by one step.
func atOnce(steps []routing.Step) bool {
	return len(steps) == 0 || len(steps) == 1 && steps[0].Unwatched()
}

func (t *transition) checkServes(w Wanted, version string, share routing.Share) {
	if _, ok := w.Versions[version]; !ok {
		t.refuse("versions", "%s: must stay, it serves %s of the users", version, share)
	}
}

// seen settles which version serves a model that is new, or is back.
func (t *transition) seen() {
	w, stable := t.s.Wanted, t.s.Stable
	reason := "it is back, and served when it was retired"
	if !t.s.configured(stable) {
		stable, reason = w.From, "the file says from: "+w.From
	}
	if !t.s.configured(stable) {
		stable, reason = w.Release, "the file says release: "+w.Release
	}
	t.write(KindSeen, ActorConfig, reason, data{Stable: stable})
}

// release begins a rollout if the file wants another version than the one that
// serves, unless that one has just gone back. What served before is known to be
// good: it serves again at once.
func (t *transition) release() {
	w := t.s.Wanted
	wanted := Declined{Version: w.Release, Definition: w.Versions[w.Release]}
	switch {
	case w.Release == t.s.Stable:
		if t.s.Declined != (Declined{}) {
			t.write(KindSettled, ActorConfig, "the file says release: "+w.Release, data{})
		}
	case t.s.Previous == w.Release && t.s.PreviousDefinition == wanted.Definition && wanted.Definition != "":
		t.write(KindRolledBack, ActorConfig, fmt.Sprintf("the file says release: %s, which served before %s: back at once, without steps",
			w.Release, t.s.Stable), data{Stable: w.Release})
	case t.s.Declined != wanted:
		t.start(ActorConfig, "the file says release: "+w.Release)
	}
}

// start begins a rollout of the release.
func (t *transition) start(actor, reason string) {
	w := t.s.Wanted
	key := w.Key
	t.write(KindStarted, actor, reason, data{
		Stable: t.s.Stable, Candidate: w.Release, Definition: w.Versions[w.Release],
		Steps: stepsData(w.Steps), Key: &key, Policy: policyWords(t.s.policy()),
	})
}

// edited takes an edit while a rollout runs.
func (t *transition) edited() {
	w, r := t.s.Wanted, t.s.Rollout
	switch {
	case w.Release == t.s.Stable:
		t.write(KindRolledBack, ActorConfig, "the file says release: "+w.Release, data{Stable: t.s.Stable})
	case w.Release != r.Candidate:
		t.write(KindSuperseded, ActorConfig, "the file says release: "+w.Release, data{})
		t.release()
	case w.Versions[w.Release] != r.Definition:
		reason := "the definition of " + w.Release + " was edited, so it is another candidate"
		t.write(KindSuperseded, ActorConfig, reason, data{})
		t.start(ActorConfig, reason)
	default:
		t.editPolicy()
		if !slices.Equal(stepsData(w.Steps), stepsData(r.Steps)) {
			t.editSteps()
		}
	}
}

// editSteps keeps the position. A present step with another share is another
// step, and begins anew; with the same share, the time it has run counts.
func (t *transition) editSteps() {
	w, r := t.s.Wanted, t.s.Rollout
	edited := r
	edited.Steps, edited.Step = w.Steps, max(0, min(r.Step, len(w.Steps)-1))
	d := data{Steps: stepsData(w.Steps), Step: edited.Step, SameShare: r.Promoted || edited.share() == r.share() && edited.shadow() == r.shadow()}
	running := !t.s.Clock.Since.IsZero()
	if d.SameShare {
		d.Elapsed = t.s.Elapsed(t.now)
	}
	t.write(KindSteps, ActorConfig, "the steps were edited"+moves(t.s, edited), d)
	if running && d.SameShare {
		t.s.Clock.Since = t.now
		t.look()
	}
}

// moves says which way users go by an edit of the steps.
func moves(s State, edited Rollout) string {
	from := s.Share()
	s.Rollout = edited
	switch to := s.Share(); {
	case to < from:
		return ": users go back"
	case to > from:
		return ": more users move"
	}
	return ""
}

func (t *transition) removed() {
	if t.s.Phase == "" || t.s.Retired {
		return
	}
	t.write(KindRetired, ActorConfig, "the configuration no longer has the model", data{})
}
