// Package traffic plays users who ask a model, and keeps account of what they
// got.
//
// Users come back: a few of them often, most of them seldom. Nine in ten name
// themselves by a header, the others keep whatever cookie they are given. Each
// sends one request at a time, so "this user was on v2 and is now on v1" is
// never an artefact of two answers that overtook each other.
//
// An answer counts as failed unless it is a 200 with a prediction and the
// version that the gate names is the version that the model says it is.
package traffic
