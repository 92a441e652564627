package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

const (
	// recordEvery is how long an interval of a recording is, unless the step
	// ends before.
	recordEvery = 10 * time.Second
	// recordQueue bounds the intervals that wait for the disk. Beyond, they are
	// dropped, counted, and the recording has a hole.
	recordQueue = 4096
	// recordBytes bounds all recordings together. The oldest go first.
	recordBytes = 256 << 20
	// tidyEvery is after how many intervals, of a few kB each, it is seen to that
	// this holds.
	tidyEvery = 4096
)

// recorder writes down what the judge was given of each rollout, one file for
// each, so that another policy can be tried on it: `headgate simulate --replay`.
// It never makes the judge wait.
type recorder struct {
	dir     string
	log     *slog.Logger
	steps   func(model string) []routing.Step // by the configuration in force
	queue   chan recordLine
	dropped atomic.Uint64
	written int // intervals

	mu   sync.Mutex
	open map[string]*recording // by model
}

// recording is what is not yet written of a rollout.
type recording struct {
	rollout int
	trial   routing.Trial // as of the interval
	keyed   bool
	begun   bool // an answer was seen
	began   time.Time
	to      time.Time          // of the newest batch
	next    *simulate.Interval // nil: nothing yet
	did     []simulate.Deed
}

// recordLine is an interval on its way to the disk.
type recordLine struct {
	trial    routing.Trial
	keyed    bool
	began    time.Time
	steps    []routing.Step
	interval *simulate.Interval
}

func newRecorder(state string, steps func(model string) []routing.Step, log *slog.Logger) *recorder {
	return &recorder{
		dir: filepath.Join(state, "recordings"), steps: steps, log: log,
		queue: make(chan recordLine, recordQueue), open: map[string]*recording{},
	}
}

// record takes a batch from the judge.
func (r *recorder) record(b compare.Recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.open[b.Trial.Model]
	if of == nil || of.rollout != b.Trial.Rollout {
		r.finish(of)
		of = &recording{rollout: b.Trial.Rollout, began: b.Batch.To}
		r.open[b.Trial.Model] = of
	}
	if of.next != nil && !of.continues(&b) {
		r.finish(of)
	}
	if !of.begun && b.Batch.Candidate.Answers+b.Batch.Stable.Answers == 0 {
		return // whether users are drawn is not known before the first answer
	}
	of.begun = true
	of.trial, of.keyed = *b.Trial, b.Keyed
	if of.next == nil {
		of.next = &simulate.Interval{
			Step: b.Trial.Step, Share: b.Trial.Share, Shadow: b.Trial.Shadow, Control: b.Trial.Control, Since: b.Trial.Since,
			Gap: b.Gap, Batch: compare.Batch{Late: b.Batch.Late}, Slow: slices.Clone(b.Slow),
		}
		of.began = b.Batch.To
	}
	of.next.Gap = of.next.Gap || b.Gap
	of.next.Batch.Merge(b.Batch)
	of.to = b.Batch.To
	if b.Batch.To.Sub(of.began) >= recordEvery {
		r.finish(of)
	}
}

// continues tells whether a batch belongs to the interval.
func (of *recording) continues(b *compare.Recorded) bool {
	i := of.next
	return i.Step == b.Trial.Step && i.Share == b.Trial.Share && i.Shadow == b.Trial.Shadow && i.Control == b.Trial.Control &&
		i.Since.Equal(b.Trial.Since) && i.Batch.Late == b.Batch.Late && slices.Equal(i.Slow, b.Slow) &&
		of.trial.Policy == b.Trial.Policy
}

