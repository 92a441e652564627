package accesslog_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
	"github.com/headgate/headgate/xds/accesslog"
)

// mirroring is an Envoy with a model in mid-rollout whose requests are copied.
type mirroring struct {
	t       *testing.T
	envoy   *envoytest.Envoy
	p       *xds.Publisher
	sink    *notes
	listen  string
	users   *envoytest.Upstream // v1 and v2
	model   *routing.Model
	decider *extproc.Service
	server  struct {
		*grpc.Server
		addr string
	}
}

func newMirroring(t *testing.T, shadow string, mirrors []routing.Mirror, change ...func(bootstrap string) string) *mirroring {
	t.Helper()
	m := &mirroring{t: t, sink: &notes{}, decider: extproc.New(slog.New(slog.DiscardHandler)), users: envoytest.NewUpstream(t, "users")}
	m.p = newPublisher()
	r := accesslog.New(accesslog.Options{Sink: m.sink, Hasher: accesslog.NewHasher([]byte("secret"))})
	server, addr := serve(t, "127.0.0.1:0", m.p, r, func(s *grpc.Server) { m.decider.Register(s) })
	m.server.Server, m.server.addr = server, addr
	m.listen = fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t))
	at := func(addr string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(addr)} }
	m.model = &routing.Model{
		Name: "churn", Listen: netip.MustParseAddrPort(m.listen), Match: routing.Match{Prefix: "/"}, Release: "v2", Repeatable: true,
		Key:     routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentRequest},
		Timeout: 4 * time.Second, // of a busy machine
		Overrides: []routing.Override{{
			Condition: routing.Condition{Source: routing.SourceHeader, Name: "canary", Op: routing.OpPresent}, Version: "v2",
		}},
		Versions: []*routing.Version{
			{Name: "v1", Endpoints: at(m.users.Addr)}, {Name: "v2", Endpoints: at(m.users.Addr)}, {Name: "v3", Endpoints: at(shadow)},
		},
	}
	m.publish(mirrors)
	text := bootstrap(t, addr)
	for _, f := range change {
		text = f(text)
	}
	m.envoy = envoytest.Start(t, text)
	envoytest.Eventually(t, 10*time.Second, "the model is served", func() bool {
		resp, err := http.Get("http://" + m.listen)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return m
}

func newPublisher() *xds.Publisher {
	return xds.NewPublisher(xds.PublisherOptions{
		RemovalDelay: 500 * time.Millisecond, Build: xds.Options{DecideTimeout: 5 * time.Second},
	})
}

func (m *mirroring) plan(mirrors []routing.Mirror) *routing.Plan {
	return &routing.Plan{
		Config: &routing.Config{
			Models: []*routing.Model{m.model}, Listeners: []*routing.Listener{{Address: m.model.Listen}},
		},
		Models: []*routing.ModelPlan{{
			Model: m.model, Stable: "v1", Mirrors: mirrors,
			Split: routing.Split{Salt: "churn-r1", Ranges: []routing.Range{{Version: "v2", Weight: 3000}, {Version: "v1", Weight: 7000}}},
		}},
	}
}

func (m *mirroring) publish(mirrors []routing.Mirror) {
	m.decider.Publish(m.plan(mirrors))
	m.p.Publish(m.plan(mirrors), nil)
}

func (m *mirroring) delivered() {
	m.t.Helper()
	envoytest.Eventually(m.t, 10*time.Second, "the plan is delivered", func() bool {
		d := m.p.Delivery("churn")
		return d.Envoys == 1 && len(d.Waiting) == 0
	})
}

// request sends one request, and returns its id and the status.
func (m *mirroring) request(method string, body io.Reader, edit ...func(*http.Request)) (id string, status int) {
	m.t.Helper()
	r, err := http.NewRequest(method, "http://"+m.listen+"/predict?a=1", body)
	if err != nil {
		m.t.Fatal(err)
	}
	id = fmt.Sprintf("id-%d", time.Now().UnixNano())
	r.Header.Set("x-request-id", id)
	for _, f := range edit {
		f(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return id, resp.StatusCode
}

// of returns what was observed of a request: the user's, and its copies.
func (n *notes) of(id string) (user []compare.Observation, copies []compare.Observation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.seen {
		switch {
		case o.RequestID != id:
		case o.Mirrored:
			copies = append(copies, o)
		default:
			user = append(user, o)
		}
	}
	return user, copies
}

// settled waits until a request, sent after everything else, is in the log with
// the number of copies that it must have.
func (m *mirroring) settled(copies int) {
	m.t.Helper()
	id, _ := m.request(http.MethodPost, strings.NewReader("{}"))
	envoytest.Eventually(m.t, 10*time.Second, "the entries of "+id, func() bool {
		user, mirrored := m.sink.of(id)
		return len(user) == 1 && len(mirrored) == copies
	})
}

// withID gives a request an id of its own.
func withID(r *http.Request, _ string) {
	r.Header.Set("x-request-id", fmt.Sprintf("load-%d", ids.Add(1)))
}

var ids atomic.Int64

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// A copy is what the version of the user gets, without what is secret.
func TestCopyOnEnvoy(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	m := newMirroring(t, shadow.Addr, []routing.Mirror{{Version: "v3", Share: routing.Whole}})
	m.delivered()
	m.settled(1)
	m.users.Forget()
	shadow.Forget()
	shadow.SetStatus(500)
	id, status := m.request(http.MethodPost, strings.NewReader(`{"x":1}`), set("x-user-id", "anna"), set("authorization", "Bearer a"),
		set("cookie", "a=b"), set("proxy-authorization", "c"), set("x-api-key", "d"), set("x-forwarded-for", "10.1.1.1"),
		set("x-headgate-shadow", "forged"), set("x-other", "kept"), func(r *http.Request) { r.Host = "churn.example.com" })
	if status != http.StatusOK {
		t.Errorf("status %d: the user got the copy's answer", status)
	}
	m.request(http.MethodPost, strings.NewReader("{}"), func(r *http.Request) { r.Header.Del("x-request-id") })
	m.settled(1)
	user, copies := m.sink.of(id)
	if len(user) != 1 || !user[0].Copied || user[0].Mirrored || !user[0].Drawn || user[0].Class != compare.ClassSuccess {
		t.Errorf("observed of the user: %+v", user)
	}
	if len(copies) != 1 {
		t.Fatalf("observed of the copy: %+v", copies)
	}
	c := copies[0]
	if c.Version != "v3" || c.Code != 500 || c.Class != compare.ClassError || c.Drawn || c.Copied || c.User != user[0].User || !c.HasUser || c.Duration < 0 || c.Node != "one" {
		t.Errorf("observed of the copy: %+v", c)
	}
	first, copied := m.users.Requests()[0], shadow.Requests()[0]
	want := first.Header.Clone()
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "X-Headgate-Key"} {
		want.Del(name)
	}
	want.Set("x-headgate-version", "v3")
	want.Set("x-headgate-shadow", "true")
	// Envoy's client for copies counts itself as one more proxy.
	forwarded := strings.Split(want.Get("x-forwarded-for"), ",")
	want.Set("x-forwarded-for", strings.Join(append(forwarded, forwarded[len(forwarded)-1]), ","))
	if diff := cmp.Diff(want, copied.Header); diff != "" {
		t.Errorf("headers (-the user's version +the copy's):\n%s", diff)
	}
	if first.Header.Get("x-headgate-shadow") != "" {
		t.Error("a client can say that its request is a copy")
	}
	ids := [2]string{m.users.Requests()[1].Header.Get("x-request-id"), shadow.Requests()[1].Header.Get("x-request-id")}
	if _, copies := m.sink.of(ids[0]); ids[0] != ids[1] || len(ids[0]) != 36 || len(copies) != 1 {
		t.Errorf("ids that Envoy gave: %q, %d copies in the log", ids, len(copies))
	}
	first.Header, copied.Header = nil, nil
	first.At, copied.At = time.Time{}, time.Time{}
	if diff := cmp.Diff(first, copied); diff != "" {
		t.Errorf("request (-the user's version +the copy's):\n%s", diff)
	}
}

// A copy is known to be of the same user, wherever the key was, and the version
// never sees it.
func TestCopiesOfUsers(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	mirrors := []routing.Mirror{{Version: "v3", Share: routing.Whole}}
	m := newMirroring(t, shadow.Addr, mirrors)
	m.delivered()
	keep := func(*http.Request) {}
	const native, asked = routing.DecideNative, routing.DecideExtProc
	for _, tt := range []struct {
		key    routing.Key
		edit   func(*http.Request)
		none   bool
		decide routing.DecideMode
	}{

		{routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentRequest}, set("x-user-id", "anna"), false, native},
		{routing.Key{Source: routing.SourceHeader, Name: "authorization", Absent: routing.AbsentRequest}, set("authorization", "anna"), false, native},
		{routing.Key{Source: routing.SourceHeader, Name: "authorization", Absent: routing.AbsentRequest}, set("authorization", strings.Repeat("a", 2000)), false, native},
		{routing.Key{Source: routing.SourceCookie, Name: "uid", Absent: routing.AbsentRequest}, set("cookie", "uid=anna; b=c"), false, native},
		{routing.Key{Absent: routing.AbsentCookie}, set("cookie", "hg=anna"), false, native},
		{routing.Key{Absent: routing.AbsentCookie}, keep, false, native},
		{routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}, keep, true, native},
		{routing.Key{Source: routing.SourceHeader, Name: "authorization", Absent: routing.AbsentRequest}, set("authorization", "anna"), false, asked},
		{routing.Key{Absent: routing.AbsentCookie}, keep, false, asked},
		{routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}, keep, true, asked},
	} {
		edited := *m.model
		edited.Key, edited.Decide = tt.key, tt.decide
		m.model = &edited
		m.publish(mirrors)
		m.delivered()
		if tt.decide == asked {
			envoytest.Eventually(t, 10*time.Second, "the service decides", func() bool {
				before := m.decider.Counters().Streams
				m.request(http.MethodPost, strings.NewReader("{}"))
				return m.decider.Counters().Streams > before
			})
			m.settled(1)
		}
		shadow.Forget()
		id, _ := m.request(http.MethodPost, strings.NewReader("{}"), tt.edit)
		var user, copies []compare.Observation
		envoytest.Eventually(t, 10*time.Second, "the entries of "+id, func() bool {
			user, copies = m.sink.of(id)
			return len(user) == 1 && len(copies) == 1
		})
		if copies[0].User != user[0].User || user[0].HasUser == tt.none || copies[0].HasUser == tt.none {
			t.Errorf("%+v: user %+v, copy %+v", tt.key, user[0], copies[0])
		}
		for name, value := range shadow.Requests()[0].Header {
			ours := strings.HasPrefix(name, "X-Headgate-") && name != "X-Headgate-Version" && name != "X-Headgate-Shadow"
			if ours || (name != "X-User-Id" && strings.Contains(value[0], "anna")) {
				t.Errorf("%+v: the version saw %s: %s", tt.key, name, value)
			}
		}
	}
}

