package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// times is how often a fault is tried: whole in `make soak`, a part of it in
// `make test`.
func times(short, whole int) int {
	if os.Getenv("HEADGATE_SOAK") != "" {
		return whole
	}
	return short
}

// get asks headgate's admin surface.
func (g *gate) get(path string) (status int, body string, err error) {
	resp, err := http.Get("http://" + g.admin + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// config is what GET /v1/config tells.
func (g *gate) config() (admin.Config, error) {
	var c admin.Config
	status, body, err := g.get("/v1/config")
	if err != nil {
		return c, err
	}
	if status != http.StatusOK {
		return c, fmt.Errorf("GET /v1/config: HTTP %d: %s", status, body)
	}
	return c, json.Unmarshal([]byte(body), &c)
}

// awaitConfig waits until what is told of the files satisfies ok.
func (g *gate) awaitConfig(what string, ok func(admin.Config) bool) admin.Config {
	g.t.Helper()
	var c admin.Config
	g.eventually(20*time.Second, what, func() bool {
		var err error
		c, err = g.config()
		return err == nil && ok(c)
	})
	return c
}

func inForce(c admin.Config) bool { return c.OK && c.Hash != "" }
func refused(c admin.Config) bool { return !c.OK && len(c.Errors) > 0 }

// metric returns the value of a metric without labels.
func (g *gate) metric(name string) float64 {
	g.t.Helper()
	status, body, err := g.get("/metrics")
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("GET /metrics: HTTP %d, %v", status, err)
	}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), name+" ")
		if !ok {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			g.t.Fatalf("metric %s: %v", name, err)
		}
		return value
	}
	g.t.Fatalf("there is no metric %s:\n%s", name, body)
	return 0
}

// history returns the records of a model, oldest first.
func (g *gate) history(model string) []admin.Record {
	g.t.Helper()
	var h admin.History
	status, body, err := g.get("/v1/models/" + model + "/history?limit=1000")
	if err == nil {
		err = json.Unmarshal([]byte(body), &h)
	}
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("history of %s: HTTP %d, %v", model, status, err)
	}
	slices.Reverse(h.Records)
	return h.Records
}

// envoyAdmin asks the Envoy of `headgate run`.
func (g *gate) envoyAdmin(path string) (string, error) {
	client := http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(g.state, "envoy-admin.sock"))
			},
		},
	}
	resp, err := client.Get("http://envoy" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: HTTP %d", path, resp.StatusCode)
	}
	return string(data), err
}

// dumped is what an Envoy has by discovery, each resource with its version and
// the time at which it came: "listener name version time", sorted.
func dumped(t testing.TB, dump string) []string {
	t.Helper()
	var doc struct {
		Configs []struct {
			Listeners []struct {
				Name  string `json:"name"`
				State struct {
					Version string `json:"version_info"`
					Updated string `json:"last_updated"`
				} `json:"active_state"`
			} `json:"dynamic_listeners"`
			Clusters []discovered `json:"dynamic_active_clusters"`
			Routes   []discovered `json:"dynamic_route_configs"`
		} `json:"configs"`
	}
	if err := json.Unmarshal([]byte(dump), &doc); err != nil {
		t.Fatalf("config dump: %v", err)
	}
	var all []string
	for _, c := range doc.Configs {
		for _, l := range c.Listeners {
			all = append(all, fmt.Sprintf("listener %s %s %s", l.Name, l.State.Version, l.State.Updated))
		}
		for _, r := range c.Clusters {
			all = append(all, fmt.Sprintf("cluster %s %s %s", r.Cluster.Name, r.Version, r.Updated))
		}
		for _, r := range c.Routes {
			all = append(all, fmt.Sprintf("routes %s %s %s", r.Routes.Name, r.Version, r.Updated))
		}
	}
	slices.Sort(all)
	return all
}

// discovered is a resource in Envoy's config dump.
type discovered struct {
	Version string                `json:"version_info"`
	Updated string                `json:"last_updated"`
	Cluster struct{ Name string } `json:"cluster"`
	Routes  struct{ Name string } `json:"route_config"`
}

// envoyHolds is what is dumped by the Envoy of `headgate run`.
func (g *gate) envoyHolds() []string {
	g.t.Helper()
	dump, err := g.envoyAdmin("/config_dump")
	if err != nil {
		g.t.Fatalf("config dump: %v", err)
	}
	return dumped(g.t, dump)
}

// ask sends one request and returns the version that answered.
func (p pair) ask(user string) (version string, err error) {
	req, err := http.NewRequest(http.MethodPost, p.url(), strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	req.Header.Set("x-user-id", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return resp.Header.Get(routing.HeaderVersion), nil
}

// answers waits until the listener serves: Envoy acknowledges it some
// milliseconds before.
func (p pair) answers(g *gate) {
	g.t.Helper()
	g.eventually(20*time.Second, "an answer", func() bool { _, err := p.ask("somebody"); return err == nil })
}

// closed tells whether nobody listens.
func (p pair) closed() bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		return true
	}
	_ = conn.Close()
	return false
}

// clean stops a load and fails the test when a request failed.
func clean(t testing.TB, load *envoytest.Loader) *envoytest.Report {
	t.Helper()
	report := load.Stop()
	if report.Failed != 0 {
		t.Errorf("requests failed: %s", report)
	}
	if len(report.Results) == 0 {
		t.Error("no request was sent")
	}
	return report
}

// ends waits until headgate has ended by itself, and returns its exit code and
// what it printed.
func (g *gate) ends() (code int, printed string) {
	g.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(30 * time.Second):
		g.t.Fatal("headgate did not end within 30 s")
	}
	return g.cmd.ProcessState.ExitCode(), g.log.String()
}

// up waits until the admin surface answers, ready or not.
func (g *gate) up() *gate {
	g.t.Helper()
	g.eventually(20*time.Second, "the admin surface", func() bool {
		status, _, err := g.get("/livez")
		return err == nil && status == http.StatusOK
	})
	return g
}

func noError(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
