package extproc_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// candidateUser returns a user whom a plan gives to v2, which is not where
// undecided requests go.
func candidateUser(t testing.TB, p *routing.ModelPlan) string {
	t.Helper()
	for _, u := range users(1000) {
		if p.Split.Version(routing.Bucket(p.Split.Salt, u)) == "v2" {
			return u
		}
	}
	t.Fatal("no user for v2")
	return ""
}

// eachUser asks as many users, and fails the test for each who gets another
// version than want says. The body is the user's id when key is "body".
func eachUser(t *testing.T, p *proxy, path string, list []string, want func(user string) string) {
	t.Helper()
	var workers sync.WaitGroup
	for part := range 4 {
		workers.Go(func() {
			for i := part; i < len(list); i += 4 {
				user := list[i]
				got, _ := p.ask(t, "POST", path, fmt.Sprintf(`{"x":[1,2],"user":{"id":%q}}`, user), func(r *http.Request) {
					r.Header.Set("x-user-id", user)
				})
				if w := (reply{200, want(user)}); got != w {
					t.Errorf("user %s: got %+v, want %+v", user, got, w)
					return
				}
			}
		})
	}
	workers.Wait()
}

func bucketVersion(m *routing.ModelPlan) func(string) string {
	return func(user string) string { return m.Split.Version(routing.Bucket(m.Split.Salt, user)) }
}

// The users get from ext_proc what they get from Envoy's own split, and both
// are what Decide says.
func TestSameAsNative(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, nil)
	service := serve(t, socket, model)
	p := startProxyWith(t, socket, func(config string) string {
		return strings.Replace(config, "              routes:\n", "              routes:\n"+nativeRoute, 1)
	})
	list := users(2000)
	eachUser(t, p, "/native", list, bucketVersion(model))
	eachUser(t, p, "/predict", list, bucketVersion(model))
	var decided uint64
	for _, d := range service.Counters().Decisions {
		if d.Reason == routing.ReasonKey {
			decided += d.Count
		}
	}
	if decided != uint64(len(list)) {
		t.Errorf("%d decisions by key, want %d: %+v", decided, len(list), service.Counters())
	}
}

const nativeRoute = `
              - match: {prefix: /native, headers: [{name: x-user-id, string_match: {safe_regex: {regex: .+}}}]}
                route:
                  hash_policy:
                  - header: {header_name: x-user-id, regex_rewrite: {pattern: {regex: ^(.+)$}, substitution: 'churn-r1/\1'}}
                  weighted_clusters:
                    use_hash_policy: true
                    clusters: [{name: churn/v2, weight: 3000}, {name: churn/v1, weight: 7000}]
`

func TestBodyKey(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, bodyKey)
	service := serve(t, socket, model)
	p := startProxy(t, socket)
	eachUser(t, p, "/", users(500), bucketVersion(model))
	if n := service.Counters().Undecided(); n != 0 {
		t.Errorf("%d undecided", n)
	}
	// A share that moves counts from the next request on.
	moved := churn(6000, bodyKey)
	service.Publish(planOf(moved))
	eachUser(t, p, "/", users(500), bucketVersion(moved))
	if r := p.candidate.Requests()[0]; r.Header.Get("content-length") == "" || !strings.Contains(string(r.Body), "user-0") {
		t.Errorf("the request did not pass unchanged: %+v", r)
	}
}

