package rollout

// command does what a person asks, or says why it cannot be.
func (t *transition) command(c Command) {
	if t.s.Phase == "" {
		t.refuse("", "the journal is empty and no Envoy has connected yet: what serves is not known")
		return
	}
	if t.s.Wanted == nil {
		t.refuse("", "no configuration with the model %s is in force", c.Model)
		return
	}
	if t.s.Phase == PhaseBlocked && c.Action != ActionAdopt {
		t.refuse("", "headgate does not know which version serves: say it with `headgate adopt %s VERSION`", c.Model)
		return
	}
	switch c.Action {
	case ActionPromote:
		t.askPromote(c)
	case ActionPause:
		t.askPause(c)
	case ActionResume:
		t.askResume(c)
	case ActionRollback:
		t.askRollback(c)
	case ActionRetry:
		t.askRetry(c)
	case ActionSkip:
		t.askSkip(c)
	case ActionAdopt:
		t.askAdopt(c)
	default:
		t.refuse("", "%q is not an action", c.Action)
	}
}

func (t *transition) askPromote(c Command) {
	switch {
	case !t.s.Running():
		t.refuseIdle()
	case t.s.Rollout.Promoted && t.s.Phase == PhaseProgressing:
		t.refuse("", "%s is promoted already, and waits for the Envoys to acknowledge", t.s.Rollout.Candidate)
	case !t.s.Rollout.Reachable:
		t.refuseUnreachable()
	default:
		t.promote(c.Actor, c.Reason, t.s.notSafe()...)
	}
}

func (t *transition) askPause(c Command) {
	switch t.s.Phase {
	case PhaseProgressing:
		t.write(KindPaused, c.Actor, c.Reason, data{Elapsed: t.s.Elapsed(t.now)})
	case PhasePaused:
		t.refuse("", "it is paused already")
	default:
		t.refuseIdle()
	}
}

func (t *transition) askResume(c Command) {
	switch t.s.Phase {
	case PhasePaused:
		var d data
		if elapsed := t.s.Elapsed(t.now); t.s.limit() > 0 && elapsed >= t.s.limit() {
			d.CountedFrom = elapsed
		}
		if t.s.Cause.Actor == ActorJudge {
			d.Overruled = t.s.overrulable()
		}
		t.write(KindResumed, c.Actor, c.Reason, d)
	case PhaseProgressing:
		t.refuse("", "it is not paused")
	default:
		t.refuseIdle()
	}
}

func (t *transition) askSkip(c Command) {
	switch {
	case t.s.Phase == PhasePaused:
		t.refuse("", "it is paused: resume it first")
	case t.s.Phase != PhaseProgressing:
		t.refuseIdle()
	case t.s.Rollout.Promoted:
		t.refuse("", "no step is left: %s is promoted, and waits for the Envoys to acknowledge", t.s.Rollout.Candidate)
	case !t.s.Rollout.Reachable:
		t.refuseUnreachable()
	default:
		t.advance(c.Actor, c.Reason, data{NotSafe: t.s.notSafe(), Overruled: t.s.overrulable()})
	}
}

func (t *transition) askRollback(c Command) {
	previous := t.s.Previous
	switch {
	case t.s.Running():
		t.rollBack(c.Actor, c.Reason)
	case t.s.Phase == PhaseRolledBack:
		t.refuse("", "it is rolled back already: %s serves everyone", t.s.Stable)
	case previous == "":
		t.refuse("", "there is nothing to go back to: no version before %s is known", t.s.Stable)
	case !t.s.configured(previous):
		t.refuse("", "%s, which served before %s, is not configured any more", previous, t.s.Stable)
	default:
		t.write(KindRolledBack, c.Actor, c.Reason,
			data{Stable: previous, Candidate: t.s.Stable, Definition: t.s.Wanted.Versions[t.s.Stable]})
	}
}

func (t *transition) askRetry(c Command) {
	w := t.s.Wanted
	switch {
	case t.s.Running():
		t.refuse("", "a rollout of %s is running", t.s.Rollout.Candidate)
	case t.s.Phase != PhaseRolledBack:
		t.refuse("", "there is nothing to retry: %s serves everyone", t.s.Stable)
	case w.Release == t.s.Stable:
		t.refuse("", "the file says release: %s, which serves everyone", w.Release)
	default:
		t.start(c.Actor, also(c.Reason, "other users come first, and the error budget is new"))
	}
}

func (t *transition) askAdopt(c Command) {
	switch {
	case t.s.Phase != PhaseBlocked:
		t.refuse("", "there is nothing to adopt: %s is known to be the stable version", t.s.Stable)
	case !t.s.configured(c.Version):
		t.refuse("", "version %q is not configured", c.Version)
	default:
		t.write(KindAdopted, c.Actor, c.Reason, data{Stable: c.Version})
		t.release()
	}
}

func (t *transition) refuseIdle() {
	t.refuse("", "no rollout is running: %s serves everyone", t.s.Stable)
}

// refuseUnreachable is the answer to those who would send users to a candidate
// that has not answered yet.
func (t *transition) refuseUnreachable() {
	candidate := t.s.Rollout.Candidate
	switch {
	case t.s.Phase == PhasePaused:
		t.refuse("", "it is not known whether %s answers, so it can get nobody: resume it first", candidate)
	case t.s.Probe.Err != "":
		t.refuse("", "%s does not answer, so it can get nobody: %s", candidate, t.s.Probe.Err)
	default:
		t.refuse("", "it is not known yet whether %s answers, so it can get nobody: try again in a moment", candidate)
	}
}
