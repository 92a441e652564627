package record

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"iter"
	"time"
)

// joinedPage is how many rows are read at once. Nothing is locked between two
// pages: a reader that takes its time must not keep the log from being cut.
const joinedPage = 500

const joinedQuery = `SELECT j.seq, s.request_id, s.time, s.user, s.drawn, s.version, s.prediction, j.shadow, h.version, h.prediction,
	o.name, o.number, o.label, o.time, o.nth
FROM joined j JOIN served s ON s.id = j.served JOIN outcomes o ON o.id = j.outcome LEFT JOIN shadows h ON h.id = j.shadow
WHERE j.model = ? AND j.seq > ? ORDER BY j.seq LIMIT ?`

// Joined goes over the answers of a model whose outcomes became known after a
// cursor, in the order in which they did, and ends at the newest. Whoever keeps
// the Cursor of the last one together with what it made of it, and goes on from
// there, is told of each exactly once, whatever was killed in between. Those that
// age or size removed before they were read are not told.
func (s *Store) Joined(ctx context.Context, model string, after Cursor) iter.Seq2[Joined, error] {
	return func(yield func(Joined, error) bool) {
		for {
			page, err := s.joinedPage(ctx, model, after)
			if err != nil {
				yield(Joined{}, explain(s.path, err))
				return
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
			if len(page) < joinedPage {
				return
			}
			after = page[len(page)-1].Cursor
		}
	}
}

// Newest is the cursor behind all that was joined of a model: from there on only
// what is to come is told. 0 when there is nothing.
func (s *Store) Newest(ctx context.Context, model string) (Cursor, error) {
	var newest Cursor
	err := s.readers.QueryRowContext(ctx, `SELECT seq FROM joined WHERE model = ? ORDER BY seq DESC LIMIT 1`, model).Scan(&newest)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return newest, explain(s.path, err)
}

func (s *Store) joinedPage(ctx context.Context, model string, after Cursor) ([]Joined, error) {
	rows, err := s.readers.QueryContext(ctx, joinedQuery, model, int64(after), joinedPage)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var page []Joined
	for rows.Next() {
		j := Joined{Model: model}
		var at, outcomeAt, shadow int64
		var user sql.NullInt64
		var version, shadowVersion, label sql.NullString
		var prediction, shadowPrediction []byte
		var number sql.NullFloat64
		if err := rows.Scan(&j.Cursor, &j.RequestID, &at, &user, &j.Drawn, &version, &prediction, &shadow, &shadowVersion, &shadowPrediction,
			&j.Name, &number, &label, &outcomeAt, &j.Nth); err != nil {
			return nil, err
		}
		j.Time, j.At = moment(at), moment(outcomeAt)
		j.User, j.HasUser = uint64(user.Int64), user.Valid
		j.Version, j.Prediction = version.String, json.RawMessage(prediction)
		if shadow != 0 {
			j.Shadow, j.Version, j.Prediction = true, shadowVersion.String, json.RawMessage(shadowPrediction)
		}
		j.Value = Value{Number: number.Float64, Label: label.String, IsLabel: label.Valid}
		page = append(page, j)
	}
	return page, rows.Err()
}

func moment(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }
