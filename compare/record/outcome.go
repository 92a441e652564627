package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Intake is what became of outcomes that were told.
type Intake struct {
	Stored    int `json:"stored"`    // new ones
	Repeated  int `json:"repeated"`  // were known
	Corrected int `json:"corrected"` // were known with another value
	TooOld    int `json:"too_old"`   // of a time whose records are gone
	Waiting   int `json:"waiting"`   // of the new ones, those for which nothing was served yet
}

func (i *Intake) add(o Intake) {
	i.Stored += o.Stored
	i.Repeated += o.Repeated
	i.Corrected += o.Corrected
	i.TooOld += o.TooOld
	i.Waiting += o.Waiting
}

// intakeBatch is how many outcomes are written in one transaction.
const intakeBatch = 500

// AddOutcomes keeps outcomes and joins them with what was served. They are on the
// disk when it returns without an error. With one, none is when one of them breaks
// a rule (the error names its index), else a first part may be; telling all of
// them again is always right. Records that were added before are there to be
// joined with.
func (s *Store) AddOutcomes(ctx context.Context, outcomes []Outcome) (Intake, error) {
	now := time.Now()
	for i := range outcomes {
		if err := outcomes[i].Check(now); err != nil {
			return Intake{}, fmt.Errorf("[%d].%w", i, err)
		}
	}
	var all Intake
	for part := range slices.Chunk(outcomes, intakeBatch) {
		j := &job{outcomes: part}
		if err := s.do(ctx, j); err != nil {
			return all, err
		}
		all.add(j.intake)
	}
	return all, nil
}

func (w *writer) takeOutcomes(outcomes []Outcome, t *tally) (Intake, error) {
	var intake Intake
	for i := range outcomes {
		if err := w.takeOutcome(&outcomes[i], &intake, t); err != nil {
			return Intake{}, err
		}
	}
	return intake, nil
}

func (w *writer) takeOutcome(o *Outcome, intake *Intake, t *tally) error {
	if w.options.MaxAge > 0 && time.Since(o.Time) > w.options.MaxAge {
		intake.TooOld++
		return nil
	}
	var request, user, number, label any
	if o.RequestID != "" {
		request = o.RequestID
	} else {
		user = int64(o.User)
	}
	if o.Value.IsLabel {
		label = o.Value.Label
	} else {
		number = o.Value.Number
	}
	var id int64
	var hadNumber sql.NullFloat64
	var hadLabel sql.NullString
	err := w.stmts.known.row(o.Model, request, user, o.Name, o.Time.UnixNano()).Scan(&id, &hadNumber, &hadLabel)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case hadLabel.Valid == o.Value.IsLabel && hadLabel.String == o.Value.Label && hadNumber.Float64 == o.Value.Number:
		intake.Repeated++
		return nil
	default:
		intake.Corrected++
		_, err := w.stmts.correct.exec(number, label, id)
		return err
	}
	result, err := w.stmts.outcome.exec(o.Model, request, user, o.Time.UnixNano(), o.Name, number, label)
	if err != nil {
		return err
	}
	if id, err = result.LastInsertId(); err != nil {
		return err
	}
	intake.Stored++
	t.status.Outcomes++
	t.waiting[o.Model]++
	joined, err := w.joinOutcome(waitingOutcome{id: id, user: int64(o.User), time: o.Time.UnixNano(), name: o.Name}, o.Model, o.RequestID, t)
	if err == nil && !joined {
		intake.Waiting++
	}
	return err
}

// waitingOutcome is an outcome that is joined with nothing yet.
type waitingOutcome struct {
	id   int64
	user int64
	time int64
	name string
}

// joinOutcome joins an outcome with what it belongs to, if that was served.
func (w *writer) joinOutcome(o waitingOutcome, model, request string, t *tally) (joined bool, err error) {
	since := o.time - int64(w.options.horizon(model))
	var served int64
	if request != "" {
		err = w.stmts.byRequest.row(model, request, since).Scan(&served)
	} else {
		err = w.stmts.byUser.row(model, o.user, since, o.time).Scan(&served)
	}
	if err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		return false, err
	}
	var nth int
	if err := w.stmts.sameBefore.row(served, o.name).Scan(&nth); err != nil {
		return false, err
	}
	if _, err := w.stmts.assign.exec(served, nth, o.id); err != nil {
		return false, err
	}
	result, err := w.stmts.join.exec(served, o.id)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	t.status.Joined += uint64(n)
	t.waiting[model]--
	return true, err
}

// joinWaiting joins a request with the outcomes that were there before it.
func (w *writer) joinWaiting(r *Served, t *tally) error {
	waiting, err := scanWaiting(w.stmts.waitingRequest.query(r.Model, r.RequestID))
	if err != nil {
		return err
	}
	for _, o := range waiting {
		if _, err := w.joinOutcome(o, r.Model, r.RequestID, t); err != nil {
			return err
		}
	}
	if !r.HasUser {
		return nil
	}
	at := r.Time.UnixNano()
	waiting, err = scanWaiting(w.stmts.waitingUser.query(r.Model, int64(r.User), at, at+int64(w.options.horizon(r.Model))))
	if err != nil {
		return err
	}
	for _, o := range waiting {
		if _, err := w.joinOutcome(o, r.Model, "", t); err != nil {
			return err
		}
	}
	return nil
}

func scanWaiting(rows *sql.Rows, err error) ([]waitingOutcome, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []waitingOutcome
	for rows.Next() {
		var o waitingOutcome
		var user sql.NullInt64
		if err := rows.Scan(&o.id, &user, &o.time, &o.name); err != nil {
			return nil, err
		}
		o.user = user.Int64
		all = append(all, o)
	}
	return all, rows.Err()
}

// countWaiting counts the outcomes that are joined with nothing.
func (s *Store) countWaiting(ctx context.Context) error {
	rows, err := s.conn.QueryContext(ctx, `SELECT model, count(*) FROM outcomes WHERE served IS NULL GROUP BY model`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	s.waiting, s.status.WaitingOutcome = map[string]int{}, 0
	for rows.Next() {
		var model string
		var n int
		if err := rows.Scan(&model, &n); err != nil {
			return err
		}
		s.waiting[model] = n
		s.status.WaitingOutcome += n
	}
	return rows.Err()
}
