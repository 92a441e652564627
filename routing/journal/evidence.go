package journal

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/headgate/headgate/routing/rollout"
)

// evidenceSchema is what schema 2 has more than schema 1. Evidence is no
// history: the newest of a model replaces what was kept of it.
const evidenceSchema = `
CREATE TABLE evidence (
	model   TEXT PRIMARY KEY,
	rollout INTEGER NOT NULL,
	data    BLOB NOT NULL -- see package compare
) STRICT, WITHOUT ROWID;
`

const upsertEvidence = `INSERT INTO evidence (model, rollout, data) VALUES (?, ?, ?)
ON CONFLICT (model) DO UPDATE SET rollout = excluded.rollout, data = excluded.data`

// migrate brings a file of schema 1 to schema 2.
func (j *Journal) migrate(ctx context.Context) error {
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, evidenceSchema+fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}

// KeepEvidence replaces what is kept of the models, all or none. It is on the
// disk when it returns.
func (j *Journal) KeepEvidence(ctx context.Context, evidence ...rollout.Evidence) error {
	if len(evidence) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return explain(j.path, err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	for _, e := range evidence {
		if err := keep(ctx, tx, e); err != nil {
			return explain(j.path, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return explain(j.path, err)
	}
	return nil
}

func keep(ctx context.Context, tx *sql.Tx, e rollout.Evidence) error {
	_, err := tx.ExecContext(ctx, upsertEvidence, e.Model, e.Rollout, e.Data)
	return err
}

// Evidence returns what is kept, by model.
func (j *Journal) Evidence(ctx context.Context) (map[string]rollout.Evidence, error) {
	rows, err := j.db.QueryContext(ctx, `SELECT model, rollout, data FROM evidence`)
	if err != nil {
		return nil, explain(j.path, err)
	}
	defer func() { _ = rows.Close() }()
	kept := map[string]rollout.Evidence{}
	for rows.Next() {
		var e rollout.Evidence
		if err := rows.Scan(&e.Model, &e.Rollout, &e.Data); err != nil {
			return nil, explain(j.path, err)
		}
		kept[e.Model] = e
	}
	if err := rows.Err(); err != nil {
		return nil, explain(j.path, err)
	}
	return kept, nil
}
