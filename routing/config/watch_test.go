package config

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/headgate/headgate/routing"
)

// watched is a directory under a watcher, of which every update is received as
// soon as it is told, and kept.
type watched struct {
	t       *testing.T
	dir     string
	updates <-chan Update
	log     *syncBuffer
}

func watch(t *testing.T, dir string, open func() (*fsnotify.Watcher, error)) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watched{t: t, dir: dir, log: &syncBuffer{}}
	updates := Watch(ctx, dir, Options{Log: slog.New(slog.NewTextHandler(w.log, nil)), open: open})
	received, ended := make(chan Update, 1_000), make(chan struct{})
	w.updates = received
	go func() {
		defer close(ended)
		for u := range updates {
			received <- u
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

// next returns the next update, which must come in time.
func (w *watched) next() Update {
	w.t.Helper()
	select {
	case u := <-w.updates:
		return u
	case <-time.After(10 * time.Second):
		w.t.Fatalf("no update; log:\n%s", w.log)
	}
	return Update{}
}

// config returns the next update, which must be a configuration.
func (w *watched) config() *routing.Config {
	w.t.Helper()
	u := w.next()
	if u.Err != nil {
		w.t.Fatalf("update with an error: %v", u.Err)
	}
	return u.Config
}

// expect checks that the next update is the configuration whose models have
// these timeouts, in seconds. As no other may come before, it also shows that
// nothing else was told.
func (w *watched) expect(seconds ...int) *routing.Config {
	w.t.Helper()
	c := w.config()
	if got := timeouts(c); !slices.Equal(got, seconds) {
		w.t.Fatalf("got timeouts %v, want %v", got, seconds)
	}
	for _, m := range c.Models {
		if len(m.Steps) != 2 {
			w.t.Fatalf("a part of %s was told", m.Source.File)
		}
	}
	return c
}

func timeouts(c *routing.Config) []int {
	var out []int
	for _, m := range c.Models {
		out = append(out, int(m.Timeout.Seconds()))
	}
	return out
}

// modelText is a model's file. Its first part is valid alone, and would send every
// user to the candidate at once.
func modelText(name string, timeout int) string {
	return fmt.Sprintf(`model: %s
listen: 127.0.0.1:8080
match: {prefix: /%s}
timeout: %ds
versions:
  v1: {endpoints: ["127.0.0.1:9101"]}
  v2: {endpoints: ["127.0.0.1:9102"]}
release: v2
rollout:
  steps:
    - {traffic: 10%%, for: 1h}
    - {traffic: 100%%}
`, name, name, timeout)
}

func half(text string) int { return strings.Index(text, "rollout:") }

func (w *watched) file(name string) string { return filepath.Join(w.dir, name) }

// replace writes a file and renames it into its place.
func replace(t testing.TB, name, content string) {
	t.Helper()
	temporary := filepath.Join(filepath.Dir(name), ".new-"+filepath.Base(name))
	writeFile(t, temporary, []byte(content))
	if err := os.Rename(temporary, name); err != nil {
		t.Fatal(err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func oneModel(t *testing.T) *watched {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "churn.yaml"), []byte(modelText("churn", 1)))
	w := watch(t, dir, nil)
	w.expect(1)
	return w
}

// Every way to save a file tells its final state once, and nothing between.
func TestWaysToSave(t *testing.T) {
	add := func(t *testing.T, name, content string) {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, save := range map[string]func(t *testing.T, file, content string, pause time.Duration){
		"rename":   func(t *testing.T, file, content string, _ time.Duration) { replace(t, file, content) },
		"in place": func(t *testing.T, file, content string, _ time.Duration) { writeFile(t, file, []byte(content)) },
		"two steps, open": func(t *testing.T, file, content string, pause time.Duration) {
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString(content[:half(content)])
			time.Sleep(8 * pause) // a slow writer
			_, _ = f.WriteString(content[half(content):])
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		},
		"two steps, closed between": func(t *testing.T, file, content string, pause time.Duration) {
			writeFile(t, file, []byte(content[:half(content)]))
			time.Sleep(pause)
			add(t, file, content[half(content):])
		},
		"emptied, then written": func(t *testing.T, file, content string, pause time.Duration) {
			writeFile(t, file, nil)
			time.Sleep(pause / 2)
			writeFile(t, file, []byte(content))
		},
		"deleted and written": func(t *testing.T, file, content string, pause time.Duration) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause)
			writeFile(t, file, []byte(content))
		},
		"moved away and written": func(t *testing.T, file, content string, pause time.Duration) {
			if err := os.Rename(file, file+"~"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause)
			writeFile(t, file, []byte(content))
		},
		"touched": func(t *testing.T, file, content string, _ time.Duration) {
			for _, mode := range []os.FileMode{0o400, 0o644} {
				if err := os.Chmod(file, mode); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chtimes(file, time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
			replace(t, file, content)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := oneModel(t)
			var took []time.Duration
			for i := 2; i < 8; i++ {
				save(t, w.file("churn.yaml"), modelText("churn", i), 60*time.Millisecond)
				saved := time.Now()
				w.expect(i)
				took = append(took, time.Since(saved))
			}
			slices.Sort(took)
			t.Logf("from the end of the save to the update: median %v, most %v", took[len(took)/2], took[len(took)-1])
		})
	}
}

// A ConfigMap's files are links through a link that is swapped.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	generation := func(i int) {
		data := filepath.Join(dir, fmt.Sprintf("..gen%d", i))
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(data, "a.yaml"), []byte(modelText("a", i)))
		writeFile(t, filepath.Join(data, "b.yaml"), []byte(modelText("b", i)))
		if err := os.Symlink(filepath.Base(data), filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		if i > 1 {
			if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..gen%d", i-1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	generation(1)
	for _, n := range []string{"a.yaml", "b.yaml"} {
		if err := os.Symlink("..data/"+n, filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, dir, nil)
	w.expect(1, 1)
	for i := 2; i <= 60; i++ {
		generation(i)
		w.expect(i, i)
	}
	for i := 61; i <= 100; i++ { // faster than anyone reads
		generation(i)
	}
	for {
		got := timeouts(w.config())
		if got[0] != got[1] {
			t.Fatalf("generations are mixed: %v", got)
		}
		if got[0] == 100 {
			break
		}
	}
}

// A mistake is told once; the way back to the last good state too.
func TestMistakes(t *testing.T) {
	t.Parallel()
	w := oneModel(t)
	first := modelText("churn", 1)
	broken := strings.Replace(first, "release: v2", "release: v3", 1)
	for range 2 {
		replace(t, w.file("churn.yaml"), broken)
		if u := w.next(); u.Config != nil || u.Err == nil || !strings.Contains(u.Err.Error(), "churn.yaml:8: release: v3: is not one of the versions") {
			t.Fatalf("got %+v", u)
		}
		replace(t, w.file("churn.yaml"), broken+"# the same mistake, so nothing is told\n")
		replace(t, w.file("churn.yaml"), "")
		if u := w.next(); u.Err == nil || u.Err.Error() != "churn.yaml: is empty" {
			t.Fatalf("got %+v", u)
		}
		replace(t, w.file("churn.yaml"), first)
		w.expect(1)
	}
}

// Models of files that did not change are the same values.
func TestSameModels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, n := range []string{"a", "b"} {
		writeFile(t, filepath.Join(dir, n+".yaml"), []byte(modelText(n, 1)))
	}
	w := watch(t, dir, nil)
	before := w.expect(1, 1)
	replace(t, w.file("b.yaml"), modelText("b", 2))
	after := w.expect(1, 2)
	if before.Models[0] != after.Models[0] {
		t.Error("a did not change and is another value")
	}
	if before.Models[1] == after.Models[1] || before.Hash == after.Hash {
		t.Error("b changed and is the same value")
	}
	replace(t, w.file("b.yaml"), modelText("b", 2)+"# a comment\n")
	commented := w.expect(1, 2)
	if commented.Models[1] != after.Models[1] {
		t.Error("a comment made b another value")
	}
	if err := os.Remove(w.file("a.yaml")); err != nil {
		t.Fatal(err)
	}
	w.expect(2)
}

func TestDirectoryComesAndGoes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "models")
	w := watch(t, dir, nil)
	const missing = "cannot read the directory: does not exist"
	for i := 1; i < 3; i++ {
		if u := w.next(); u.Err == nil || u.Err.Error() != missing {
			t.Fatalf("got %+v, want %s", u, missing)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if u := w.next(); u.Err == nil || !strings.HasPrefix(u.Err.Error(), "there is no model") {
			t.Fatalf("got %+v, want that there is no model", u)
		}
		replace(t, w.file("churn.yaml"), modelText("churn", i))
		w.expect(i)
		replace(t, w.file("churn.yaml"), modelText("churn", i+10)) // the new directory is watched
		w.expect(i + 10)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// The directory itself can be a link that is swapped.
func TestDirectoryIsALink(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	for i := 1; i < 4; i++ {
		release := filepath.Join(above, fmt.Sprint("release", i))
		if err := os.Mkdir(release, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(release, "churn.yaml"), []byte(modelText("churn", i)))
	}
	current := filepath.Join(above, "current")
	if err := os.Symlink("release1", current); err != nil {
		t.Fatal(err)
	}
	w := watch(t, current, nil)
	w.expect(1)
	for i := 2; i < 4; i++ {
		if err := os.Symlink(fmt.Sprint("release", i), filepath.Join(above, "next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(above, "next"), current); err != nil {
			t.Fatal(err)
		}
		w.expect(i)
	}
}

// A certificate that rotates is a new configuration; its halves are not.
func TestCertificateRotates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rotate := func() []byte {
		cert, key := newCertificate(time.Now().Add(time.Hour))
		replace(t, filepath.Join(dir, "cert.pem"), string(cert))
		replace(t, filepath.Join(dir, "key.pem"), string(key))
		return cert
	}
	rotate()
	content := strings.Replace(modelText("churn", 1), "listen: 127.0.0.1:8080", "listen: {address: 127.0.0.1:8080, tls: {cert: cert.pem, key: key.pem}}", 1)
	writeFile(t, filepath.Join(dir, "churn.yaml"), []byte(content))
	w := watch(t, dir, nil)
	before := w.expect(1)
	for range 5 {
		cert := rotate()
		after := w.expect(1)
		if !bytes.Equal(after.Listeners[0].TLS.CertificateChain, cert) {
			t.Fatal("the listener has not the new certificate")
		}
		if before.Hash == after.Hash {
			t.Error("the hash is the same")
		}
		if before.Models[0].Versions[0].Definition != after.Models[0].Versions[0].Definition {
			t.Error("the version's definition is not the same")
		}
		before = after
	}
}

// A reader that is away finds the newest state, and none twice.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "churn.yaml")
	replace(t, file, modelText("churn", 1))
	updates := Watch(t.Context(), dir, Options{})
	last, count := 0, 0
	for last != 19 {
		select {
		case u := <-updates:
			got := timeouts(u.Config)[0]
			if got <= last {
				t.Fatalf("%d came after %d", got, last)
			}
			last, count = got, count+1
			if count == 1 {
				for i := 2; i < 20; i++ {
					replace(t, file, modelText("churn", i))
				}
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the last update was %d", last)
		}
	}
}

// When events are lost, all files are read again; when they say nothing of it,
// the regular look finds the change.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	var notify *fsnotify.Watcher
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "churn.yaml"), []byte(modelText("churn", 1)))
	w := watch(t, dir, func() (_ *fsnotify.Watcher, err error) {
		notify, err = openNotifier()
		return notify, err
	})
	w.expect(1)
	for _, path := range notify.WatchList() {
		if err := notify.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	replace(t, w.file("churn.yaml"), modelText("churn", 2))
	notify.Errors <- fsnotify.ErrEventOverflow
	w.expect(2)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v after an overflow", took)
	}
	if !strings.Contains(w.log.String(), "level=WARN") {
		t.Errorf("no warning in the log:\n%s", w.log)
	}
	replace(t, w.file("churn.yaml"), modelText("churn", 3))
	w.expect(3)
}

// Without events, files are polled.
func TestNoEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "churn.yaml"), []byte(modelText("churn", 1)))
	w := watch(t, dir, func() (*fsnotify.Watcher, error) { return nil, fmt.Errorf("no space left on device") })
	w.expect(1)
	for i := 2; i < 4; i++ {
		start := time.Now()
		replace(t, w.file("churn.yaml"), modelText("churn", i))
		w.expect(i)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	}
	if got := strings.Count(w.log.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings in the log, want 1:\n%s", got, w.log)
	}
}
