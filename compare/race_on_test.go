//go:build race

package compare_test

// simulated is the part of the simulated runs that the race detector leaves
// time for: one in so many.
const simulated = 8
