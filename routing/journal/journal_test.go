package journal

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/headgate/headgate/routing/journal/journaltest"
	"github.com/headgate/headgate/routing/rollout"
)

type file struct{ path string }

func (f file) Open(t *testing.T) rollout.Journal {
	t.Helper()
	return open(t, f.path)
}

func (f file) Close(t *testing.T, j rollout.Journal) {
	t.Helper()
	if err := j.(*Journal).Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func TestSQLite(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Store {
		return file{filepath.Join(t.TempDir(), "journal.db")}
	})
}

// kept is a Memory that stays when it is closed.
type kept struct{ m *Memory }

func (k *kept) Open(t *testing.T) rollout.Journal {
	t.Helper()
	evidence, err := k.m.Evidence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k.m = NewMemory(k.m.Records()...)
	if err := k.m.KeepEvidence(t.Context(), slices.Collect(maps.Values(evidence))...); err != nil {
		t.Fatal(err)
	}
	return k.m
}

func (k *kept) Close(*testing.T, rollout.Journal) {}

func TestMemory(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journaltest.Store { return &kept{NewMemory()} })
}