// Which requests are copied.
func TestCopiedRequests(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	m := newMirroring(t, shadow.Addr, []routing.Mirror{{Version: "v3", Share: routing.Whole}})
	m.delivered()
	const most = 1 << 20
	for _, tt := range []struct {
		name   string
		send   func() (string, int)
		copies int // of a repeatable model
		reads  int // of any other
	}{
		{"a body", func() (string, int) { return m.request("POST", strings.NewReader("{}")) }, 1, 0},
		{"the longest body", func() (string, int) { return m.request("POST", strings.NewReader(strings.Repeat("x", most))) }, 1, 0},
		{"too long a body", func() (string, int) { return m.request("POST", strings.NewReader(strings.Repeat("x", most+1))) }, 0, 0},
		{"chunked", func() (string, int) { return m.request("POST", struct{ io.Reader }{strings.NewReader("{}")}) }, 0, 0},
		{"an empty body", func() (string, int) { return m.request("POST", nil) }, 1, 0},
		{"GET", func() (string, int) { return m.request("GET", nil) }, 1, 1},
		{"HEAD", func() (string, int) { return m.request("HEAD", nil) }, 1, 1},
		{"GET with a body", func() (string, int) { return m.request("GET", strings.NewReader("{}")) }, 1, 1},
		{"by an override", func() (string, int) { return m.request("POST", strings.NewReader("{}"), set("canary", "1")) }, 0, 0},
		{"by a key", func() (string, int) { return m.request("POST", strings.NewReader("{}"), set("x-user-id", "anna")) }, 1, 0},
	} {
		for _, repeatable := range []bool{true, false} {
			if m.model.Repeatable != repeatable {
				edited := *m.model
				edited.Repeatable = repeatable
				m.model = &edited
				m.publish([]routing.Mirror{{Version: "v3", Share: routing.Whole}})
				m.delivered()
			}
			want := tt.copies
			if !repeatable {
				want = tt.reads
			}
			id, status := tt.send()
			var user, copies []compare.Observation
			envoytest.Eventually(t, 10*time.Second, "the entries of "+tt.name, func() bool {
				user, copies = m.sink.of(id)
				return len(user) == 1 && len(copies) >= want
			})
			if status != http.StatusOK || len(copies) != want || user[0].Copied != (want == 1) {
				t.Errorf("%s, repeatable %t: status %d, %d copies, want %d: %+v", tt.name, repeatable, status, len(copies), want, user)
			}
		}
	}
}

