package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/metrics"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
	"github.com/headgate/headgate/routing/rollout"
)

// files brings the configuration directory to the controller, and remembers
// what came of it. What was taken last is kept in the state folder: when the
// directory cannot be used at the next start, that serves, and is called
// stale.
type files struct {
	filesOptions
	kept string                // path of the copy
	keep chan *config.Contents // to be written to kept; newest only

	mu      sync.Mutex
	current *routing.Config // in force; nil: none
	known   admin.Config
}

// filesOptions are what files depends on.
type filesOptions struct {
	dir        string // the configuration
	state      string // where the copy is kept
	useKept    bool   // the journal knows which versions the copy serves
	controller *rollout.Controller
	taken      func(*routing.Config) // is told of each configuration that came into force
	log        *slog.Logger
}

func newFiles(o filesOptions) *files {
	return &files{
		filesOptions: o,
		kept:         filepath.Join(o.state, "config.json"),
		keep:         make(chan *config.Contents, 1),
		known:        admin.Config{Directory: o.dir, Errors: []admin.ConfigLine{}},
	}
}

// config returns what is in force, or nil.
func (f *files) config() *routing.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

// status tells what is known. What should be seen to can change by time alone.
func (f *files) status() admin.Config {
	f.mu.Lock()
	known, current := f.known, f.current
	f.mu.Unlock()
	if current != nil {
		known.Warnings = warningLines(current)
	}
	return known
}

// warningLines tells what should be seen to in a configuration.
func warningLines(c *routing.Config) []admin.ConfigLine {
	var lines []admin.ConfigLine
	for _, w := range config.Warnings(c, time.Now()) {
		lines = append(lines, admin.ConfigLine{File: w.File, Line: w.Line, Path: w.Path, Message: w.Message})
	}
	return lines
}

func (f *files) metrics() metrics.Config {
	f.mu.Lock()
	s := f.known
	f.mu.Unlock()
	m := metrics.Config{OK: s.OK, Hash: s.Hash, Polling: s.Polling}
	if s.Loaded != nil {
		m.Success = *s.Loaded
	}
	return m
}

// journalRetry is when a configuration is handed over again that could not be
// noted in the journal.
const journalRetry = 2 * time.Second

// run follows the directory until ctx ends.
func (f *files) run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.keeper()
	}()
	updates := config.Watch(ctx, f.dir, config.Options{Log: f.log})
	var last config.Update
	var again <-chan time.Time
	for {
		select {
		case u, open := <-updates:
			if !open {
				close(f.keep)
				<-done
				return nil
			}
			last = u
		case <-again:
		}
		again = nil
		if err := f.take(ctx, last); errors.Is(err, rollout.ErrJournal) {
			again = time.After(journalRetry)
		}
	}
}

// take hands an update to the controller.
func (f *files) take(ctx context.Context, u config.Update) error {
	err := u.Err
	if err == nil {
		err = f.controller.Apply(ctx, u.Config)
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err == nil {
		f.accepted(u.Config, u.At)
		for _, l := range warningLines(u.Config) {
			f.log.Warn(l.Message, place(l)...)
		}
		f.log.Info("configuration in force", "models", len(u.Config.Models), "hash", u.Config.Hash, "took", time.Since(u.At))
		if len(u.Config.Models) == 0 {
			f.log.Warn("the configuration directory has no model: nothing is served", "config", f.dir)
		}
		f.taken(u.Config)
		f.store(u.Contents)
		return nil
	}
	f.refused(err, u.At)
	if f.config() == nil && f.useKept {
		f.useKept = false // once: what follows are edits
		f.restore(ctx)
	}
	return err
}

func (f *files) accepted(c *routing.Config, at time.Time) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = c
	f.known.Hash, f.known.Loaded, f.known.Attempt = c.Hash, &now, &at
	f.known.OK, f.known.Errors = true, []admin.ConfigLine{}
}

// refused notes why the files are not in force. What was in force is.
func (f *files) refused(err error, at time.Time) {
	lines := configLines(err)
	f.mu.Lock()
	told := !f.known.OK && f.known.Attempt != nil && f.known.Attempt.Equal(at) // of a retry
	f.known.OK, f.known.Errors, f.known.Attempt = false, lines, &at
	message := "configuration refused, the last good one stays in force"
	switch {
	case f.current == nil && f.useKept: // restore tells what is in force instead
		message = unusable(err)
	case f.current == nil:
		message = "nothing is in force: " + unusable(err)
	}
	f.mu.Unlock()
	if told {
		return
	}
	for _, l := range lines {
		f.log.Error(message, append(place(l), "error", l.Message)...)
	}
}

