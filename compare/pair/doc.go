// Package pair joins what was captured of a user's request with what the
// versions answered that got copies of it.
//
// A [Joiner] is told when a capture begins and what came of it, in whatever
// order that happens, and gives back a [Pair] for each version whose answer, or
// whose silence, can be set beside the user's. What belongs together has the
// same key, which an Envoy draws for each request; ids that clients send decide
// nothing.
//
// # What is promised
//
// No two pairs have the same key and the same version, as far as 65,536 requests
// back. A copy that was begun
// and gives no answer within [Options].Wait is a pair without an answer. A
// request whose user went away gives none, and neither does a copy that was
// refused for want of room. What waits is bounded in number, bytes and time,
// whatever comes; what is given up for it is counted in [Counts].
//
// The package asks no clock and starts nothing. It reads no bodies: that is for
// compare/protocol.
package pair
