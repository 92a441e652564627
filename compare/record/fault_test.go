package record

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
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
)

// role makes the test binary another process: see TestMain.
const role = "HEADGATE_RECORD_TEST_ROLE"

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

// write serves requests with pairs, tells the outcome of each twice, and says
// which it has told.
func write(path string) {
	s, err := Open(path, unlimited)
	must(err)
	last, err := newestPair(s)
	must(err)
	for n := last + 1; ; n++ {
		id := strconv.Itoa(n)
		if !s.AddServed(served(id, at(float64(n)), 0)) || !s.AddPair(pairOf(id, at(float64(n)), 0)) {
			must(fmt.Errorf("record %d was dropped", n))
		}
		o := label(id, at(float64(n)), float64(n))
		_, err := s.AddOutcomes(context.Background(), []Outcome{o, o})
		must(err)
		fmt.Println(n)
	}
}

func newestPair(s *Store) (n int, err error) {
	for p, err := range s.Pairs(context.Background(), Query{Model: "churn", Limit: 1}) {
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(p.RequestID)
	}
	return 0, nil
}

// TestKill kills a process that writes, at any moment, again and again. What it
// has told is there, joined once, whatever a judge had read in between.
func TestKill(t *testing.T) {
	path := file(t)
	var cursor Cursor
	counted, last := map[string]int{}, 0
	for range 8 {
		told := killed(t, path, time.Duration(rand.IntN(60))*time.Millisecond)
		s := openStore(t, path, unlimited)
		pairs := collect(t, s.Pairs(t.Context(), Query{Model: "churn", Sort: SortOldest}))
		for i, p := range pairs {
			if p.RequestID != strconv.Itoa(i+1) {
				t.Fatalf("pair %d is of request %s", i+1, p.RequestID)
			}
		}
		if n := len(pairs); n < told || n > told+1 || n < last {
			t.Fatalf("%d pairs; the process had told %d, there were %d before it", n, told, last)
		}
		last = len(pairs)
		for _, j := range collect(t, s.Joined(t.Context(), "churn", cursor)) {
			if cursor = j.Cursor; strconv.FormatFloat(j.Value.Number, 'f', -1, 64) != j.RequestID || j.Nth != 0 {
				t.Fatalf("%+v", j)
			}
			counted[fmt.Sprint(j.RequestID, j.Shadow)]++
		}
		closeStore(t, s)
	}
	if last < 8 { // each was killed after its first word
		t.Errorf("only %d pairs in all", last)
	}
	for id, n := range counted {
		if n != 1 {
			t.Errorf("%s was counted %d times", id, n)
		}
	}
	if len(counted) != 2*last {
		t.Errorf("%d answers were counted of %d requests with two answers", len(counted), last)
	}
}

