package envoy

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Bounds of the end of an Envoy, after the drain. With the 5 s of the drain
// they stay below 10 s.
const (
	termTime = 2 * time.Second // from SIGTERM to SIGKILL
	killTime = 1 * time.Second
	// quiet is how long no request may be open while idle connections are:
	// a request may be under way on one of them.
	quiet = 250 * time.Millisecond
)

// Stop ends the supervision and the Envoy, adopted or not. First every answer
// asks its client to close the connection and the ports close, then requests
// in flight get the time of the option Drain to end. When ctx is done before
// that, they are cut. Afterwards no Envoy runs, unless an error says so.
func (r *Runner) Stop(ctx context.Context) error {
	r.Detach()
	r.starting.Lock()
	defer r.starting.Unlock()
	r.mu.Lock()
	p := r.current
	r.mu.Unlock()
	if p == nil {
		return nil
	}
	r.drain(ctx, p)
	p.signal(syscall.SIGTERM)
	if !waitFor(p, termTime) {
		r.options.Log.Warn("Envoy does not end by SIGTERM", "pid", p.pid)
		p.signal(syscall.SIGKILL)
		if !waitFor(p, killTime) {
			return fmt.Errorf("stop Envoy: process %d does not end", p.pid)
		}
	}
	r.mu.Lock()
	r.current = nil
	r.state.PID, r.state.LastExit = 0, "stopped"
	r.mu.Unlock()
	if err := os.Remove(r.options.State.file(recordFile)); err != nil && !os.IsNotExist(err) {
		r.options.Log.Warn("the record of the stopped Envoy stays", "error", err)
	}
	return nil
}

// waitFor waits without regard to the caller's context: the end must be seen.
func waitFor(p *process, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return p.wait(ctx)
}

// drain returns when no request is open, or none can be waited for longer.
func (r *Runner) drain(ctx context.Context, p *process) {
	ctx, cancel := context.WithTimeout(ctx, r.options.Drain)
	defer cancel()
	if err := r.admin.closeAfterAnswer(ctx); err != nil {
		r.options.Log.Warn("Envoy does not drain", "pid", p.pid, "error", err)
		return
	}
	if err := r.admin.stopListening(ctx); err != nil {
		r.options.Log.Warn("Envoy keeps its ports open", "pid", p.pid, "error", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	lastBusy := time.Now()
	for {
		requests, connections, err := r.admin.active(ctx)
		switch {
		case err != nil:
			r.options.Log.Warn("requests were still open when Envoy was stopped", "pid", p.pid, "error", err)
			return
		case requests > 0:
			lastBusy = time.Now()
		case connections == 0 || time.Since(lastBusy) > quiet:
			return
		}
		select {
		case <-ctx.Done():
			r.options.Log.Warn("requests were still open when Envoy was stopped", "pid", p.pid, "requests", requests)
			return
		case <-tick.C:
		}
	}
}
