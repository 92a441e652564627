// Package compare turns what was seen of a release into evidence: requests
// and answers become observations, observations become windows, windows become
// verdicts.
//
// Here it keeps the counters and latency sketches of each version. What pairs
// of answers and late outcomes add comes from the packages beneath.
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
