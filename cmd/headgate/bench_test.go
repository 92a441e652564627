package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// BenchmarkEdit measures, under load, the time from a saved file to the first
// answer by the new shares, and from a command to the last answer by the
// candidate. Every second save is not atomic: the file is truncated and
// written.
func BenchmarkEdit(b *testing.B) {
	p := newPair(b)
	g := newGate(b, "run")
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	file := func(share string) string {
		return p.file("v2", "{traffic: "+share+"}", "{traffic: 100%}")
	}
	g.write("churn.yaml", file("10%"))
	g.serving("churn", "v2", 10)
	user := userBetween("churn-r1", 1000, 2000)
	load := p.load(b, 500)
	var took []time.Duration
	for i := range max(b.N, 50) {
		share, version := "20%", "v2"
		if i%2 == 1 {
			share, version = "10%", "v1"
		}
		begin := time.Now()
		if i/2%2 == 0 {
			g.write("churn.yaml", file(share))
		} else if err := os.WriteFile(filepath.Join(g.conf, "churn.yaml"), []byte(file(share)), 0o644); err != nil {
			b.Fatal(err)
		}
		for askAs(b, p.url(), user) != version {
			if time.Since(begin) > 10*time.Second {
				b.Fatalf("edit %d: no answer by %s within 10 s", i, version)
			}
		}
		took = append(took, time.Since(begin))
	}
	back := rollbackUnder(b, g, load)
	report := load.Stop()
	if report.Failed != 0 {
		b.Errorf("requests failed: %s", report)
	}
	slices.Sort(took)
	b.ReportMetric(milliseconds(took[len(took)/2]), "median-ms")
	b.ReportMetric(milliseconds(took[len(took)*9/10]), "p90-ms")
	b.ReportMetric(milliseconds(back), "rollback-ms")
	b.ReportMetric(0, "ns/op")
}

// rollbackUnder returns the time from the command, as the API takes it, to the
// start of the last request that the candidate answered.
func rollbackUnder(b *testing.B, g *gate, load *envoytest.Loader) time.Duration {
	begin := time.Now()
	resp, err := http.Post("http://"+g.admin+"/v1/models/churn/rollback", "application/json", strings.NewReader("{}"))
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("rollback: HTTP %d", resp.StatusCode)
	}
	sent := load.Sent()
	envoytest.Eventually(b, 10*time.Second, "requests after the rollback", func() bool { return load.Sent() > sent+500 })
	last := time.Duration(0)
	for _, r := range load.Report().Results {
		if r.Version == "v2" {
			last = max(last, r.Start.Sub(begin))
		}
	}
	return last
}

// userBetween returns a user with a bucket in [from, to).
func userBetween(salt string, from, to int) string {
	for i := 0; ; i++ {
		user := "edit-" + strconv.Itoa(i)
		if bucket := routing.Bucket(salt, user); bucket >= from && bucket < to {
			return user
		}
	}
}

func askAs(tb testing.TB, url, user string) string {
	tb.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("x-user-id", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		tb.Fatalf("HTTP %d", resp.StatusCode)
	}
	return resp.Header.Get(routing.HeaderVersion)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkThroughput compares routes of one Envoy in turn: a plain one, as a
// model without a rollout has it, a split one, and a plain one of an Envoy
// that knows no headgate at all. It needs wrk.
func BenchmarkThroughput(b *testing.B) {
	if _, err := exec.LookPath("wrk"); err != nil {
		b.Fatal("this benchmark needs wrk on the PATH (apt-get install wrk)")
	}
	backend := fixedAnswers(b)
	port := envoytest.FreePort(b)
	model := func(name, release string) string {
		return fmt.Sprintf("model: %s\nlisten: 127.0.0.1:%d\nmatch: {prefix: /%s}\nversions:\n  v1: {endpoints: [%q]}\n  v2: {endpoints: [%q]}\n"+
			"release: %s\nfrom: v1\nkey: {header: x-user-id}\nrollout:\n  steps:\n    - {traffic: 50%%}\n    - {traffic: 100%%}\n",
			name, port, name, backend, backend, release)
	}
	g := newGate(b, "run")
	g.write("plain.yaml", model("plain", "v1"))
	g.write("split.yaml", model("split", "v2"))
	g.start().ready()
	g.serving("split", "v2", 50)
	bare := bareEnvoy(b, backend)

	var split, headgate []float64
	for range max(b.N, 7) {
		plain := requestsPerSecond(b, fmt.Sprintf("http://127.0.0.1:%d/plain", port))
		split = append(split, requestsPerSecond(b, fmt.Sprintf("http://127.0.0.1:%d/split", port))/plain)
		headgate = append(headgate, plain/requestsPerSecond(b, "http://"+bare+"/plain"))
		b.Logf("plain %.0f requests/s, split %.3f of it; plain %.3f of an Envoy without headgate", plain, split[len(split)-1], headgate[len(headgate)-1])
	}
	b.ReportMetric(median(split), "split/plain")
	b.ReportMetric(median(headgate), "plain/bare")
	b.ReportMetric(0, "ns/op")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// requestsPerSecond sends requests of 1,000 users for two seconds.
func requestsPerSecond(b *testing.B, url string) float64 {
	b.Helper()
	script := filepath.Join(b.TempDir(), "users.lua")
	const lua = `local i = 0
request = function()
  i = i + 1
  wrk.headers["x-user-id"] = "user-" .. (i % 1000)
  return wrk.format("GET")
end
`
	if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
		b.Fatal(err)
	}
	out, err := exec.CommandContext(b.Context(), "wrk", "-t1", "-c16", "-d2s", "-s", script, url).CombinedOutput()
	if err != nil {
		b.Fatalf("wrk: %v: %s", err, out)
	}
	if bytes.Contains(out, []byte("Non-2xx")) {
		b.Fatalf("wrk: %s", out)
	}
	m := wrkRate.FindSubmatch(out)
	if m == nil {
		b.Fatalf("wrk: %s", out)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return rate
}

// fixedAnswers is a server that costs next to nothing: it answers every block
// of bytes that ends in an empty line.
func fixedAnswers(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 16<<10)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						if _, err := conn.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// bareEnvoy is an Envoy with one route to the backend and nothing else.
func bareEnvoy(b *testing.B, backend string) string {
	host, port, err := net.SplitHostPort(backend)
	if err != nil {
		b.Fatal(err)
	}
	e := envoytest.Start(b, fmt.Sprintf(`
static_resources:
  listeners:
  - name: bare
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          route_config:
            virtual_hosts:
            - {name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: backend}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]
`, host, port))
	return e.Listener("bare")
}
