package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
		return false, nil
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

// watchDirs returns the directories in which something can happen that
// concerns the configuration: its own, the one above it, and those to which
// symbolic links and names of TLS files lead. It is false of the one above
// when only the directory itself matters in it.
func (l *Loader) watchDirs() map[string]bool {
	dirs := map[string]bool{filepath.Dir(l.dir): false, l.dir: true}
	for _, m := range l.models {
		if m.blob.link != "" {
			dirs[m.blob.link] = true
		}
	}
	for name, b := range l.others {
		if !filepath.IsAbs(name) {
			name = filepath.Join(l.dir, name)
		}
		dirs[filepath.Dir(name)] = true
		if b.link != "" {
			dirs[b.link] = true
		}
	}
	return dirs
}
