package envoy

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// process is a running Envoy, a child of this process or not.
type process struct {
	pid       int
	startTime uint64
	handle    *os.Process // refers to this very process, not to a later one of the same id

	mu     sync.Mutex
	status *syscall.WaitStatus // what the parent, and nobody else, is told once
}

func newProcess(pid int) (*process, error) {
	handle, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{pid: pid, startTime: startTime(pid), handle: handle}, nil
}

// wait returns true when the process has ended, and false when ctx is done
// before. It may be called by several goroutines and again.
func (p *process) wait(ctx context.Context) bool {
	if !awaitEnd(ctx, p) {
		return false
	}
	p.reap()
	_ = p.handle.Release()
	return true
}

// reap takes the exit status if this process is the parent and there is one.
// It tells whether the process may still run.
func (p *process) reap() (running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != nil {
		return false
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(p.pid, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid == p.pid {
			p.status = &status
		}
		return pid != p.pid
	}
}

// exit tells how the process ended.
func (p *process) exit() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.status == nil:
		return "exit status unknown: an earlier headgate started it"
	case p.status.Signaled():
		return "signal: " + p.status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", p.status.ExitStatus())
}

// signal sends sig; to a process that has ended it does nothing.
func (p *process) signal(sig syscall.Signal) { _ = p.handle.Signal(sig) }

// pollEnd asks for the process ten times a second.
func pollEnd(ctx context.Context, p *process) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for alive(p) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
