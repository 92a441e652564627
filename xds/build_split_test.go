package xds_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// rolling is a model in mid-rollout, on its own prefix.
func rolling(name string, blue, green *envoytest.Upstream, edit func(*routing.Model)) *routing.ModelPlan {
	m := &routing.Model{
		Name:   name,
		Listen: anyPort,
		Match:  routing.Match{Prefix: "/" + name},
		Versions: []*routing.Version{
			{Name: "v1.0.0", Endpoints: []netip.AddrPort{netip.MustParseAddrPort(blue.Addr)}},
			{Name: "v2.0.0", Endpoints: []netip.AddrPort{netip.MustParseAddrPort(green.Addr)}},
		},
		Release: "v2.0.0",
		Timeout: 10 * time.Second,
	}
	edit(m)
	return &routing.ModelPlan{Model: m, Stable: "v1.0.0", Split: share(name, 3000)}
}

func share(name string, candidate routing.Share) routing.Split {
	return routing.Split{Salt: name + "-r1", Ranges: []routing.Range{
		{Version: "v2.0.0", Weight: candidate}, {Version: "v1.0.0", Weight: routing.Whole - candidate},
	}}
}

// moved is the same model with another share.
func moved(p *routing.ModelPlan, candidate routing.Share) *routing.ModelPlan {
	next := *p
	next.Split = share(p.Model.Name, candidate)
	return &next
}

func planOf(models ...*routing.ModelPlan) *routing.Plan {
	c := &routing.Config{Listeners: []*routing.Listener{{Address: anyPort}}}
	models = slices.Clone(models)
	slices.SortStableFunc(models, func(x, y *routing.ModelPlan) int { return strings.Compare(x.Model.Name, y.Model.Name) })
	for _, p := range models {
		c.Models = append(c.Models, p.Model)
	}
	return &routing.Plan{Config: c, Models: models}
}

// request is a request as it is sent, header by header.
type request struct {
	method  string
	path    string
	headers [][2]string
	body    string
}

func (r request) subject() routing.Subject { return sent{r} }

// sent is the Subject of a request as its sender knows it.
type sent struct{ request }

func (s sent) Header(name string, i int) (string, bool) {
	if pseudo := map[string]string{":path": s.path, ":method": s.method}; pseudo[name] != "" && i == 0 {
		return pseudo[name], true
	}
	for _, h := range s.headers {
		if !strings.EqualFold(h[0], name) {
			continue
		}
		if i == 0 {
			return h[1], true
		}
		i--
	}
	return "", false
}

func (s sent) Body(routing.Path) (string, bool) { return "", false }

// answer is what came back.
type answer struct {
	code    int
	version string // of the header
	header  http.Header
	err     error
}

// wire sends requests byte for byte as given: net/http would join, order and
// refuse headers.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(t testing.TB, addr string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &wire{conn: conn, in: bufio.NewReader(conn)}
}