// killed runs a writer, lets it go on for a while after its first word, and kills
// it. It returns the last that it told.
func killed(t *testing.T, path string, after time.Duration) int {
	t.Helper()
	cmd := helper(t, "write", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := 0
	lines := bufio.NewReader(out)
	var timer *time.Timer
	for {
		line, err := lines.ReadString('\n') // the last one may be cut: then it is an error
		if err != nil {
			break
		}
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		if told, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return told
}

// hold keeps the records open until it is killed.
func hold(path string) {
	_, err := Open(path, unlimited)
	must(err)
	fmt.Println("open")
	select {}
}

func TestHeldByAnotherProcess(t *testing.T) {
	path := file(t)
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
	_, err = Open(path, unlimited)
	wantError(t, err, path, "is in use by another process")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	s := openStore(t, path, unlimited)
	s.AddPair(pairOf("a", at(1), 0))
	flush(t, s)
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

// quiet is a logger whose words nobody reads.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Somebody looks into the file with a tool that locks it: records wait, outcomes
// are refused, and it goes on by itself.
func TestLocked(t *testing.T) {
	o := unlimited
	o.Log = quiet()
	s := openStore(t, file(t), o)
	release := block(t, s)
	s.AddPair(pairOf("a", at(1), 0))
	_, err := s.AddOutcomes(t.Context(), []Outcome{label("a", at(1), 1)})
	wantError(t, err, "is locked by another process")
	wantError(t, s.Status().Err, "is locked by another process")
	if got := collect(t, s.Pairs(t.Context(), Query{Model: "churn"})); len(got) != 0 {
		t.Errorf("%d pairs", len(got))
	}
	release()
	waitFor(t, func() bool { return s.Status().Err == nil && s.Status().Pairs == 1 })
	tellOutcomes(t, s, label("a", at(1), 1))
}

// waitFor polls, with a generous deadline.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
	}
}

// full lets the operating system refuse to make files larger, then allows it
// again. It runs in a process of its own because the limit is the process's.
func full(path string) {
	o := unlimited
	o.Log, o.Queue = quiet(), 3000
	s, err := Open(path, o)
	must(err)
	s.AddPair(pairOf("first", at(0), 0))
	must(s.Flush(context.Background()))
	var was syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	info, err := os.Stat(path + "-wal")
	must(err)
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(info.Size()), Max: was.Max}))
	for i := range 5000 {
		s.AddPair(pairOf(strconv.Itoa(i), at(1), 0))
	}
	fmt.Println("flush:", s.Flush(context.Background()))
	_, err = s.AddOutcomes(context.Background(), []Outcome{label("first", at(1), 1)})
	fmt.Println("outcome:", err)
	fmt.Println("status:", s.Status().Err)
	fmt.Println("dropped:", s.Status().DroppedPairs)
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	_, err = s.AddOutcomes(context.Background(), []Outcome{label("first", at(1), 1)})
	must(err)
	must(s.Close())
}

func TestFull(t *testing.T) {
	path := file(t)
	out, err := helper(t, "full", path).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var dropped int
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		what, rest, _ := strings.Cut(line, ": ")
		if what == "dropped" {
			dropped, _ = strconv.Atoi(rest)
		} else if !strings.Contains(rest, "is it full") && !strings.Contains(rest, "disk is full") {
			t.Errorf("%s", line)
		}
	}
	if dropped != 2000 {
		t.Errorf("%d dropped, want 2000", dropped)
	}
	s := openStore(t, path, unlimited)
	if n := len(collect(t, s.Pairs(t.Context(), Query{Model: "churn"}))); n != 3001 {
		t.Errorf("%d pairs, want the first and the 3000 that waited", n)
	}
	if intake := tellOutcomes(t, s, label("first", at(1), 1)); intake.Repeated != 1 {
		t.Errorf("%+v: the outcome that was taken is not there", intake)
	}
}

// TestReadOnly opens a file that the process may only read. Root may write
// everything, so its thread takes another user for the files.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.db")
	closeStore(t, openStore(t, path, unlimited))
	for name, mode := range map[string]os.FileMode{path: 0o444, path + ".lock": 0o666, dir: 0o555, filepath.Dir(dir): 0o755} {
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
	_, err := Open(path, unlimited)
	wantError(t, err, "cannot be written: the file and its folder must be writable")
}

func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(raw []byte) []byte{
		"not a database":  func([]byte) []byte { return []byte(strings.Repeat("no database ", 1000)) },
		"a page of zeros": func(raw []byte) []byte { clear(raw[len(raw)/2/4096*4096:][:4096]); return raw },
		"truncated":       func(raw []byte) []byte { return raw[:len(raw)/2/4096*4096] },
		"garbage at the end": func(raw []byte) []byte {
			for i := range raw[len(raw)-6000:] {
				raw[len(raw)-6000+i] ^= byte(i*7 + 1)
			}
			return raw
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t)
			rewrite(t, path, damage(filled(t, path)))
			_, err := Open(path, unlimited)
			wantError(t, err, path, "is damaged: move it away")

			// The way back that the error tells.
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Rename(path+suffix, path+".damaged"+suffix) // not all are there
			}
			s := openStore(t, path, unlimited)
			s.AddPair(pairOf("a", at(1), 0))
			flush(t, s)
		})
	}
}

