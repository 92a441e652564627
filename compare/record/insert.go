package record

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"strings"
)

// statements are those that write, prepared once.
type statements struct {
	served, answer, servedID, shadow, pair statement
	join, joinedWith, sameBefore           statement
	outcome, known, correct, assign        statement
	byRequest, byUser                      statement
	waitingRequest, waitingUser            statement

	all []statement
}

// statement runs without a context: a batch is not left half-way, and watching
// one would take a goroutine for each record.
type statement struct{ *sql.Stmt }

func (s statement) exec(args ...any) (sql.Result, error) {
	return s.ExecContext(context.Background(), args...)
}

func (s statement) query(args ...any) (*sql.Rows, error) {
	return s.QueryContext(context.Background(), args...)
}

func (s statement) row(args ...any) *sql.Row {
	return s.QueryRowContext(context.Background(), args...)
}

func (t *statements) prepare(ctx context.Context, conn *sql.Conn) error {
	for _, s := range []struct {
		into *statement
		text string
	}{
		{&t.served, `INSERT INTO served (model, request_id, time, user, drawn, version, prediction) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&t.servedID, `SELECT id, version IS NOT NULL FROM served WHERE model = ? AND request_id = ?`},
		{&t.answer, `UPDATE served SET version = ?, prediction = ?, time = ?, user = ?, drawn = ? WHERE id = ?`},
		{&t.shadow, `INSERT INTO shadows (served, version, prediction) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`},
		{&t.pair, `INSERT INTO pairs (model, time, request_id, stable_version, shadow_version, stable, shadow, difference, agree, kinds, reason, features)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},

		{&t.outcome, `INSERT INTO outcomes (model, request_id, user, time, name, number, label, nth) VALUES (?, ?, ?, ?, ?, ?, ?, 0)`},
		{&t.known, `SELECT id, number, label FROM outcomes WHERE model = ?1 AND request_id = ?2 AND name = ?4 AND time = ?5
			UNION ALL SELECT id, number, label FROM outcomes WHERE ?2 IS NULL AND request_id IS NULL AND model = ?1 AND user = ?3 AND name = ?4 AND time = ?5`},
		{&t.correct, `UPDATE outcomes SET number = ?, label = ? WHERE id = ?`},

		{&t.byRequest, `SELECT id FROM served WHERE model = ? AND request_id = ? AND time >= ?`},
		{&t.byUser, `SELECT id FROM served WHERE model = ? AND user = ? AND time >= ? AND time <= ? ORDER BY time DESC, id DESC LIMIT 1`},
		{&t.waitingRequest, `SELECT id, user, time, name FROM outcomes WHERE model = ? AND request_id = ? AND served IS NULL`},
		{&t.waitingUser, `SELECT id, user, time, name FROM outcomes WHERE model = ? AND user = ? AND request_id IS NULL AND time >= ? AND time <= ? AND served IS NULL`},

		{&t.assign, `UPDATE outcomes SET served = ?, nth = ? WHERE id = ?`},
		{&t.sameBefore, `SELECT count(*) FROM outcomes WHERE served = ? AND name = ?`},
		{&t.join, `INSERT INTO joined (model, served, shadow, outcome) SELECT model, id, 0, ?2 FROM served WHERE id = ?1 AND version IS NOT NULL
			UNION ALL SELECT served.model, served.id, shadows.id, ?2 FROM shadows JOIN served ON served.id = shadows.served WHERE served.id = ?1`},
		// Answers that are new to a request whose outcomes are known.
		{&t.joinedWith, `INSERT INTO joined (model, served, shadow, outcome) SELECT model, ?1, ?2, id FROM outcomes WHERE served = ?1 ORDER BY id`},
	} {
		stmt, err := conn.PrepareContext(ctx, s.text)
		if err != nil {
			return err
		}
		*s.into = statement{stmt}
		t.all = append(t.all, *s.into)
	}
	return nil
}

