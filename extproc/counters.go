package extproc

import (
	"cmp"
	"slices"

	"github.com/headgate/headgate/routing"
)

// reasons are the reasons in the order in which versions count them.
var reasons = [...]routing.Reason{
	routing.ReasonOverride, routing.ReasonOnly, routing.ReasonKey, routing.ReasonCookie,
	routing.ReasonDraw, routing.ReasonCurrent, routing.ReasonUndecided,
}

// rawReasons are the reasons as header values.
var rawReasons = func() (raw [len(reasons)][]byte) {
	for i, r := range reasons {
		raw[i] = []byte(r)
	}
	return raw
}()

// reasonIndex returns the place of a reason in reasons. One that is not there
// counts as undecided.
func reasonIndex(r routing.Reason) int {
	if i := slices.Index(reasons[:], r); i >= 0 {
		return i
	}
	return len(reasons) - 1
}

// Counters are what the service has counted since it was made. Those of a
// model begin anew when it is removed and comes back.
type Counters struct {
	Decisions []DecisionCount // sorted by model, version and reason; none that are 0

	Streams      uint64 // opened
	Active       int64  // open now
	UnknownModel uint64 // the route named no model of the plan: undecided
	Unexpected   uint64 // messages that a route should not have sent
	Unreadable   uint64 // a field was wanted of a body that is not JSON, or is encoded
	Withheld     uint64 // decided, but the request's headers had no room for the answer
	Panics       uint64 // in decisions: undecided
}

// DecisionCount is how often a version was given for a reason.
type DecisionCount struct {
	Model, Version string
	Reason         routing.Reason
	Count          uint64
}

// Undecided returns the number of requests that went to the version with the
// larger weight for want of a decision.
func (c Counters) Undecided() uint64 {
	n := c.UnknownModel + c.Withheld + c.Panics
	for _, d := range c.Decisions {
		if d.Reason == routing.ReasonUndecided {
			n += d.Count
		}
	}
	return n
}

// Counters returns the counters as they are now. They are read one by one.
func (s *Service) Counters() Counters {
	c := Counters{
		Decisions:    s.models.decisions(),
		Streams:      s.totals.streams.Load(),
		Active:       s.totals.active.Load(),
		UnknownModel: s.totals.unknownModel.Load(),
		Unexpected:   s.totals.unexpected.Load(),
		Unreadable:   s.totals.unreadable.Load(),
		Withheld:     s.totals.withheld.Load(),
		Panics:       s.totals.panics.Load(),
	}
	return c
}

func (x *index) decisions() []DecisionCount {
	slots := x.slots.Load()
	if slots == nil {
		return nil
	}
	var counts []DecisionCount
	for name, s := range *slots {
		for _, v := range s.model.Load().versions {
			for i, reason := range reasons {
				if n := v.count[i].Load(); n > 0 {
					counts = append(counts, DecisionCount{Model: name, Version: v.name, Reason: reason, Count: n})
				}
			}
		}
	}
	slices.SortFunc(counts, func(a, b DecisionCount) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Reason, b.Reason))
	})
	return counts
}
