package config

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/headgate/headgate/routing"
)

// Options are how to watch. The zero value is fine.
type Options struct {
	Log *slog.Logger // nil: slog.Default()

	open func() (*fsnotify.Watcher, error) // nil: openNotifier
}

// Update is a new state of a configuration directory.
type Update struct {
	// Config is what the directory says now; nil with Err.
	Config *routing.Config
	// Err is why nothing can be said, of type [Errors]. The last Config that
	// was told stays the last good one.
	Err error
	// Contents are what Config was made of; nil with Err.
	Contents *Contents
	// At is when the change was first seen.
	At time.Time
}

// Watch tells the present state of a directory, and then every state that it
// comes to, once: a new configuration, or mistakes that were not the last told.
// It ends with the context and closes the channel.
//
// Contents are compared, not the names of events. A file renamed into its
// place, or files that change by the swap of a symbolic link, are told within
// milliseconds; what is written in place must stand still first, see change.
// A reader that is slow gets the newest state and none in between. Where the
// operating system gives no events, or too few, files are polled each second;
// where it does they are looked at every five seconds all the same.
func Watch(ctx context.Context, dir string, o Options) <-chan Update {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.open == nil {
		o.open = openNotifier
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	w := &watcher{
		loader: NewLoader(dir),
		eyes:   &eyes{log: o.Log, open: o.open},
		log:    o.Log,
		out:    make(chan Update),
		seen:   changes{},
	}
	go w.run(ctx)
	return w.out
}

// How often files are looked at without an event.
const (
	pollSeeing  = 5 * time.Second
	pollBlind   = time.Second
	pollMissing = 250 * time.Millisecond
)

// watcher is the state of one goroutine.
type watcher struct {
	loader *Loader
	eyes   *eyes
	log    *slog.Logger
	out    chan Update

	interest interest
	dirty    map[string]bool // files of which an event told
	all      bool            // look at all files
	restless bool            // the files did not stand still while they were read
	lastLook time.Time       // at all files
	written  map[string]bool // files that were written in place since the last good state was told
	seen     changes         // since the last good state that was told

	stale    bool      // next is older than what was read
	next     Update    // the state that is there now
	nextText string    // what tells it from another
	since    time.Time // when next came to be
	first    time.Time // when the first change came that was not told; zero: all is told
	due      time.Time // when to look again because of next; zero: never

	told     bool // whether anything was told
	toldText string
	pending  *Update // told, and not received yet
	received string  // nextText of the last that was received
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.out)
	defer w.eyes.close()
	w.interest = w.loader.interest()
	w.eyes.adjust(w.interest.dirs, time.Now())
	w.all = true
	w.look()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var out chan<- Update
		var update Update
		if w.pending != nil {
			out, update = w.out, *w.pending
		}
		timer.Reset(time.Until(w.wake()))
		select {
		case <-ctx.Done():
			return
		case out <- update:
			w.pending, w.received = nil, w.toldText
			continue
		case e, ok := <-w.eyes.events():
			w.event(e, ok)
			w.drain()
		case err, ok := <-w.eyes.errors():
			w.failure(err, ok)
		case <-timer.C:
			w.all = w.all || time.Since(w.lastLook) >= w.interval()
		}
		w.look()
	}
}

// wake returns when to look again without an event.
func (w *watcher) wake() time.Time {
	at := w.lastLook.Add(w.interval())
	if !w.due.IsZero() && w.due.Before(at) {
		return w.due
	}
	return at
}

func (w *watcher) interval() time.Duration {
	switch {
	case w.loader.failed != nil:
		return pollMissing
	case w.eyes.blind:
		return pollBlind
	}
	return pollSeeing
}

// event notes which file an event is about. What is no model's file may be on
// the way to one; then all are looked at.
func (w *watcher) event(e fsnotify.Event, ok bool) {
	dir, base := filepath.Split(e.Name)
	dir = filepath.Clean(dir)
	switch {
	case !ok:
		w.failure(errors.New("events ended"), false)
	case dir == w.loader.dir && isModel(base):
		if w.dirty == nil {
			w.dirty = map[string]bool{}
		}
		w.dirty[base] = true
		if e.Has(fsnotify.Write) {
			w.markWritten(base)
		}
	case w.interest.concerns(w.loader.dir, dir, base):
		w.all = true
	}
}