func (t *statements) close() error {
	var errs []error
	for _, s := range t.all {
		errs = append(errs, s.Close())
	}
	t.all = nil
	return errors.Join(errs...)
}

// insert writes records, then joins them with the outcomes that waited for them:
// after the last, so that the newest request of a user is known.
func (w *writer) insert(entries []entry, t *tally) error {
	var fresh []*Served
	for _, e := range entries {
		if e.pair != nil {
			if err := w.insertPair(e.pair); err != nil {
				return err
			}
			t.status.Pairs++
			continue
		}
		if err := w.insertServed(e.served, t); err != nil {
			return err
		}
		if w.waiting[e.served.Model] > 0 {
			fresh = append(fresh, e.served)
		}
	}
	for _, r := range fresh {
		if err := w.joinWaiting(r, t); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) insertPair(p *Pair) error {
	difference := -1.0
	if p.Difference != nil {
		difference = min(*p.Difference, math.MaxFloat64)
		if math.IsNaN(difference) {
			difference = math.MaxFloat64
		}
	}
	kinds := make([]string, len(p.Kinds))
	for i, k := range p.Kinds {
		kinds[i] = string(k)
	}
	_, err := w.stmts.pair.exec(p.Model, p.Time.UnixNano(), p.RequestID, p.StableVersion, p.ShadowVersion,
		text(p.Stable), text(p.Shadow), difference, p.Agree, strings.Join(kinds, " "), p.Reason, text(p.Features))
	return err
}

// text is JSON as a column has it.
func text(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return string(raw)
}

// insertServed writes a request with its answers, or adds those that are new to
// one that is known.
func (w *writer) insertServed(r *Served, t *tally) error {
	var version, prediction, user any
	if r.HasUser {
		user = int64(r.User)
	}
	for i := range r.Answers {
		if a := &r.Answers[i]; !a.Shadow {
			version, prediction = a.Version, text(a.Prediction)
			break
		}
	}
	result, err := w.stmts.served.exec(r.Model, r.RequestID, r.Time.UnixNano(), user, r.Drawn, version, prediction)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return w.addAnswers(r, version, prediction, user, t)
	}
	t.status.Served++
	id, err := result.LastInsertId()
	if err != nil {
		return err
	}
	for i := range r.Answers {
		if a := &r.Answers[i]; a.Shadow {
			if _, err := w.stmts.shadow.exec(id, a.Version, text(a.Prediction)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addAnswers adds what is new to a request that is known. What a request has
// already stays: a client may send an id twice, and would change the past.
func (w *writer) addAnswers(r *Served, version, prediction, user any, t *tally) error {
	var id int64
	var answered bool
	if err := w.stmts.servedID.row(r.Model, r.RequestID).Scan(&id, &answered); err != nil {
		return err
	}
	added := false
	if version != nil && !answered {
		if _, err := w.stmts.answer.exec(version, prediction, r.Time.UnixNano(), user, r.Drawn, id); err != nil {
			return err
		}
		if err := w.joinAnswer(id, 0, t); err != nil {
			return err
		}
		added = true
	}
	for i := range r.Answers {
		a := &r.Answers[i]
		if !a.Shadow {
			continue
		}
		result, err := w.stmts.shadow.exec(id, a.Version, text(a.Prediction))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			if err != nil {
				return err
			}
			continue
		}
		shadow, err := result.LastInsertId()
		if err != nil {
			return err
		}
		if err := w.joinAnswer(id, shadow, t); err != nil {
			return err
		}
		added = true
	}
	if !added {
		t.status.Repeated++
	}
	return nil
}

// joinAnswer joins a new answer with the outcomes that its request has.
func (w *writer) joinAnswer(served, shadow int64, t *tally) error {
	result, err := w.stmts.joinedWith.exec(served, shadow)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	t.status.Joined += uint64(n)
	return err
}
