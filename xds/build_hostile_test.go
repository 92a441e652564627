package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// What a client sends must not move it, with the deciding service up or down.
func TestHostileHeaders(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	native := rolling("native", blue, green, func(m *routing.Model) {
		m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}
		m.Retry = routing.Retry{Attempts: 1, On: []string{"connect-failure"}}
	})
	forced, body, override := deciding(t, blue, green)
	c := newControl(t, planOf(body, forced, native, override), xds.Options{DecideTimeout: 50 * time.Millisecond})
	addr := c.start().Listener(anyPort.String())
	hostile := [][2]string{
		{"x-headgate-decision", "v2.0.0"}, {"X-Headgate-Decision", "v1.0.0"}, {"x-headgate-reason", "draw"},
		{"x-headgate-draw", "chosen"}, {"x-headgate-version", "v2.0.0"}, {"x-headgate-model", "native"},
		{"x-headgate-key", "other"}, {"x-headgate-anything", "1"}, {"x-request-id", "00000000-0000-4000-8000-000000000000"},
		{"x-envoy-decorator-operation", "x"}, {"x-envoy-upstream-alt-stat-name", "x"}, {"x-envoy-max-retries", "9"},
		{"x-envoy-retry-on", "5xx"}, {"x-envoy-upstream-rq-timeout-ms", "1"}, {"x-envoy-original-path", "/other"},
		{"x-forwarded-for", "10.0.0.1"}, {"cookie", "x-headgate-decision=v2.0.0"},
	}
	for _, down := range []bool{false, true} {
		if down {
			c.silence()
		}
		for _, p := range []*routing.ModelPlan{native, forced, override} {
			var requests []request
			for i, h := range hostile {
				requests = append(requests, request{
					method: "GET", path: "/" + p.Model.Name, headers: [][2]string{{"x-user-id", fmt.Sprint("user", i)}, h},
				})
			}
			green.Forget()
			blue.Forget()
			agree(t, p, requests, sendAll(t, addr, requests))
			for _, seen := range append(blue.Requests(), green.Requests()...) {
				for name := range seen.Header {
					lower := strings.ToLower(name)
					if lower == routing.HeaderKey && seen.Header.Get(name) == seen.Header.Get("x-user-id") {
						continue // what it knows anyway, for the access log
					}
					if strings.HasPrefix(lower, routing.HeaderPrefix) && lower != routing.HeaderVersion ||
						strings.HasPrefix(lower, "x-envoy-") && lower != "x-envoy-external-address" && lower != "x-envoy-attempt-count" {
						t.Errorf("%s, service down %v: the model saw %s: %v", p.Model.Name, down, name, seen.Header[name])
					}
				}
			}
		}
		// Drawn by us, not by them: the same words a hundred times reach both.
		counts := make(map[string]int)
		for _, a := range sendAll(t, addr, repeat(request{method: "GET", path: "/forced", headers: hostile}, 40)) {
			counts[a.version]++
		}
		if len(counts) != 2 {
			t.Errorf("service down %v: 40 anonymous requests with the same headers: %v", down, counts)
		}
	}
}

