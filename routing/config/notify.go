package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// eyes watches directories. Without them, or with too few, the files have to
// be polled.
type eyes struct {
	log     *slog.Logger
	open    func() (*fsnotify.Watcher, error)
	watcher *fsnotify.Watcher
	watched map[string]stamp // directories, with the inode that is watched
	blind   bool             // something that should be watched is not
	lastTry time.Time
}

// openNotifier asks the operating system for file events. The buffer lets a
// burst be read faster than it is worked on.
func openNotifier() (*fsnotify.Watcher, error) { return fsnotify.NewBufferedWatcher(4096) }

const retryNotifier = 30 * time.Second

// adjust watches exactly the given directories, and tells whether one is
// watched now that was not before, so that what happened in it until now was
// not seen.
func (e *eyes) adjust(dirs map[string]bool, now time.Time) bool {
	if e.blind && now.Sub(e.lastTry) < retryNotifier {
		return false
	}
	e.lastTry = now
	if e.watcher == nil {
		w, err := e.open()
		if err != nil {
			e.lose(fmt.Errorf("open: %w", err))
			return false
		}
		e.watcher, e.watched = w, map[string]stamp{}
	}
	for path := range e.watched {
		if _, wanted := dirs[path]; !wanted {
			_ = e.watcher.Remove(path)
			delete(e.watched, path)
		}
	}
	added, failed := false, error(nil)
	for path := range dirs {
		ok, err := e.watch(path)
		added, failed = added || ok, errors.Join(failed, err)
	}
	switch {
	case failed != nil:
		e.lose(failed)
	case e.blind:
		e.blind = false
		e.log.Info("configuration is watched by events again")
	}
	return added
}

// watch begins to watch a directory, or begins anew when another one has its
// name now. One that is not there is not an error.
func (e *eyes) watch(path string) (added bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		delete(e.watched, path)
		return false, nil //nolint:nilerr // it is looked for again, like the files in it
	}
	is := stamp{device: stampOf(info).device, inode: stampOf(info).inode}
	was, known := e.watched[path]
	if known && was == is {
		return false, nil
	}
	if known {
		_ = e.watcher.Remove(path)
		delete(e.watched, path)
	}
	if err := e.watcher.Add(path); err != nil {
		if os.IsNotExist(err) || os.IsPermission(err) {
			return false, nil
		}
		return false, fmt.Errorf("watch %s: %w", path, err)
	}
	e.watched[path] = is
	return true, nil
}

// lose notes that events cannot be relied on.
func (e *eyes) lose(err error) {
	if !e.blind {
		e.log.Warn("configuration is polled: file events are not available", "err", err, "interval", pollBlind)
	}
	e.blind = true
}

func (e *eyes) events() <-chan fsnotify.Event {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Events
}

func (e *eyes) errors() <-chan error {
	if e.watcher == nil {
		return nil
	}
	return e.watcher.Errors
}

func (e *eyes) close() {
	if e.watcher != nil {
		_ = e.watcher.Close()
	}
}

// interest is where something can happen that concerns the configuration.
type interest struct {
	// dirs are to be watched: the directory itself, the one above it, and those
	// to which symbolic links and names of TLS files lead. In a directory with
	// false only some names matter.
	dirs map[string]bool
	// names are those that matter in the directory itself, beside models: the
	// TLS files in it, and the first step of what links go through.
	names map[string]bool
}

func (l *Loader) interest() interest {
	in := interest{
		dirs:  map[string]bool{filepath.Dir(l.dir): false, l.dir: false},
		names: map[string]bool{},
	}
	for _, m := range l.models {
		in.add(l.dir, m.blob.link)
	}
	for name, b := range l.others {
		if !filepath.IsAbs(name) {
			name = filepath.Join(l.dir, name)
		}
		in.add(l.dir, name)
		in.add(l.dir, b.link)
	}
	return in
}

// add notes that a file matters.
func (in interest) add(own, file string) {
	if file == "" {
		return
	}
	dir := filepath.Dir(file)
	if dir != own {
		in.dirs[dir] = true
	}
	if below, err := filepath.Rel(own, file); err == nil {
		first, _, _ := strings.Cut(below, string(filepath.Separator))
		in.names[first] = true
	}
}

// concerns tells whether an event in a directory matters, of which it is not
// known that it is about a model's file.
func (in interest) concerns(own, dir, base string) bool {
	switch {
	case in.dirs[dir]:
		return true
	case dir == own:
		return in.names[base]
	case dir == filepath.Dir(own):
		return base == filepath.Base(own)
	}
	return true
}
