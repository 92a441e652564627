//go:build race

package config

// raceFactor is how much slower the race detector makes parsing.
const raceFactor = 15
