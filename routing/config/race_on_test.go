//go:build race

package config

import "time"

// The race detector makes parsing slow: hostile files are smaller by
// hostileShare than they could be, and may take longer.
const (
	hostileShare = 10
	allowedTime  = 500 * time.Millisecond
)
