package record

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"
)

const (
	expireChunk = 250                    // records that go at once
	expireTime  = 100 * time.Millisecond // how long old records may keep new ones waiting
	freePages   = 256                    // free pages that stay in the file at least: they will be needed again
)

// used is the part of the file that is in use, in bytes.
func (s *Store) used(ctx context.Context) (int64, error) {
	var pages, free, size int64
	err := s.conn.QueryRowContext(ctx, `SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).
		Scan(&pages, &free, &size)
	return (pages - free) * size, err
}

// expire removes what is too old or too much, for a short while. Only when the
// file is far beyond its size do new records wait until it is not.
func (w *writer) expire() {
	if w.lost != nil || !w.failed.IsZero() {
		return
	}
	err := w.expireFor(expireTime)
	if err == nil {
		err = w.giveBack(context.Background())
	}
	if err == nil {
		return
	}
	err = explain(w.path, err)
	w.failed = time.Now()
	w.options.Log.Error("old records cannot be removed", "err", err)
	if ruined(err) {
		w.lost = err
	}
	w.tell(func(s *Status) { s.Err = err })
}

func (w *writer) expireFor(d time.Duration) error {
	for begin := time.Now(); ; {
		more, err := w.expireSome()
		if err != nil || !more {
			return err
		}
		far := w.options.MaxBytes > 0 && w.Status().Bytes > w.options.MaxBytes+w.options.MaxBytes/4
		if time.Since(begin) > d && !far {
			return nil
		}
	}
}

// expireSome removes the oldest records of one kind when they have to go, and
// tells whether there may be more.
func (w *writer) expireSome() (more bool, err error) {
	ctx := context.Background()
	var cut int64
	if w.options.MaxAge > 0 {
		cut = time.Now().Add(-w.options.MaxAge).UnixNano()
	}
	over := w.options.MaxBytes > 0 && w.Status().Bytes > w.options.MaxBytes
	oldest, err := w.oldest(ctx)
	if err != nil {
		return false, err
	}
	kind := kinds(oldest)
	if kind < 0 || oldest[kind] >= cut && !over {
		return false, nil
	}
	t := &tally{waiting: map[string]int{}}
	if err := w.transact(ctx, func() error { return w.remove(ctx, kind, cut, over, t) }); err != nil {
		return false, err
	}
	w.apply(t)
	return true, nil
}

// The kinds of records that expire by themselves. The rest goes with a request.
const (
	kindPairs = iota
	kindServed
	kindWaiting // outcomes that nothing was served for
)

// oldest is the time of the record of each kind that was written first; -1
// without any.
func (w *writer) oldest(ctx context.Context) (times [3]int64, err error) {
	for kind, query := range []string{
		`SELECT time FROM pairs ORDER BY id LIMIT 1`,
		`SELECT time FROM served ORDER BY id LIMIT 1`,
		`SELECT time FROM outcomes INDEXED BY outcomes_waiting WHERE served IS NULL ORDER BY time LIMIT 1`,
	} {
		err := w.conn.QueryRowContext(ctx, query).Scan(&times[kind])
		if errors.Is(err, sql.ErrNoRows) {
			times[kind] = -1
		} else if err != nil {
			return times, err
		}
	}
	return times, nil
}

// kinds is the kind whose oldest record is the oldest, -1 when there is none.
func kinds(oldest [3]int64) int {
	first := -1
	for kind, at := range oldest {
		if at >= 0 && (first < 0 || at < oldest[first]) {
			first = kind
		}
	}
	return first
}

// remove removes a chunk of a kind: those before cut, or whatever is first when
// the file is over its size. They go in the order in which they were written,
// which is that of time but for moments.
func (w *writer) remove(ctx context.Context, kind int, cut int64, over bool, t *tally) error {
	if over {
		cut = math.MaxInt64
	}
	switch kind {
	case kindPairs:
		return w.removeUpTo(ctx, "pairs", cut, t, `DELETE FROM pairs WHERE id <= ?`)
	case kindServed:
		return w.removeUpTo(ctx, "served", cut, t,
			`DELETE FROM joined WHERE served IN (SELECT id FROM served WHERE id <= ?)`,
			`DELETE FROM outcomes WHERE served IN (SELECT id FROM served WHERE id <= ?)`,
			`DELETE FROM shadows WHERE served IN (SELECT id FROM served WHERE id <= ?)`,
			`DELETE FROM served WHERE id <= ?`)
	}
	rows, err := w.conn.QueryContext(ctx, `DELETE FROM outcomes WHERE id IN
		(SELECT id FROM outcomes INDEXED BY outcomes_waiting WHERE served IS NULL AND time < ? ORDER BY time LIMIT ?) RETURNING model`, cut, expireChunk)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var model string
		if err := rows.Scan(&model); err != nil {
			return err
		}
		t.waiting[model]--
	}
	return rows.Err()
}

// removeUpTo finds the last id of a chunk and runs the statements with it.
func (w *writer) removeUpTo(ctx context.Context, table string, cut int64, t *tally, statements ...string) error {
	var last sql.NullInt64
	// The first that is young ends the chunk.
	if err := w.conn.QueryRowContext(ctx, `SELECT max(id) FROM (SELECT id, max(time) OVER (ORDER BY id) AS newest FROM
		(SELECT id, time FROM `+table+` ORDER BY id LIMIT ?)) WHERE newest < ?`, expireChunk, cut).Scan(&last); err != nil || !last.Valid {
		return err
	}
	for i, statement := range statements {
		result, err := w.conn.ExecContext(ctx, statement, last.Int64)
		if err != nil {
			return err
		}
		if i == len(statements)-1 {
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			t.status.Expired += uint64(n)
		}
	}
	return nil
}

// giveBack makes the file smaller when much of it is free, by some pages.
func (w *writer) giveBack(ctx context.Context) error {
	var pages, free int64
	if err := w.conn.QueryRowContext(ctx, `SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count`).Scan(&pages, &free); err != nil {
		return err
	}
	if free < pages/4 || free <= freePages {
		return nil
	}
	if err := w.vacuum(ctx); err != nil {
		return err
	}
	_, err := w.conn.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`) // only then does the file shrink
	return err
}

func (w *writer) vacuum(ctx context.Context) error {
	rows, err := w.conn.QueryContext(ctx, `PRAGMA incremental_vacuum(1024)`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() { // each row is a page
		continue
	}
	return rows.Err()
}
