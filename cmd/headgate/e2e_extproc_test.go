package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// metrics returns the values of a metric by its labels, as they are written.
func (g *gate) metrics(name string) map[string]float64 {
	g.t.Helper()
	status, body, err := g.get("/metrics")
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("GET /metrics: HTTP %d, %v", status, err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name+"{")
		if !ok {
			continue
		}
		labels, text, _ := strings.Cut(rest, "} ")
		value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		noError(g.t, err)
		values[labels] = value
	}
	return values
}

// decided counts the decisions of the ext_proc service on a model, for a
// reason.
func (g *gate) decided(model string, reason routing.Reason) (n float64) {
	g.t.Helper()
	for labels, value := range g.metrics("headgate_ext_proc_decisions_total") {
		if strings.Contains(labels, fmt.Sprintf("model=%q", model)) && strings.Contains(labels, fmt.Sprintf("reason=%q", reason)) {
			n += value
		}
	}
	return n
}

// splitOf is how a rollout to v2 splits, after its number and share.
func splitOf(model string, number int, share routing.Share) func(key string) string {
	salt := fmt.Sprintf("%s-r%d", model, number)
	split := routing.Split{Salt: salt, Ranges: []routing.Range{{Version: "v2", Weight: share}, {Version: "v1", Weight: routing.Whole - share}}}
	return func(key string) string { return split.Version(routing.Bucket(salt, key)) }
}

// post sends a JSON body and returns status and version.
func post(url, body string, header ...string) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("content-type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get(routing.HeaderVersion), err
}

// rolling starts a rollout to v2, which stops at its first share.
func (g *gate) rolling(m modelFile, percent float64) modelFile {
	g.t.Helper()
	m.release = "v1"
	g.put(m)
	g.serving(m.name, "v1", 100)
	m.release, m.steps = "v2", []string{fmt.Sprintf("{traffic: %v%%}", percent), "{traffic: 100%}"}
	g.put(m)
	g.serving(m.name, "v2", percent)
	return m
}

// TestFaultDecideIsNative has the ext_proc service decide on what Envoy decided
// before: every user keeps the version.
func TestFaultDecideIsNative(t *testing.T) {
	t.Parallel()
	m := modelFile{name: "same", port: envoytest.FreePort(t)}
	m.versions = []string{at("v1", envoytest.NewUpstream(t, "v1")), at("v2", envoytest.NewUpstream(t, "v2"))}
	g := newGate(t, "run")
	g.start().up()
	m = g.rolling(m, 30)
	g.listens(m.url())
	users := userIDs(2000)
	native := versionsOf(t, m.url(), users)
	if n := g.decided("same", routing.ReasonKey); n != 0 {
		t.Errorf("%v decisions by ext_proc before it was asked for", n)
	}
	m.extra = []string{"decide: ext_proc"}
	g.put(m)
	g.eventually(20*time.Second, "decisions by ext_proc", func() bool {
		_, _, err := post(m.url(), "{}", "x-user-id", "u")
		return err == nil && g.decided("same", routing.ReasonKey) > 0
	})
	// On a busy machine some are not decided in time, and Envoy splits alone.
	for pass := 0; g.decided("same", routing.ReasonKey) < 2000; pass++ {
		if pass == 10 {
			t.Fatalf("%v decisions on 20,000 requests", g.decided("same", routing.ReasonKey))
		}
		if diff := cmp.Diff(native, versionsOf(t, m.url(), users)); diff != "" {
			t.Fatalf("users have other versions by ext_proc than by Envoy (-native +ext_proc):\n%s", diff)
		}
	}
	want := splitOf("same", 1, 3000)
	for _, u := range users {
		if native[u] != want(u) {
			t.Errorf("%s has %s, routing.Decide says %s", u, native[u], want(u))
		}
	}
}

