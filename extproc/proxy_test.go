package extproc_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"google.golang.org/grpc"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
)

// proxy is an Envoy whose route table asks an ext_proc server, with two
// versions behind it.
type proxy struct {
	*envoytest.Envoy
	stable, candidate *envoytest.Upstream
	url               string
}

// maxBody is the content-length from which on the route sends no body.
const maxBody = 64 << 10

// startProxy starts an Envoy that asks the server at a unix socket about the
// model "churn".
func startProxy(t testing.TB, socket string) *proxy {
	t.Helper()
	return startProxyWith(t, socket, func(config string) string { return config })
}

// startProxyWith is startProxy with a changed configuration.
func startProxyWith(t testing.TB, socket string, change func(config string) string) *proxy {
	t.Helper()
	p := &proxy{stable: envoytest.NewUpstream(t, "v1"), candidate: envoytest.NewUpstream(t, "v2")}
	var config bytes.Buffer
	err := template.Must(template.New("").Parse(bootstrap)).Execute(&config, map[string]any{
		"Socket": socket, "MaxBody": maxBody,
		"Stable": p.stable.Port(), "Candidate": p.candidate.Port(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Envoy = envoytest.Start(t, change(config.String()))
	p.url = "http://" + p.Listener("churn")
	return p
}

// impatient makes Envoy wait for an answer as long as it does in service.
// Tests that need every answer give a busy machine more time.
func impatient(config string) string {
	return strings.Replace(config, "message_timeout: 5s", "message_timeout: 0.025s", 1)
}

// counted returns what the ext_proc filter counted under a name.
func (p *proxy) counted(name string) int {
	return p.Stats("http.churn.ext_proc.decide.")["http.churn.ext_proc.decide."+name]
}

// socketPath returns a path short enough for a unix socket.
func socketPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}

// serve serves a plan to Envoys at a unix socket until the test ends.
func serve(t testing.TB, socket string, models ...*routing.ModelPlan) *extproc.Service {
	t.Helper()
	service := extproc.New(slog.New(slog.DiscardHandler))
	service.Publish(planOf(models...))
	g := grpc.NewServer(extproc.ServerOptions()...)
	service.Register(g)
	serveOn(t, socket, g)
	return service
}

func serveOn(t testing.TB, socket string, g *grpc.Server) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
}

// reply is an answer that a test cares about.
type reply struct {
	Status  int
	Version string // of the upstream that answered; "" when Envoy did
}

// ask sends one request with a body; prepare may change it.
func (p *proxy) ask(t testing.TB, method, path, body string, prepare func(*http.Request)) (reply, time.Duration) {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, p.url+path, content)
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(req)
	}
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return reply{resp.StatusCode, resp.Header.Get(envoytest.UpstreamHeader)}, time.Since(start)
}

func planOf(models ...*routing.ModelPlan) *routing.Plan {
	return &routing.Plan{Config: &routing.Config{}, Models: models}
}

// churn returns the plan of a model in a rollout from v1 to v2.
func churn(share routing.Share, change func(*routing.Model)) *routing.ModelPlan {
	m := &routing.Model{
		Name:     "churn",
		Versions: []*routing.Version{{Name: "v1"}, {Name: "v2"}},
		Release:  "v2", From: "v1",
		Key:    routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent},
		Decide: routing.DecideExtProc,
	}
	if change != nil {
		change(m)
	}
	return &routing.ModelPlan{Model: m, Stable: "v1", Split: routing.Split{
		Salt:   "churn-r1",
		Ranges: []routing.Range{{Version: "v2", Weight: share}, {Version: "v1", Weight: routing.Whole - share}},
	}}
}

func mustPath(s string) routing.Path {
	p, err := routing.ParsePath(s)
	if err != nil {
		panic(err)
	}
	return p
}

// bodyKey keys a model by $.user.id.
func bodyKey(m *routing.Model) {
	m.Key = routing.Key{
		Source: routing.SourceBody, Name: "$.user.id", Path: mustPath("$.user.id"), Absent: routing.AbsentCurrent,
	}
}

func users(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("user-%05d", i)
	}
	return list
}

// bootstrap mirrors the routes that package xds makes for such a model.
const bootstrap = `
static_resources:
  listeners:
  - name: churn
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: churn
          early_header_mutation_extensions:
          - name: strip
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations:
              - remove_on_match: {key_matcher: {prefix: x-headgate-}}
              - append:
                  header: {key: x-headgate-draw, value: '%REQ(x-request-id)%'}
                  append_action: OVERWRITE_IF_EXISTS_OR_ADD
          route_config:
            name: churn
            virtual_hosts:
            - name: churn
              domains: ['*']
              routes:
              - match: {prefix: /plain}
                route: {cluster: churn/v1, timeout: 5s}
              - match: {prefix: /, headers: [{name: x-headgate-decision, string_match: {exact: v2}}]}
                route: {cluster: churn/v2, timeout: 5s}
              - match: {prefix: /, headers: [{name: x-headgate-decision, string_match: {exact: v1}}]}
                route: {cluster: churn/v1, timeout: 5s}
              - match: {prefix: /, headers: [{name: content-length, range_match: {start: 1, end: {{.MaxBody}}}}]}
                route: {cluster: churn/v1, timeout: 5s}
                typed_per_filter_config:
                  headgate.decide:
                    '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig
                    config:
                      '@type': type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute
                      overrides:
                        grpc_initial_metadata: [{key: x-headgate-model, value: churn}]
                        processing_mode:
                          request_header_mode: SEND
                          response_header_mode: SKIP
                          request_body_mode: BUFFERED
                          response_body_mode: NONE
                          request_trailer_mode: SKIP
                          response_trailer_mode: SKIP
              - match: {prefix: /}
                route: {cluster: churn/v1, timeout: 5s}
                typed_per_filter_config:
                  headgate.decide:
                    '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig
                    config:
                      '@type': type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute
                      overrides:
                        grpc_initial_metadata: [{key: x-headgate-model, value: churn}]
          http_filters:
          - name: headgate.decide
            disabled: true
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              stat_prefix: decide
              grpc_service:
                envoy_grpc: {cluster_name: decide, max_receive_message_length: 16384}
              processing_mode:
                request_header_mode: SEND
                response_header_mode: SKIP
                request_body_mode: NONE
                response_body_mode: NONE
                request_trailer_mode: SKIP
                response_trailer_mode: SKIP
              failure_mode_allow: true
              disable_immediate_response: true
              message_timeout: 5s
              metadata_options:
                receiving_namespaces: {untyped: [headgate]}
              mutation_rules:
                disallow_all: true
                allow_expression: {regex: 'x-headgate-.*'}
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: churn/v1
    connect_timeout: 1s
    load_assignment:
      cluster_name: churn/v1
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{.Stable}}}}}}]}]
  - name: churn/v2
    connect_timeout: 1s
    load_assignment:
      cluster_name: churn/v2
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{.Candidate}}}}}}]}]
  - name: decide
    connect_timeout: 0.2s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    health_checks:
    - timeout: 0.2s
      interval: 0.2s
      no_traffic_interval: 0.2s
      unhealthy_interval: 0.2s
      unhealthy_threshold: 2
      healthy_threshold: 1
      always_log_health_check_failures: false
      grpc_health_check: {}
    common_lb_config: {healthy_panic_threshold: {value: 0}, update_merge_window: 0s}
    load_assignment:
      cluster_name: decide
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: {{.Socket}}}}}}]}]
`