// Every body arrives whole at a version that the plan can explain, however it
// is sent.
func TestRequestShapes(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, bodyKey)
	serve(t, socket, model)
	user := candidateUser(t, model)
	body := fmt.Sprintf(`{"user":{"id":%q}}`, user)
	large := fmt.Sprintf(`{"user":{"id":%q},"x":%q}`, user, strings.Repeat("a", 3<<20))
	tests := []struct {
		name, method, body string
		prepare            func(*http.Request)
		want               string
	}{
		{"whole", "POST", body, nil, "v2"},
		{"PUT", "PUT", body, nil, "v2"},
		{"other content type", "POST", body, header("content-type", "text/plain"), "v2"},
		{"expects 100-continue", "POST", body, header("expect", "100-continue"), "v2"},
		{"identity encoding", "POST", body, header("content-encoding", "identity"), "v2"},
		{"chunked", "POST", body, chunked, "v1"},
		{"chunked and large", "POST", large, chunked, "v1"},
		{"chunked with trailers", "POST", body, withTrailer, "v1"},
		{"over the limit", "POST", large, nil, "v1"},
		{"GET", "GET", "", nil, "v1"},
		{"HEAD", "HEAD", "", nil, "v1"},
		{"GET with a body", "GET", body, nil, "v2"},
		{"empty", "POST", "", nil, "v1"},
		{"no such member", "POST", `{"user":{}}`, nil, "v1"},
		{"not JSON", "POST", `user.id=` + user, nil, "v1"},
		{"cut off", "POST", body[:len(body)-1], nil, "v1"},
		{"gRPC", "POST", body, header("content-type", "application/grpc+proto"), "v1"},
		{"gzip", "POST", zipped(body), header("content-encoding", "gzip"), "v1"},
		{"not UTF-8", "POST", "{\"user\":{\"id\":\"\xff\"}}", nil, "v1"},
	}
	p := startProxy(t, socket)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.stable.Forget()
			p.candidate.Forget()
			got, _ := p.ask(t, test.method, "/", test.body, test.prepare)
			if want := (reply{200, test.want}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			seen := append(p.stable.Requests(), p.candidate.Requests()...)
			if len(seen) != 1 || seen[0].Method != test.method || seen[0].BodySize != int64(len(test.body)) {
				t.Errorf("the models saw %d requests, want one with %d bytes", len(seen), len(test.body))
			}
		})
	}
	if n := p.counted("failure_mode_allowed") + p.counted("streams_failed"); n != 0 {
		t.Errorf("Envoy gave up on %d streams", n)
	}
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// chunked sends the body without a content-length, in pieces.
func chunked(r *http.Request) {
	r.ContentLength = -1
	r.Body = io.NopCloser(&pieces{r.Body})
}

type pieces struct{ io.Reader }

func (p *pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), 7919)]) }

func withTrailer(r *http.Request) {
	chunked(r)
	r.Trailer = http.Header{"X-Checksum": {"1"}}
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

// What Envoy makes of bodies when a route buffers all of them, also those
// whose length nobody knows. It is why routes ask for the content-length.
func TestBufferingWithoutLength(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, bodyKey)
	serve(t, socket, model)
	p := startProxyWith(t, socket, func(config string) string {
		return strings.Replace(config, ", headers: [{name: content-length, range_match: {start: 1, end: 65536}}]", "", 1)
	})
	body := fmt.Sprintf(`{"user":{"id":%q}}`, candidateUser(t, model))
	type outcome struct{ Small, Trailers, Get, Head, Large reply }
	var got outcome
	got.Small, _ = p.ask(t, "POST", "/", body, chunked)
	got.Trailers, _ = p.ask(t, "POST", "/", body, withTrailer)
	got.Get, _ = p.ask(t, "GET", "/", "", nil)
	got.Head, _ = p.ask(t, "HEAD", "/", "", nil)
	got.Large, _ = p.ask(t, "POST", "/", fmt.Sprintf(`{"x":%q}`, strings.Repeat("a", 3<<20)), nil)
	want := outcome{
		Small: reply{200, "v2"}, Trailers: reply{200, "v2"}, Get: reply{200, "v1"}, Head: reply{200, "v1"},
		Large: reply{413, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// delayed can be read from a moment on.
type delayed struct {
	io.Reader
	until func()
	once  sync.Once
}

func (d *delayed) Read(p []byte) (int, error) {
	d.once.Do(d.until)
	return d.Reader.Read(p)
}

// A decision that needs no body lets a body of any size pass, on a route that
// would have buffered it.
func TestDecidedBeforeTheBody(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, func(m *routing.Model) {
		bodyKey(m)
		m.Overrides = []routing.Override{{
			Condition: routing.Condition{Source: routing.SourceHeader, Name: "canary", Op: routing.OpEquals, Value: "true"},
			Version:   "v2",
		}}
	})
	serve(t, socket, model)
	p := startProxyWith(t, socket, func(config string) string {
		return strings.Replace(config, ", headers: [{name: content-length, range_match: {start: 1, end: 65536}}]", "", 1)
	})
	for _, size := range []int{1, 1 << 10, 1 << 20, 20 << 20} {
		p.candidate.Forget()
		got, _ := p.ask(t, "POST", "/", strings.Repeat("a", size), func(r *http.Request) {
			header("canary", "true")(r)
			if size == 1 {
				return
			}
			// The first byte, and the rest when the service has answered: what comes
			// before is held, and of 20 MB too much.
			rest := &delayed{Reader: strings.NewReader(strings.Repeat("a", size-1)), until: func() {
				envoytest.Eventually(t, 5*time.Second, "the request is on its way", func() bool {
					return p.Stats("cluster.churn/v2.")["cluster.churn/v2.upstream_rq_active"] > 0
				})
			}}
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("a"), rest))
		})
		if (got != reply{200, "v2"}) || p.candidate.Requests()[0].BodySize != int64(size) {
			t.Errorf("%d bytes: %+v", size, got)
		}
	}
}

