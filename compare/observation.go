// Package compare turns what was seen of a release into evidence: requests and
// answers become observations, observations become windows and batches, and
// these become findings about a candidate.
//
// The [Ledger] counts what each version answered, to be shown: windows of the
// last hour, with latency sketches. The [Judge] decides. It takes the same
// observations, puts each into the step of the rollout in which its request
// began, and hands what it counted to a [Trial], which is pure and says what is
// shown of each gate: a limit is broken, is kept, or neither, and why. What a
// gate may limit is a [Metric]; the registry has those that access logs can
// measure, and [RegisterMetric] takes others.
//
// # What is promised
//
// Over a whole rollout, all gates and hard rules together, and however often
// one looks: a candidate that breaks no gate is called broken with at most the
// probability false_rollback, and one that breaks a gate has that gate called
// safe, in a step, with at most false_promotion. That no data came is never a
// pass and never a fail. README.md tells how, with figures, and what is assumed.
//
// # What is left out
//
// No clock is asked but by the Judge, nothing is stored but through
// [routing.Judgement].Evidence, and nothing moves traffic: that is for package
// rollout, whose interface Judge this package's Judge implements. What pairs of
// answers and late outcomes add comes from the packages beneath.
package compare

import "time"

// Observation is one request that a version was asked to answer, as the access
// log of an Envoy tells it.
type Observation struct {
	Node      string // the Envoy that served it
	Model     string
	Version   string
	RequestID string
	User      uint64 // keyed hash of the user's key; 0: none
	HasUser   bool
	Start     time.Time     // when Envoy had the first byte of the request
	Code      int           // HTTP status to the client; 0: none was sent
	GRPC      int           // gRPC status, -1 when the answer is not gRPC
	Class     Class         // what the outcome counts as
	Duration  time.Duration // last byte to the version to last byte back; -1: not answered
	// Drawn says that the split's hash chose the version, of a user's key or of a
	// fresh draw. A request that an override or the lack of a key sent to its
	// version says nothing about who else might have been sent there.
	Drawn bool
	// Mirrored says that it is the answer to a copy, which no client has seen.
	Mirrored bool
	// Copied says of a client's request that the mirrors get copies of such
	// requests, each its share, which a random number of each request decides.
	// Others are never copied: long or chunked bodies, and what may not be
	// repeated.
	Copied bool
}

// Class is what an outcome counts as.
type Class string

// The classes. An aborted request is the client's doing and says nothing
// about the version.
const (
	ClassSuccess     Class = "success"
	ClassError       Class = "error"        // 5xx, reset, timeout, no endpoint
	ClassClientError Class = "client_error" // 4xx
	ClassAborted     Class = "aborted"      // the client went away
)
