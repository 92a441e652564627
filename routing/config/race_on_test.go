//go:build race

package config

// hostileShare is by how much hostile files are smaller than they could be:
// the race detector makes parsing slow.
const hostileShare = 10
