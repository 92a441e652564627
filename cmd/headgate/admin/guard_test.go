package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
	"github.com/headgate/headgate/routing/rollout"
)

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t *testing.T) admin.Problem {
	t.Helper()
	var p admin.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%d %q: no problem: %v", a.status, a.body, err)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" || p.Status != a.status || p.Title == "" || p.Detail == "" {
		t.Fatalf("%s: %+v of a %d: not as RFC 9457 has it", ct, p, a.status)
	}
	return p
}

type edit func(*http.Request)

func bearer(token string) edit { return set("Authorization", "Bearer "+token) }

func set(name, value string) edit {
	return func(r *http.Request) {
		if name == "Host" {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

// call sends a request to the gate, over its socket.
func call(t *testing.T, g *admintest.Gate, method, path, body string, edits ...edit) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, g.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edits {
		e(req)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		network, address, err := admin.ParseAddress(g.Address)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(content)}
}

// TestRoles asks for every route with every role, no token and a wrong one.
func TestRoles(t *testing.T) {
	content, secrets := allRoles()
	tokens, _ := loadTokens(t, content)
	g := admintest.Start(t, admintest.Options{Tokens: tokens, Metrics: http.NotFoundHandler()})
	rank := map[admin.Role]int{admin.RoleNone: 0, admin.RoleViewer: 1, admin.RoleOperator: 2, admin.RoleAdmin: 3}
	wanted := map[string]admin.Role{
		"/livez": admin.RoleNone, "/readyz": admin.RoleNone,
		"/metrics": admin.RoleViewer, "/v1/models": admin.RoleViewer, "/v1/models/{model}": admin.RoleViewer,
		"/v1/models/{model}/history": admin.RoleViewer, "/v1/models/{model}/decision": admin.RoleViewer, "/v1/events": admin.RoleViewer, "/v1/envoys": admin.RoleViewer,
		"/v1/config": admin.RoleViewer, "/v1/config/check": admin.RoleOperator, "/v1/openapi.json": admin.RoleViewer, "/v1/version": admin.RoleViewer,
		"/v1/models/{model}/promote": admin.RoleOperator, "/v1/models/{model}/pause": admin.RoleOperator,
		"/v1/models/{model}/resume": admin.RoleOperator, "/v1/models/{model}/rollback": admin.RoleOperator,
		"/v1/models/{model}/retry": admin.RoleOperator, "/v1/models/{model}/skip": admin.RoleOperator,
		"/v1/models/{model}/adopt": admin.RoleAdmin,
	}
	for _, route := range g.Server.Routes() {
		needed, known := wanted[route.Path]
		if !known {
			t.Errorf("%s: is not in this test", route.Path)
		}
		delete(wanted, route.Path)
		if route.Path == "/v1/events" {
			continue // an answer without end, see the tests of events
		}
		// No such model: whoever is let in gets 404, or 200 from other routes.
		path := strings.ReplaceAll(route.Path, "{model}", "nobody")
		for _, as := range []struct {
			name   string
			secret string
			role   admin.Role
		}{
			{"nobody", "", admin.RoleNone}, {"a stranger", "wrong", admin.RoleNone},
			{"viewer", secrets[admin.RoleViewer], admin.RoleViewer},
			{"operator", secrets[admin.RoleOperator], admin.RoleOperator},
			{"admin", secrets[admin.RoleAdmin], admin.RoleAdmin},
		} {
			var edits []edit
			if as.secret != "" {
				edits = append(edits, bearer(as.secret))
			}
			got := call(t, g, route.Method, path, "{}", edits...)
			let := got.status != http.StatusUnauthorized && got.status != http.StatusForbidden
			if want := rank[as.role] >= rank[needed]; let != want {
				t.Errorf("%s %s as %s: %d, want it let in: %t", route.Method, path, as.name, got.status, want)
			}
			switch {
			case let:
			case as.role == admin.RoleNone && (got.status != 401 || got.header.Get("WWW-Authenticate") == ""):
				t.Errorf("%s as %s: %d %v, want 401 with a challenge", path, as.name, got.status, got.header)
			case as.role != admin.RoleNone && got.status != 403:
				t.Errorf("%s as %s: %d, want 403", path, as.name, got.status)
			default:
				got.problem(t)
			}
		}
	}
	if len(wanted) > 0 {
		t.Errorf("these routes are not there: %v", wanted)
	}
}

func TestHowTokensAreSent(t *testing.T) {
	content, secrets := allRoles()
	tokens, _ := loadTokens(t, content)
	g := admintest.Start(t, admintest.Options{Tokens: tokens})
	good := secrets[admin.RoleAdmin]
	for header, want := range map[string]int{
		"Bearer " + good:                        200,
		"bearer " + good:                        200,
		"Basic " + good:                         401,
		good:                                    401,
		"Bearer":                                401,
		"Bearer ":                               401,
		"Bearer " + good + "x":                  401,
		"Bearer " + strings.Repeat("x", 10_000): 401,
	} {
		if got := call(t, g, "GET", "/v1/models", "", set("Authorization", header)); got.status != want {
			t.Errorf("Authorization: %.60s: %d, want %d", header, got.status, want)
		}
	}
	if got := call(t, g, "GET", "/v1/models?token="+good+"&access_token="+good, ""); got.status != 401 {
		t.Errorf("a token in the query: %d, want 401", got.status)
	}
	if log := g.Log.String(); strings.Contains(log, good) {
		t.Errorf("the log has a token:\n%s", log)
	}
}

// TestForeignPages sends what a page of another origin can make a browser send.
func TestForeignPages(t *testing.T) {
	g := admintest.Start(t, admintest.Options{Names: []string{"Gate.internal"}})
	port := g.Address[strings.LastIndex(g.Address, ":"):]
	const pause = "/v1/models/churn/pause"
	for _, tc := range []struct {
		name, method, path string
		edits              []edit
		want               int
	}{
		{"plain", "POST", pause, nil, 200},
		{"other origin", "POST", pause, []edit{set("Origin", "https://evil.example")}, 403},
		{"other port of this host", "POST", pause, []edit{set("Origin", "http://127.0.0.1:1")}, 403},
		{"opaque origin", "POST", pause, []edit{set("Origin", "null")}, 403},
		{"cross-site by fetch metadata", "POST", pause, []edit{set("Sec-Fetch-Site", "cross-site")}, 403},
		{"same-site by fetch metadata", "POST", pause, []edit{set("Sec-Fetch-Site", "same-site")}, 403},
		{"same origin", "POST", pause, []edit{set("Sec-Fetch-Site", "same-origin"), set("Origin", g.URL)}, 409},
		{"same origin, old browser", "POST", pause, []edit{set("Origin", g.URL)}, 409},
		{"a form", "POST", pause, []edit{set("Content-Type", "application/x-www-form-urlencoded")}, 415},
		{"a form as text", "POST", pause, []edit{set("Content-Type", "text/plain")}, 415},
		{"no type", "POST", pause, []edit{func(r *http.Request) { r.Header.Del("Content-Type") }}, 415},
		{"a type that only begins well", "POST", pause, []edit{set("Content-Type", "application/jsonp")}, 415},
		{"JSON with a charset", "POST", pause, []edit{set("Content-Type", "application/json; charset=utf-8")}, 409},
		{"an image", "GET", "/v1/models/churn", []edit{set("Sec-Fetch-Site", "cross-site")}, 200},
		{"by GET", "GET", pause, nil, 405},
		{"by PUT", "PUT", pause, nil, 405},
		{"preflight", "OPTIONS", pause, []edit{set("Origin", "https://evil.example")}, 405},
		{"rebound name", "GET", "/v1/models", []edit{set("Host", "evil.example"+port)}, 421},
		{"rebound name, POST", "POST", pause, []edit{set("Host", "evil.example"+port)}, 421},
		{"rebound name that begins well", "GET", "/v1/models", []edit{set("Host", "localhost.evil.example")}, 421},
		{"rebound name with an address in it", "GET", "/v1/models", []edit{set("Host", "127.0.0.1.evil.example")}, 421},
		{"health by a rebound name", "GET", "/readyz", []edit{set("Host", "evil.example")}, 421},
		{"localhost", "GET", "/v1/models", []edit{set("Host", "LocalHost"+port)}, 200},
		{"localhost without a port", "GET", "/v1/models", []edit{set("Host", "localhost.")}, 200},
		{"IPv6", "GET", "/v1/models", []edit{set("Host", "[::1]"+port)}, 200},
		{"IPv6 without a port", "GET", "/v1/models", []edit{set("Host", "[::1]")}, 200},
		{"a name of ours", "GET", "/v1/models", []edit{set("Host", "gate.INTERNAL"+port)}, 200},
		{"nothing there", "GET", "/v2", nil, 404},
		{"climbing", "GET", "/v1/models/..%2f..%2fetc%2fpasswd", nil, 404},
	} {
		got := call(t, g, tc.method, tc.path, "{}", tc.edits...)
		if got.status != tc.want {
			t.Errorf("%s: %d %s; want %d", tc.name, got.status, got.body, tc.want)
			continue
		}
		if got.status != 200 {
			got.problem(t)
		}
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy":     "default-src 'none'; frame-ancestors 'none'",
			"Access-Control-Allow-Origin": "",
		} {
			if h := got.header.Get(name); h != want {
				t.Errorf("%s: %s: %q, want %q", tc.name, name, h, want)
			}
		}
	}
	// One pause was let through, the refused ones changed nothing.
	paused := 0
	for _, r := range g.Journal.Records() {
		if r.Kind == rollout.KindPaused {
			paused++
		}
	}
	if paused != 1 {
		t.Errorf("paused %d times, want once", paused)
	}
}

func TestUnixSocketTakesAnyHost(t *testing.T) {
	g := admintest.Start(t, admintest.Options{Address: "unix:" + filepath.Join(t.TempDir(), "s")})
	if got := call(t, g, "GET", "/v1/models", "", set("Host", "whatever")); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := call(t, g, "POST", "/v1/models/churn/pause", "{}"); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestHostileBodies(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	const pause = "/v1/models/churn/pause"
	for _, tc := range []struct {
		name, path, body string
		want             int
		detail           string
	}{
		{"no JSON", pause, "reason", 400, "invalid character"},
		{"half", pause, `{"reason":`, 400, "unexpected EOF"},
		{"two values", pause, `{} {}`, 400, "must be one JSON value"},
		{"unknown field", pause, `{"raison":"x"}`, 400, `unknown field "raison"`},
		{"wrong type", pause, `{"reason":1}`, 400, "cannot unmarshal number"},
		{"deep", pause, strings.Repeat("[", 30_000), 400, "body:"},
		{"huge", pause, `{"reason":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "must be at most 65536 bytes"},
		{"long reason", pause, `{"reason":"` + strings.Repeat("x", 2000) + `"}`, 400, "reason: must be at most 1024 bytes"},
		{"a version for pause", pause, `{"version":"v1"}`, 400, "version: pause takes none"},
		{"no version for adopt", "/v1/models/churn/adopt", `{}`, 400, "version: must say"},
		{"nothing to adopt", "/v1/models/churn/adopt", `{"version":"v1"}`, 409, "nothing to adopt"},
		{"no such model", "/v1/models/nobody/pause", `{}`, 404, `there is no model "nobody"`},
		{"a name with line ends", "/v1/models/a%0d%0ab%1b%5b2J/pause", `{}`, 404, `there is no model "a\r\nb\x1b[2J"`},
	} {
		got := call(t, g, "POST", tc.path, tc.body)
		p := got.problem(t)
		if got.status != tc.want || !strings.Contains(p.Detail, tc.detail) {
			t.Errorf("%s: %d %q; want %d %q", tc.name, got.status, p.Detail, tc.want, tc.detail)
		}
	}
	if got := call(t, g, "POST", pause, ""); got.status != 200 {
		t.Errorf("an empty body: %d %s; want 200", got.status, got.body)
	}
	chunked := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(io.LimitReader(spaces{}, 1<<20)), -1 }
	if got := call(t, g, "POST", pause, "", chunked); got.status != 413 {
		t.Errorf("a huge body of unknown length: %d %s; want 413", got.status, got.body)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestHugeAndSlowHeaders(t *testing.T) {
	t.Parallel()
	g := admintest.Start(t, admintest.Options{})
	conn, err := net.Dial("tcp", g.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	if !strings.Contains(line, "431") {
		t.Errorf("a megabyte of headers: %q, want 431", line)
	}
	slow, err := net.Dial("tcp", g.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	began := time.Now()
	_ = slow.SetDeadline(began.Add(20 * time.Second))
	_, _ = io.WriteString(slow, "GET /livez HTTP/1.1\r\nHost: local")
	_, _ = io.ReadAll(slow)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("headers that never end were waited for %v, want about 5 s", took)
	}
}

func TestLogLinesCannotBeForged(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	call(t, g, "GET", "/v1/x%0d%0alevel=ERROR%20msg=forged%1b[2J", "", set("Host", "evil.example"))
	log := g.Log.String()
	if !strings.Contains(log, "admin request refused") {
		t.Fatalf("nothing was logged:\n%s", log)
	}
	if strings.Count(log, "\n") != 1 || strings.ContainsAny(log, "\r\x1b") {
		t.Errorf("the log has a line or a code that the client made:\n%q", log)
	}
}
