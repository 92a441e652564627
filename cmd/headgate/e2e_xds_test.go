package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// modelFile is the file of a model, as far as tests of the whole program need
// it.
type modelFile struct {
	name     string // its requests begin with /name
	port     int
	versions []string // see at
	release  string
	steps    []string
	key      string   // {header: x-user-id, absent: request} when empty
	extra    []string // further lines
	policy   []string // further lines of rollout
}

// at is a version whose one instance is an upstream.
func at(version string, u *envoytest.Upstream) string {
	return fmt.Sprintf("%s: {endpoints: [%q]}", version, u.Addr)
}

func (m modelFile) url() string { return fmt.Sprintf("http://127.0.0.1:%d/%s", m.port, m.name) }

func (m modelFile) String() string {
	key := m.key
	if key == "" {
		key = "{header: x-user-id, absent: request}"
	}
	lines := []string{
		"model: " + m.name, fmt.Sprintf("listen: 127.0.0.1:%d", m.port), "match: {prefix: /" + m.name + "}",
		"key: " + key, "release: " + m.release, "versions:",
	}
	for _, v := range m.versions {
		lines = append(lines, "  "+v)
	}
	lines = append(lines, m.extra...)
	if len(m.steps) > 0 {
		lines = append(lines, "rollout:", "  steps:")
		for _, s := range m.steps {
			lines = append(lines, "    - "+s)
		}
		for _, p := range m.policy {
			lines = append(lines, "  "+p)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func (g *gate) put(files ...modelFile) {
	g.t.Helper()
	for _, m := range files {
		g.write(m.name+".yaml", m.String())
	}
}

func (g *gate) remove(model string) {
	g.t.Helper()
	noError(g.t, os.Remove(filepath.Join(g.conf, model+".yaml")))
}

// listens waits until an address answers, whatever it says.
func (g *gate) listens(url string) {
	g.t.Helper()
	g.eventually(30*time.Second, "an answer of "+url, func() bool {
		resp, err := http.Post(url, "application/json", strings.NewReader("{}"))
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// keepAlive is a load by few connections, which a test can count.
func keepAlive(t testing.TB, url string, change ...func(*envoytest.LoadOptions)) *envoytest.Loader {
	o := envoytest.LoadOptions{URL: url, Rate: 150, Users: userIDs(400), Connections: 6, Timeout: 30 * time.Second}
	for _, c := range change {
		c(&o)
	}
	return envoytest.StartLoad(t, o)
}

// goesOn waits until a load has been answered so many times more.
func goesOn(t testing.TB, load *envoytest.Loader, requests int) {
	t.Helper()
	sent := load.Sent()
	envoytest.Eventually(t, 5*time.Minute, fmt.Sprintf("%d more requests", requests), func() bool { return load.Sent() >= sent+requests })
}

// undrained fails the test when an Envoy closed a client's connection.
func undrained(t testing.TB, stats string) {
	t.Helper()
	for line := range strings.Lines(stats) {
		name, n, _ := strings.Cut(strings.TrimSpace(line), ": ")
		drained := strings.HasSuffix(name, ".downstream_cx_drain_close") || strings.HasSuffix(name, ".downstream_cx_destroy_local")
		if drained && strings.HasPrefix(name, "http.127_0_0_1") && n != "0" {
			t.Errorf("%s is %s: Envoy closed connections", name, n)
		}
	}
	if !strings.Contains(stats, "http.127_0_0_1") {
		t.Errorf("Envoy has no counts of its listener:\n%s", stats)
	}
}

// envoyStats are the counts of the Envoy of `headgate run`.
func (g *gate) envoyStats() string {
	g.t.Helper()
	stats, err := g.envoyAdmin("/stats")
	noError(g.t, err)
	return stats
}

// wires are connections that are dialled once and used for request after
// request.
type wires struct {
	stop     chan struct{}
	answered atomic.Int64
	ended    sync.WaitGroup
	mu       sync.Mutex
	errs     []error
}

func dialWires(t testing.TB, address, path string, n int) *wires {
	w := &wires{stop: make(chan struct{})}
	for i := range n {
		conn, err := net.Dial("tcp", address)
		noError(t, err)
		w.ended.Go(func() {
			defer conn.Close()
			if err := w.use(conn, fmt.Sprintf("POST %s HTTP/1.1\r\nhost: x\r\nx-user-id: user-%d\r\ncontent-length: 2\r\n\r\n{}", path, i)); err != nil {
				w.mu.Lock()
				w.errs = append(w.errs, err)
				w.mu.Unlock()
			}
		})
	}
	return w
}

func (w *wires) use(conn net.Conn, request string) error {
	answers := bufio.NewReader(conn)
	for {
		select {
		case <-w.stop:
			return nil
		default:
		}
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || resp.Close {
			return fmt.Errorf("HTTP %d, to be closed: %v, %w", resp.StatusCode, resp.Close, err)
		}
		w.answered.Add(1)
	}
}

// more waits for so many more answers.
func (w *wires) more(t testing.TB, n int64) {
	t.Helper()
	before := w.answered.Load()
	envoytest.Eventually(t, time.Minute, "more answers", func() bool { return w.answered.Load() >= before+n })
}

func (w *wires) end() error {
	close(w.stop)
	w.ended.Wait()
	return errors.Join(w.errs...)
}

// updates are an Envoy's counts of what its control plane made it change.
func updates(e *envoytest.Envoy) map[string]int {
	all := map[string]int{}
	for name, n := range e.Stats("") {
		for _, suffix := range []string{
			"_manager.cluster_added", "_manager.cluster_modified", "_manager.cluster_removed", "_manager.listener_added",
			"_manager.listener_modified", "_manager.listener_removed", ".update_success", ".config_reload", ".update_rejected",
		} {
			if strings.HasSuffix(name, suffix) {
				all[name] = n
			}
		}
	}
	return all
}

// TestFaultHeadgateKilled kills headgate under load and lets it stay away: the
// Envoys serve on with the same weights, and when it is back they get nothing
// that they have.
func TestFaultHeadgateKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "serve")
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	one, two := g.envoyOf("one"), g.envoyOf("two")
	g.serving("churn", "v1", 100)
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 60%}", "{traffic: 100%}"))
	g.serving("churn", "v2", 30)
	g.listens(p.url())
	load := keepAlive(t, p.url())
	goesOn(t, load, 500)
	before := []map[string]int{updates(one), updates(two)}
	g.kill()
	goesOn(t, load, times(450, 9000)) // 3 s, a minute
	g.start()
	back := g.await("churn", "two Envoys with 30 %", func(s rollout.Status) bool {
		return s.Envoys == 2 && s.Acknowledged && s.Weights["v2"] == 30
	})
	goesOn(t, load, 500)
	if diff := cmp.Diff(before, []map[string]int{updates(one), updates(two)}); diff != "" {
		t.Errorf("updates while headgate came back: %s", diff)
	}
	if moves := load.Report().Moves(); len(moves) > 0 {
		t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
	}
	if back.Phase != rollout.PhaseProgressing || back.Step != 0 {
		t.Errorf("came back as %+v", back)
	}
	g.must("skip", "churn", "--wait")
	g.serving("churn", "v2", 60)
	goesOn(t, load, 300)
	undrained(t, one.Admin("/stats"))
	undrained(t, two.Admin("/stats"))
	if back := clean(t, load).Backwards("v1", "v2"); len(back) > 0 {
		t.Errorf("%d users went back, the first: %+v", len(back), back[0])
	}
}

// TestFaultEnvoyKilled kills one Envoy of two: the other one's clients notice
// nothing, and the rollout does not wait for it. A new Envoy splits rightly
// from its first answer on.
func TestFaultEnvoyKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "serve")
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	stays := g.envoyOf("stays")
	g.serving("churn", "v1", 100)
	g.listens(p.url())
	// Both Envoys will listen on one port: these are connections to the first.
	clients := dialWires(t, fmt.Sprintf("127.0.0.1:%d", p.port), "/predict", 4)
	clients.more(t, 20)
	dies := g.envoyOf("dies")
	g.await("churn", "two Envoys", func(s rollout.Status) bool { return s.Envoys == 2 && s.Acknowledged })
	g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 60%}", "{traffic: 100%}"))
	g.serving("churn", "v2", 30)
	dies.Kill()
	g.await("churn", "one Envoy", func(s rollout.Status) bool { return s.Envoys == 1 && s.Acknowledged })
	g.must("skip", "churn", "--wait")
	st := g.serving("churn", "v2", 60)
	clients.more(t, 200)
	if err := clients.end(); err != nil {
		t.Errorf("clients of the Envoy that stays: %v", err)
	}

	stays.Kill()
	answers := make(chan error, 1)
	go func() { answers <- rightFromTheStart(p, st.Rollout, 6000, 300) }()
	g.envoyOf("new")
	if err := <-answers; err != nil {
		t.Error(err)
	}
}

