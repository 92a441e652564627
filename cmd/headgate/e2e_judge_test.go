package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// trial is a model whose v2 is to take over from v1, as soon as headgate sees
// its file.
type trial struct {
	modelFile
	v1, v2 *envoytest.Upstream
	policy []string // further lines of rollout
}

// newTrial has its steps and gates as flow mappings: "{traffic: 10%, for: 1s}".
func newTrial(t testing.TB, name string, steps, gates []string, policy ...string) *trial {
	c := &trial{v1: envoytest.NewUpstream(t, "v1"), v2: envoytest.NewUpstream(t, "v2")}
	c.modelFile = modelFile{
		name: name, port: envoytest.FreePort(t), versions: []string{at("v1", c.v1), at("v2", c.v2)}, release: "v2", steps: steps,
		extra: []string{"from: v1", "repeatable: true", "retries: {attempts: 0}"},
	}
	c.gates(gates...)
	c.policy = append(c.policy, policy...)
	return c
}

// gates replaces the gates.
func (c *trial) gates(gates ...string) {
	c.policy = slices.DeleteFunc(c.policy, func(line string) bool { return line == "gates:" || strings.HasPrefix(line, "  - {metric") })
	if len(gates) > 0 {
		c.policy = append(c.policy, "gates:")
	}
	for _, gate := range gates {
		c.policy = append(c.policy, "  - "+gate)
	}
}

func (c *trial) String() string {
	text := c.modelFile.String()
	for _, line := range c.policy {
		text += "  " + line + "\n"
	}
	return text
}

func (g *gate) try(trials ...*trial) {
	g.t.Helper()
	for _, c := range trials {
		g.write(c.name+".yaml", c.String())
	}
}

