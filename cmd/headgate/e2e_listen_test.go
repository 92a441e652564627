package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

const inUse = "Address already in use"

// TestListenOnABusyPort edits `listen:` to a port that another process holds:
// the old one goes on answering, the status has Envoy's words, and when the
// port is free the model moves without a failed request.
func TestListenOnABusyPort(t *testing.T) {
	t.Parallel()
	v1 := envoytest.NewUpstream(t, "v1")
	m := modelFile{name: "m", port: envoytest.FreePort(t), versions: []string{at("v1", v1)}, release: "v1"}
	g := newGate(t, "run")
	g.put(m)
	g.start().ready()
	g.serving("m", "v1", 100)
	g.listens(m.url())
	old := keepAlive(t, m.url())
	goesOn(t, old, 50)

	holder, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer holder.Close()
	to := m
	to.port = holder.Addr().(*net.TCPAddr).Port
	g.put(to)
	st := g.await("m", "the refusal", func(s rollout.Status) bool { return s.Rejected != "" })
	if !strings.HasSuffix(st.Rejected, inUse) || strings.ContainsAny(st.Rejected, "\n\\") || st.Acknowledged {
		t.Errorf("status %+v", st)
	}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		resp, err := fresh.Get(m.url())
		noError(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the old listener answers %s", resp.Status)
		}
	}
	goesOn(t, old, 300)

	noError(t, holder.Close())
	g.await("m", "the new listener", func(s rollout.Status) bool { return s.Acknowledged && s.Rejected == "" })
	before := old.Stop()
	g.listens(to.url())
	after := keepAlive(t, to.url())
	goesOn(t, after, 100)
	g.eventually(60*time.Second, "the old port to close", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	goesOn(t, after, 100)
	for _, r := range []*envoytest.Report{before, after.Stop()} {
		if r.Failed > 0 {
			t.Errorf("failed requests: %s", r)
		}
	}
	g.kill()
	if n := strings.Count(g.log.String(), "accepted now"); n != 1 {
		t.Errorf("the log tells %d times that the port is free", n)
	}
	if n := strings.Count(g.log.String(), "its models stay on their old listener"); n != 1 {
		t.Errorf("the log tells %d times that the port is taken", n)
	}
}

// TestTwoGatesOneListener starts two headgates that want the same port. All
// requests go to the first; the second says why it has none, and takes the
// port when the first has ended.
func TestTwoGatesOneListener(t *testing.T) {
	t.Parallel()
	port := envoytest.FreePort(t)
	start := func(version string) *gate {
		g := newGate(t, "run")
		g.put(modelFile{name: "m", port: port, versions: []string{at(version, envoytest.NewUpstream(t, version))}, release: version})
		return g.start()
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/m", port)
	first := start("v1")
	first.ready()
	first.serving("m", "v1", 100)
	first.listens(url)
	second := start("v2")
	st := second.await("m", "the refusal", func(s rollout.Status) bool { return s.Rejected != "" })
	if !strings.HasSuffix(st.Rejected, inUse) {
		t.Errorf("status %+v", st)
	}
	for user, version := range versionsOf(t, url, userIDs(200)) {
		if version != "v1" {
			t.Fatalf("%s is answered by %s", user, version)
		}
	}
	// An Envoy that is killed gets its port back: nobody else has it by then,
	// or the second one does, which retries at most every 30 s.
	if code := first.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	second.eventually(60*time.Second, "the second to serve", func() bool {
		s, err := second.tryStatus("m")
		return err == nil && s.Acknowledged && s.Rejected == ""
	})
	second.listens(url)
	for user, version := range versionsOf(t, url, userIDs(50)) {
		if version != "v2" {
			t.Fatalf("%s is answered by %s", user, version)
		}
	}
	// Its own Envoy, killed, has the port again at once.
	second.killEnvoy()
	second.eventually(60*time.Second, "the restarted Envoy", func() bool {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	if n := strings.Count(second.status("m").Rejected, inUse); n > 0 {
		t.Error("the restarted Envoy cannot bind")
	}
}
