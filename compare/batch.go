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
	// numbers count: of Requests, Errors, ClientErrors, Slow and Drawn….
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

// LastOutcomes is how many of an arm's newest outcomes matter.
const LastOutcomes = 20

// Outcome is how one request ended.
type Outcome struct {
	User uint64 // 0: without a key
	Bad  bool   // an error
}
