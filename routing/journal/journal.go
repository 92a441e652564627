// Package journal keeps the events of all models in one SQLite file.
//
// What it promises: an event that Append has taken survives a SIGKILL and a
// power cut (WAL, synchronous=FULL); events are taken all or none; positions
// count from 1 without a gap or a double; nothing is ever changed or deleted,
// the database itself refuses to; one process at a time has the file. When the
// disk is full an Append fails, nothing is lost, and the next one may succeed.
//
// A damaged file is refused at Open. The way back: move it away together with
// its -wal file, start again with an empty journal, and say for each model with
// `headgate adopt MODEL VERSION` which version serves. The Envoys keep what
// they have until then.
//
// What the events mean is the business of package rollout.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/headgate/headgate/routing/rollout"
)

// busyTimeout is how long Open waits for another process to let go of the
// file: long enough for the one before to end, in a restart.
const busyTimeout = 3 * time.Second

// Journal is a [rollout.Journal] in a SQLite file.
type Journal struct {
	path  string
	db    *sql.DB
	fresh bool

	mu   sync.Mutex // Append finds the last position and writes behind it
	last int64
}

// Open opens the journal, and creates it when there is no file. It fails when
// the file is damaged, cannot be written, belongs to a newer headgate, or is
// open in another process.
func Open(path string) (*Journal, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	if err := create(abs); err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", dsn(abs))
	if err != nil {
		return nil, explain(path, err)
	}
	db.SetMaxOpenConns(1)
	db.SetConnMaxLifetime(0)
	j := &Journal{path: path, db: db}
	if err := j.prepare(context.Background()); err != nil {
		return nil, errors.Join(explain(path, err), db.Close())
	}
	return j, nil
}

// create makes an empty file that only its owner can read. An existing file is
// not touched: to close a second descriptor would release the locks of a first.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn asks for an exclusive lock: with it SQLite needs no shared memory file,
// and a second headgate cannot write behind our back.
func dsn(path string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"locking_mode(EXCLUSIVE)",
		"journal_mode(WAL)",
		"synchronous(FULL)",
	}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// Close lets go of the file.
func (j *Journal) Close() error { return j.db.Close() }

// Fresh tells whether the journal had no events when it was opened.
func (j *Journal) Fresh() bool { return j.fresh }

const insert = `INSERT INTO events (seq, model, rollout, time, kind, actor, reason, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

// Append writes the records in order, all or none, and sets their Seq. They
// are on the disk when it returns.
func (j *Journal) Append(ctx context.Context, records ...*rollout.Record) error {
	if len(records) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(ctx, records); err != nil {
		return explain(j.path, err)
	}
	for i, r := range records {
		r.Seq = j.last + int64(i) + 1
	}
	j.last += int64(len(records))
	return nil
}

func (j *Journal) write(ctx context.Context, records []*rollout.Record) error {
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	stmt, err := tx.PrepareContext(ctx, insert)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for i, r := range records {
		if _, err := stmt.ExecContext(ctx, j.last+int64(i)+1, r.Model, r.Rollout, r.Time.UnixNano(),
			r.Kind, r.Actor, r.Reason, string(r.Data)); err != nil {
			return err
		}
		if r.Evidence == nil {
			continue
		}
		if err := keep(ctx, tx, rollout.Evidence{Model: r.Model, Rollout: r.Rollout, Data: r.Evidence}); err != nil {
			return err
		}
	}
	return tx.Commit()
}

const columns = `SELECT seq, model, rollout, time, kind, actor, reason, data FROM events `

// replayPage is how many records Replay reads at once.
const replayPage = 1000

// Replay calls fn for every record in order. Nothing is locked while fn runs:
// a client that takes its time over the events must not keep Append waiting.
func (j *Journal) Replay(ctx context.Context, fn func(rollout.Record) error) error {
	var after int64
	for {
		page, err := j.query(ctx, columns+`WHERE seq > ? ORDER BY seq LIMIT ?`, after, replayPage)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := fn(r); err != nil {
				return err
			}
		}
		if len(page) < replayPage {
			return nil
		}
		after = page[len(page)-1].Seq
	}
}

// History returns a model's newest records, newest first, at most limit.
func (j *Journal) History(ctx context.Context, model string, limit int) ([]rollout.Record, error) {
	return j.query(ctx, columns+`WHERE model = ? ORDER BY seq DESC LIMIT ?`, model, max(0, limit))
}

func (j *Journal) query(ctx context.Context, query string, args ...any) ([]rollout.Record, error) {
	rows, err := j.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, explain(j.path, err)
	}
	defer func() { _ = rows.Close() }()
	var records []rollout.Record
	for rows.Next() {
		var r rollout.Record
		var nanos int64
		var data string
		if err := rows.Scan(&r.Seq, &r.Model, &r.Rollout, &nanos, &r.Kind, &r.Actor, &r.Reason, &data); err != nil {
			return nil, explain(j.path, err)
		}
		r.Time, r.Data = time.Unix(0, nanos).UTC(), []byte(data)
		records = append(records, r)
	}
	if err := rows.Err(); err != nil {
		return nil, explain(j.path, err)
	}
	return records, nil
}

// explain says in an error what has to be done about it.
func explain(path string, err error) error {
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return fmt.Errorf("journal %s: %w", path, err)
	}
	var what string
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		what = "is in use by another process; a journal belongs to one headgate"
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		what = damaged
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		what = "cannot be written: the file and its folder must be writable"
	case sqlite3.SQLITE_FULL:
		what = "the disk is full: make room, nothing is lost"
	case sqlite3.SQLITE_IOERR:
		what = "the disk does not take it: is it full, or has it failed?"
	default:
		return fmt.Errorf("journal %s: %w", path, err)
	}
	return fmt.Errorf("journal %s: %s: %w", path, what, err)
}

const damaged = "is damaged: move it away together with its -wal file, start again, and say with `headgate adopt MODEL VERSION` which version of each model serves"
