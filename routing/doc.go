// Package routing is headgate's domain: what a team configured, what should be
// served at this moment, and which version of a model answers a request.
//
// It is a leaf. It knows no Envoy, no YAML, no database and no clock, so that
// the same [Decide] runs in the ext_proc service, in simulations and in tests,
// and so that what package xds compiles into Envoy routes can be checked
// against it user by user.
//
// The flow of types is one way: files become a [Config] (package
// routing/config), a Config and the state of its rollouts become a [Plan]
// (package routing/rollout), and a Plan is compiled into Envoy resources
// (package xds) or asked directly ([Decide]). All of them are immutable once
// built: a change builds a new value, and readers hold on to the old one for
// as long as they need it.
package routing
