package envoytest_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headgate/headgate/envoy/envoytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const proxyTo = `
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, route: {cluster: model}}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: model
    load_assignment:
      cluster_name: model
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
`

func TestLoadThroughEnvoy(t *testing.T) {
	model := envoytest.NewUpstream(t, "v1")
	proxy := envoytest.Start(t, fmt.Sprintf(proxyTo, model.Port()))
	url := "http://" + proxy.Listener("front") + "/predict"

	users := []string{"ann", "ben", "cleo", "dan", "eve"}
	report := envoytest.Load(t.Context(), envoytest.LoadOptions{URL: url, Requests: 200, Users: users})
	if report.Failed != 0 || report.Versions["v1"] != 200 || report.Dials != 4 || len(report.Users()) != 5 || report.Percentile(0.5) <= 0 {
		t.Fatal(report)
	}
	if got := model.Count(); got != 200 {
		t.Fatalf("the model saw %d requests, want 200", got)
	}
	if got := proxy.Stats("cluster.model.")["cluster.model.upstream_rq_completed"]; got != 200 {
		t.Fatalf("Envoy counted %d requests, want 200", got)
	}
	if got := model.Requests()[0]; got.Path != "/predict" || got.Header.Get("x-user-id") == "" || string(got.Body) != "{}" {
		t.Fatalf("unexpected request %+v", got)
	}

	model.SetStatus(http.StatusInternalServerError)
	report = envoytest.Load(t.Context(), envoytest.LoadOptions{URL: url, Requests: 8})
	if report.Failed != 8 || report.Results[0].Status != 500 {
		t.Fatalf("a model that answers 500: %s", report)
	}
	model.SetStatus(http.StatusOK)

	model.Reset(true)
	report = envoytest.Load(t.Context(), envoytest.LoadOptions{URL: url, Requests: 4})
	if report.Failed != 4 || report.Results[0].Status != 503 {
		t.Fatalf("a model that resets: %s", report)
	}
	model.Reset(false)
}

func TestPauseAndHang(t *testing.T) {
	model := envoytest.NewUpstream(t, "v1")
	proxy := envoytest.Start(t, fmt.Sprintf(proxyTo, model.Port()))
	options := envoytest.LoadOptions{
		URL: "http://" + proxy.Listener("front"), Requests: 1, Connections: 1, Timeout: 300 * time.Millisecond,
	}

	proxy.Pause()
	if report := envoytest.Load(t.Context(), options); report.Failed != 1 || report.Results[0].Err == nil {
		t.Fatalf("a frozen Envoy: %s", report)
	}
	proxy.Resume()

	model.Hang(true)
	if report := envoytest.Load(t.Context(), options); report.Failed != 1 || report.Results[0].Err == nil {
		t.Fatalf("a model that hangs: %s", report)
	}
	options.Timeout = 5 * time.Second
	load := envoytest.StartLoad(t, options)
	before := model.Count()
	envoytest.Eventually(t, 5*time.Second, "the request reaches the model", func() bool { return model.Count() > before })
	model.Hang(false)
	if report := load.Stop(); report.Failed != 0 {
		t.Fatalf("a model that was released: %s", report)
	}

	model.Stop()
	if report := envoytest.Load(t.Context(), options); report.Failed != 1 || report.Results[0].Status != 503 {
		t.Fatalf("a stopped model: %s", report)
	}
	model.Start()
	if report := envoytest.Load(t.Context(), options); report.Failed != 0 {
		t.Fatalf("a model that came back: %s", report)
	}

	proxy.Kill()
	if report := envoytest.Load(t.Context(), options); report.Failed != 1 {
		t.Fatalf("a killed Envoy: %s", report)
	}
}

func TestMovesOfUsers(t *testing.T) {
	model := envoytest.NewUpstream(t, "v1")
	load := envoytest.StartLoad(t, envoytest.LoadOptions{
		URL: "http://" + model.Addr, Users: []string{"ann"}, Rate: 500, Connections: 1,
	})
	for _, version := range []string{"v2", "v1"} {
		model.SetHeader("x-headgate-version", version)
		sent := load.Sent()
		envoytest.Eventually(t, 5*time.Second, "answers by "+version, func() bool { return load.Sent() > sent+2 })
	}
	report := load.Stop()
	moves := report.Moves()
	back := report.Backwards("v1", "v2")
	if len(back) != 1 || back[0].From != "v2" || back[0].To != "v1" || len(moves) < 1 || report.Users()["ann"] != "v1" {
		t.Fatalf("moves %v, backwards %v", moves, back)
	}
}