// Shares are hundredths of a percent, move without a route table, and have
// nothing to do with the split.
func TestMirrorSharesOnEnvoy(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	m := newMirroring(t, shadow.Addr, []routing.Mirror{{Version: "v3", Share: 1}})
	m.delivered()
	load := func(n int) {
		shadow.Forget()
		r := envoytest.Load(t.Context(), envoytest.LoadOptions{URL: "http://" + m.listen + "/", Requests: n, Connections: 8, Prepare: withID})
		if r.Failed > 0 {
			t.Fatal(r)
		}
	}
	load(3000)
	if n := shadow.Count(); n > 8 { // 0.3 are expected, 30 of a share 100 times as large
		t.Errorf("%d copies of 3,000 requests at 0.01%%", n)
	}
	tables := m.p.Metrics().Resources["route_table"]
	m.publish([]routing.Mirror{{Version: "v3", Share: 5000}})
	m.delivered()
	load(1000)
	if n := shadow.Count(); n < 400 || n > 600 {
		t.Errorf("%d copies of 1,000 requests at 50%%", n)
	}
	if n := m.p.Metrics().Resources["route_table"]; n != tables {
		t.Errorf("%d route tables were sent for a share that moved", n-tables)
	}
	// Of the copied requests 30 % were the candidate's, as of all.
	m.sink.mu.Lock()
	version := map[string]string{}
	for _, o := range m.sink.seen {
		if !o.Mirrored {
			version[o.RequestID] = o.Version
		}
	}
	candidate, all := 0, 0
	for _, o := range m.sink.seen {
		if v := version[o.RequestID]; o.Mirrored && v != "" {
			all++
			if v == "v2" {
				candidate++
			}
		}
	}
	m.sink.mu.Unlock()
	if part := float64(candidate) / float64(all); all < 200 || part < 0.2 || part > 0.4 {
		t.Errorf("%d of %d copied requests were the candidate's", candidate, all)
	}
}

