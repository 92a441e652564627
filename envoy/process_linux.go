package envoy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// startTime is when a process started, in clock ticks since the machine did;
// 0 for one that does not exist or has ended. With the process id it is a name
// that is not used twice.
func startTime(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the command in brackets and may contain anything.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}

func alive(p *process) bool { return p.startTime != 0 && startTime(p.pid) == p.startTime }

// awaitEnd waits on a pidfd, which the runtime's poller watches: no thread, no
// interval. Without one (an old kernel, a sandbox) it asks again and again.
func awaitEnd(ctx context.Context, p *process) bool {
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return pollEnd(ctx, p)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = file.Close() }()
	// The descriptor is of the right process if that still lives now.
	if !alive(p) {
		return true
	}
	stop := context.AfterFunc(ctx, func() { _ = file.Close() })
	defer stop()
	conn, err := file.SyscallConn()
	if err != nil {
		return ctx.Err() == nil && pollEnd(ctx, p)
	}
	ended := false
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		ended = err == nil && n == 1
		return ended
	})
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return pollEnd(ctx, p)
	}
	return ended
}

// lockHolder finds the process, other than this one, that has a file open.
func lockHolder(lock *os.File) (pid int, ok bool) {
	target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", lock.Fd()))
	if err != nil {
		return 0, false
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, false
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != target {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err == nil && pid != os.Getpid() {
			return pid, true
		}
	}
	return 0, false
}
