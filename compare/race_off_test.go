//go:build !race

package compare_test

const simulated = 1