// rightFromTheStart asks as soon as somebody listens, and returns an error for
// an answer that is not what routing.Decide says.
func rightFromTheStart(p pair, number int, share routing.Share, requests int) error {
	salt := fmt.Sprintf("churn-r%d", number)
	split := routing.Split{Salt: salt, Ranges: []routing.Range{{Version: "v2", Weight: share}, {Version: "v1", Weight: routing.Whole - share}}}
	deadline := time.Now().Add(time.Minute)
	for answered := 0; answered < requests; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d answers in a minute", answered)
		}
		user := fmt.Sprintf("user-%d", answered)
		got, err := p.ask(user)
		switch {
		case err != nil && strings.Contains(err.Error(), "connection refused"):
			continue
		case err != nil:
			return fmt.Errorf("answer %d: %w", answered, err)
		case got != split.Version(routing.Bucket(salt, user)):
			return fmt.Errorf("answer %d: %s has %s, which is wrong", answered, user, got)
		}
		answered++
	}
	return nil
}

// TestFaultRamp moves shares up under clients that keep their connections,
// while all else that can be edited is: endpoints, versions, other models of
// the listener.
func TestFaultRamp(t *testing.T) {
	t.Parallel()
	v1, moved := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v1 elsewhere")
	v2, v3 := envoytest.NewUpstream(t, "v2"), envoytest.NewUpstream(t, "v3")
	m := modelFile{name: "ramp", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1), at("v2", v2)}}
	g := newGate(t, "run")
	g.put(m)
	g.start().ready()
	g.serving("ramp", "v1", 100)
	g.listens(m.url())
	load := keepAlive(t, m.url())
	goesOn(t, load, 150)

	m.versions[0] = at("v1", moved)
	g.put(m)
	g.eventually(20*time.Second, "requests at the new endpoint", func() bool { return moved.Count() > 50 })

	m.release, m.steps = "v2", []string{"{traffic: 10%}", "{traffic: 20%}", "{traffic: 50%}", "{traffic: 100%}"}
	g.put(m)
	g.serving("ramp", "v2", 10)
	goesOn(t, load, 400)

	m.versions = append(m.versions, at("v3", v3))
	other := modelFile{name: "other", port: m.port, release: "v1", versions: []string{at("v1", v1)}}
	g.put(m, other)
	g.serving("other", "v1", 100)
	g.must("skip", "ramp", "--wait")
	g.serving("ramp", "v2", 20)
	goesOn(t, load, 400)

	g.remove("other")
	g.must("skip", "ramp", "--wait")
	st := g.serving("ramp", "v2", 50)
	if st.Rollout != 1 || st.Step != 2 {
		t.Errorf("edits beside it changed the rollout: %+v", st)
	}
	goesOn(t, load, 400)
	undrained(t, g.envoyStats())
	r := clean(t, load)
	if back := r.Backwards("v1", "v2"); len(back) > 0 {
		t.Errorf("%d users left the candidate, the first: %+v", len(back), back[0])
	}
	for _, move := range r.Moves() {
		if move.To != "v2" {
			t.Errorf("a user moved to %s", move.To)
		}
	}
}

