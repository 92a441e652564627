// Package protocol reads what models answer, and says how two answers to the
// same request differ.
//
// [Reader.Read] turns the body of an answer into a [Prediction], whatever the
// server speaks: plain JSON, the Open Inference Protocol (KServe v2),
// TensorFlow Serving (KServe v1), or OpenAI's API with its streams.
// [Comparer.Compare] compares the predictions of a stable and a shadow version
// into a [Diff]; [Checker.Check] tells what is invalid in one of them.
//
// Bodies come from anywhere. Reading never panics, stops at [Limits] and costs
// time and memory in proportion to them: a body beyond them, a truncated one or
// one that is not what it says it is gives an [UnreadableError] with its reason, and
// the pair is not comparable. That is a result of its own, neither agreement
// nor disagreement.
//
// What two honest servers do differently without meaning it is no difference:
// the order of members, 1 or 1.0, dimensions of size one, names and versions of
// models, ids and times of answers, parameters, null or absent members.
//
// The package knows nothing of Envoy, of pairs that wait, or of gates: it is
// pure functions on bytes. Who reads many answers shares one Reader, one
// Comparer and one Checker between all goroutines.
package protocol