func (w *wire) send(r request) answer {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: test\r\n", r.method, r.path)
	for _, h := range r.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if r.body != "" {
		fmt.Fprintf(&b, "content-length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n" + r.body)
	_ = w.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := w.conn.Write([]byte(b.String())); err != nil {
		return answer{err: err}
	}
	resp, err := http.ReadResponse(w.in, &http.Request{Method: r.method})
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := bufio.NewReader(resp.Body).WriteTo(discard{}); err != nil {
		return answer{err: err}
	}
	return answer{code: resp.StatusCode, version: resp.Header.Get(routing.HeaderVersion), header: resp.Header}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// sendAll sends requests over a few connections and returns the answers in the
// requests' order.
func sendAll(t testing.TB, addr string, requests []request) []answer {
	t.Helper()
	const connections = 8
	answers := make([]answer, len(requests))
	var wg sync.WaitGroup
	for c := range connections {
		w := dial(t, addr)
		wg.Go(func() {
			for i := c; i < len(requests); i += connections {
				answers[i] = w.send(requests[i])
			}
		})
	}
	wg.Wait()
	for i, a := range answers {
		if a.err != nil || a.code != http.StatusOK {
			t.Fatalf("%+v: status %d, %v", requests[i], a.code, a.err)
		}
	}
	return answers
}

// agree fails the test for each answer that is not what routing.Decide says.
func agree(t *testing.T, p *routing.ModelPlan, requests []request, answers []answer) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	wrong := 0
	for i, a := range answers {
		want := routing.Decide(p, requests[i].subject())
		counts[a.version]++
		if a.version != want.Version {
			if wrong++; wrong <= 5 {
				t.Errorf("%s %s %q: Envoy chose %q, Decide %+v", requests[i].method, requests[i].path, requests[i].headers, a.version, want)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d of %d disagree", p.Model.Name, wrong, len(answers))
	}
	return counts
}

func TestSplitAgreesWithDecide(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	users := []int{10_000, 2000, 2000}
	rng := rand.New(rand.NewPCG(1, 2))
	plans := []*routing.ModelPlan{
		rolling("header", blue, green, func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}
		}),
		rolling("cookie", blue, green, func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceCookie, Name: "uid", Absent: routing.AbsentCurrent}
		}),
		rolling("query", blue, green, func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceQuery, Name: "user", Absent: routing.AbsentCurrent}
		}),
	}
	makers := []func(i int) request{
		func(i int) request { return headerRequest(rng, i) },
		func(i int) request { return cookieRequest(rng, i) },
		func(i int) request { return queryRequest(rng, i) },
	}
	c := newControl(t, planOf(plans...))
	e := c.start()
	addr := e.Listener(anyPort.String())
	for k, p := range plans {
		t.Run(p.Model.Name, func(t *testing.T) {
			requests := make([]request, users[k])
			for i := range requests {
				requests[i] = makers[k](i)
			}
			counts := agree(t, p, requests, sendAll(t, addr, requests))
			if counts["v2.0.0"] < users[k]/5 || counts["v1.0.0"] < users[k]/2 {
				t.Errorf("shares are %v, want about 3 : 7", counts)
			}
		})
	}
}

// headerRequest is a user who sends an id, in one way or another.
func headerRequest(rng *rand.Rand, i int) request {
	id := fmt.Sprintf("user-%d", i)
	r := request{method: "GET", path: "/header/predict"}
	switch rng.IntN(10) {
	case 0:
		r.headers = [][2]string{{"x-user-id", id}, {"x-user-id", "second"}}
	case 1:
		r.headers = [][2]string{{"x-user-id", ""}, {"X-User-Id", id}}
	case 2:
		r.headers = [][2]string{{"x-user-id", ""}}
	case 3:
		r.headers = nil
	case 4:
		r.headers = [][2]string{{"x-user-id", id + " with spaces, commas; \\1 and $ % {é}"}}
	default:
		r.headers = [][2]string{{"x-user-id", id}}
	}
	return r
}

func cookieRequest(rng *rand.Rand, i int) request {
	id := fmt.Sprintf("u%d", i)
	value := []string{
		"uid=" + id,
		"a=b; uid=" + id + "; c=d",
		"uid=first; uid=" + id,
		"uid=" + id + "; uid=",
		"uid=; x=1;uid=" + id,
		"xuid=7; uid=" + id + "=",
		"uid=",
		"other=" + id,
		"uid =" + id,
		"uid= " + id + " ; b",
	}[rng.IntN(10)]
	r := request{method: "GET", path: "/cookie/predict", headers: [][2]string{{"cookie", value}}}
	if rng.IntN(20) == 0 { // no browser does it, but HTTP/1.1 lets it pass
		r.headers = append(r.headers, [2]string{"cookie", "a=1; uid=line2"})
	}
	return r
}

