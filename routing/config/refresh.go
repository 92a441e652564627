package config

import (
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"github.com/headgate/headgate/routing"
)

// readOnce looks once at the named files, or at all, and tells whether
// anything was other than before.
func (l *Loader) readOnce(names map[string]bool, seen changes) bool {
	dir, err := openDirectory(l.dir)
	if err != nil {
		return l.setFailed(err)
	}
	defer dir.close()
	if names == nil || l.failed != nil {
		if names, err = l.allNames(dir); err != nil {
			return l.setFailed(err)
		}
		l.checkOthers(dir, seen)
	}
	changed := l.setFailed(nil)
	for name := range names {
		changed = l.readModel(dir, name, seen) || changed
	}
	return l.compileChanged(dir) || changed
}

// setFailed notes whether the directory can be read, and tells whether that is
// new.
func (l *Loader) setFailed(err error) bool {
	before := l.failed
	l.failed = err
	if before == nil || err == nil {
		return before != err //nolint:errorlint // nil or not is all that is asked
	}
	return before.Error() != err.Error()
}

// allNames lists the files that are there, and those that were.
func (l *Loader) allNames(dir *directory) (map[string]bool, error) {
	list, err := dir.names()
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(list))
	for _, n := range list {
		names[n] = true
	}
	for n := range l.models {
		names[n] = true
	}
	return names, nil
}

func (l *Loader) readModel(dir *directory, name string, seen changes) bool {
	known := l.models[name]
	var before *blob
	if known != nil {
		before = known.blob
	}
	if unchanged(dir, name, before) {
		return false
	}
	b := dir.read(name, maxFileSize)
	if b.rule != "" && gone(dir, name) {
		delete(l.models, name)
		delete(l.todo, name)
		l.names = nil
		seen.removed(name, before)
		return known != nil
	}
	if b.same(before) {
		known.blob.stamp, known.blob.read = b.stamp, b.read
		seen.again(name, b)
		return false
	}
	if known == nil {
		l.names = nil
	}
	l.models[name] = &modelFile{blob: b}
	l.todo[name] = true
	seen.changed(name, before, b)
	return true
}

// unchanged tells from the outside whether a file is as it was read.
func unchanged(dir *directory, name string, before *blob) bool {
	if before == nil || before.rule != "" || before.busy || before.young() {
		return false
	}
	info, err := dir.stat(name)
	return err == nil && stampOf(info) == before.stamp
}

// gone tells apart a file that is not there and a link that leads nowhere.
func gone(dir *directory, name string) bool {
	_, err := dir.root.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// checkOthers reads again the files that models name, and has the models
// compiled again whose files changed.
func (l *Loader) checkOthers(dir *directory, seen changes) {
	changed := map[string]bool{}
	for name, before := range l.others {
		if unchanged(dir, name, before) {
			continue
		}
		b := dir.read(name, maxNamed)
		if !b.same(before) {
			changed[name] = true
			seen.changed(name, before, b)
		} else {
			seen.again(name, b)
		}
		l.others[name] = b
	}
	if len(changed) == 0 {
		return
	}
	for name, m := range l.models {
		if slices.ContainsFunc(m.named(), func(r string) bool { return changed[r] }) {
			m.compiled = nil
			l.todo[name] = true
		}
	}
}

// named returns the files that the model names.
func (m *modelFile) named() []string {
	if m.compiled == nil {
		return nil
	}
	return m.compiled.references
}

// compileChanged compiles what was read anew, on all processors. It tells
// whether there was any.
func (l *Loader) compileChanged(dir *directory) bool {
	if len(l.todo) == 0 {
		return false
	}
	work := make(chan string, len(l.todo))
	for name := range l.todo {
		work <- name
	}
	close(work)
	files := &sharedFiles{dir: dir, known: l.others}
	var wg sync.WaitGroup
	for range min(len(l.todo), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for name := range work {
				l.compile(name, files)
			}
		})
	}
	wg.Wait()
	for name := range l.todo {
		l.recompiled[name] = true
	}
	clear(l.todo)
	l.dropUnused()
	return true
}

func (l *Loader) compile(name string, files references) {
	m := l.models[name]
	if m.blob.rule != "" {
		m.compiled = &compiled{file: name, errs: []Error{{File: name, Message: m.blob.rule}}}
		return
	}
	m.compiled = compile(name, m.blob.data, files)
	if model := m.compiled.model; model != nil {
		m.compiled.model = l.reuse(name, model)
	}
}

// reuse returns the model of the last good configuration if it is equal.
func (l *Loader) reuse(file string, m *routing.Model) *routing.Model {
	i, ok := l.whole.index[file]
	if !ok {
		return m
	}
	if old := l.whole.files[i].model; fingerprint(old) == fingerprint(m) {
		return old
	}
	return m
}

// dropUnused forgets the files that no model names any more.
func (l *Loader) dropUnused() {
	if len(l.others) == 0 {
		return
	}
	used := map[string]bool{}
	for _, m := range l.models {
		for _, r := range m.named() {
			used[r] = true
		}
	}
	for name := range l.others {
		if !used[name] {
			delete(l.others, name)
		}
	}
}

// sharedFiles reads each file that models name once.
type sharedFiles struct {
	dir   *directory
	mu    sync.Mutex
	known map[string]*blob
}

func (s *sharedFiles) read(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.known[name]
	if b == nil {
		b = s.dir.read(name, maxNamed)
		s.known[name] = b
	}
	if b.rule != "" {
		return nil, errors.New(b.rule)
	}
	return b.data, nil
}
