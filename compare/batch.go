package compare

import (
	"time"

	"github.com/headgate/headgate/stats"
)

// Batch is what both versions of a trial answered since the batch before, of
// the requests that count in its step. What a judge finds does not depend on
// where one batch ends and the next begins.
type Batch struct {
	To        time.Time // when it ends. Not before the end of the one before
	Candidate Arm
	Stable    Arm
	// Late says that the requests began in the step before this one. Only their
	// numbers count: of Requests, Errors, ClientErrors, Slow and Drawn…. Their
	// answers are those of another batch.
	Late bool
}

// Arm is one version's part of a batch. Requests that clients gave up are in
// none of the numbers.
type Arm struct {
	Requests     uint64 // every real one
	Errors       uint64
	ClientErrors uint64
	// Those of them that the split's hash sent here. Only these are compared
	// with the other version. Of a control that mirrors, the stable version's
	// are the answers to copies.
	Drawn             uint64
	DrawnErrors       uint64
	DrawnClientErrors uint64
	// Latency is in seconds, of those that were answered: while two versions can
	// be compared, of the drawn ones.
	Latency stats.Histogram
	// Users whose first event of that kind in the epoch was with this version;
	// see [Trial.Epoch].
	FirstErrors       uint64
	FirstClientErrors uint64
	FirstSlow         []uint64 // by gate, as [Trial.Epoch] tells what is slow; may be shorter
	// Last are the newest outcomes, the newest last, at most [LastOutcomes]. They
	// need not be of the step: what a version answered since the share was
	// published.
	Last []Outcome
	// Answers are all those outcomes, and BadAnswers the errors among them. Where
	// there are more Requests, those count.
	Answers, BadAnswers uint64
}

// Merge adds the next batch of the same step and epoch.
func (b *Batch) Merge(next *Batch) {
	b.To = next.To
	b.Candidate.merge(&next.Candidate)
	b.Stable.merge(&next.Stable)
}

func (a *Arm) merge(next *Arm) {
	a.Requests += next.Requests
	a.Errors += next.Errors
	a.ClientErrors += next.ClientErrors
	a.Drawn += next.Drawn
	a.DrawnErrors += next.DrawnErrors
	a.DrawnClientErrors += next.DrawnClientErrors
	a.Latency.Merge(&next.Latency)
	a.FirstErrors += next.FirstErrors
	a.FirstClientErrors += next.FirstClientErrors
	for i, n := range next.FirstSlow {
		if i == len(a.FirstSlow) {
			a.FirstSlow = append(a.FirstSlow, 0)
		}
		a.FirstSlow[i] += n
	}
	a.Answers += next.Answers
	a.BadAnswers += next.BadAnswers
	a.Last = append(a.Last, next.Last...)
	a.Last = a.Last[max(0, len(a.Last)-LastOutcomes):]
}

// LastOutcomes is how many of an arm's newest outcomes matter.
const LastOutcomes = 20

// Outcome is how one request ended.
type Outcome struct {
	User uint64 // 0: without a key
	Bad  bool   // an error
}
