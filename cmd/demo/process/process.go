// Package process starts child processes and ends them for certain, by their
// process id.
//
// A child has a process group of its own, so that Ctrl-C in a terminal reaches
// the demo alone and the demo decides in which order to end what it started.
package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	Name string // for messages
	Path string
	Args []string
	Log  string // file that gets what it prints
	// Leash gives it a standard input that closes when this process ends, in
	// whatever way. It is on the child to end then.
	Leash bool
	// Output, when set, gets what it prints on standard output instead of the
	// log. It must not be set for what starts children of its own: they could
	// keep it open.
	Output io.Writer
}

// Process is a running child.
type Process struct {
	Spec

	cmd   *exec.Cmd
	leash io.Closer
	done  chan struct{}
	err   error // valid when done is closed
}

// Start starts a process.
func Start(s Spec) (*Process, error) {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	p := &Process{Spec: s, done: make(chan struct{})}
	p.cmd = exec.Command(s.Path, s.Args...) //nolint:noctx // ended by Stop, in order and with a grace
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if s.Output != nil {
		p.cmd.Stdout = s.Output
	}
	if s.Leash {
		if p.leash, err = p.cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("start %s: %w", s.Name, err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended returns an error that tells how the process ended and where its log
// is. It must not be called before Done is closed.
func (p *Process) Ended() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended by itself: %s: see %s", p.Name, how, p.Log)
}

// Stop asks the process to end, and kills it when it has not after the grace.
// It returns when it has ended, with an error when it had to be killed.
func (p *Process) Stop(grace time.Duration) error {
	if p.leash != nil {
		_ = p.leash.Close()
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s (pid %d) did not end within %s and was killed", p.Name, p.PID(), grace)
}
