package journal

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/routing/rollout"
)

func ctx() context.Context { return context.Background() }

func TestAppendOnly(t *testing.T) {
	j := fill(t, filepath.Join(t.TempDir(), "journal.db"), 3)
	for statement, want := range map[string]string{
		`UPDATE events SET reason = 'x' WHERE seq = 2`:                         "append-only",
		`DELETE FROM events WHERE seq = 3`:                                     "append-only",
		`INSERT INTO events VALUES (5, 'm', 0, 0, 'paused', '', '', '{}')`:     "no gaps and no doubles",
		`INSERT INTO events VALUES (3, 'm', 0, 0, 'paused', '', '', '{}')`:     "no gaps and no doubles",
		`REPLACE INTO events VALUES (3, 'm', 0, 0, 'paused', '', '', '{}')`:    "no gaps and no doubles",
		`INSERT INTO events VALUES (4, 'm', 'one', 0, 'paused', '', '', '{}')`: "cannot store TEXT value in INTEGER column",
	} {
		_, err := j.db.ExecContext(t.Context(), statement)
		if err == nil {
			t.Errorf("%s: no error", statement)
			continue
		}
		wantError(t, err, want)
	}
	if n := count(t, j); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

func TestOtherFiles(t *testing.T) {
	for name, test := range map[string]struct{ change, want string }{
		"newer":            {`PRAGMA user_version = 3`, "has schema 3, this headgate knows 2: it was written by a newer headgate"},
		"another database": {`PRAGMA application_id = 7`, "is a SQLite database, but not a journal of headgate"},
		"a gap": {`DROP TRIGGER events_insert; INSERT INTO events VALUES (9, 'm', 0, 0, 'paused', '', '', '{}')`,
			"is damaged: move it away"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			j := fill(t, path, 1)
			if _, err := j.db.ExecContext(t.Context(), test.change); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			wantError(t, err, test.want)
		})
	}
}

// TestOlderFile opens a file of schema 1, as the first headgate wrote it. What
// is in it stays, its state can be read, and evidence finds its place.
func TestOlderFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	old, err := os.ReadFile("testdata/schema1.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), string(old)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second time it is of schema 2
		j := open(t, path)
		if j.Fresh() || j.last != int64(3+round) {
			t.Errorf("round %d: fresh %t, last %d", round, j.Fresh(), j.last)
		}
		var s rollout.State
		if err := j.Replay(t.Context(), func(r rollout.Record) (err error) { s, err = rollout.Fold(s, r); return err }); err != nil {
			t.Fatal(err)
		}
		if s.Phase != rollout.PhaseProgressing || s.Rollout.Candidate != "v2" || s.Share() != 1000 {
			t.Errorf("round %d: %+v", round, s)
		}
		r := &rollout.Record{Model: "churn", Rollout: 1, Time: time.Now(), Kind: rollout.KindAcknowledged, Data: []byte(`{"v":2}`), Evidence: []byte{byte(round)}}
		if err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		kept, err := j.Evidence(t.Context())
		if err != nil || len(kept) != 1 || kept["churn"].Data[0] != byte(round) {
			t.Errorf("round %d: evidence %v, %v", round, kept, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder?with=#odd%20 names")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "jour nal?.db")
	if err := fill(t, path, 2).Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600", info.Mode().Perm())
	}
	if n := count(t, open(t, path)); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	_, err = Open(filepath.Join(dir, "missing", "journal.db"))
	wantError(t, err, "journal ", "no such file or directory")
}
