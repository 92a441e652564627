// Package metrics tells Prometheus what headgate knows. Every name begins with
// headgate_, units are base units.
//
// All values are read from their owners when Prometheus asks, nothing is kept
// twice. The one exception are the shares that every Envoy has acknowledged:
// their owner knows only whether the present ones are.
//
// How many series there are depends on the models. Each model has its phases
// (6), its step, and for each version that has a share or had requests two
// shares, four request counters and a latency histogram of 17 series. Beyond
// [DetailLimit] models the histogram is there only while the model is in a
// rollout, of the phases only the present one is, and
// headgate_metrics_limited is 1: 10,000 models with two versions each, ten of
// them in a rollout, are about 140,000 series instead of 500,000. No label
// holds anything that a client can choose: models and versions come from the
// configuration, the rest from fixed sets.
package metrics