// TestFaultRemovedInOneEdit takes routes and their clusters away at once under
// load, and brings them back: a request finds its version or no route, never a
// route without its cluster.
func TestFaultRemovedInOneEdit(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	a := modelFile{name: "stays", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1)}}
	b := modelFile{name: "goes", port: a.port, release: "v1", versions: []string{at("v1", v2)}}
	with := a
	with.versions = append(with.versions, at("v2", v2))
	with.extra = []string{"overrides:", `  - {header: canary, equals: "true", version: v2}`}
	g := newGate(t, "run")
	g.put(with, b)
	g.start().ready()
	g.serving("stays", "v1", 100)
	g.serving("goes", "v1", 100)
	g.listens(a.url())
	plain := keepAlive(t, a.url())
	canary := keepAlive(t, a.url(), func(o *envoytest.LoadOptions) { o.Header = http.Header{"Canary": {"true"}} })
	unlucky := keepAlive(t, b.url(), func(o *envoytest.LoadOptions) {
		o.Failed = func(r envoytest.Result) bool {
			return r.Err != nil || r.Status != http.StatusOK && r.Status != http.StatusNotFound
		}
	})
	loads := []*envoytest.Loader{plain, canary, unlucky}
	for range times(3, 50) {
		for _, l := range loads {
			goesOn(t, l, 50)
		}
		g.put(a)
		g.remove("goes")
		g.eventually(20*time.Second, "the model is gone", func() bool { _, err := g.tryStatus("goes"); return err != nil })
		for _, l := range loads {
			goesOn(t, l, 50)
		}
		g.put(with, b)
		g.serving("goes", "v1", 100)
		g.serving("stays", "v1", 100)
	}
	goesOn(t, unlucky, 50)
	if r := clean(t, plain); r.Versions["v1"] != len(r.Results) {
		t.Errorf("users of the model that stays: %s", r)
	}
	if r := clean(t, canary); r.Versions["v1"] == 0 || r.Versions["v2"] == 0 {
		t.Errorf("the override did not come and go: %s", r)
	}
	codes := map[int]int{}
	for _, result := range clean(t, unlucky).Results {
		codes[result.Status]++
	}
	if len(codes) != 2 || codes[http.StatusOK] == 0 || codes[http.StatusNotFound] == 0 {
		t.Errorf("answers for the model that goes: %v, want 200 and 404", codes)
	}
}
