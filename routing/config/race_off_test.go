//go:build !race

package config

import "time"

const (
	hostileShare = 1
	allowedTime  = 100 * time.Millisecond // of the processor
)