func (w *watcher) markWritten(name string) {
	if w.written == nil {
		w.written = map[string]bool{}
	}
	w.written[name] = true
}

func (w *watcher) drain() {
	for {
		select {
		case e, ok := <-w.eyes.events():
			if w.event(e, ok); !ok {
				return
			}
		default:
			return
		}
	}
}

// failure is what the operating system says instead of an event.
func (w *watcher) failure(err error, ok bool) {
	w.all = true
	if !ok {
		w.eyes.close()
		w.eyes.watcher = nil
		w.eyes.lose(err)
		return
	}
	w.log.Warn("file events were lost; all files are read again", "err", err)
}

// look reads what may have changed, and tells the state if it stood still.
func (w *watcher) look() {
	began := time.Now()
	if w.read() || w.since.IsZero() {
		// Reading many files takes time, in which they did not stand still for
		// all that is known.
		w.since, w.stale = time.Now(), true
		if w.first.IsZero() {
			w.first = began
		}
	}
	if w.waits(w.hold(time.Now())) {
		return
	}
	if w.stale {
		w.rebuild()
	}
	if w.told && w.nextText == w.toldText {
		w.settle()
		return
	}
	if w.next.Err != nil && w.told && w.waits(holdError) {
		return
	}
	w.tell()
}

// waits tells whether the present state has to stand still for longer, and
// sees to it that it is looked at then.
func (w *watcher) waits(hold time.Duration) bool {
	w.due = time.Time{}
	now := time.Now()
	due := w.since.Add(hold)
	if w.first.IsZero() || !now.Before(due) || now.Sub(w.first) > holdAtMost {
		return false
	}
	w.due = due
	return true
}

// read brings the loader up to date and tells whether anything changed.
func (w *watcher) read() bool {
	names := w.names()
	w.dirty, w.all = nil, false
	if names == nil {
		w.lastLook = time.Now()
	}
	changed, still := w.loader.refresh(names, w.seen)
	if changed || names == nil {
		w.interest = w.loader.interest()
		if w.eyes.adjust(w.interest.dirs, time.Now()) {
			var missed bool
			missed, still = w.loader.refresh(nil, w.seen)
			changed = changed || missed
		}
	}
	w.restless = !still
	return changed
}

// names returns the files to look at; nil: all. What was seen and not told is
// always looked at again.
func (w *watcher) names() map[string]bool {
	if w.all || w.restless {
		return nil
	}
	names := make(map[string]bool, len(w.dirty)+len(w.seen))
	for name := range w.dirty {
		names[name] = true
	}
	for name := range w.seen {
		if w.loader.models[name] == nil && !isModel(name) {
			return nil // a file that a model names
		}
		names[name] = true
	}
	return names
}

func (w *watcher) rebuild() {
	config, err := w.loader.build()
	w.next, w.stale = Update{Config: config, Err: err}, false
	if err != nil {
		w.nextText = "error: " + err.Error()
	} else {
		w.nextText = config.Hash
	}
}

// hold returns how long the present state must have stood still, as far as its
// files tell.
func (w *watcher) hold(now time.Time) time.Duration {
	var longest time.Duration
	switch {
	case w.restless:
		longest = now.Sub(w.since) + holdInPlace
	case w.told && w.loader.failed != nil:
		longest = holdRemoved
	}
	for name, c := range w.seen {
		c.written = w.written[name]
		switch {
		case c.busy:
			longest = max(longest, now.Sub(w.since)+holdBusy)
		case w.told:
			longest = max(longest, c.hold())
		}
	}
	return longest
}

// tell makes the present state the one that is received next.
func (w *watcher) tell() {
	u := w.next
	u.At = w.first
	if u.Err == nil {
		u.Contents = w.loader.contents()
	}
	w.pending, w.told, w.toldText = &u, true, w.nextText
	if w.toldText == w.received {
		w.pending = nil // back to it before anyone heard of another
	}
	w.settle()
}

// settle notes that the present state is told. What follows a mistake is still
// compared with the last good state.
func (w *watcher) settle() {
	w.due, w.first = time.Time{}, time.Time{}
	if w.next.Err == nil {
		w.seen, w.written = changes{}, nil
	}
}
