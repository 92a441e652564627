package envoy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

// How a Runner starts an Envoy again that has ended.
const (
	firstPause = 100 * time.Millisecond // doubled with each failure
	lastPause  = 5 * time.Second
	// steady is how long an Envoy must have lived for the pauses to begin anew.
	steady = 10 * time.Second
)

// RunnerOptions say which Envoy a [Runner] keeps running.
type RunnerOptions struct {
	State       *StateDir
	Binary      Binary
	Bootstrap   *bootstrapv3.Bootstrap // of [Bootstrap], with the admin interface on a unix socket
	Concurrency int                    // worker threads; 0: one for each CPU
	LogLevel    string                 // of Envoy's own log; empty: "warning"
	Drain       time.Duration          // how long Stop waits for requests; 0: 5 s
	Log         *slog.Logger           // nil: slog.Default
}

// Runner keeps the one Envoy of a state directory running. It survives its
// Runner: the next one on the same directory adopts it.
type Runner struct {
	options  RunnerOptions
	content  []byte // of the bootstrap file
	hash     string
	admin    *Admin
	quit     chan struct{} // closed by Stop and Detach
	quitOnce sync.Once

	starting sync.Mutex // held from the look at quit to the start

	mu      sync.Mutex
	current *process
	state   RunnerState
}

// RunnerState is what a status page shows of the Envoy.
type RunnerState struct {
	PID      int       `json:"pid"` // 0: none runs
	Since    time.Time `json:"since"`
	Adopted  bool      `json:"adopted"`  // an earlier headgate started it
	Restarts int       `json:"restarts"` // by this Runner, after an end that nobody asked for
	LastExit string    `json:"last_exit,omitempty"`
	// Outdated says what the running Envoy was started with that is not what
	// this Runner would start now. A restart of Envoy brings it up to date.
	Outdated string `json:"outdated,omitempty"`
}

