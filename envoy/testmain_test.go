package envoy_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// runAs makes the test binary be a headgate that only runs an Envoy, in the
// state directory that it names, so that a test can kill it.
const runAs = "HEADGATE_TEST_RUN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(runAs); dir != "" {
		if err := runForTest(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func runForTest(dir string) error {
	text, err := os.ReadFile(dir + "/test.json")
	if err != nil {
		return err
	}
	var b bootstrapv3.Bootstrap
	if err := protojson.Unmarshal(text, &b); err != nil {
		return err
	}
	state, err := envoy.LockState(dir)
	if err != nil {
		return err
	}
	runner, err := envoy.NewRunner(envoy.RunnerOptions{
		State: state, Binary: envoy.Binary{Path: os.Getenv("ENVOY"), Version: "1.40.0"}, Bootstrap: &b, Concurrency: 2,
	})
	if err != nil {
		return err
	}
	return runner.Run(context.Background())
}

// ports is an Envoy's part of a bootstrap for tests that need no control
// plane: a listener before a model.
const ports = `{
  "listeners": [{
    "name": "front",
    "address": {"socketAddress": {"address": "127.0.0.1", "portValue": %d}},
    "filterChains": [{"filters": [{
      "name": "hcm",
      "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": "front",
        "routeConfig": {"virtualHosts": [{"name": "all", "domains": ["*"],
          "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "model"}}]}]},
        "httpFilters": [{"name": "router", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
      }}]}]
  }],
  "clusters": [{
    "name": "model",
    "loadAssignment": {"clusterName": "model", "endpoints": [{"lbEndpoints": [
      {"endpoint": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": %d}}}}]}]}
  }]
}`

// stage is a state directory with an Envoy to run in it, before a model.
type stage struct {
	dir       string
	url       string
	model     *envoytest.Upstream
	bootstrap *bootstrapv3.Bootstrap
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{dir: t.TempDir(), model: envoytest.NewUpstream(t, "v1")}
	admin, err := envoy.SocketPath(s.dir, "admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	s.bootstrap, err = envoy.Bootstrap(envoy.BootstrapOptions{
		NodeID: t.Name(),
		Server: envoy.Address{Unix: s.dir + "/none.sock"},
		Admin:  envoy.Address{Unix: admin},
	})
	if err != nil {
		t.Fatal(err)
	}
	port := envoytest.FreePort(t)
	s.url = fmt.Sprintf("http://127.0.0.1:%d/predict", port)
	var static bootstrapv3.Bootstrap_StaticResources
	if err := protojson.Unmarshal(fmt.Appendf(nil, ports, port, s.model.Port()), &static); err != nil {
		t.Fatal(err)
	}
	s.bootstrap.DynamicResources = nil
	s.bootstrap.StaticResources = &static
	return s
}

// binary is the Envoy to test with, as Find sees it.
func binary(t *testing.T) envoy.Binary {
	t.Helper()
	b, err := envoy.Find(t.Context(), envoytest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runner runs a Runner until the test ends, and its Envoy too.
func (s *stage) runner(t *testing.T) *envoy.Runner {
	t.Helper()
	state, err := envoy.LockState(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := envoy.NewRunner(envoy.RunnerOptions{
		State: state, Binary: binary(t), Bootstrap: s.bootstrap, Concurrency: 2,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- r.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = state.Close()
		if t.Failed() {
			log, _ := os.ReadFile(s.dir + "/envoy.log")
			t.Logf("envoy.log:\n%s", log)
		}
	})
	return r
}
