package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// applicationID marks a SQLite file as a journal of headgate: "hgjl".
const applicationID = 0x68676a6c

// schemaVersion is PRAGMA user_version.
const schemaVersion = 2

// schema makes the table. The triggers keep it append-only and without gaps,
// whoever writes.
const schema = `
CREATE TABLE events (
	seq     INTEGER PRIMARY KEY,
	model   TEXT NOT NULL,
	rollout INTEGER NOT NULL,
	time    INTEGER NOT NULL, -- nanoseconds since 1970
	kind    TEXT NOT NULL,
	actor   TEXT NOT NULL,
	reason  TEXT NOT NULL,
	data    TEXT NOT NULL     -- JSON, see package rollout
) STRICT;
CREATE INDEX events_model ON events (model, seq);
CREATE TRIGGER events_update BEFORE UPDATE ON events BEGIN
	SELECT RAISE(ABORT, 'the journal is append-only');
END;
CREATE TRIGGER events_delete BEFORE DELETE ON events BEGIN
	SELECT RAISE(ABORT, 'the journal is append-only');
END;
CREATE TRIGGER events_insert BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events) BEGIN
	SELECT RAISE(ABORT, 'the journal has no gaps and no doubles');
END;
PRAGMA application_id = %d;
PRAGMA user_version = %d;
`

// prepare checks the file, makes the schema in an empty one, and finds the
// last position.
func (j *Journal) prepare(ctx context.Context) error {
	var version, app, tables int
	if err := j.scan(ctx, `PRAGMA user_version`, &version); err != nil {
		return err
	}
	if err := j.scan(ctx, `PRAGMA application_id`, &app); err != nil {
		return err
	}
	if err := j.scan(ctx, `SELECT count(*) FROM sqlite_schema`, &tables); err != nil {
		return err
	}
	switch {
	case version == 0 && app == 0 && tables == 0:
		if err := j.create(ctx); err != nil {
			return err
		}
	case app != applicationID:
		return errors.New("is a SQLite database, but not a journal of headgate")
	case version > schemaVersion:
		return fmt.Errorf("has schema %d, this headgate knows %d: it was written by a newer headgate, which has to be used to go on", version, schemaVersion)
	case version < schemaVersion:
		if err := j.migrate(ctx); err != nil {
			return err
		}
	}
	return j.verify(ctx)
}

func (j *Journal) create(ctx context.Context) error {
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, evidenceSchema+fmt.Sprintf(schema, applicationID, schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}

// verify reads the whole file, and takes the lock that keeps others out.
func (j *Journal) verify(ctx context.Context) error {
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	var check string
	if err := tx.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&check); err != nil {
		return err
	}
	if check != "ok" {
		return fmt.Errorf("%s (%s)", damaged, check)
	}
	var count int64
	var last sql.NullInt64
	if err := tx.QueryRowContext(ctx, `SELECT count(*), max(seq) FROM events`).Scan(&count, &last); err != nil {
		return err
	}
	if count != last.Int64 {
		return fmt.Errorf("%s (%d events, the last is number %d)", damaged, count, last.Int64)
	}
	j.last, j.fresh = count, count == 0
	return nil
}

func (j *Journal) scan(ctx context.Context, query string, into any) error {
	return j.db.QueryRowContext(ctx, query).Scan(into)
}
