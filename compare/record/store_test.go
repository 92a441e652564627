package record

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "records.db") }

// unlimited keeps everything, so that tests may use any times.
var unlimited = Options{MaxAge: -1, MaxBytes: -1}

func openStore(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func flush(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// at is n seconds after the beginning of the tests' time.
func at(n float64) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n * float64(time.Second)))
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// pairOf is a pair at a time whose answers differ by d; below 0 they cannot be
// compared.
func pairOf(id string, time time.Time, d float64) *Pair {
	p := &Pair{Model: "churn", RequestID: id, Time: time, StableVersion: "v1", ShadowVersion: "v2",
		Stable: raw(0.5), Shadow: raw(0.5 + d), Difference: &d, Agree: d <= 0.1, Features: raw(map[string]any{"age": 40})}
	if d > 0.1 {
		p.Kinds = []protocol.Kind{protocol.KindValue}
	}
	if d < 0 {
		p.Difference, p.Shadow, p.Reason = nil, nil, "shadow: truncated"
	}
	return p
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func ids(pairs []*Pair) []string {
	all := []string{}
	for _, p := range pairs {
		all = append(all, p.RequestID)
	}
	return all
}

func TestPairsComeBack(t *testing.T) {
	path := file(t)
	s := openStore(t, path, unlimited)
	want := []*Pair{pairOf("a", at(1), 0), pairOf("b", at(2), 0.7), pairOf("c", at(3), -1)}
	want[1].Features, want[1].Model = nil, "churn"
	for _, p := range want {
		if !s.AddPair(p) {
			t.Fatal("dropped")
		}
	}
	closeStore(t, s) // writes what waits
	s = openStore(t, path, unlimited)
	got := collect(t, s.Pairs(t.Context(), Query{Model: "churn", Sort: SortOldest}))
	for _, p := range got {
		p.id = 0
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Pair{})); diff != "" {
		t.Error(diff)
	}
	if got := collect(t, s.Pairs(t.Context(), Query{Model: "other"})); len(got) != 0 {
		t.Errorf("another model has %d pairs", len(got))
	}
}

func TestQueries(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	for _, p := range []*Pair{
		pairOf("a", at(1), 0.05), pairOf("b", at(2), 0.7), pairOf("c", at(3), -1), pairOf("d", at(3), 0.7), pairOf("e", at(4), 0),
	} {
		if p.RequestID == "d" {
			p.ShadowVersion = "v3"
		}
		s.AddPair(p)
	}
	flush(t, s)
	for name, c := range map[string]struct {
		query Query
		want  []string
	}{
		"newest":            {Query{}, []string{"e", "d", "c", "b", "a"}},
		"oldest":            {Query{Sort: SortOldest}, []string{"a", "b", "c", "d", "e"}},
		"largest":           {Query{Sort: SortLargest}, []string{"d", "b", "a", "e", "c"}},
		"smallest":          {Query{Sort: SortSmallest}, []string{"c", "e", "a", "b", "d"}},
		"limit":             {Query{Limit: 2}, []string{"e", "d"}},
		"since":             {Query{Since: at(3)}, []string{"e", "d", "c"}},
		"until":             {Query{Until: at(3)}, []string{"b", "a"}},
		"difference":        {Query{MinDifference: 0.05}, []string{"d", "b", "a"}},
		"by difference":     {Query{MinDifference: 0.06, Sort: SortLargest, Since: at(3)}, []string{"d"}},
		"disagree":          {Query{Disagree: true}, []string{"d", "b"}},
		"version":           {Query{ShadowVersion: "v3"}, []string{"d"}},
		"none":              {Query{Since: at(9)}, []string{}},
		"limit of the rest": {Query{Limit: 9, MinDifference: 0.7}, []string{"d", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.query.Model = "churn"
			if diff := cmp.Diff(c.want, ids(collect(t, s.Pairs(t.Context(), c.query)))); diff != "" {
				t.Error(diff)
			}
			// The same one by one, each query from where the last one stopped.
			got := []string{}
			for q := c.query; ; {
				q.Limit = 1
				one := collect(t, s.Pairs(t.Context(), q))
				if len(one) == 0 || c.query.Limit > 0 && len(got) == c.query.Limit {
					break
				}
				got = append(got, one[0].RequestID)
				q.Cursor = q.After(one[0])
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("by cursor: %s", diff)
			}
		})
	}
}

