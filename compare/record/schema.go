package record

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// applicationID marks a SQLite file as records of headgate: "hgrc".
const applicationID = 0x68677263

// migrations bring a file from one schema to the next; PRAGMA user_version is
// how many were run. An entry never changes once it was released.
//
// The primary answer stands in served itself, since most requests have no other.
// difference is -1 where two answers could not be compared. Both indexes of pairs
// hold all that a query filters by.
var migrations = []string{`
CREATE TABLE served (
	id         INTEGER PRIMARY KEY,
	model      TEXT NOT NULL,
	request_id TEXT NOT NULL,
	time       INTEGER NOT NULL, -- nanoseconds since 1970, here and below
	user       INTEGER,          -- NULL: without a key
	drawn      INTEGER NOT NULL,
	version    TEXT,             -- NULL: only shadows' answers are known
	prediction TEXT              -- JSON; NULL: none
) STRICT;
CREATE UNIQUE INDEX served_request ON served (model, request_id);
CREATE INDEX served_user ON served (model, user, time) WHERE user IS NOT NULL;

CREATE TABLE shadows (
	id         INTEGER PRIMARY KEY,
	served     INTEGER NOT NULL,
	version    TEXT NOT NULL,
	prediction TEXT
) STRICT;
CREATE UNIQUE INDEX shadows_served ON shadows (served, version);

CREATE TABLE pairs (
	id             INTEGER PRIMARY KEY,
	model          TEXT NOT NULL,
	time           INTEGER NOT NULL,
	request_id     TEXT NOT NULL,
	stable_version TEXT NOT NULL,
	shadow_version TEXT NOT NULL,
	stable         TEXT,
	shadow         TEXT,
	difference     REAL NOT NULL,
	agree          INTEGER NOT NULL,
	kinds          TEXT NOT NULL, -- separated by spaces
	reason         TEXT NOT NULL,
	features       TEXT
) STRICT;
CREATE INDEX pairs_time ON pairs (model, time, difference);
CREATE INDEX pairs_difference ON pairs (model, difference, time);

CREATE TABLE outcomes (
	id         INTEGER PRIMARY KEY,
	model      TEXT NOT NULL,
	request_id TEXT,    -- NULL: by user
	user       INTEGER,
	time       INTEGER NOT NULL,
	name       TEXT NOT NULL,
	number     REAL,
	label      TEXT,
	served     INTEGER, -- what it is joined with; NULL: nothing yet
	nth        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX outcomes_request ON outcomes (model, request_id, name, time) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX outcomes_user ON outcomes (model, user, name, time) WHERE request_id IS NULL;
CREATE INDEX outcomes_served ON outcomes (served, name) WHERE served IS NOT NULL;
CREATE INDEX outcomes_waiting ON outcomes (time) WHERE served IS NULL;

CREATE TABLE joined (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	model   TEXT NOT NULL,
	served  INTEGER NOT NULL,
	shadow  INTEGER NOT NULL, -- 0: the primary answer
	outcome INTEGER NOT NULL
) STRICT;
CREATE INDEX joined_model ON joined (model, seq);
CREATE INDEX joined_served ON joined (served);
INSERT INTO sqlite_sequence (name, seq) VALUES ('joined', 0);
`}

// prepare checks the file and brings it to this schema.
func (s *Store) prepare(ctx context.Context) error {
	var version, app, tables int
	for query, into := range map[string]*int{
		`PRAGMA user_version`: &version, `PRAGMA application_id`: &app, `SELECT count(*) FROM sqlite_schema`: &tables,
	} {
		if err := s.conn.QueryRowContext(ctx, query).Scan(into); err != nil {
			return err
		}
	}
	fresh := version == 0 && app == 0 && tables == 0
	switch {
	case !fresh && app != applicationID:
		return errors.New("is a SQLite database, but has no records of headgate")
	case version > len(migrations):
		return fmt.Errorf("has schema %d, this headgate knows %d: it was written by a newer headgate, which has to be used to go on", version, len(migrations))
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.transact(ctx, func() error {
		for i, migration := range migrations[version:] {
			if _, err := s.conn.ExecContext(ctx, fmt.Sprintf("%s; PRAGMA application_id = %d; PRAGMA user_version = %d",
				migration, applicationID, version+i+1)); err != nil {
				return err
			}
		}
		return s.leap(ctx)
	})
}

// checkBytes is the largest file that is read whole when it is opened. Damage in
// a larger one is found when it is met.
const checkBytes = 64 << 20

func (s *Store) check(ctx context.Context) error {
	size, err := s.used(ctx)
	if err != nil || size > checkBytes {
		return err
	}
	var result string
	if err := s.conn.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("%s (%s)", damaged, result)
	}
	return nil
}

// leap has the cursors of this opening begin behind all that were ever told: of
// this file, also when a power cut took the last of them back, and of one that
// was moved away. They begin at the clock, which is faster than any of them
// grow: 1024 in a microsecond; a clock that was set back does no harm in the
// file itself.
func (s *Store) leap(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, `UPDATE sqlite_sequence SET seq = max(seq + ?, ?) WHERE name = 'joined'`,
		1<<20, time.Now().UnixMicro()<<10)
	return err
}
