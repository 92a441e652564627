package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/envoy/envoytest"
)

// versions are a model's versions as the admin surface tells them.
func (g *gate) versions(model string) map[string]admin.ModelVersion {
	g.t.Helper()
	var m admin.Model
	status, body, err := g.get("/v1/models/" + model)
	if err == nil {
		err = json.Unmarshal([]byte(body), &m)
	}
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("versions of %s: HTTP %d, %v", model, status, err)
	}
	all := map[string]admin.ModelVersion{}
	for _, v := range m.Versions {
		all[v.Version] = v
	}
	return all
}

// requests is how many requests of a version were told.
func (g *gate) requests(model, version string) uint64 {
	g.t.Helper()
	return g.versions(model)[version].Requests
}

// classes counts requests by "version class".
type classes map[string]int

func (c classes) of(version string, class compare.Class) { c[version+" "+string(class)]++ }

// count adds what a load generator saw.
func (c classes) count(r *envoytest.Report) {
	for _, result := range r.Results {
		switch {
		case result.Err != nil:
			c.of("no answer", "")
		case result.Status >= 500:
			c.of(result.Version, compare.ClassError)
		case result.Status >= 400:
			c.of(result.Version, compare.ClassClientError)
		default:
			c.of(result.Version, compare.ClassSuccess)
		}
	}
}

// counted are the classes that /metrics tells of a model.
func (g *gate) counted(model string) classes {
	g.t.Helper()
	c := classes{}
	for labels, n := range g.metrics("headgate_requests_total") {
		var class, name, version string
		if _, err := fmt.Sscanf(strings.ReplaceAll(labels, ",", " "), "class=%q model=%q version=%q", &class, &name, &version); err != nil {
			g.t.Fatalf("labels %s: %v", labels, err)
		}
		if name == model && n > 0 {
			c[version+" "+class] = int(n)
		}
	}
	return c
}

// TestFaultCountsAreExact compares what headgate counts with what the load
// generator saw, for every class.
func TestFaultCountsAreExact(t *testing.T) {
	t.Parallel()
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	v1.SetDelay(5 * time.Millisecond)
	v2.SetDelay(40 * time.Millisecond)
	m := modelFile{name: "counts", port: envoytest.FreePort(t), versions: []string{at("v1", v1), at("v2", v2)}, extra: []string{"retries: {attempts: 0}"}}
	m.policy = []string{"gates: [{metric: error_rate, max: 90%}]", "mode: observe"} // for v2 fails more than a hard rule lets pass
	m.release = "v1"
	g := newGate(t, "serve")
	g.put(m)
	g.start().up()
	g.envoyOf("one")
	m = g.rolling(m, 30)
	g.awaitRecords(m)

	want := g.counted("counts")
	send := func(n int) {
		t.Helper()
		want.count(envoytest.Load(t.Context(), envoytest.LoadOptions{
			URL: m.url(), Users: userIDs(200), Requests: n, Connections: 8, Timeout: 30 * time.Second,
		}))
	}
	send(1000)
	v2.SetStatus(500)
	send(300)
	v2.SetStatus(404)
	v1.SetStatus(422)
	send(300)
	v1.SetStatus(200)
	v2.SetStatus(200)
	v2.Reset(true)
	send(200)
	v2.Reset(false)
	v2.Stop()
	send(200)
	v2.Start()
	v1.Hang(true)
	split := splitOf("counts", 1, 3000)
	for i := range 20 {
		user := fmt.Sprintf("user-%d", i)
		if split(user) != "v1" {
			continue
		}
		giveUp(t, m.url(), user, v1)
		want.of("v1", compare.ClassAborted)
	}
	v1.Hang(false)
	send(100)

	g.eventually(20*time.Second, "as many requests", func() bool { return total(g.counted("counts")) >= total(want) })
	if diff := cmp.Diff(want, g.counted("counts")); diff != "" {
		t.Fatalf("counted differs from seen (-seen +counted):\n%s", diff)
	}
	got := classes{}
	for name, v := range g.versions("counts") {
		got[name+" error"], got[name+" client_error"], got[name+" aborted"] = int(v.Errors), int(v.ClientErrors), int(v.Aborted)
		got[name+" success"] = int(v.Requests - v.Errors - v.ClientErrors - v.Aborted)
	}
	for k, n := range got {
		if n == 0 {
			delete(got, k)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status differs from seen (-seen +told):\n%s", diff)
	}
	g.checkLatency("counts")
	g.checkMetrics("counts")
}

func total(c classes) (n int) {
	for _, v := range c {
		n += v
	}
	return n
}

// awaitRecords sends requests until they are told: an Envoy's log stream opens
// with its first request.
func (g *gate) awaitRecords(m modelFile) {
	g.t.Helper()
	g.listens(m.url())
	sent := 1 // that of listens
	g.eventually(20*time.Second, "records", func() bool {
		_, _, err := post(m.url(), "{}")
		noError(g.t, err)
		sent++
		return g.requests(m.name, "v1") > 0
	})
	var last int
	g.eventually(20*time.Second, "all records", func() bool {
		before := last
		last = total(g.counted(m.name))
		return last >= sent && last == before
	})
}

// giveUp sends a request that is not answered and goes away when it has
// arrived.
func giveUp(t testing.TB, url, user string, at *envoytest.Upstream) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	arrived := at.Count()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	noError(t, err)
	req.Header.Set("x-user-id", user)
	gone := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	envoytest.Eventually(t, 20*time.Second, "the request arrives", func() bool { return at.Count() > arrived })
	cancel()
	if err := <-gone; err == nil {
		t.Error("a request that was given up was answered")
	}
}

// checkLatency expects what the upstreams' delays make of the quantiles.
func (g *gate) checkLatency(model string) {
	g.t.Helper()
	versions := g.versions(model)
	for name, least := range map[string]float64{"v1": 0.005, "v2": 0.040} {
		v := versions[name]
		if v.P50 == nil || v.P99 == nil || *v.P50 < least*0.98 || *v.P99 < *v.P50 || *v.P99 > 20 {
			g.t.Errorf("latency of %s, which takes %v s and more: %+v", name, least, v.TrafficCounts)
		}
	}
	if *versions["v1"].P50 >= *versions["v2"].P50 {
		g.t.Errorf("v1 is told to be slower than v2: %v, %v", *versions["v1"].P50, *versions["v2"].P50)
	}
}

// checkMetrics expects shares, streams and refusals among the metrics.
func (g *gate) checkMetrics(model string) {
	g.t.Helper()
	of := func(version string) string { return fmt.Sprintf(`model=%q,version=%q`, model, version) }
	for _, name := range []string{"headgate_share_wanted_ratio", "headgate_share_acknowledged_ratio"} {
		want := map[string]float64{of("v1"): 0.7, of("v2"): 0.3}
		if diff := cmp.Diff(want, g.metrics(name)); diff != "" {
			g.t.Errorf("%s: %s", name, diff)
		}
	}
	if n := g.metric("headgate_envoys_connected"); n != 1 {
		g.t.Errorf("%v Envoys connected, want 1", n)
	}
	if s := g.metrics("headgate_streams"); s[`service="xds"`] != 1 || s[`service="access_log"`] < 1 {
		g.t.Errorf("streams: %v", s)
	}
	nacks := g.metrics("headgate_xds_nacks_total")
	for kind, n := range nacks {
		if n != 0 {
			g.t.Errorf("%v NACKs of %s", n, kind)
		}
	}
	if len(nacks) < 4 {
		g.t.Errorf("NACKs are not told by kind: %v", nacks)
	}
}