// did notes what was done to a rollout: it stands in the interval that ends
// with it, or before the first answer in the first. Where nothing was counted
// since the last one, another has the time of the last batch: a clock that is set
// moves a record's time, but not the batches'.
func (r *recorder) did(record *rollout.Record) {
	if record.Kind == rollout.KindCheckpoint {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.open[record.Model]
	if of == nil || of.rollout != record.Rollout {
		return
	}
	if of.next == nil && of.begun {
		of.next = &simulate.Interval{
			Step: of.trial.Step, Share: of.trial.Share, Control: of.trial.Control, Since: of.trial.Since,
			Batch: compare.Batch{To: of.to},
		}
	}
	of.did = append(of.did, simulate.Deed{Kind: record.Kind, Actor: record.Actor, Reason: record.Reason})
	r.finish(of)
}

// finish hands the interval over. The lock is held.
func (r *recorder) finish(of *recording) {
	if of == nil || of.next == nil {
		return
	}
	of.next.Did, of.did = of.did, nil
	line := recordLine{trial: of.trial, keyed: of.keyed, began: of.began, steps: r.steps(of.trial.Model), interval: of.next}
	of.next = nil
	select {
	case r.queue <- line:
	default:
		if r.dropped.Add(1) == 1 {
			r.log.Warn("the disk does not keep up: recordings of rollouts have holes", "folder", r.dir)
		}
	}
}

// run writes until ctx ends, and then what is left.
func (r *recorder) run(ctx context.Context, subscribe func(context.Context) <-chan rollout.Update) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("folder for recordings: %w", err)
	}
	r.tidy()
	go r.follow(ctx, subscribe)
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		select {
		case line := <-r.queue:
			r.write(line)
		case <-hourly.C:
			r.tidy()
		case <-ctx.Done():
			r.flush()
			return nil
		}
	}
}

// follow hears of what is done to rollouts.
func (r *recorder) follow(ctx context.Context, subscribe func(context.Context) <-chan rollout.Update) {
	for ctx.Err() == nil {
		for u := range subscribe(ctx) {
			if u.Record != nil {
				r.did(u.Record)
			}
		}
		select { // a source that has ended for good closes every subscription at once
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// flush writes what is open.
func (r *recorder) flush() {
	r.mu.Lock()
	for _, of := range r.open {
		r.finish(of)
	}
	r.mu.Unlock()
	for {
		select {
		case line := <-r.queue:
			r.write(line)
		default:
			return
		}
	}
}

// write adds an interval to its file. A recording is not worth more than a
// warning: traffic and verdicts do not depend on it.
func (r *recorder) write(line recordLine) {
	if err := r.append(line); err != nil {
		r.log.Warn("a rollout could not be recorded", "model", line.trial.Model, "error", err)
	}
	if r.written++; r.written%tidyEvery == 0 {
		r.tidy()
	}
}

func (r *recorder) append(line recordLine) (err error) {
	path := r.path(line.trial.Model, line.trial.Rollout)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	size, err := cutTorn(f)
	if err != nil {
		return err
	}
	if size > 0 {
		return simulate.AppendWriter(f).Write(line.interval)
	}
	w, err := simulate.NewWriter(f, simulate.HeaderOf(&line.trial, line.steps, line.keyed, line.began))
	if err != nil {
		return err
	}
	return w.Write(line.interval)
}

// cutTorn takes away a line that a crash or a full disk has torn, since the next
// one would be read as a part of it. It returns the size that is left.
func cutTorn(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	block := make([]byte, 4096)
	for end := info.Size(); end > 0; {
		from := max(0, end-int64(len(block)))
		part := block[:end-from]
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			whole := from + int64(i) + 1
			if whole == info.Size() {
				return whole, nil
			}
			return whole, f.Truncate(whole)
		}
		end = from
	}
	return 0, f.Truncate(0)
}

func (r *recorder) path(model string, number int) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s-%d.jsonl", model, number))
}

// tidy removes the oldest recordings beyond recordBytes.
func (r *recorder) tidy() {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return
	}
	type file struct {
		name string
		size int64
		at   time.Time
	}
	var files []file
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".jsonl") {
			files = append(files, file{e.Name(), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	var sum int64
	for _, f := range files {
		if sum += f.size; sum > recordBytes {
			_ = os.Remove(filepath.Join(r.dir, f.name))
		}
	}
}
