//go:build !linux

package envoy

import (
	"context"
	"os"
	"syscall"
)

// startTime is not known here: an id that was reused is told from the one that
// was recorded only by the lock that an Envoy holds.
func startTime(int) uint64 { return 0 }

// alive takes the status of a child that has ended, which exists until then.
func alive(p *process) bool { return p.reap() && syscall.Kill(p.pid, 0) == nil }

func awaitEnd(ctx context.Context, p *process) bool { return pollEnd(ctx, p) }

func lockHolder(*os.File) (pid int, ok bool) { return 0, false }
