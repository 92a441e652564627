package compare

import (
	"maps"
	"slices"
)

// How many users are remembered: for one kind of event, over all models, and in
// kept evidence.
const (
	maxUsers     = 200_000
	maxUsersAll  = 4_000_000
	maxUsersKept = 4_096
)

// userSets are the users that were counted in the present epoch: for their
// first error, their first client error, and their first slow request of each
// gate.
type userSets struct {
	epoch int
	slow  []float64 // seconds, by gate; see [Trial.Epoch]
	sets  []map[uint64]struct{}
	full  bool // some could not be remembered: the epoch has to end
}

// The places of the sets.
const (
	setErrors = iota
	setClientErrors
	setSlow // and those after it
)

// follow takes up the trial's epoch.
func (u *userSets) follow(j *Judge, t *Trial) {
	epoch, slow := t.Epoch()
	if epoch != u.epoch || len(slow) != len(u.slow) {
		u.clear(j)
	}
	u.epoch, u.slow = epoch, slow
}

func (u *userSets) clear(j *Judge) {
	for i := range u.sets {
		j.users.Add(-int64(len(u.sets[i])))
	}
	u.sets, u.full = nil, false
}

// count counts the user of a bad event who has had none of its kind. A request
// without a user is one of its own. Other says that the user may count on
// either side, and this is the other.
func (u *userSets) count(j *Judge, o *Observation, a *Arm, latency float64, other bool) {
	switch o.Class {
	case ClassError:
		if u.first(j, setErrors, o, other) {
			a.FirstErrors++
		}
	case ClassClientError:
		if u.first(j, setClientErrors, o, other) {
			a.FirstClientErrors++
		}
	case ClassSuccess, ClassAborted:
	}
	for i, slow := range u.slow {
		if slow <= 0 || latency <= slow || !u.first(j, setSlow+i, o, other) {
			continue
		}
		for len(a.FirstSlow) <= i {
			a.FirstSlow = append(a.FirstSlow, 0)
		}
		a.FirstSlow[i]++
	}
}

// otherSide makes another user of one.
const otherSide = 0x9e3779b97f4a7c15

func (u *userSets) first(j *Judge, set int, o *Observation, other bool) bool {
	if !o.HasUser {
		return true
	}
	user := o.User
	if other {
		user ^= otherSide
	}
	for len(u.sets) <= set {
		u.sets = append(u.sets, nil)
	}
	if u.sets[set] == nil {
		u.sets[set] = map[uint64]struct{}{}
	}
	if _, known := u.sets[set][user]; known {
		return false
	}
	if len(u.sets[set]) >= maxUsers || j.users.Load() >= maxUsersAll {
		u.full = true
		return false
	}
	u.sets[set][user] = struct{}{}
	j.users.Add(1)
	return true
}

// kept are the users as they are kept; nil when they are not wanted or too many.
func (u *userSets) kept(wanted bool) [][]uint64 {
	n := 0
	for _, s := range u.sets {
		n += len(s)
	}
	if !wanted || n > maxUsersKept {
		return nil
	}
	users := make([][]uint64, len(u.sets))
	for i, s := range u.sets {
		users[i] = slices.Sorted(maps.Keys(s))
	}
	return users
}

// restore takes up users that were kept in the same epoch.
func (u *userSets) restore(j *Judge, users [][]uint64) {
	for i, kept := range users {
		if i >= setSlow+len(u.slow) {
			return
		}
		s := make(map[uint64]struct{}, len(kept))
		for _, user := range kept {
			s[user] = struct{}{}
		}
		u.sets = append(u.sets, s)
		j.users.Add(int64(len(s)))
	}
}
