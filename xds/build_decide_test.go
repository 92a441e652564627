package xds_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// bodied is a request whose JSON body the ext_proc service may see.
type bodied struct{ request }

func (b bodied) Header(name string, i int) (string, bool) { return sent(b).Header(name, i) }

func (b bodied) Body(path routing.Path) (string, bool) {
	var body map[string]any
	if json.Unmarshal([]byte(b.body), &body) != nil || body[path[0].Name] == nil {
		return "", false
	}
	return fmt.Sprint(body[path[0].Name]), true
}

func mustPath(t *testing.T, s string) routing.Path {
	t.Helper()
	p, err := routing.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// deciding are models that need the ext_proc service, each in its own way.
func deciding(t *testing.T, blue, green *envoytest.Upstream) (forced, body, override *routing.ModelPlan) {
	user := mustPath(t, "$.user")
	forced = rolling("forced", blue, green, func(m *routing.Model) {
		m.Decide = routing.DecideExtProc
		m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
		m.Overrides = []routing.Override{{
			Condition: routing.Condition{Source: routing.SourceQuery, Name: "canary", Op: routing.OpPresent}, Version: "v2.0.0",
		}}
	})
	body = rolling("body", blue, green, func(m *routing.Model) {
		m.Key = routing.Key{Source: routing.SourceBody, Name: "$.user", Path: user, Absent: routing.AbsentCookie}
	})
	override = rolling("override", blue, green, func(m *routing.Model) {
		m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}
		m.Overrides = []routing.Override{
			{Condition: routing.Condition{Source: routing.SourceHeader, Name: "x-old", Op: routing.OpPresent}, Version: "v1.0.0"},
			{Condition: routing.Condition{Source: routing.SourceBody, Name: "$.user", Path: user, Op: routing.OpEquals, Value: "7"}, Version: "v2.0.0"},
			{Condition: routing.Condition{Source: routing.SourceHeader, Name: "x-new", Op: routing.OpPresent}, Version: "v2.0.0"},
		}
	})
	return forced, body, override
}

func forcedRequests(n int) []request {
	requests := make([]request, n)
	for i := range requests {
		requests[i] = request{method: "GET", path: "/forced", headers: [][2]string{{"x-user-id", fmt.Sprint("user", i)}}}
		if i%5 == 0 {
			requests[i].path += "?canary=1"
		}
	}
	return requests
}

func bodyRequests(n int) []request {
	requests := make([]request, n)
	for i := range requests {
		requests[i] = request{method: "POST", path: "/body", body: fmt.Sprintf(`{"user": "u%d", "inputs": [1]}`, i)}
	}
	return requests
}

func overrideRequests(n int) []request {
	requests := make([]request, n)
	for i := range requests {
		requests[i] = request{method: "POST", path: "/override", body: fmt.Sprintf(`{"user": %d}`, i%10)}
		requests[i].headers = [][2]string{{"x-user-id", fmt.Sprint(i)}}
		switch i % 4 {
		case 1:
			requests[i].headers = append(requests[i].headers, [2]string{"x-old", "1"})
		case 2:
			requests[i].headers = append(requests[i].headers, [2]string{"x-new", "1"})
		}
	}
	return requests
}

// agreeWithBody is agree for requests whose body can be seen.
func agreeWithBody(t *testing.T, p *routing.ModelPlan, requests []request, answers []answer) {
	t.Helper()
	for i, a := range answers {
		if want := routing.Decide(p, bodied{requests[i]}); a.version != want.Version {
			t.Fatalf("%+v: Envoy chose %q, Decide %+v", requests[i], a.version, want)
		}
	}
}

func TestDecidingService(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	forced, body, override := deciding(t, blue, green)
	c := newControl(t, planOf(body, forced, override))
	e := c.start()
	addr := e.Listener(anyPort.String())

	agree(t, forced, forcedRequests(200), sendAll(t, addr, forcedRequests(200)))
	agreeWithBody(t, body, bodyRequests(200), sendAll(t, addr, bodyRequests(200)))
	agreeWithBody(t, override, overrideRequests(200), sendAll(t, addr, overrideRequests(200)))
	if c.asked() != 200+200+150 { // a rule before the one on the body needs nobody
		t.Errorf("the service was asked %d times", c.asked())
	}
	anonymousByService(t, c, addr, forced)
	anonymousByService(t, c, addr, body)

	entry := c.loggedAfter(dial(t, addr), request{method: "POST", path: "/body", body: `{"user":"anna"}`})
	if got := xds.LoggedKey(entry); got != "anna" {
		t.Errorf("logged key %q", got)
	}
	if model, why, _ := xds.ParseRouteName(entry.GetCommonProperties().GetRouteName()); model != "body" || why != "decided" {
		t.Errorf("logged route %q", entry.GetCommonProperties().GetRouteName())
	}
}