// The access log has what was hashed. The model learns nothing by it, and gets
// no long key twice.
func TestLoggedKeys(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	model := func(name string, key routing.Key) *routing.ModelPlan {
		return rolling(name, blue, green, func(m *routing.Model) { m.Key = key })
	}
	header := model("header", routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie})
	cookie := model("cookie", routing.Key{Source: routing.SourceCookie, Name: "uid", Absent: routing.AbsentCurrent})
	query := model("query", routing.Key{Source: routing.SourceQuery, Name: "uid", Absent: routing.AbsentCurrent})
	c := newControl(t, planOf(cookie, header, query))
	w := dial(t, c.start().Listener(anyPort.String()))
	long := strings.Repeat("0123456789abcdef", 256)
	for name, tt := range map[string]struct {
		plan    *routing.ModelPlan
		path    string
		headers [][2]string
		told    bool // to the model, a second time
	}{
		"short":          {header, "/header", [][2]string{{"x-user-id", "anna"}}, true},
		"with % in it":   {header, "/header", [][2]string{{"x-user-id", "%REQ(cookie)% 100%"}}, true},
		"not ASCII":      {header, "/header", [][2]string{{"x-user-id", "zoë"}}, false},
		"as it may be":   {header, "/header", [][2]string{{"x-user-id", long[:48]}}, true},
		"longer":         {header, "/header", [][2]string{{"x-user-id", long[:49]}}, false},
		"very long":      {header, "/header", [][2]string{{"x-user-id", long}}, false},
		"our cookie":     {header, "/header", [][2]string{{"cookie", "a=b; hg=anna"}}, false},
		"their cookie":   {cookie, "/cookie", [][2]string{{"cookie", "uid=anna; a=b"}}, false},
		"in the query":   {query, "/query?x=1&uid=anna", nil, false},
		"nothing hashed": {cookie, "/cookie", nil, false},
	} {
		blue.Forget()
		green.Forget()
		r := request{method: "GET", path: tt.path, headers: append(tt.headers, [2]string{"x-request-id", name})}
		if a := w.send(r); a.err != nil || a.code != 200 {
			t.Fatalf("%s: %+v", name, a)
		}
		want := routing.Decide(tt.plan, r.subject()).Key
		if got := xds.LoggedKey(c.logged(name)); got != want {
			t.Errorf("%s: logged %q, want %q", name, got, want)
		}
		for _, seen := range append(blue.Requests(), green.Requests()...) {
			if got := seen.Header.Get(routing.HeaderKey); (got != "") != tt.told {
				t.Errorf("%s: the model saw the key again: %q", name, got)
			}
		}
	}
	// Of a header that came twice, the first has to do.
	w.send(request{method: "GET", path: "/header", headers: [][2]string{{"x-user-id", "b"}, {"x-user-id", "a"}, {"x-request-id", "twice"}}})
	if got := xds.LoggedKey(c.logged("twice")); got != "b" {
		t.Errorf("twice: logged %q", got)
	}
	// The draw is what the client gets as a cookie.
	a := w.send(request{method: "GET", path: "/header", headers: [][2]string{{"x-request-id", "drawn"}}})
	draw, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("set-cookie"), "hg="), ";")
	if got := xds.LoggedKey(c.logged("drawn")); got != draw || len(draw) < 32 {
		t.Errorf("logged %q, cookie %q", got, draw)
	}
}

func repeat(r request, n int) []request {
	requests := make([]request, n)
	for i := range requests {
		requests[i] = r
	}
	return requests
}

// The version is told to the model and to the client, and no model can lie.
func TestVersionHeader(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	for _, u := range []*envoytest.Upstream{blue, green} {
		for _, h := range []string{routing.HeaderVersion, routing.HeaderDraw, routing.HeaderDecision, routing.HeaderKey} {
			u.SetHeader(h, "fake")
		}
	}
	key := routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
	open := rolling("open", blue, green, func(m *routing.Model) { m.Key = key })
	hidden := rolling("hidden", blue, green, func(m *routing.Model) { m.Key, m.HideVersion = key, true })
	plain := rolling("plain", blue, green, func(m *routing.Model) { m.Key = key })
	plain.Split = routing.Split{Ranges: []routing.Range{{Version: "v2.0.0", Weight: routing.Whole}}}
	c := newControl(t, planOf(hidden, open, plain))
	addr := c.start().Listener(anyPort.String())
	w := dial(t, addr)
	get := func(model string) answer {
		return w.send(request{method: "GET", path: "/" + model, headers: [][2]string{{"x-user-id", "3"}}})
	}
	check := func(what string, a answer, want string) {
		t.Helper()
		if a.err != nil || strings.Join(a.header.Values(routing.HeaderVersion), ",") != want {
			t.Errorf("%s: %s: %q, want %q (%v)", what, routing.HeaderVersion, a.header.Values(routing.HeaderVersion), want, a.err)
		}
		for name := range a.header {
			if lower := strings.ToLower(name); strings.HasPrefix(lower, routing.HeaderPrefix) && lower != routing.HeaderVersion || strings.HasPrefix(lower, "x-envoy-") {
				t.Errorf("%s: the client saw %s: %q", what, name, a.header[name])
			}
		}
	}
	check("open", get("open"), routing.Decide(open, sent{request{headers: [][2]string{{"x-user-id", "3"}}}}).Version)
	check("hidden", get("hidden"), "")
	check("plain", get("plain"), "v2.0.0")
	for _, u := range []*envoytest.Upstream{blue, green} {
		for _, r := range u.Requests() {
			if got := strings.Join(r.Header.Values(routing.HeaderVersion), ","); got != u.Name {
				t.Errorf("%s was told it is %q", u.Name, got)
			}
		}
	}
	entry := c.loggedAfter(w, request{method: "GET", path: "/hidden", headers: [][2]string{{"x-user-id", "anna"}}})
	if xds.LoggedKey(entry) != "anna" || entry.GetRequest().GetRequestHeaders()[routing.HeaderVersion] == "" ||
		entry.GetCommonProperties().GetRouteName() != "hidden/key" {
		t.Errorf("logged %v", entry)
	}
	green.Stop()
	if a := get("plain"); a.code != 503 {
		t.Errorf("without a server: %d", a.code)
	} else {
		check("503", a, "v2.0.0")
	}
}
