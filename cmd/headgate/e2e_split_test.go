package main

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// envoyOf starts an Envoy that connects to a `headgate serve`, with what
// `headgate bootstrap` prints.
func (g *gate) envoyOf(node string) *envoytest.Envoy {
	g.t.Helper()
	return envoytest.Start(g.t, g.bootstrap(node))
}

func (g *gate) bootstrap(node string) string {
	g.t.Helper()
	return g.must("bootstrap", "--node", node, "--server", "unix:"+filepath.Join(g.state, "grpc.sock"),
		"--envoy-admin", fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(g.t)))
}

// versionsOf asks once for each user and returns who answered.
func versionsOf(t *testing.T, url string, users []string) map[string]string {
	t.Helper()
	const connections = 8
	reports := make(chan *envoytest.Report, connections)
	for part := range slices.Chunk(users, (len(users)+connections-1)/connections) {
		go func() {
			reports <- envoytest.Load(t.Context(), envoytest.LoadOptions{
				URL: url, Users: part, Requests: len(part), Connections: 1, Timeout: 20 * time.Second,
			})
		}()
	}
	versions := make(map[string]string, len(users))
	for range connections {
		report := <-reports
		if report.Failed != 0 {
			t.Fatalf("requests failed: %s", report)
		}
		maps.Copy(versions, report.Users())
	}
	if len(versions) != len(users) {
		t.Fatalf("%d users have an answer, want %d", len(versions), len(users))
	}
	return versions
}

// TestSplitIsTheSameEverywhere shows that a user's version is what
// routing.Decide says, for 10,000 users, on one Envoy, after headgate and
// Envoy started anew, and on a second Envoy.
func TestSplitIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "serve")
	g.write("churn.yaml", p.file("v1"))
	g.start().eventually(20*time.Second, "the admin surface", func() bool { _, err := g.tryStatus("churn"); return err == nil })
	first := g.envoyOf("first")
	g.serving("churn", "v1", 100)
	g.write("churn.yaml", p.file("v2", "{traffic: 12.34%}", "{traffic: 50%}", "{traffic: 100%}"))
	g.serving("churn", "v2", 12.34)

	users := userIDs(10_000)
	salt := "churn-r1"
	want := func(share routing.Share) map[string]string {
		split := routing.Split{Salt: salt, Ranges: []routing.Range{{Version: "v2", Weight: share}, {Version: "v1", Weight: routing.Whole - share}}}
		out := make(map[string]string, len(users))
		for _, u := range users {
			out[u] = split.Version(routing.Bucket(salt, u))
		}
		return out
	}
	check := func(when string, share routing.Share) {
		t.Helper()
		wanted := want(share)
		differ := 0
		got := versionsOf(t, p.url(), users)
		for _, u := range users {
			if got[u] != wanted[u] {
				differ++
			}
		}
		if differ > 0 {
			t.Fatalf("%s: %d of %d users got another version than routing.Decide says", when, differ, len(users))
		}
	}
	check("at 12.34 %", 1234)

	g.kill()
	g.start()
	g.serving("churn", "v2", 12.34)
	check("after headgate was killed", 1234)

	first.Kill()
	second := g.envoyOf("second")
	g.await("churn", "the second Envoy", func(s rollout.Status) bool { return s.Acknowledged })
	check("on a second Envoy", 1234)

	g.must("skip", "churn", "--wait")
	g.serving("churn", "v2", 50)
	check("at 50 %", 5000)
	_ = second
}

// TestAnonymousKeepTheirVersion shows that somebody without a key has the same
// version from the first answer on, by a cookie.
func TestAnonymousKeepTheirVersion(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	g.write("churn.yaml", p.file("v2", "{traffic: 50%}", "{traffic: 100%}"))
	g.serving("churn", "v2", 50)
	counts := map[string]int{}
	for i := range 200 {
		version, cookie := answer(t, p.url(), "")
		if cookie == "" {
			t.Fatalf("browser %d: the first answer sets no cookie", i)
		}
		counts[version]++
		for range 3 {
			if again, _ := answer(t, p.url(), cookie); again != version {
				t.Fatalf("browser %d: %s first, %s later", i, version, again)
			}
		}
	}
	if counts["v1"] < 60 || counts["v2"] < 60 {
		t.Errorf("200 browsers at 50 %%: %v", counts)
	}
}

// answer asks as a browser with a cookie, and returns the version and the
// cookie that the answer set.
func answer(t *testing.T, url, cookie string) (version, set string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("cookie", cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d", resp.StatusCode)
	}
	for _, c := range resp.Cookies() {
		if c.Name == routing.CookieName {
			set = c.Name + "=" + c.Value
		}
	}
	return resp.Header.Get(routing.HeaderVersion), set
}