// filled writes a file, and returns what it is made of.
func filled(t *testing.T, path string) []byte {
	t.Helper()
	s := openStore(t, path, unlimited)
	for i := range 2000 {
		s.AddPair(pairOf(strconv.Itoa(i), at(float64(i)), 0))
	}
	closeStore(t, s)
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

// A file that is ruined under a running store: errors, and nobody waits.
func TestDamagedMeanwhile(t *testing.T) {
	path := file(t)
	whole := len(filled(t, path))
	o := unlimited
	o.Log = quiet()
	s := openStore(t, path, o)
	for _, pragma := range []string{"PRAGMA cache_size = 10", "PRAGMA shrink_memory"} { // or it would hardly read
		if _, err := s.conn.ExecContext(t.Context(), pragma); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	garbage := []byte(strings.Repeat("garbage!", (whole-4096)/8))
	if _, err := f.WriteAt(garbage, 4096); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { // until a page that is not in a cache is needed
		for i := range 1000 {
			s.AddPair(pairOf(strconv.Itoa(i), at(float64(i)), float64(i)/500))
		}
		_ = s.Flush(t.Context())
		return s.Status().Err != nil
	})
	wantError(t, s.Status().Err, "is damaged: move it away")
	before := s.Status()
	s.AddPair(pairOf("z", at(1), 0))
	wantError(t, s.Flush(t.Context()), "is damaged")
	if after := s.Status(); after.DroppedPairs <= before.DroppedPairs || after.Queued != 0 {
		t.Errorf("%+v after %+v", after, before)
	}
	_, err = s.AddOutcomes(t.Context(), []Outcome{label("a", at(1), 1)})
	wantError(t, err, "is damaged")
	wantError(t, s.Close(), "is damaged")
	if err := f.Close(); err != nil { // not before: it would take SQLite's locks along
		t.Fatal(err)
	}
}

func TestOtherFiles(t *testing.T) {
	for name, test := range map[string]struct{ change, want string }{
		"newer":            {`PRAGMA user_version = 99`, "has schema 99, this headgate knows 1: it was written by a newer headgate"},
		"another database": {`PRAGMA application_id = 7`, "is a SQLite database, but has no records of headgate"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t)
			s := openStore(t, path, unlimited)
			if _, err := s.conn.ExecContext(t.Context(), test.change); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			_, err := Open(path, unlimited)
			wantError(t, err, test.want)
		})
	}
}

// A file of an older schema is brought to this one, with what is in it; when that
// fails in the middle, it stays what it was.
func TestMigration(t *testing.T) {
	path := file(t)
	closeStore(t, openStore(t, path, unlimited))
	was := migrations
	defer func() { migrations = was }()
	migrations = append(was[:len(was):len(was)], `ALTER TABLE pairs ADD COLUMN extra TEXT; INSERT INTO nowhere VALUES (1)`)
	_, err := Open(path, unlimited)
	wantError(t, err, "no such table: nowhere")
	migrations = append(was[:len(was):len(was)], `ALTER TABLE pairs ADD COLUMN extra TEXT`)
	s := openStore(t, path, unlimited)
	s.AddPair(pairOf("a", at(1), 0))
	flush(t, s)
	if got := ids(collect(t, s.Pairs(t.Context(), Query{Model: "churn"}))); len(got) != 1 {
		t.Errorf("%v", got)
	}
	closeStore(t, s)
	migrations = was
	_, err = Open(path, unlimited)
	wantError(t, err, "written by a newer headgate")
}

func TestPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder?with=#odd%20 names")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "rec ords?.db")
	s := openStore(t, path, unlimited)
	s.AddPair(pairOf("a", at(1), 0))
	flush(t, s)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", suffix, info.Mode().Perm())
		}
	}
	_, err := Open(filepath.Join(dir, "missing", "records.db"), unlimited)
	wantError(t, err, "records ", "no such file or directory")
}
