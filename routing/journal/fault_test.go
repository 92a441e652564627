package journal

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/routing/rollout"
)

// role makes the test binary another process: see TestMain.
const role = "HEADGATE_JOURNAL_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "write":
		write(os.Args[1])
	case "hold":
		hold(os.Args[1])
	case "full":
		full(os.Args[1])
	default:
		os.Exit(m.Run())
	}
}

func helper(t *testing.T, as, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, path)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = os.Stderr
	return cmd
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func event(n int) *rollout.Record {
	return &rollout.Record{Model: "churn", Rollout: n, Time: time.Now(), Kind: "paused", Actor: "cli", Data: []byte(`{"v":1}`)}
}

// write appends pairs, the second with evidence, keeps evidence of another
// model, and says after each how far the journal is.
func write(path string) {
	j, err := Open(path)
	must(err)
	for n := 1; ; n++ {
		a, b := event(n), event(n)
		b.Evidence = strconv.AppendInt(nil, b.Time.UnixNano(), 10)
		must(j.Append(ctx(), a, b))
		must(j.KeepEvidence(ctx(), rollout.Evidence{Model: "fraud", Rollout: n, Data: strconv.AppendInt(nil, a.Seq, 10)}))
		fmt.Println(b.Seq)
	}
}

// hold keeps the journal open until it is killed.
func hold(path string) {
	_, err := Open(path)
	must(err)
	fmt.Println("open")
	select {}
}