// TestFaultBodies has keys and overrides in JSON bodies.
func TestFaultBodies(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	m := modelFile{name: "bodies", port: envoytest.FreePort(t), key: "{body: $.user.id, absent: current}"}
	m.versions = []string{at("v1", v1), at("v2", v2)}
	m.extra = []string{"overrides:", "  - {body: $.tenant, equals: acme, version: v2}", `  - {header: stay, equals: "1", version: v1}`}
	g := newGate(t, "run")
	g.start().up()
	m = g.rolling(m, 30)
	g.listens(m.url())
	want := splitOf("bodies", 1, 3000)
	ask := func(want, body string, header ...string) {
		t.Helper()
		// Not decided in time on a busy machine: the larger version answers.
		deadline := time.Now().Add(20 * time.Second)
		for {
			status, got, err := post(m.url(), body, header...)
			if err != nil || status != http.StatusOK {
				t.Fatalf("%s: HTTP %d, %v", body, status, err)
			}
			if got == want {
				return
			}
			if got != "v1" || time.Now().After(deadline) {
				t.Fatalf("%s %v: %s, want %s", body, header, got, want)
			}
		}
	}
	candidates := 0.0 // their requests must have been decided, or the other version had answered
	for _, u := range userIDs(400) {
		ask(want(u), fmt.Sprintf(`{"x": [1, 2], "user": {"id": %q}}`, u), "x-user-id", "somebody else")
		if want(u) == "v2" {
			candidates++
		}
	}
	if n := g.decided("bodies", routing.ReasonKey); n < candidates || candidates < 80 {
		t.Errorf("%v decisions by key for %v users of the candidate", n, candidates)
	}
	for i := range 20 {
		ask("v2", fmt.Sprintf(`{"tenant":"acme","user":{"id":"user-%d"}}`, i))
		ask("v1", fmt.Sprintf(`{"tenant":"other","n":%d}`, i))
		ask("v1", fmt.Sprintf(`{"user":{"id":"user-%d"}}`, i), "stay", "1")
	}
	if n := g.decided("bodies", routing.ReasonOverride); n < 20 {
		t.Errorf("%v decisions by override, want 20 and more", n)
	}
	for _, r := range append(v1.Requests(), v2.Requests()...) {
		if r.BodySize != int64(len(r.Body)) || !strings.HasPrefix(string(r.Body), "{") {
			t.Fatalf("a body arrived as %q", r.Body)
		}
	}
}

// TestFaultDeciderGone kills and freezes headgate under load while models ask
// it about every request: no request fails, users have the version that Envoy
// gives by itself, and soon after headgate is back it decides again.
func TestFaultDeciderGone(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	header := modelFile{name: "header", port: envoytest.FreePort(t), versions: []string{at("v1", v1), at("v2", v2)}}
	header.extra = []string{"decide: ext_proc"}
	body := header
	body.name, body.key, body.extra = "body", "{body: $.id, absent: current}", nil
	g := newGate(t, "serve")
	header.release, body.release = "v1", "v1"
	g.put(header, body)
	g.start().up()
	g.envoyOf("one")
	header, body = g.rolling(header, 30), g.rolling(body, 30)
	g.listens(header.url())
	loads := []*envoytest.Loader{
		keepAlive(t, header.url(), func(o *envoytest.LoadOptions) { o.Rate = 75 }),
		keepAlive(t, body.url(), func(o *envoytest.LoadOptions) {
			o.Rate = 75
			o.Prepare = func(r *http.Request, user string) {
				b := fmt.Sprintf(`{"id":%q}`, user)
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(b)), int64(len(b))
			}
		}),
	}
	want := splitOf("body", 1, 3000)
	candidate := candidateOf(want)
	decides := func() bool {
		_, got, err := post(body.url(), fmt.Sprintf(`{"id":%q}`, candidate))
		if err != nil {
			t.Errorf("a request: %v", err)
		}
		return got == "v2"
	}
	g.eventually(time.Minute, "decisions", decides)
	away := func(how string) {
		for _, l := range loads {
			goesOn(t, l, times(150, 4500)) // 2 s, a minute
		}
		if _, got, err := post(body.url(), fmt.Sprintf(`{"id":%q}`, candidate)); got != "v1" || err != nil {
			t.Errorf("%s: a user of the candidate has %s, %v", how, got, err)
		}
	}
	g.kill()
	away("killed")
	g.start()
	g.eventually(time.Minute, "decisions after it was killed", decides)

	noError(t, g.cmd.Process.Signal(syscall.SIGSTOP))
	away("frozen")
	noError(t, g.cmd.Process.Signal(syscall.SIGCONT))
	back := time.Now()
	g.eventually(time.Minute, "decisions after it was frozen", decides)
	t.Logf("decides again %s after SIGCONT", time.Since(back))
	g.await("body", "all as before", func(s rollout.Status) bool { return s.Acknowledged && s.Weights["v2"] == 30 })

	for i, l := range loads {
		r := clean(t, l)
		for _, result := range r.Results {
			right := splitOf([]string{"header", "body"}[i], 1, 3000)(result.User)
			if got := result.Version; got != right && (i == 0 || got != "v1") {
				t.Fatalf("model %d: %s has %s, want %s", i, result.User, got, right)
			}
		}
	}
}

// candidateOf returns a user whom a split gives to v2.
func candidateOf(split func(string) string) string {
	for i := range 10_000 {
		if u := fmt.Sprintf("user-%d", i); split(u) == "v2" {
			return u
		}
	}
	return ""
}
