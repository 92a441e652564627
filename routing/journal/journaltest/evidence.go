package journaltest

import (
	"bytes"
	"context"
	"testing"

	"github.com/headgate/headgate/routing/rollout"
)

func evidence(model string, number int, data string) rollout.Evidence {
	return rollout.Evidence{Model: model, Rollout: number, Data: []byte(data)}
}

func mustKeep(t *testing.T, j rollout.Journal, all ...rollout.Evidence) {
	t.Helper()
	if err := j.KeepEvidence(t.Context(), all...); err != nil {
		t.Fatalf("keep evidence: %v", err)
	}
}

func wantEvidence(t *testing.T, j rollout.Journal, when string, want ...rollout.Evidence) {
	t.Helper()
	got, err := j.Evidence(t.Context())
	if err != nil {
		t.Fatalf("evidence %s: %v", when, err)
	}
	if len(got) != len(want) {
		t.Errorf("evidence %s: of %d models, want %d", when, len(got), len(want))
	}
	for _, w := range want {
		g := got[w.Model]
		if g.Model != w.Model || g.Rollout != w.Rollout || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("evidence %s: %s, rollout %d, %d bytes; want %s, rollout %d, %d bytes",
				when, g.Model, g.Rollout, len(g.Data), w.Model, w.Rollout, len(w.Data))
		}
	}
}

// evidenceKept shows that the newest of each model stays, whatever is in it.
func evidenceKept(t *testing.T, s Store) {
	j := s.Open(t)
	wantEvidence(t, j, "of a new journal")
	mustKeep(t, j)
	large := rollout.Evidence{Model: "churn", Rollout: 2, Data: bytes.Repeat([]byte{0, 0xff, '\'', '\n'}, 500_000)}
	mustKeep(t, j, evidence("churn", 1, "one"), evidence("fraud", 7, ""))
	mustKeep(t, j, large)
	wantEvidence(t, j, "of two models", large, evidence("fraud", 7, ""))
	large.Data[0] = 'x' // the caller's
	s.Close(t, j)
	j = s.Open(t)
	defer s.Close(t, j)
	large.Data[0] = 0
	wantEvidence(t, j, "after opening it again", large, evidence("fraud", 7, ""))
}

func evidenceAllOrNone(t *testing.T, s Store) {
	j := s.Open(t)
	defer s.Close(t, j)
	mustKeep(t, j, evidence("churn", 1, "one"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.KeepEvidence(ctx, evidence("churn", 1, "two"), evidence("fraud", 1, "two")); err == nil {
		t.Error("keep evidence with an ended context: no error")
	}
	r := record("churn", 1)
	r.Evidence = []byte("three")
	if err := j.Append(ctx, r); err == nil {
		t.Error("append with an ended context: no error")
	}
	wantEvidence(t, j, "after what failed", evidence("churn", 1, "one"))
}

// evidenceWithRecords shows that records bring theirs with them, the last of
// several wins, and that none means that it stays as it was.
func evidenceWithRecords(t *testing.T, s Store) {
	j := s.Open(t)
	first, second, none := record("churn", 3), record("churn", 4), record("churn", 4)
	first.Evidence, second.Evidence = []byte("first"), []byte("second")
	mustAppend(t, j, first, second, none)
	mustAppend(t, j, record("churn", 5))
	s.Close(t, j)
	j = s.Open(t)
	defer s.Close(t, j)
	wantEvidence(t, j, "of the last record that had any", evidence("churn", 4, "second"))
	for _, r := range replay(t, j) {
		if r.Evidence != nil {
			t.Errorf("record %d is replayed with evidence", r.Seq)
		}
	}
	newest, err := j.History(t.Context(), "churn", 4)
	if err != nil || len(newest) != 4 {
		t.Fatalf("history: %d records, %v", len(newest), err)
	}
	for _, r := range newest {
		if r.Evidence != nil {
			t.Errorf("record %d of the history has evidence", r.Seq)
		}
	}
}

// evidenceApart shows that evidence is no event: it has no position.
func evidenceApart(t *testing.T, s Store) {
	j := s.Open(t)
	mustKeep(t, j, evidence("churn", 1, "one"))
	if n := len(replay(t, j)); n != 0 {
		t.Errorf("%d records", n)
	}
	s.Close(t, j)
	j = s.Open(t)
	defer s.Close(t, j)
	if !j.Fresh() {
		t.Error("a journal with evidence alone is not fresh")
	}
	r := record("churn", 1)
	if mustAppend(t, j, r); r.Seq != 1 {
		t.Errorf("the first record has position %d", r.Seq)
	}
}
