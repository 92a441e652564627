package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// shadow gives copies of a share of the requests to the candidate, and no user,
// for a time or until a person ends the step.
type shadow struct{}

// Check refuses a share of nothing and one above 100 %, times that cannot be,
// and a control: stable answers the same requests.
func (shadow) Check(step routing.Step) error {
	switch {
	case step.Share == 0:
		return fmt.Errorf("shadow: %s: must be more than 0%%", step.Share)
	case step.Share > routing.Whole:
		return fmt.Errorf("shadow: %s: must be at most 100%%", step.Share)
	case step.Control != (routing.Control{}):
		return fmt.Errorf("control: %s: a shadow is compared with stable", step.Control)
	}
	return checkTimes(step)
}

// Share is nobody.
func (shadow) Share(routing.Step) routing.Share { return 0 }

// Mirrors are copies to the candidate.
func (shadow) Mirrors(step routing.Step, _, candidate string) []routing.Mirror {
	return []routing.Mirror{{Version: candidate, Share: min(step.Share, routing.Whole)}}
}

// Progress is done when the time is over.
func (shadow) Progress(step routing.Step, elapsed time.Duration) Progress {
	return timeOf(step, elapsed)
}

// shadow is the share of the requests that the present step copies to the
// candidate.
func (r *Rollout) shadow() routing.Share {
	if step := r.step(); step.Kind == routing.StepShadow {
		return step.Share
	}
	return 0
}

// shadowing tells whether the candidate has copies of requests and no user.
func (s State) shadowing() bool {
	r := &s.Rollout
	return s.Running() && r.Reachable && !r.Promoted && r.shadow() > 0
}

// gets says what the candidate gets: "10%" of the users, "95% (5% control)" of
// those who all should be its, or "copies of 10%".
func (s State) gets() string {
	if s.shadowing() {
		return "copies of " + s.Rollout.shadow().String()
	}
	share := s.Share()
	if c := s.Rollout.step().Control; share > 0 && share < routing.Whole && !c.Mirror && c.Share > 0 {
		return fmt.Sprintf("%s (%s control)", share, c.Share)
	}
	return share.String()
}

// Mirrors are the versions that get copies of the model's requests, each once,
// sorted: what the step asks for, and standing shadows. A version that serves
// everyone gets no copies for these: they would be of its own requests.
func (s State) Mirrors() []routing.Mirror {
	if !s.Known() {
		return nil
	}
	var all []routing.Mirror
	if r := &s.Rollout; s.Running() && r.Reachable && !r.Promoted {
		step := r.step()
		all = kindOf(step).Mirrors(step, s.Stable, r.Candidate)
	}
	if s.Wanted == nil || len(s.Wanted.Shadows) == 0 {
		return all
	}
	split := s.Split()
	for _, shadow := range s.Wanted.Shadows {
		if split.Weight(shadow.Version) < routing.Whole && s.configured(shadow.Version) {
			all = withMirror(all, routing.Mirror{Version: shadow.Version, Share: shadow.Share})
		}
	}
	slices.SortFunc(all, func(a, b routing.Mirror) int { return cmp.Compare(a.Version, b.Version) })
	return all
}

// withMirror adds a mirror; of a version that has one already, the larger share
// counts, and all that either asks for.
func withMirror(all []routing.Mirror, m routing.Mirror) []routing.Mirror {
	i := slices.IndexFunc(all, func(o routing.Mirror) bool { return o.Version == m.Version })
	if i < 0 {
		return append(all, m)
	}
	share := max(all[i].Share, m.Share)
	m.Credentials, m.Floor = m.Credentials || all[i].Credentials, m.Floor || all[i].Floor
	m.Share = share
	all[i] = m
	return all
}

// copied is the share of the requests of which a version gets copies.
func (s State) copied(version string) routing.Share {
	for _, m := range s.Mirrors() {
		if m.Version == version {
			return m.Share
		}
	}
	return 0
}