func TestBodyOverride(t *testing.T) {
	socket := socketPath(t)
	model := churn(0, func(m *routing.Model) {
		m.Overrides = []routing.Override{{
			Condition: routing.Condition{
				Source: routing.SourceBody, Path: mustPath("$.tenants[1]"), Op: routing.OpIn, Values: []string{"acme", "7"},
			},
			Version: "v2",
		}}
	})
	serve(t, socket, model)
	p := startProxy(t, socket)
	for body, want := range map[string]string{
		`{"tenants":["x","acme"]}`: "v2",
		`{"tenants":["x", 7 ]}`:    "v2",
		`{"tenants":["acme"]}`:     "v1",
		`{"tenants":["x",["7"]]}`:  "v1",
		`{}`:                       "v1",
	} {
		if got, _ := p.ask(t, "POST", "/", body, header("x-user-id", "u")); got != (reply{200, want}) {
			t.Errorf("%s: got %+v, want %s", body, got, want)
		}
	}
}

// What a client sends in our own headers moves nothing, with the server up
// and without it.
func TestSpoofedHeaders(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, nil)
	spoof := func(user string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("x-user-id", user)
			for _, name := range []string{
				"x-headgate-decision", "x-headgate-reason", "x-headgate-draw", "x-headgate-version", "x-headgate-model",
				"X-HEADGATE-DECISION", "x-envoy-decorator-operation", "x-envoy-original-path",
			} {
				r.Header[name] = []string{"v2", "v1", "v2"}
			}
		}
	}
	p := startProxy(t, socket)
	for _, user := range users(50) {
		if got, _ := p.ask(t, "POST", "/", "{}", spoof(user)); got != (reply{200, "v1"}) {
			t.Fatalf("without a server: user %s got %+v", user, got)
		}
	}
	serve(t, socket, model)
	awaitDecisions(t, p, candidateUser(t, model))
	for _, user := range users(50) {
		want := reply{200, bucketVersion(model)(user)}
		if got, _ := p.ask(t, "POST", "/", "{}", spoof(user)); got != want {
			t.Errorf("with a server: user %s got %+v, want %+v", user, got, want)
		}
	}
}

// awaitDecisions returns when a user who belongs to v2 gets it, and how long
// that took.
func awaitDecisions(t testing.TB, p *proxy, user string) time.Duration {
	t.Helper()
	start := time.Now()
	envoytest.Eventually(t, 10*time.Second, "decisions", func() bool {
		got, _ := p.ask(t, "POST", "/", fmt.Sprintf(`{"user":{"id":%q}}`, user), header("x-user-id", user))
		return got == reply{200, "v2"}
	})
	return time.Since(start)
}

// Requests whose headers leave no room for the answer are served, undecided.
func TestNoRoomForTheAnswer(t *testing.T) {
	socket := socketPath(t)
	model := churn(10_000, nil)
	service := serve(t, socket, model)
	p := startProxy(t, socket)
	awaitDecisions(t, p, "u")
	for n := 80; n <= 96; n++ {
		got := rawRequest(t, p, strings.Repeat("x-a: b\r\n", n))
		if got.Status == http.StatusInternalServerError || got.Status == http.StatusOK && got.Version == "" {
			t.Errorf("%d more headers: %+v", n, got)
		}
	}
	for size := 60<<10 - 1100; size <= 60<<10; size += 16 {
		got := rawRequest(t, p, "x-a: "+strings.Repeat("b", size)+"\r\n")
		if got.Status == http.StatusInternalServerError {
			t.Errorf("%d more bytes: %+v", size, got)
		}
	}
	if service.Counters().Withheld == 0 {
		t.Error("no answer was withheld, so this test reached no limit")
	}
}

func rawRequest(t *testing.T, p *proxy, headers string) reply {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nhost: x\r\nx-user-id: u\r\n"+headers+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return reply{resp.StatusCode, resp.Header.Get(envoytest.UpstreamHeader)}
}