// Several mirrors get their copies, and when they go nothing of them is left.
func TestMirrorsComeAndGo(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	both := []routing.Mirror{{Version: "v1", Share: routing.Whole}, {Version: "v3", Share: routing.Whole}}
	m := newMirroring(t, shadow.Addr, both)
	m.delivered()
	m.settled(2)
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: "http://" + m.listen + "/", Rate: 200})
	m.publish(both[:1])
	m.delivered()
	m.settled(1)
	m.publish(nil)
	m.delivered()
	m.settled(0)
	envoytest.Eventually(t, 10*time.Second, "clusters and listeners for copies are gone", func() bool {
		return !strings.Contains(m.envoy.Admin("/listeners")+m.envoy.Admin("/clusters"), "/mirror")
	})
	m.publish(both)
	m.delivered()
	m.settled(2)
	if r := load.Stop(); r.Failed > 0 {
		t.Error(r)
	}
	held, _ := m.p.Inventory()
	for _, v := range held["churn"] {
		if strings.Contains(v, "/") {
			t.Errorf("a cluster for copies is taken for a version: %v", held)
		}
	}
}

// A headgate that starts anew finds the copies as it wants them, and sends
// nothing.
func TestMirrorsSurviveARestart(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	mirrors := []routing.Mirror{{Version: "v3", Share: routing.Whole}}
	m := newMirroring(t, shadow.Addr, mirrors)
	m.delivered()
	m.settled(1)
	m.server.Stop()
	m.p = newPublisher()
	m.publish(mirrors)
	serve(t, m.server.addr, m.p, accesslog.New(accesslog.Options{Sink: m.sink, Hasher: accesslog.NewHasher([]byte("secret"))}))
	m.delivered()
	m.settled(1)
	if sent := m.p.Metrics().Resources; sent["cluster"]+sent["listener"]+sent["route_table"] > 0 {
		t.Errorf("sent again: %v", sent)
	}
}

