package record

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	linger     = 100 * time.Millisecond // how long a record waits for others to be written with
	retryAfter = time.Second            // how long after a failure it is tried again
)

// job is what has to be done before its sender goes on.
type job struct {
	outcomes []Outcome
	intake   Intake
	err      error
	done     chan struct{}
}

// writer is the state of the goroutine that writes.
type writer struct {
	*Store
	pending []entry   // taken from the queue, not written yet
	failed  time.Time // when writing failed last; zero: it works
	lost    error     // the file is ruined
}

// write is the goroutine that writes, until Close.
func (s *Store) write() {
	defer close(s.done)
	w := &writer{Store: s}
	tick := time.NewTicker(retryAfter)
	defer tick.Stop()
	var wait <-chan time.Time
	for {
		select {
		case <-s.stop:
			w.end()
			return
		case j := <-s.jobs:
			w.serve(j)
		case <-s.queue.ready:
			if wait == nil {
				wait = time.After(linger)
			}
			continue
		case <-s.queue.many:
			w.batch()
		case <-wait:
			w.batch()
		case <-tick.C:
			w.batch()
		}
		wait = nil
		w.expire()
	}
}

// end writes what waits. Jobs that are under way are done; [Store.do] sends no
// more.
func (w *writer) end() {
	w.queue.close()
	w.failed = time.Time{} // a last try
	w.serve(&job{done: make(chan struct{})})
	w.queue.written(w.pending, true)
	for rest := w.queue.take(); len(rest) > 0; rest = w.queue.take() {
		w.queue.written(rest, true)
	}
}

// batch writes one batch of what waits.
func (w *writer) batch() {
	if !w.failed.IsZero() && time.Since(w.failed) < retryAfter {
		return
	}
	if len(w.pending) == 0 {
		w.pending = w.queue.take()
	}
	if len(w.pending) == 0 && w.failed.IsZero() {
		return
	}
	_ = w.commit(nil) // told by status
}

// serve writes all that waits, then does a job.
func (w *writer) serve(j *job) {
	defer close(j.done)
	for todo := w.queue.counts().entries; todo > batch && j.err == nil; todo -= batch {
		if len(w.pending) == 0 {
			w.pending = w.queue.take()
		}
		j.err = w.commit(nil)
		w.expire()
	}
	if len(w.pending) == 0 {
		w.pending = w.queue.take()
	}
	if j.err == nil {
		j.err = w.commit(j)
	}
}

// commit writes what is pending and a job, all or nothing. What cannot be written
// now stays pending; what never can is dropped.
func (w *writer) commit(j *job) error {
	if w.lost != nil {
		w.drop()
		return w.lost
	}
	t := &tally{waiting: map[string]int{}}
	err := w.try(j, t)
	if err == nil {
		w.queue.written(w.pending, false)
		w.pending, w.failed = nil, time.Time{}
		w.apply(t)
		return nil
	}
	err = explain(w.path, err)
	if !passing(err) {
		w.drop()
	}
	if ruined(err) {
		w.lost = err
	}
	if w.failed.IsZero() {
		w.options.Log.Error("records cannot be written", "err", err)
	}
	w.failed = time.Now()
	w.tell(func(s *Status) { s.Err = err })
	return err
}

// drop gives up what is pending.
func (w *writer) drop() {
	w.queue.written(w.pending, true)
	w.pending = nil
}

func (w *writer) try(j *job, t *tally) error {
	ctx := context.Background()
	// Whoever tells outcomes counts on them; of the rest a power cut may take
	// what the last seconds brought.
	if err := w.synchronous(ctx, j != nil && len(j.outcomes) > 0); err != nil {
		return err
	}
	if len(w.pending) == 0 && (j == nil || len(j.outcomes) == 0) {
		return w.probe(ctx)
	}
	return w.transact(ctx, func() error {
		if err := w.insert(w.pending, t); err != nil {
			return err
		}
		if j == nil {
			return nil
		}
		intake, err := w.takeOutcomes(j.outcomes, t)
		j.intake = intake
		return err
	})
}

// probe tells whether a file that failed can be written again.
func (w *writer) probe(ctx context.Context) error {
	if w.failed.IsZero() {
		return nil
	}
	return w.transact(ctx, func() error {
		_, err := w.conn.ExecContext(ctx, `UPDATE sqlite_sequence SET seq = seq WHERE name = 'joined'`)
		return err
	})
}

func (s *Store) synchronous(ctx context.Context, full bool) error {
	if s.full == full {
		return nil
	}
	mode := "NORMAL"
	if full {
		mode = "FULL"
	}
	_, err := s.conn.ExecContext(ctx, "PRAGMA synchronous = "+mode)
	if err == nil {
		s.full = full
	}
	return err
}

// transact runs fn in a transaction.
func (s *Store) transact(ctx context.Context, fn func() error) error {
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		_, err = s.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = s.conn.ExecContext(ctx, "ROLLBACK") // SQLite may have done it already
	}
	return err
}

// tally is what one transaction changes, once it is committed.
type tally struct {
	status  Status
	waiting map[string]int
}

func (w *writer) apply(t *tally) {
	for model, n := range t.waiting {
		if w.waiting[model] += n; w.waiting[model] <= 0 {
			delete(w.waiting, model)
		}
	}
	used, err := w.used(context.Background())
	w.tell(func(s *Status) {
		s.Err = nil
		s.Served += t.status.Served
		s.Pairs += t.status.Pairs
		s.Outcomes += t.status.Outcomes
		s.Joined += t.status.Joined
		s.Repeated += t.status.Repeated
		s.Expired += t.status.Expired
		s.WaitingOutcome = 0
		for _, n := range w.waiting {
			s.WaitingOutcome += n
		}
		if err == nil {
			s.Bytes = used
		}
	})
}

// do has the writing goroutine do a job. A job that has begun is finished even
// if nobody waits for it any more.
func (s *Store) do(ctx context.Context, j *job) error {
	j.done = make(chan struct{})
	select {
	case <-s.stop: // before the channels are equal
		return s.closed()
	default:
	}
	select {
	case s.jobs <- j:
	case <-s.stop:
		return s.closed()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) closed() error {
	return fmt.Errorf("records %s: %w", s.path, errClosed)
}

var errClosed = errors.New("are closed")

// Flush returns when all that was added before is written.
func (s *Store) Flush(ctx context.Context) error { return s.do(ctx, &job{}) }