// NewRunner prepares a Runner. Nothing is started or adopted before
// [Runner.Run].
func NewRunner(options RunnerOptions) (*Runner, error) {
	content, err := YAML(options.Bootstrap)
	if err != nil {
		return nil, err
	}
	pipe := options.Bootstrap.GetAdmin().GetAddress().GetPipe().GetPath()
	if pipe == "" {
		return nil, errors.New("run Envoy: its admin interface must be on a unix socket")
	}
	if options.LogLevel == "" {
		options.LogLevel = "warning"
	}
	if options.Drain == 0 {
		options.Drain = 5 * time.Second
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	return &Runner{
		options: options,
		content: content,
		hash:    Hash(content),
		admin:   NewAdmin(Address{Unix: pipe}),
		quit:    make(chan struct{}),
	}, nil
}

// State tells what runs now.
func (r *Runner) State() RunnerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Admin returns a client of the Envoy's admin interface.
func (r *Runner) Admin() *Admin { return r.admin }

// Run adopts the Envoy of the state directory or starts one, and starts it
// again whenever it ends. It returns nil after [Runner.Stop] or
// [Runner.Detach], and when ctx is done: Envoy goes on then, until Stop.
func (r *Runner) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { r.boundLog(ctx) })
	tasks.Go(func() {
		select {
		case <-r.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	defer tasks.Wait()
	defer cancel()

	pause := firstPause
	for {
		begin := time.Now()
		p, err := r.acquire(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			r.options.Log.Error("Envoy does not start", "error", err)
			r.note(func(s *RunnerState) { s.LastExit = err.Error() })
		case !p.wait(ctx):
			return nil
		default:
			if r.quitting() {
				return nil
			}
			r.died(p)
		}
		if time.Since(begin) > steady {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// Detach ends the supervision and leaves Envoy running.
func (r *Runner) Detach() { r.quitOnce.Do(func() { close(r.quit) }) }

func (r *Runner) quitting() bool {
	select {
	case <-r.quit:
		return true
	default:
		return false
	}
}

func (r *Runner) note(f func(*RunnerState)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.state)
}

func (r *Runner) died(p *process) {
	exit := p.exit()
	if line := lastWords(r.options.State.file(logFile)); line != "" {
		exit += ": " + line
	}
	r.options.Log.Error("Envoy ended", "pid", p.pid, "exit", exit)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = nil
	r.state.PID, r.state.Adopted, r.state.Outdated = 0, false, ""
	r.state.Restarts++
	r.state.LastExit = exit
}

// acquire returns the Envoy of the state directory, which it starts if there
// is none.
//
// Every Envoy inherits a descriptor of a lock file and so holds its lock from
// fork to end, whatever becomes of headgate in between. That, and not the
// record, decides whether one runs: there are never two.
func (r *Runner) acquire(ctx context.Context) (*process, error) {
	r.starting.Lock()
	defer r.starting.Unlock()
	if r.quitting() {
		return nil, context.Canceled
	}
	r.mu.Lock()
	known := r.current
	r.mu.Unlock()
	if known != nil { // of an earlier Run
		return known, nil
	}
	lock, free, err := tryLock(r.options.State.file(processLock))
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }()
	var p *process
	var state RunnerState
	if free {
		p, state, err = r.start(ctx, lock)
	} else {
		p, state, err = r.adopt(ctx, lock)
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	state.Restarts, state.LastExit = r.state.Restarts, r.state.LastExit
	r.current, r.state = p, state
	return p, nil
}

// start runs a new Envoy that inherits lock. A disk that is full is no reason
// not to serve: what is written here helps the next headgate, and only the
// bootstrap is needed.
func (r *Runner) start(ctx context.Context, lock *os.File) (*process, RunnerState, error) {
	if info, err := r.admin.ServerInfo(ctx); err == nil {
		return nil, RunnerState{}, fmt.Errorf("an Envoy that headgate did not start (node %q) has the admin socket of %s: stop it", info.Node.ID, r.options.State.Path())
	}
	dir := r.options.State
	config := dir.file(bootstrapFile)
	if current, err := os.ReadFile(config); err != nil || string(current) != string(r.content) {
		if err := writeAtomic(config, r.content); err != nil {
			return nil, RunnerState{}, fmt.Errorf("write Envoy's bootstrap: %w", err)
		}
	}
	about := record{
		Binary:    r.options.Binary.Path,
		Version:   r.options.Binary.Version,
		Bootstrap: r.hash,
		Node:      r.options.Bootstrap.GetNode().GetId(),
		Started:   time.Now(),
	}
	r.remember(about)
	pid, err := launch(r.options.Binary.Path, r.arguments(config), dir.file(logFile), lock)
	if err != nil {
		return nil, RunnerState{}, fmt.Errorf("start Envoy: %w", err)
	}
	p, err := newProcess(pid)
	if err != nil {
		return nil, RunnerState{}, err
	}
	about.PID, about.StartTime = p.pid, p.startTime
	r.remember(about)
	r.options.Log.Info("Envoy started", "pid", pid, "version", about.Version)
	return p, RunnerState{PID: pid, Since: about.Started}, nil
}

func (r *Runner) remember(about record) {
	if err := writeRecord(r.options.State.file(recordFile), about); err != nil {
		r.options.Log.Warn("Envoy is not recorded in the state directory", "error", err)
	}
}

func (r *Runner) arguments(config string) []string {
	args := []string{
		"--config-path", config,
		"--log-level", r.options.LogLevel,
		// Hot restart needs shared memory, which an Envoy that is killed
		// leaves behind, and nothing here restarts that way.
		"--disable-hot-restart",
		// When it drains, every answer asks the client to close, not a
		// growing share of them over ten minutes.
		"--drain-strategy", "immediate",
	}
	if r.options.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(r.options.Concurrency))
	}
	return args
}

// adopt takes over the Envoy that holds lock.
func (r *Runner) adopt(ctx context.Context, lock *os.File) (*process, RunnerState, error) {
	about := readRecord(r.options.State.file(recordFile))
	pid, ok := lockHolder(lock)
	if !ok && about != nil && about.PID != 0 {
		pid, ok = about.PID, startTime(about.PID) == about.StartTime
	}
	if !ok {
		return nil, RunnerState{}, fmt.Errorf("an Envoy of %s runs, but which process it is cannot be told: stop it", r.options.State.Path())
	}
	p, err := newProcess(pid)
	if err != nil {
		return nil, RunnerState{}, err
	}
	state := RunnerState{PID: pid, Since: time.Now(), Adopted: true}
	if about == nil || about.PID != 0 && (about.PID != pid || about.StartTime != p.startTime) {
		state.Outdated = "it is not known with which bootstrap it was started"
	} else {
		state.Since = about.Started
		state.Outdated = r.compare(*about)
		if about.PID == 0 { // its headgate died between start and record
			about.PID, about.StartTime = p.pid, p.startTime
			r.remember(*about)
		}
	}
	info, err := r.admin.ServerInfo(ctx)
	if err == nil && about != nil && info.Node.ID != about.Node {
		_ = p.handle.Release()
		return nil, RunnerState{}, fmt.Errorf("the admin socket of %s answers for node %q, not for %q: stop that Envoy", r.options.State.Path(), info.Node.ID, about.Node)
	}
	if err != nil {
		r.options.Log.Warn("the adopted Envoy does not answer yet", "pid", pid, "error", err)
	}
	r.options.Log.Info("Envoy adopted", "pid", pid, "since", state.Since, "outdated", state.Outdated)
	return p, state, nil
}

// compare says what differs between a running Envoy and the one that would be
// started now.
func (r *Runner) compare(about record) string {
	switch {
	case about.Bootstrap != r.hash:
		return "it runs on an older bootstrap, " + about.Bootstrap + " instead of " + r.hash
	case about.Binary != r.options.Binary.Path || about.Version != r.options.Binary.Version:
		return fmt.Sprintf("it is Envoy %s of %s instead of %s of %s", about.Version, filepath.Dir(about.Binary),
			r.options.Binary.Version, filepath.Dir(r.options.Binary.Path))
	}
	return ""
}