// withoutInternal is a bootstrap as others write it.
func withoutInternal(t *testing.T) func(string) string {
	return func(text string) string {
		var b map[string]any
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			t.Fatal(err)
		}
		delete(b, "bootstrapExtensions")
		delete(b["node"].(map[string]any), "metadata")
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
}

// An Envoy whose bootstrap knows no internal listeners serves users as before,
// and says what it lacks.
func TestMirrorWithoutInternalListeners(t *testing.T) {
	shadow := envoytest.NewUpstream(t, "shadow")
	mirrors := []routing.Mirror{{Version: "v3", Share: routing.Whole}}
	m := newMirroring(t, shadow.Addr, nil, withoutInternal(t))
	m.delivered()
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: "http://" + m.listen + "/", Rate: 200})
	m.publish(mirrors)
	envoytest.Eventually(t, 10*time.Second, "Envoy takes the routes that make copies", func() bool {
		id, _ := m.request(http.MethodPost, strings.NewReader("{}"))
		m.sink.find(t, id)
		user, _ := m.sink.of(id)
		return user[0].Copied
	})
	d := m.p.Delivery("churn")
	if len(d.Waiting) != 1 || !strings.Contains(d.Rejected, "has no internal listeners") {
		t.Errorf("delivery: %+v", d)
	}
	if n := m.p.Nodes()[0]; !strings.Contains(n.Rejected, "has no internal listeners") {
		t.Errorf("node: %+v", n)
	}
	m.publish(nil)
	m.delivered()
	if r := load.Stop(); r.Failed > 0 || shadow.Count() > 0 {
		t.Errorf("%d copies; %s", shadow.Count(), r)
	}
	if nacks := m.p.Metrics().NACKs; nacks["cluster"]+nacks["listener"]+nacks["route_table"] > 0 {
		t.Errorf("refused: %v", nacks)
	}
}