// TestKill kills a process that writes, at any moment, again and again. What
// it said it had written is there, whole, and nothing is there twice. Evidence is
// that of the last record, or at most one write newer than what was told.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	var last int64
	for range 12 {
		told := killed(t, path, time.Duration(rand.IntN(60))*time.Millisecond)
		j := open(t, path)
		var n, first int64
		var newest rollout.Record
		err := j.Replay(t.Context(), func(r rollout.Record) error {
			n++
			newest = r
			if r.Seq != n {
				return fmt.Errorf("record %d has position %d", n, r.Seq)
			}
			if n%2 == 1 {
				first = int64(r.Rollout)
			} else if int64(r.Rollout) != first {
				return fmt.Errorf("records %d and %d of one append are %d and %d", n-1, n, first, r.Rollout)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n%2 != 0 || n < told || n > told+2 && told > 0 || n < last {
			t.Fatalf("%d records; the process had said %d, there were %d before it", n, told, last)
		}
		last = n
		checkEvidence(t, j, newest, told)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if last < 24 { // each of the 12 was killed after its first append
		t.Errorf("only %d records in all", last)
	}
}

func checkEvidence(t *testing.T, j *Journal, newest rollout.Record, told int64) {
	t.Helper()
	kept, err := j.Evidence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(kept["churn"].Data), strconv.FormatInt(newest.Time.UnixNano(), 10); got != want || kept["churn"].Rollout != newest.Rollout {
		t.Fatalf("the evidence is %s of rollout %d, the last record's is %s of %d", got, kept["churn"].Rollout, want, newest.Rollout)
	}
	if apart, err := strconv.ParseInt(string(kept["fraud"].Data), 10, 64); err != nil || apart < told-1 || apart > newest.Seq-1 {
		t.Fatalf("the evidence kept apart is of record %d (%v); %d were told, the last is %d", apart, err, told, newest.Seq)
	}
}

// killed runs a writer, lets it go on for a while after its first append, and
// kills it. It returns the last position that the writer told.
func killed(t *testing.T, path string, after time.Duration) int64 {
	t.Helper()
	cmd := helper(t, "write", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told int64
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil { // the last line may be cut
			told = max(told, n)
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return told
}

func TestHeldByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	cmd := helper(t, "hold", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the holder said %q, %v", line, err)
	}
	_, err = Open(path)
	wantError(t, err, "is in use by another process")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	j := open(t, path)
	if err := j.Append(t.Context(), event(1)); err != nil {
		t.Errorf("after the holder was killed: %v", err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q, want %q in it", err, part)
		}
	}
}

func fill(t *testing.T, path string, n int) *Journal {
	t.Helper()
	j := open(t, path)
	for i := range n {
		if err := j.Append(t.Context(), event(i)); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

func count(t *testing.T, j *Journal) int {
	t.Helper()
	n := 0
	if err := j.Replay(t.Context(), func(rollout.Record) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFull has SQLite itself find no more room.
func TestFull(t *testing.T) {
	j := fill(t, filepath.Join(t.TempDir(), "journal.db"), 10)
	if _, err := j.db.ExecContext(t.Context(), `PRAGMA max_page_count = 1`); err != nil { // no more than there are now
		t.Fatal(err)
	}
	n := 10
	var err error
	for ; n < 10_000 && err == nil; n++ {
		err = j.Append(t.Context(), event(n), event(n))
		n++
	}
	wantError(t, err, "the disk is full: make room, nothing is lost")
	before := count(t, j)
	if before%2 != 0 {
		t.Errorf("%d records: half of an append was kept", before)
	}
	wantError(t, j.Append(t.Context(), event(n), event(n)), "the disk is full")
	if _, err := j.db.ExecContext(t.Context(), `PRAGMA max_page_count = 100000`); err != nil {
		t.Fatal(err)
	}
	r := event(n)
	if err := j.Append(t.Context(), r); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if r.Seq != int64(before+1) || count(t, j) != before+1 {
		t.Errorf("position %d, %d records; want %d", r.Seq, count(t, j), before+1)
	}
}

// full lets the operating system refuse to make files larger, then allows it
// again. It runs in a process of its own because the limit is the process's.
func full(path string) {
	j, err := Open(path)
	must(err)
	must(j.Append(ctx(), event(1)))
	var was syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	info, err := os.Stat(path + "-wal")
	must(err)
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(info.Size()), Max: was.Max}))
	for range 2 {
		fmt.Println(j.Append(ctx(), event(2), event(3)))
	}
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	must(j.Append(ctx(), event(4), event(5)))
	must(j.Close())
}

func TestFileLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	out, err := helper(t, "full", path).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if !strings.Contains(line, "is it full") && !strings.Contains(line, "disk is full") {
			t.Errorf("append said %q", line)
		}
	}
	if n := count(t, open(t, path)); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

// TestReadOnly opens a file that the process may only read. Root may write
// everything, so its thread takes another user for the files.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.db")
	if err := fill(t, path, 1).Close(); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{path: 0o444, dir: 0o555, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setfsuid(0) }()
	}
	_, err := Open(path)
	wantError(t, err, "cannot be written: the file and its folder must be writable")
}

func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"not a database": func(t *testing.T, path string) { rewrite(t, path, []byte(strings.Repeat("no database ", 1000))) },
		"a page of zeros": func(t *testing.T, path string) {
			raw := read(t, path)
			clear(raw[4096:8192])
			rewrite(t, path, raw)
		},
		"truncated": func(t *testing.T, path string) {
			raw := read(t, path)
			rewrite(t, path, raw[:len(raw)/2/4096*4096])
		},
		"garbage at the end": func(t *testing.T, path string) {
			raw := read(t, path)
			for i := range raw[len(raw)-6000:] {
				raw[len(raw)-6000+i] ^= byte(i*7 + 1)
			}
			rewrite(t, path, raw)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			if err := fill(t, path, 300).Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, path)
			_, err := Open(path)
			wantError(t, err, path, "is damaged: move it away", "headgate adopt MODEL VERSION")

			// The way back that the error tells.
			if err := os.Rename(path, path+".damaged"); err != nil {
				t.Fatal(err)
			}
			_ = os.Rename(path+"-wal", path+"-wal.damaged") // there may be none
			if j := open(t, path); !j.Fresh() {
				t.Error("the new journal is not fresh")
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func rewrite(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
