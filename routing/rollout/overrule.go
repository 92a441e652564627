package rollout

import (
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// Overruled is a gate of on_breach: pause in spite of which a person went on.
// For the rest of the rollout no step waits for it, and it pauses no more.
type Overruled struct {
	Gate string // see [gateID]: an edited limit is another gate
	By   string // the actor
}

// overruledBy says who overruled a gate; empty: nobody. A gate that goes back
// cannot be overruled, and one that was edited to do so is heard again.
func (s State) overruledBy(f *routing.Finding) string {
	if f.HardRule || f.OnBreach != routing.OnBreachPause {
		return ""
	}
	id := gateID(f)
	for _, o := range s.Rollout.Overruled {
		if o.Gate == id {
			return o.By
		}
	}
	return ""
}

// awaits tells whether the step waits for a gate.
func (s State) awaits(f *routing.Finding) bool { return f.Required() && s.overruledBy(f) == "" }

// overrulable are the gates that a person overrules who goes on now: those that
// have paused this step, and those that are broken and would.
func (s State) overrulable() []string {
	if s.Observes() {
		return nil
	}
	var ids []string
	for _, told := range s.Rollout.Told {
		if id, ok := strings.CutPrefix(told, KindPaused+" "); ok {
			ids = append(ids, id)
		}
	}
	if s.Judgement != nil {
		for i := range s.Judgement.Findings {
			f := &s.Judgement.Findings[i]
			if f.Verdict == routing.VerdictBreach && f.OnBreach == routing.OnBreachPause && !f.HardRule {
				ids = append(ids, gateID(f))
			}
		}
	}
	known := func(id string) bool {
		return slices.ContainsFunc(s.Rollout.Overruled, func(o Overruled) bool { return o.Gate == id })
	}
	ids = slices.DeleteFunc(ids, known)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// overruledNames names the broken gates in spite of which time and the other
// gates end a step.
func (s State) overruledNames() []string {
	var names []string
	for i := range s.Judgement.Findings {
		f := &s.Judgement.Findings[i]
		if by := s.overruledBy(f); by != "" && f.Verdict == routing.VerdictBreach {
			names = append(names, s.notSafeName(f))
		}
	}
	return names
}

// overruleWords says for people which gates a record overrules.
func overruleWords(ids []string) string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, id[:max(0, strings.LastIndexByte(id, ' '))])
	}
	return ", and overrules " + strings.Join(names, ", ")
}