// More than some pages, many with the same time or difference: each once.
func TestPagesHaveNoGap(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	const n = 3*pairsPage + 7
	for i := range n {
		s.AddPair(pairOf(fmt.Sprint(i), at(float64(i%3)), float64(i%5)/4))
	}
	flush(t, s)
	for _, sort := range []Sort{SortNewest, SortOldest, SortLargest, SortSmallest} {
		seen := map[string]int{}
		last := 0.0
		for i, p := range collect(t, s.Pairs(t.Context(), Query{Model: "churn", Sort: sort})) {
			seen[p.RequestID]++
			v := *p.Difference
			if orders[sort].column == "time" {
				v = float64(p.Time.Unix())
			}
			if i > 0 && v != last && (v > last) != (orders[sort].direction == "ASC") {
				t.Fatalf("%s: %v after %v", sort, v, last)
			}
			last = v
		}
		if len(seen) != n {
			t.Errorf("%s: %d pairs, want %d", sort, len(seen), n)
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("%s: pair %s came %d times", sort, id, times)
			}
		}
	}
}

func TestWrongQueries(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	s.AddPair(pairOf("a", at(1), 0))
	flush(t, s)
	newest := Query{Model: "churn"}
	cursor := newest.After(collect(t, s.Pairs(t.Context(), newest))[0])
	for _, c := range []struct {
		query Query
		want  string
	}{
		{Query{Sort: "random"}, `sort: "random": must be newest, oldest, largest or smallest`},
		{Query{Cursor: "x!"}, `cursor: "x!": must come from a query with the same sort`},
		{Query{Cursor: cursor, Sort: SortLargest}, `cursor: "` + cursor + `": must come from a query with the same sort`},
	} {
		var got error
		for _, err := range s.Pairs(t.Context(), c.query) {
			got = err
		}
		if got == nil || got.Error() != c.want {
			t.Errorf("error %v, want %s", got, c.want)
		}
	}
	// A reader that goes away in the middle leaves nothing locked.
	for range s.Pairs(t.Context(), newest) {
		break
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Pairs(cancelled, newest) {
		if err == nil {
			t.Error("a query whose context is done has no error")
		}
	}
}

// What finds no room is dropped and counted; nothing waits.
func TestQueueIsBounded(t *testing.T) {
	for name, o := range map[string]Options{
		"records": {Queue: 100},
		"bytes":   {QueueBytes: 100 * 2000},
	} {
		t.Run(name, func(t *testing.T) {
			o.MaxAge, o.MaxBytes = -1, -1
			s := openStore(t, file(t), o)
			block(t, s) // the writer waits
			taken := 0
			for i := range 1000 {
				p := pairOf(fmt.Sprint(i), at(1), 0)
				p.Features = raw(fmt.Sprintf("%01700d", i))
				if s.AddPair(p) {
					taken++
				}
				s.AddServed(&Served{Model: "churn", RequestID: fmt.Sprint(i), Time: at(1)})
			}
			if status := s.Status(); taken == 0 || taken > 110 || status.Queued > 200 || status.DroppedPairs != uint64(1000-taken) {
				t.Errorf("%d taken, %+v", taken, status)
			}
		})
	}
}

// block takes the file's lock with another connection until the test ends.
func block(t testing.TB, s *Store) (release func()) {
	t.Helper()
	conn, err := s.readers.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"PRAGMA query_only = 0", "BEGIN IMMEDIATE"} {
		if _, err := conn.ExecContext(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	release = func() {
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK") // again at the end
		_, _ = conn.ExecContext(context.Background(), "PRAGMA query_only = 1")
		_ = conn.Close()
	}
	t.Cleanup(release)
	return release
}

func TestLongTextsAreCut(t *testing.T) {
	o := unlimited
	o.MaxPrediction = 100
	s := openStore(t, file(t), o)
	p := pairOf(string(make([]byte, 5000)), at(1), 0)
	p.Stable = raw(string(make([]byte, 2000)))
	s.AddPair(p)
	flush(t, s)
	got := collect(t, s.Pairs(t.Context(), Query{Model: "churn"}))[0]
	if len(got.RequestID) != maxText || string(got.Stable) != `{"bytes":12002}` {
		t.Errorf("id of %d bytes, prediction %s", len(got.RequestID), got.Stable)
	}
}

func TestAfterClose(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	closeStore(t, s)
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if s.AddPair(pairOf("a", at(1), 0)) || s.AddServed(&Served{RequestID: "a"}) {
		t.Error("a closed store takes records")
	}
	_, err := s.AddOutcomes(t.Context(), []Outcome{{Model: "m", RequestID: "a", Time: at(1), Name: "y", Value: Number(1)}})
	if err == nil {
		t.Error("a closed store takes outcomes")
	}
	if status := s.Status(); status.DroppedPairs != 1 || status.DroppedServed != 1 {
		t.Errorf("%+v", status)
	}
}
