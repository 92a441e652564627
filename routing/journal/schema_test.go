package journal

import (
	"context"
	"os"
	"path/filepath"
	"testing"
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
