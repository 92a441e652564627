// Package journaltest is the test that every [rollout.Journal] has to pass.
package journaltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing/rollout"
)

// Store is one place where a journal is kept. Open may be called again after
// the journal that it returned was closed, and must then return what is kept.
type Store interface {
	Open(t *testing.T) rollout.Journal
	Close(t *testing.T, j rollout.Journal)
}

// Run tests the journals that newStore's stores open. Each call of newStore
// must return an empty store.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	for name, test := range map[string]func(*testing.T, Store){
		"round trip":   roundTrip,
		"all or none":  allOrNone,
		"history":      history,
		"fresh":        fresh,
		"contiguous":   contiguous,
		"replay stops": replayStops,
		"replay holds": replayHolds,
		"empty append": emptyAppend,
		"odd contents": oddContents,

		"evidence is kept":         evidenceKept,
		"evidence all or none":     evidenceAllOrNone,
		"evidence with records":    evidenceWithRecords,
		"evidence has its own way": evidenceApart,
	} {
		t.Run(name, func(t *testing.T) { test(t, newStore(t)) })
	}
}

func record(model string, n int) *rollout.Record {
	return &rollout.Record{
		Model: model, Rollout: n, Time: time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.UTC).Add(time.Duration(n) * time.Hour),
		Kind: "paused", Actor: "cli", Reason: fmt.Sprintf("reason %d", n), Data: fmt.Appendf(nil, `{"v":1,"step":%d}`, n),
	}
}

func mustAppend(t *testing.T, j rollout.Journal, records ...*rollout.Record) {
	t.Helper()
	if err := j.Append(t.Context(), records...); err != nil {
		t.Fatalf("append: %v", err)
	}
}

func replay(t *testing.T, j rollout.Journal) []rollout.Record {
	t.Helper()
	var all []rollout.Record
	err := j.Replay(t.Context(), func(r rollout.Record) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	return all
}

func roundTrip(t *testing.T, s Store) {
	j := s.Open(t)
	want := make([]rollout.Record, 0, 10)
	for i := range 5 {
		a, b := record("churn", i), record("fraud", i)
		mustAppend(t, j, a, b)
		want = append(want, *a, *b)
	}
	for i := range want {
		if want[i].Seq != int64(i+1) {
			t.Errorf("append gave record %d the position %d", i+1, want[i].Seq)
		}
	}
	if diff := cmp.Diff(want, replay(t, j)); diff != "" {
		t.Errorf("replay (-want +got):\n%s", diff)
	}
	s.Close(t, j)
	j = s.Open(t)
	defer s.Close(t, j)
	if diff := cmp.Diff(want, replay(t, j)); diff != "" {
		t.Errorf("replay after opening it again (-want +got):\n%s", diff)
	}
	next := record("churn", 6)
	mustAppend(t, j, next)
	if next.Seq != int64(len(want)+1) {
		t.Errorf("the first position after opening it again is %d, want %d", next.Seq, len(want)+1)
	}
}

func allOrNone(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	mustAppend(t, j, record("churn", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Append(ctx, record("churn", 2), record("churn", 3)); err == nil {
		t.Error("append with an ended context: no error")
	}
	if n := len(replay(t, j)); n != 1 {
		t.Errorf("%d records after a failed append, want 1", n)
	}
	after := record("churn", 4)
	mustAppend(t, j, after)
	if after.Seq != 2 {
		t.Errorf("the position after a failed append is %d, want 2", after.Seq)
	}
}

func history(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	for i := range 10 {
		mustAppend(t, j, record("churn", i), record("fraud", i))
	}
	for _, limit := range []int{0, 1, 3, 100} {
		got, err := j.History(t.Context(), "churn", limit)
		if err != nil {
			t.Fatalf("history: %v", err)
		}
		var want []rollout.Record
		for i := 9; i >= 0 && len(want) < limit; i-- {
			r := *record("churn", i)
			r.Seq = int64(2*i + 1)
			want = append(want, r)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("history with limit %d (-want +got):\n%s", limit, diff)
		}
	}
	if got, err := j.History(t.Context(), "unknown", 5); err != nil || len(got) > 0 {
		t.Errorf("history of an unknown model: %v, %v", got, err)
	}
}

func fresh(t *testing.T, s Store) {
	j := s.Open(t)
	if !j.Fresh() {
		t.Error("a new journal is not fresh")
	}
	s.Close(t, j)
	j = s.Open(t)
	if !j.Fresh() {
		t.Error("a journal without events is not fresh after opening it again")
	}
	mustAppend(t, j, record("churn", 1))
	if !j.Fresh() {
		t.Error("an append ended that the journal is fresh")
	}
	s.Close(t, j)
	j = s.Open(t)
	defer s.Close(t, j)
	if j.Fresh() {
		t.Error("a journal with events is fresh")
	}
}

func contiguous(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := j.Append(t.Context(), record(fmt.Sprint("m", w), i), record(fmt.Sprint("m", w), i)); err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	wg.Wait()
	all := replay(t, j)
	if len(all) != 2*writers*each {
		t.Fatalf("%d records, want %d", len(all), 2*writers*each)
	}
	for i, r := range all {
		if r.Seq != int64(i+1) {
			t.Fatalf("record %d has position %d", i+1, r.Seq)
		}
		if i%2 == 1 && all[i-1].Model != r.Model {
			t.Fatalf("records %d and %d of one append are apart", i, i+1)
		}
	}
}

func replayStops(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	mustAppend(t, j, record("churn", 1), record("churn", 2), record("churn", 3))
	stop := errors.New("stop")
	var seen []int64
	err := j.Replay(t.Context(), func(r rollout.Record) error {
		seen = append(seen, r.Seq)
		if r.Seq == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || !slices.Equal(seen, []int64{1, 2}) {
		t.Errorf("replay went through %v and returned %v", seen, err)
	}
	mustAppend(t, j, record("churn", 4)) // the stopped replay holds nothing
}

// replayHolds shows that whoever takes time over a replay holds nobody up, and
// is told what is added meanwhile.
func replayHolds(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	batch := make([]*rollout.Record, 2500)
	for i := range batch {
		batch[i] = record("churn", i)
	}
	mustAppend(t, j, batch...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var told int64
	err := j.Replay(ctx, func(r rollout.Record) error {
		told++
		if r.Seq != told {
			return fmt.Errorf("record %d comes as number %d", r.Seq, told)
		}
		if r.Seq > 1 {
			return nil
		}
		return j.Append(ctx, record("churn", 1))
	})
	if err != nil || told < int64(len(batch)) {
		t.Errorf("%d records told, %v", told, err)
	}
}

func emptyAppend(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	mustAppend(t, j)
	if n := len(replay(t, j)); n != 0 {
		t.Errorf("%d records after an append of none", n)
	}
}

func oddContents(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	r := &rollout.Record{
		Model: "a'b\";DROP TABLE events;--", Time: time.Unix(0, 0).UTC(), Kind: "paused",
		Reason: "Straße\x00\r\n\x1b[31m \u202e \xff", Data: []byte(`{"v":1,"x":"é "}`),
	}
	mustAppend(t, j, r)
	if diff := cmp.Diff([]rollout.Record{*r}, replay(t, j)); diff != "" {
		t.Errorf("replay (-want +got):\n%s", diff)
	}
}
