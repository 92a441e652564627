package main

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/routing"
)

// TestRecordingsStayBounded: thousands of rollouts at once write more in an hour
// than may stay.
func TestRecordingsStayBounded(t *testing.T) {
	r := newRecorder(t.TempDir(), nil, slog.New(slog.DiscardHandler))
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old := r.path("old", 1)
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(old, recordBytes); err != nil { // sparse
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for range tidyEvery {
		r.write(recordLine{trial: routing.Trial{Model: "churn", Rollout: 1}, interval: &simulate.Interval{}})
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the oldest recording is still there: %v", err)
	}
	if info, err := os.Stat(r.path("churn", 1)); err != nil || info.Size() == 0 {
		t.Errorf("the newest is not: %v", err)
	}
}
