package pair

import "time"

// Exchange is a user's request and the answer to it.
type Exchange struct {
	Model     string
	RequestID string // x-request-id, which clients may choose
	Method    string
	User      uint64 // keyed hash of the user's key; 0: none
	HasUser   bool
	Drawn     bool      // the split's hash chose the version
	Start     time.Time // when Envoy had the first byte of the request
	Request   Content
	Primary   Answer
}

// Content is a body as it was sent, with what the headers say about it.
type Content struct {
	Type      string // content-type; may be empty
	Encoding  string // content-encoding; empty: as it is
	Body      []byte
	Truncated bool // the body is only the beginning of what was sent
}

// Answer is what a version answered.
type Answer struct {
	Content

	Version string
	Status  int   // of HTTP; with a fault what Envoy said instead, or 0
	Fault   Fault // why this is no answer of the version, or not all of it
	// Detail is Envoy's word for the fault, such as "upstream_per_try_timeout".
	Detail string
	// FirstByte and Duration are the time from the request's headers to the
	// first and to the last part of the answer's body, as far as captured.
	FirstByte, Duration time.Duration
}

// Fault is what kept a version from answering.
type Fault string

// The faults.
const (
	FaultNone   Fault = ""          // it answered
	FaultSilent Fault = "no_answer" // it did not: a timeout, a refused connection, none at all
	FaultBroken Fault = "broken"    // its answer ended in the middle
)

// Pair is two answers to one request.
type Pair struct {
	*Exchange // which other pairs may share: it is not to be changed

	Shadow Answer // of the copy
}

// Size returns the bytes that the bodies take, and something for the rest.
func (x *Exchange) Size() int { return overhead + cap(x.Request.Body) + x.Primary.Size() }

// Size returns the bytes that the body takes, and something for the rest.
func (a *Answer) Size() int { return overhead + cap(a.Body) }

// Size returns the bytes that all bodies of the pair take, and something for the
// rest.
func (p *Pair) Size() int { return p.Exchange.Size() + p.Shadow.Size() }

// overhead is what an exchange or an answer costs without its bodies, in bytes.
const overhead = 512