// anonymousByService checks that who has no key keeps the version of the first
// answer.
func anonymousByService(t *testing.T, c *control, addr string, p *routing.ModelPlan) {
	t.Helper()
	first := make([]request, 100)
	for i := range first {
		first[i] = request{method: "GET", path: "/" + p.Model.Name}
	}
	answers := sendAll(t, addr, first)
	counts := make(map[string]int)
	for i, a := range answers {
		counts[a.version]++
		value, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("set-cookie"), routing.CookieName+"="), ";")
		if len(value) < 32 {
			t.Fatalf("%s: set-cookie: %q", p.Model.Name, a.header.Get("set-cookie"))
		}
		first[i].headers = [][2]string{{"cookie", routing.CookieName + "=" + value}}
	}
	if len(counts) != 2 {
		t.Errorf("%s: first answers by %v", p.Model.Name, counts)
	}
	for i, a := range sendAll(t, addr, first) {
		if a.version != answers[i].version || a.header.Get("set-cookie") != "" {
			t.Fatalf("%s: first %s, then %s with set-cookie %q", p.Model.Name, answers[i].version, a.version, a.header.Get("set-cookie"))
		}
	}
}

// Without an answer of the service, what Envoy can read is decided by Envoy,
// and the rest gets the version with the larger weight.
func TestUndecided(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	forced, body, override := deciding(t, blue, green)
	c := newControl(t, planOf(body, forced, override), xds.Options{DecideTimeout: 50 * time.Millisecond})
	e := c.start()
	addr := e.Listener(anyPort.String())
	c.silence()

	counts := agree(t, forced, forcedRequests(60), sendAll(t, addr, forcedRequests(60)))
	if len(counts) != 2 {
		t.Errorf("forced: %v", counts)
	}
	for i, a := range sendAll(t, addr, overrideRequests(40)) {
		// Decide without the body: the rule on it does not hold.
		if want := routing.Decide(override, overrideRequests(40)[i].subject()); a.version != want.Version {
			t.Errorf("override %d: %s, want %+v", i, a.version, want)
		}
	}
	for _, s := range []routing.Share{3000, 6000, 5000} {
		moving := moved(body, s)
		c.await(c.publish(planOf(moving, forced, override)))
		for _, a := range sendAll(t, addr, bodyRequests(16)) {
			if a.version != moving.Split.Heaviest() {
				t.Fatalf("at %s undecided requests got %s", s, a.version)
			}
		}
	}
	const prefix = "http.127_0_0_1_0.ext_proc.decide."
	stats := e.Stats(prefix)
	if n := stats[prefix+"message_timeouts"]; n < 100 || n != stats[prefix+"failure_mode_allowed"] {
		t.Errorf("Envoy counted %v", stats)
	}
}

// A body whose length is not announced, or too large, is not held.
func TestUnseenBodies(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	_, body, _ := deciding(t, blue, green)
	addr := newControl(t, planOf(body)).start().Listener(anyPort.String())
	large := request{method: "POST", path: "/body", body: `{"user":"u1","x":"` + strings.Repeat("x", 3<<20) + `"}`}
	if a := dial(t, addr).send(large); a.code != http.StatusOK || a.version != "v1.0.0" {
		t.Errorf("3 MiB: %+v, want the larger version", a)
	}
	limit := request{method: "POST", path: "/body", body: `{"user":"u1","x":"` + strings.Repeat("x", 512<<10-20) + `"}`}
	want := routing.Decide(body, bodied{limit}).Version
	if a := dial(t, addr).send(limit); a.code != http.StatusOK || a.version != want {
		t.Errorf("512 KiB: %+v, want %s", a, want)
	}
	expect := request{method: "POST", path: "/body", body: `{"user":"u3"}`, headers: [][2]string{{"expect", "100-continue"}}}
	if a := dial(t, addr).send(expect); a.code != http.StatusContinue {
		t.Errorf("expect: %+v, want 100 first", a)
	}
	chunked, err := http.NewRequest(http.MethodPost, "http://"+addr+"/body", struct{ *strings.Reader }{strings.NewReader(`{"user":"u1"}`)})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(chunked)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || resp.Header.Get(routing.HeaderVersion) != "v1.0.0" {
		t.Errorf("chunked: %d by %s, want the larger version", resp.StatusCode, resp.Header.Get(routing.HeaderVersion))
	}
}
