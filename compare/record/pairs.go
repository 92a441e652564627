package record

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/headgate/headgate/compare/protocol"
)

// Sort is the order of pairs.
type Sort string

// The orders. Pairs that could not be compared are below a difference of 0.
const (
	SortNewest   Sort = "newest" // the default
	SortOldest   Sort = "oldest"
	SortLargest  Sort = "largest" // by difference
	SortSmallest Sort = "smallest"
)

// Query says which pairs are wanted.
type Query struct {
	Model         string
	Since, Until  time.Time // of the request; Since inclusive, Until not. Zero: no bound
	MinDifference float64   // 0: also those that could not be compared
	Disagree      bool      // only pairs that disagree
	ShadowVersion string    // empty: any
	Limit         int       // 0: all
	Sort          Sort      // empty: SortNewest
	// Cursor is where an earlier query with the same Sort stopped: [Query.After].
	Cursor string
}

// order is what a Sort means in SQL.
type order struct{ column, direction, beyond string }

var orders = map[Sort]order{
	SortNewest:   {"time", "DESC", "<"},
	SortOldest:   {"time", "ASC", ">"},
	SortLargest:  {"difference", "DESC", "<"},
	SortSmallest: {"difference", "ASC", ">"},
}

// position is what a cursor holds: the sorted value and the id of the last pair.
type position struct {
	Sort  Sort    `json:"s"`
	Time  int64   `json:"t,omitempty"`
	Value float64 `json:"d,omitempty"`
	ID    int64   `json:"i"`
}

// After is the cursor behind a pair that the query gave.
func (q *Query) After(p *Pair) string {
	at := position{Sort: q.sort(), ID: p.id}
	if orders[at.Sort].column == "time" {
		at.Time = p.Time.UnixNano()
	} else if at.Value = -1; p.Difference != nil {
		at.Value = *p.Difference
	}
	raw, _ := json.Marshal(at)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func (q *Query) sort() Sort {
	if q.Sort == "" {
		return SortNewest
	}
	return q.Sort
}

// start is the position that the cursor names.
func (q *Query) start() (*position, error) {
	if _, ok := orders[q.sort()]; !ok {
		return nil, fmt.Errorf("sort: %q: must be newest, oldest, largest or smallest", q.Sort)
	}
	if math.IsNaN(q.MinDifference) {
		return nil, errors.New("min_difference: NaN: must be a number")
	}
	if q.Cursor == "" {
		return nil, nil
	}
	at := new(position)
	raw, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err == nil {
		err = json.Unmarshal(raw, at)
	}
	if err != nil || at.Sort != q.sort() {
		return nil, fmt.Errorf("cursor: %q: must come from a query with the same sort", q.Cursor)
	}
	return at, nil
}

// pairsPage is how many rows are read at once; see joinedPage.
const pairsPage = 500

// Pairs goes over the pairs that a query wants. Those that are written meanwhile
// are not among them. The memory that it takes does not depend on how many there
// are.
func (s *Store) Pairs(ctx context.Context, q Query) iter.Seq2[*Pair, error] {
	return func(yield func(*Pair, error) bool) {
		at, err := q.start()
		if err != nil {
			yield(nil, err)
			return
		}
		var newest int64
		if err := s.readers.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM pairs`).Scan(&newest); err != nil {
			yield(nil, explain(s.path, err))
			return
		}
		for left := q.Limit; ; {
			size := pairsPage
			if q.Limit > 0 {
				size = min(size, left)
			}
			page, next, err := s.pairsPage(ctx, &q, at, newest, size)
			if err != nil {
				yield(nil, explain(s.path, err))
				return
			}
			for _, p := range page {
				if !yield(p, nil) {
					return
				}
			}
			left -= len(page)
			if len(page) < size || q.Limit > 0 && left <= 0 {
				return
			}
			at = next
		}
	}
}

// where is the condition of a query behind a position, with its arguments.
func (q *Query) where(at *position, newest int64) (string, []any) {
	conditions, args := []string{"model = ?", "id <= ?"}, []any{q.Model, newest}
	add := func(condition string, values ...any) {
		conditions, args = append(conditions, condition), append(args, values...)
	}
	if !q.Since.IsZero() {
		add("time >= ?", q.Since.UnixNano())
	}
	if !q.Until.IsZero() {
		add("time < ?", q.Until.UnixNano())
	}
	if q.MinDifference > 0 {
		add("difference >= ?", q.MinDifference)
	}
	if q.Disagree {
		add("difference >= 0 AND NOT agree")
	}
	if q.ShadowVersion != "" {
		add("shadow_version = ?", q.ShadowVersion)
	}
	if o := orders[q.sort()]; at != nil {
		value := any(at.Value)
		if o.column == "time" {
			value = at.Time
		}
		// The first half alone bounds the index; ids are not in its order.
		add(fmt.Sprintf("%s %s= ? AND (%s %s ? OR id %s ?)", o.column, o.beyond, o.column, o.beyond, o.beyond), value, value, at.ID)
	}
	return strings.Join(conditions, " AND "), args
}

const pairColumns = `id, time, request_id, stable_version, shadow_version, stable, shadow, difference, agree, kinds, reason, features`

func (s *Store) pairsPage(ctx context.Context, q *Query, at *position, newest int64, size int) ([]*Pair, *position, error) {
	o := orders[q.sort()]
	where, args := q.where(at, newest)
	index := "pairs_" + o.column
	rows, err := s.readers.QueryContext(ctx, fmt.Sprintf(`SELECT %s FROM pairs INDEXED BY %s WHERE %s ORDER BY %s %s, id %s LIMIT ?`,
		pairColumns, index, where, o.column, o.direction, o.direction), append(args, size)...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	var page []*Pair
	next := &position{}
	for rows.Next() {
		p, difference, err := scanPair(rows)
		if err != nil {
			return nil, nil, err
		}
		p.Model = q.Model
		page = append(page, p)
		next.Time, next.Value, next.ID = p.Time.UnixNano(), difference, p.id
	}
	return page, next, rows.Err()
}

func scanPair(rows *sql.Rows) (*Pair, float64, error) {
	p := new(Pair)
	var at int64
	var difference float64
	var stable, shadow, features []byte
	var kinds string
	if err := rows.Scan(&p.id, &at, &p.RequestID, &p.StableVersion, &p.ShadowVersion, &stable, &shadow, &difference,
		&p.Agree, &kinds, &p.Reason, &features); err != nil {
		return nil, 0, err
	}
	p.Time, p.Stable, p.Shadow, p.Features = moment(at), stable, shadow, features
	if difference >= 0 {
		p.Difference = &difference
	}
	for _, k := range strings.Fields(kinds) {
		p.Kinds = append(p.Kinds, protocol.Kind(k))
	}
	return p, difference, nil
}
