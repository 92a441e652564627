package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// TestFaultHostileClients sends everything that could move a request, with the
// ext_proc service up and away: the version stays what the user's key says, and
// the models see none of it.
func TestFaultHostileClients(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	native := modelFile{name: "native", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1), at("v2", v2)}}
	native.key = "{header: x-user-id, absent: cookie}"
	asked := native
	asked.name, asked.extra = "asked", []string{"decide: ext_proc"}
	g := newGate(t, "serve")
	g.put(native, asked)
	g.start().up()
	g.envoyOf("one")
	native, asked = g.rolling(native, 30), g.rolling(asked, 30)
	g.listens(native.url())
	hostile := [][2]string{
		{"x-headgate-decision", "v2"}, {"X-HeadGate-Decision", "v1"}, {"x-headgate-reason", "draw"}, {"x-headgate-draw", "chosen"},
		{"x-headgate-version", "v2"}, {"x-headgate-model", "native"}, {"x-headgate-key", "other"}, {"x-headgate-other", "1"},
		{"x-request-id", "00000000-0000-4000-8000-000000000000"}, {"x-envoy-original-path", "/native"},
		{"x-envoy-upstream-alt-stat-name", "x"}, {"x-envoy-retry-on", "5xx"}, {"x-envoy-upstream-rq-timeout-ms", "1"},
		{"x-envoy-decorator-operation", "x"}, {"x-envoy-internal", "true"}, {"x-forwarded-for", "127.0.0.1"},
		{"cookie", "hg=forged; x-headgate-decision=v2"}, {"te", "trailers"},
	}
	for _, away := range []bool{false, true} {
		if away {
			g.kill()
		}
		for _, m := range []modelFile{native, asked} {
			want := splitOf(m.name, 1, 3000)
			for i, u := range userIDs(60) {
				headers := []string{"x-user-id", u}
				for j, h := range hostile {
					if i >= len(hostile) || i == j { // each alone, then all together
						headers = append(headers, h[0], h[1])
					}
				}
				status, got, err := post(m.url(), "{}", headers...)
				if err != nil || status != http.StatusOK || got != want(u) {
					t.Errorf("%s, headgate away %v, %s with %v: HTTP %d, %s, %v, want %s", m.name, away, u, headers, status, got, err, want(u))
				}
			}
		}
	}
	for name, u := range map[string]*envoytest.Upstream{"v1": v1, "v2": v2} {
		for _, r := range u.Requests() {
			seesNothing(t, name, r.Header)
		}
	}
}

// seesNothing fails the test when a model was told something that clients made
// up, or what is between headgate and Envoy only.
func seesNothing(t *testing.T, version string, header http.Header) {
	t.Helper()
	for name, values := range header {
		lower := strings.ToLower(name)
		switch {
		case lower == routing.HeaderVersion:
			if len(values) != 1 || values[0] != version {
				t.Errorf("%s was told that it is %v", version, values)
			}
		case lower == routing.HeaderKey:
			// The key on its way to the access log: what the client itself sent as its
			// key, never what it said in our name.
			if user := header.Get("x-user-id"); len(values) != 1 || values[0] == "other" || user != "" && values[0] != user {
				t.Errorf("%s saw %s: %v of user %q", version, name, values, user)
			}
		case strings.HasPrefix(lower, routing.HeaderPrefix),
			strings.HasPrefix(lower, "x-envoy-") && lower != "x-envoy-external-address":
			t.Errorf("%s saw %s: %v", version, name, values)
		}
	}
}

// TestFaultVersionHeader names the version to clients, also when Envoy answers
// by itself, unless the file says no; a model cannot name another.
func TestFaultVersionHeader(t *testing.T) {
	t.Parallel()
	v1 := envoytest.NewUpstream(t, "v1")
	v1.SetHeader(routing.HeaderVersion, "liar")
	told := modelFile{name: "told", port: envoytest.FreePort(t), release: "v1", versions: []string{at("v1", v1)}}
	hidden := told
	hidden.name, hidden.extra = "hidden", []string{"version_header: false"}
	g := newGate(t, "run")
	g.put(told, hidden)
	g.start().ready()
	g.serving("told", "v1", 100)
	g.serving("hidden", "v1", 100)
	g.listens(told.url())
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		if status != http.StatusOK {
			v1.Stop()
		}
		for m, want := range map[string][]string{told.url(): {"v1"}, hidden.url(): nil} {
			resp, _ := do(t, request(t, "POST", m, strings.NewReader("{}")))
			if got := resp.Header.Values(routing.HeaderVersion); resp.StatusCode != status || !cmp.Equal(got, want) {
				t.Errorf("%s: HTTP %d, version %q; want %d, %q", m, resp.StatusCode, got, status, want)
			}
		}
	}
	for _, r := range v1.Requests() {
		if got := r.Header.Values(routing.HeaderVersion); !cmp.Equal(got, []string{"v1"}) {
			t.Errorf("the model is told %q", got)
		}
	}
}