// unusable says what kind of mistake it is that nothing can be in force.
func unusable(err error) string {
	var wrong config.Errors
	switch {
	case errors.Is(err, rollout.ErrJournal):
		return "the configuration waits for the journal"
	case errors.As(err, &wrong) && len(wrong) == 1 && wrong[0].File == "":
		return "the configuration directory cannot be used; headgate waits for it"
	}
	return "configuration refused; headgate waits for another"
}

// missing says what is missing while nothing is in force; empty: something is.
func (f *files) missing() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil {
		return ""
	}
	switch n := len(f.known.Errors); n {
	case 0:
		return fmt.Sprintf("no configuration is in force: %s is not read yet", f.dir)
	case 1:
		return fmt.Sprintf("no configuration is in force: %s: %s", f.dir, lineText(f.known.Errors[0]))
	default:
		return fmt.Sprintf("no configuration is in force: %s: %s, and %d more", f.dir, lineText(f.known.Errors[0]), n-1)
	}
}

// place is where a mistake is, as far as that is known, for the log.
func place(l admin.ConfigLine) []any {
	var at []any
	if l.File != "" {
		at = append(at, "file", l.File)
	}
	if l.Line > 0 {
		at = append(at, "line", l.Line)
	}
	if l.Path != "" {
		at = append(at, "path", l.Path)
	}
	return at
}

// lineText is a mistake in one line: file:line: path: message.
func lineText(l admin.ConfigLine) string {
	return config.Error{File: l.File, Line: l.Line, Path: l.Path, Message: l.Message}.Error()
}

// configLines is an error in the form that is shown to people and scripts.
func configLines(err error) []admin.ConfigLine {
	var lines []admin.ConfigLine
	var wrong config.Errors
	var refused *rollout.ConfigError
	switch {
	case errors.As(err, &wrong):
		for _, e := range wrong {
			message := e.Message
			if e.Value != "" {
				message = e.Value + ": " + message
			}
			lines = append(lines, admin.ConfigLine{File: e.File, Line: e.Line, Path: e.Path, Message: message})
		}
	case errors.As(err, &refused):
		for _, p := range refused.Problems {
			lines = append(lines, admin.ConfigLine{File: p.Position.File, Line: p.Position.Line, Path: p.Path, Message: p.Message})
		}
	default:
		lines = []admin.ConfigLine{{Message: err.Error()}}
	}
	return lines
}

// store asks the keeper to write; only the newest contents count.
func (f *files) store(contents *config.Contents) {
	for {
		select {
		case f.keep <- contents:
			return
		default:
		}
		select {
		case <-f.keep:
		default:
		}
	}
}

func (f *files) keeper() {
	for contents := range f.keep {
		if err := writeKept(f.kept, contents); err != nil {
			f.log.Warn("the configuration could not be kept for a start without its directory", "error", err)
		}
	}
}

// writeKept replaces the copy at once: a crash leaves the old or the new one.
func writeKept(path string, contents *config.Contents) (err error) {
	data, err := json.Marshal(contents)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*") // only the owner may read it: keys can be in it
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// restore takes the copy, for a start whose directory cannot be used.
func (f *files) restore(ctx context.Context) {
	c, err := readKept(f.kept)
	if errors.Is(err, os.ErrNotExist) {
		f.log.Error("nothing is in force: no earlier configuration was kept")
		return
	}
	if err == nil {
		err = f.unmoved(c)
	}
	if err == nil {
		err = f.controller.Apply(ctx, c)
	}
	if err != nil {
		f.log.Error("nothing is in force: the kept configuration cannot be used either", "error", err)
		return
	}
	info, err := os.Stat(f.kept)
	if err != nil {
		return
	}
	loaded := info.ModTime()
	f.mu.Lock()
	f.current = c
	f.known.Hash, f.known.Loaded = c.Hash, &loaded
	f.mu.Unlock()
	f.log.Warn("the configuration directory cannot be used: what was in force before serves on, and is stale", "since", loaded)
}

// unmoved tells whether a copy is that of the last configuration in force. After
// a kill it can be an older one, and that would take users back.
func (f *files) unmoved(c *routing.Config) error {
	if models := f.controller.Moves(c); len(models) > 0 {
		return fmt.Errorf("kept configuration %s: is older than the journal, it would change the rollout of %s", f.kept, strings.Join(models, ", "))
	}
	return nil
}

// readKept unpacks the copy where the parser can read it.
func readKept(path string) (*routing.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var k config.Contents
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("kept configuration %s: %w", path, err)
	}
	return loadContents(filepath.Dir(path), k.Files)
}

// loadContents unpacks files beneath dir, for as long as the parser reads them.
func loadContents(dir string, files map[string][]byte) (*routing.Config, error) {
	dir, err := os.MkdirTemp(dir, ".config-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, content := range files {
		if !filepath.IsLocal(name) {
			continue // an absolute name is read where it is
		}
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(full, content, 0o600); err != nil {
			return nil, err
		}
	}
	return config.Load(dir)
}