func queryRequest(rng *rand.Rand, i int) request {
	id := fmt.Sprintf("u%d", i)
	query := []string{
		"?user=" + id,
		"?a=b&user=" + id + "&c=d",
		"?user=first&user=" + id,
		"?user=" + id + "&user=",
		"?user=&x=1&user=" + id,
		"?xuser=7&user=" + id + "=",
		"?user=",
		"",
		"?user",
		"?q=a?user=no&user=" + id + "%20%C3%A9+x",
	}[rng.IntN(10)]
	return request{method: "GET", path: "/query/predict" + query}
}

// Shares move as runtime values: who has the candidate keeps it while its
// share grows, and all go back at once when it is taken away.
func TestSharesMoveOneWay(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	p := rolling("churn", blue, green, func(m *routing.Model) {
		m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
	})
	p = moved(p, 0)
	c := newControl(t, planOf(p))
	e := c.start()
	addr := e.Listener(anyPort.String())
	requests := make([]request, 500)
	for i := range requests {
		requests[i] = request{method: "GET", path: "/churn", headers: [][2]string{{"x-user-id", fmt.Sprint(i)}}}
	}
	before := make([]answer, len(requests))
	for _, s := range []routing.Share{0, 1, 1000, 2500, 5000, 10_000} {
		p = moved(p, s)
		c.await(c.publish(planOf(p)))
		answers := sendAll(t, addr, requests)
		agree(t, p, requests, answers)
		for i := range answers {
			if before[i].version == "v2.0.0" && answers[i].version != "v2.0.0" {
				t.Fatalf("user %d left the candidate at %s", i, s)
			}
		}
		before = answers
	}
	p = moved(p, 0)
	c.await(c.publish(planOf(p)))
	if counts := agree(t, p, requests, sendAll(t, addr, requests)); counts["v2.0.0"] != 0 {
		t.Errorf("after the way back: %v", counts)
	}
}

func TestAnonymousKeepTheirVersion(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	p := rolling("churn", blue, green, func(m *routing.Model) {
		m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
	})
	free := rolling("free", blue, green, func(m *routing.Model) { m.Key = routing.Key{Absent: routing.AbsentRequest} })
	c := newControl(t, planOf(p, free))
	addr := c.start().Listener(anyPort.String())
	first := make([]request, 500)
	for i := range first {
		first[i] = request{method: "GET", path: "/churn", headers: [][2]string{{"x-request-id", "the-same-for-all"}}}
	}
	answers := sendAll(t, addr, first)
	again := make([]request, len(first))
	counts := make(map[string]int)
	for i, a := range answers {
		cookie := a.header.Get("set-cookie")
		value, attributes, _ := strings.Cut(strings.TrimPrefix(cookie, routing.CookieName+"="), ";")
		if len(value) < 32 || attributes != " Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax" {
			t.Fatalf("set-cookie: %q", cookie)
		}
		again[i] = request{method: "GET", path: "/churn", headers: [][2]string{{"cookie", "a=b; " + routing.CookieName + "=" + value}}}
		counts[a.version]++
	}
	if counts["v2.0.0"] < 90 || counts["v2.0.0"] > 210 {
		t.Errorf("first answers: %v, want about 150 of 500 by the candidate, whatever the request id", counts)
	}
	later := sendAll(t, addr, again)
	agree(t, p, again, later)
	for i := range later {
		if later[i].version != answers[i].version {
			t.Fatalf("user %d had %s, then %s", i, answers[i].version, later[i].version)
		}
		if got := later[i].header.Get("set-cookie"); got != "" {
			t.Fatalf("the second answer sets a cookie again: %q", got)
		}
	}
	for i := range first {
		first[i].path = "/free"
	}
	counts = make(map[string]int)
	for _, a := range sendAll(t, addr, first) {
		counts[a.version]++
		if got := a.header.Get("set-cookie"); got != "" {
			t.Fatalf("absent: request sets a cookie: %q", got)
		}
	}
	if counts["v2.0.0"] < 90 || counts["v2.0.0"] > 210 {
		t.Errorf("absent: request: %v, want about 150 of 500 by the candidate", counts)
	}
}
