// Package simulate tells what a policy would do before it is trusted with
// users: the chance that a healthy candidate is rolled back, the chance that a
// bad one is promoted, and how long each takes.
//
// Two worlds are drawn from a [Scenario], many times each: one in which the
// candidate behaves as stable does, and one in which it behaves as the scenario
// says. In both the real judge (package compare) and the real state machine
// (package routing/rollout) decide, with synthetic counts and synthetic time;
// and beside them, on the same counts, the rules that are usual elsewhere, see
// [Rules].
//
// The result of a seed is the same on every machine, whatever the number of
// its processors: each run has its own source of randomness, and each minute of
// it too, so that rules which give the candidate the same share see the same
// requests.
//
// What is not simulated: Envoy, delays between a weight and its effect, people.
// A step without `for` ends as soon as its gates are safe, as if a person had
// waited for just that.
//
// [Replay] runs judge and state machine over what was recorded of a rollout
// (see [Writer]) under another policy.
package simulate