// warm is a model that nobody judges. By its requests tests see that headgate
// gets the access log, since an Envoy opens the stream with its first request.
func warm(t testing.TB) modelFile {
	return modelFile{name: "warm", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", envoytest.NewUpstream(t, "v1"))}}
}

// court is a headgate with its Envoy, whose access log is there, and trials that
// have just begun.
func court(t testing.TB, trials ...*trial) (*gate, modelFile) {
	t.Helper()
	g, w := newGate(t, "run"), warm(t)
	g.put(w)
	g.start().ready()
	g.awaitRecords(w)
	g.try(trials...)
	for _, c := range trials {
		g.open(c)
	}
	return g, w
}

// open waits until Envoy listens for a model, without a request.
func (g *gate) open(c *trial) {
	g.t.Helper()
	g.eventually(20*time.Second, "a listener for "+c.name, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// told waits until headgate gets the access log of Envoys that it has not heard
// of before.
func (g *gate) told(warm modelFile) {
	g.t.Helper()
	g.eventually(20*time.Second, "the access log", func() bool {
		_, _, err := post(warm.url(), "{}")
		noError(g.t, err)
		return g.requests(warm.name, "v1") > 0
	})
}

// crowd are so many users, of whom all get the same version.
func (c *trial) crowd(version string, number int, percent float64, n int) []string {
	split := splitOf(c.name, number, routing.Share(percent*float64(routing.Whole)/100))
	var users []string
	for i := 0; len(users) < n; i++ {
		if user := fmt.Sprintf("user-%d", i); split(user) == version {
			users = append(users, user)
		}
	}
	return users
}

// load sends requests of many users.
func (c *trial) load(t testing.TB, rate float64, change ...func(*envoytest.LoadOptions)) *envoytest.Loader {
	o := envoytest.LoadOptions{URL: c.url(), Rate: rate, Users: userIDs(400), Connections: 8, Timeout: 30 * time.Second}
	for _, f := range change {
		f(&o)
	}
	return envoytest.StartLoad(t, o)
}

// batch sends n requests of users, and returns how many each version answered.
func (c *trial) batch(t testing.TB, n int, users ...string) map[string]int {
	t.Helper()
	if len(users) == 0 {
		users = userIDs(400)
	}
	r := envoytest.Load(t.Context(), envoytest.LoadOptions{
		URL: c.url(), Users: users, Requests: n, Connections: min(4, len(users)), Timeout: 30 * time.Second,
	})
	for _, result := range r.Results {
		if result.Err != nil {
			t.Fatalf("a request was not answered: %v", result.Err)
		}
	}
	return r.Versions
}

// finding is what a status tells of a gate; bound may be empty.
func finding(s rollout.Status, metric string, bound routing.BoundKind) routing.Finding {
	for _, f := range s.Gates {
		if f.Metric == metric && (bound == "" || f.Bound == bound) {
			return f
		}
	}
	return routing.Finding{}
}

// until waits until a trial's status satisfies ok, also on a machine that is
// busy.
func (g *gate) until(c *trial, what string, ok func(rollout.Status) bool) rollout.Status {
	g.t.Helper()
	var s rollout.Status
	came := false
	defer func() {
		if !came {
			g.t.Logf("instead: %+v", s)
		}
	}()
	g.eventually(2*time.Minute, c.name+": "+what, func() bool {
		var err error
		s, err = g.tryStatus(c.name)
		return err == nil && ok(s)
	})
	came = true
	return s
}

// step waits until a step is in force and is looked at, with no request yet.
func (g *gate) step(c *trial, step int) rollout.Status {
	g.t.Helper()
	return g.until(c, fmt.Sprintf("step %d", step), func(s rollout.Status) bool {
		return s.Step == step && settled(s) && len(s.Gates) > 0 && s.Gates[0].N == 0 && s.Gates[0].Reason == routing.ReasonNoTraffic
	})
}

// phase waits until the model is where it should be.
func (g *gate) phase(c *trial, want rollout.Phase) rollout.Status {
	g.t.Helper()
	return g.until(c, string(want), func(s rollout.Status) bool { return s.Phase == want && s.Acknowledged })
}

// event returns the newest record of a kind.
func (g *gate) event(c *trial, kind string) admin.Record {
	g.t.Helper()
	for _, r := range slices.Backward(g.history(c.name)) {
		if r.Kind == kind {
			return r
		}
	}
	return admin.Record{}
}

// back waits until the judge has taken the model back for a reason, and no more
// requests reach v2.
func (g *gate) back(c *trial, reason string) {
	g.t.Helper()
	s := g.phase(c, rollout.PhaseRolledBack)
	if s.Weights["v1"] != 100 || s.Weights["v2"] != 0 {
		g.t.Errorf("%s: after the way back: %v", c.name, s.Weights)
	}
	if r := g.event(c, rollout.KindRolledBack); r.Actor != rollout.ActorJudge || !strings.Contains(r.Reason, reason) {
		g.t.Errorf("%s: rolled back by %s: %q, want the judge and %q", c.name, r.Actor, r.Reason, reason)
	}
	if versions := c.batch(g.t, 50); versions["v1"] != 50 {
		g.t.Errorf("%s: after the way back requests are answered by %v", c.name, versions)
	}
}

// only fails the test when another version failed than that which should, and
// returns how many requests did.
func only(t testing.TB, r *envoytest.Report, version string) (failed int) {
	t.Helper()
	others := map[string]int{}
	for _, result := range r.Results {
		switch {
		case result.Err != nil:
			others[result.Err.Error()]++
		case result.Status >= 400 && result.Version == version:
			failed++
		case result.Status >= 400:
			others[fmt.Sprintf("HTTP %d of %s", result.Status, result.Version)]++
		}
	}
	if len(others) > 0 {
		t.Errorf("requests failed that have nothing to do with %s: %v", version, others)
	}
	return failed
}

// scripted is the address of a version of which each request says in a header
// what to answer.
func scripted(t testing.TB, header string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		code := http.StatusOK
		_, _ = fmt.Sscan(r.Header.Get(header), &code)
		w.WriteHeader(code)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestJudgeAdvances has a candidate that keeps every limit take over by itself.
func TestJudgeAdvances(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "well", []string{"{traffic: 10%, for: 1s}", "{traffic: 50%, for: 1s}", "{traffic: 100%, for: 1s}"}, []string{
		"{metric: error_rate, max: 20%}", "{metric: error_rate, max_increase: 20pp}", "{metric: client_error_rate, max: 20%}",
		"{metric: latency_p50, max: 20s}", "{metric: latency_p50, max_increase: 10s}", "{metric: latency_mean, max: 20s}",
	})
	g, _ := court(t, c)
	load := c.load(t, 200)
	for i, percent := range []float64{10, 50, 100} {
		s := g.until(c, fmt.Sprintf("%v %%, judged", percent), func(s rollout.Status) bool {
			return s.Step == i && s.Weights["v2"] == percent && finding(s, "error_rate", "max").N > 0 && s.StepStarted != nil
		})
		if s.Phase != rollout.PhaseProgressing {
			t.Errorf("at %v %%: %+v", percent, s)
		}
	}
	contractOfGates(t, g.must("status", "well", "-o", "json"))
	g.phase(c, rollout.PhaseCompleted)
	r := clean(t, load)
	if back := r.Backwards("v1", "v2"); len(back) > 0 {
		t.Errorf("%d users went back, the first: %+v", len(back), back[0])
	}
	var began time.Time
	advanced := 0
	for _, r := range g.history("well") {
		switch r.Kind {
		case rollout.KindAcknowledged:
			began = r.Time
		case rollout.KindAdvanced, rollout.KindCompleted:
			advanced++
			if r.Actor != rollout.ActorJudge || !strings.Contains(r.Reason, "safe: error_rate max") {
				t.Errorf("%s by %s: %q", r.Kind, r.Actor, r.Reason)
			}
			if lasted := r.Time.Sub(began); lasted < 990*time.Millisecond {
				t.Errorf("%s after %s, want at least 1 s", r.Summary, lasted)
			}
		}
	}
	if advanced != 3 {
		t.Errorf("%d steps were ended, want 3", advanced)
	}
	if s := g.status("well"); s.Stable != "v2" {
		t.Errorf("stable is %s", s.Stable)
	}
	for _, want := range []string{"judge", "error_rate", "10% → 50%"} {
		for _, command := range []string{"history", "explain"} {
			if out := g.must(command, "well"); !strings.Contains(out, want) {
				t.Errorf("%s has no %q:\n%s", command, want, out)
			}
		}
	}
}

// contractOfGates checks the fields that scripts may rely on.
func contractOfGates(t *testing.T, status string) {
	t.Helper()
	var s struct {
		Gates []map[string]any `json:"gates"`
	}
	noError(t, json.Unmarshal([]byte(status), &s))
	if len(s.Gates) < 6 {
		t.Fatalf("gates: %s", status)
	}
	for _, gate := range s.Gates {
		for _, field := range []string{"metric", "verdict", "reason", "estimate", "low", "high", "limit", "n"} {
			if _, ok := gate[field]; !ok {
				t.Errorf("%v has no %q", gate["metric"], field)
			}
		}
		if v, ok := gate["verdict"].(string); !ok || !slices.Contains([]string{"safe", "breach", "waiting"}, v) {
			t.Errorf("%v: verdict %v", gate["metric"], gate["verdict"])
		}
		low, _ := gate["low"].(float64)
		high, ok := gate["high"].(float64)
		estimate, _ := gate["estimate"].(float64)
		if ok && (low > high || estimate < low || estimate > high) {
			t.Errorf("%v: %v is not from %v to %v", gate["metric"], estimate, low, high)
		}
	}
}
