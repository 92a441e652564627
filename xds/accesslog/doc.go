// Package accesslog receives what Envoys report of every request that they
// have answered, and turns it into observations.
//
// It is apart from package xds because it knows both Envoy's messages and
// package compare.
//
// # What is promised
//
// Every entry becomes one [compare.Observation] or is counted as dropped, with
// the reason. An entry belongs to the time at which its request began, however
// late it comes. Keys of users leave this package as a keyed hash only.
//
// # What Envoy does
//
// Each worker of an Envoy opens a stream of its own, when it has the first
// entry, and keeps it. When the server is away, Envoy drops the entries of each
// flush and counts none of them as dropped. So a stream that breaks means that
// entries are lost until the node is heard of again, and [Sink.Gap] is told. A
// server that is merely paused breaks no stream and loses nothing.
//
// A copy of a request is an entry of its own, of the listener inside Envoy that it
// passes. One that the breaker of copies dropped is there, too, as
// [compare.ClassAborted]: it says nothing about the version, but how many of
// them there are tells how much of the mirror's share is missing.
//
// A request that was retried is one entry. The router's flags are those of the
// last attempt.
package accesslog
