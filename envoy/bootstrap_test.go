package envoy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
)

const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	runtimeType  = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
)

func layers() []string {
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("headgate-weights-%02d", i))
	}
	return names
}

func render(t *testing.T, o envoy.BootstrapOptions) string {
	t.Helper()
	b, err := envoy.Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := envoy.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBootstrapIsAccepted(t *testing.T) {
	dir := t.TempDir()
	certificates(t, dir)
	security := &envoy.TLS{CA: dir + "/ca.pem", Certificate: dir + "/envoy.pem", Key: dir + "/envoy.key"}
	tests := map[string]envoy.BootstrapOptions{
		"child": {
			Server: envoy.Address{Unix: "/run/headgate/xds.sock"}, Admin: envoy.Address{Unix: dir + "/admin.sock"},
		},
		"loopback": {
			Server: envoy.Address{Host: "127.0.0.1", Port: 18000}, Admin: envoy.Address{Host: "127.0.0.1", Port: 9901},
		},
		"remote by name": {
			Server: envoy.Address{Host: "headgate.ml.svc", Port: 18000}, Admin: envoy.Address{Host: "::1", Port: 9901}, TLS: security,
		},
		"remote by number, agent beside": {
			Server: envoy.Address{Host: "10.0.0.7", Port: 18000}, TLS: security,
			ExtProc: envoy.Address{Unix: "/run/headgate/agent.sock"}, ALS: envoy.Address{Unix: "/run/headgate/agent.sock"},
			Admin: envoy.Address{Unix: dir + "/admin.sock"},
		},
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			options.NodeID, options.RuntimeLayers = "edge-1", layers()
			text := render(t, options)
			if text != render(t, options) {
				t.Error("equal options give different bytes")
			}
			// With its usual timeout of 15 s Envoy goes on without weights, and
			// is live without listeners. Clusters, listeners and 16 layers:
			if got := strings.Count(text, "initial_fetch_timeout: 0s"); got != 18 {
				t.Errorf("%d resources are waited for without a limit, want 18", got)
			}
			path := filepath.Join(t.TempDir(), "envoy.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(envoytest.Binary(t), "--mode", "validate", "--disable-hot-restart", "--log-level", "warning", "-c", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), "[warning]") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestBootstrapIsRefused(t *testing.T) {
	local := envoy.Address{Host: "127.0.0.1", Port: 18000}
	remote := envoy.Address{Host: "0.0.0.0", Port: 18000}
	tests := map[string]struct {
		options envoy.BootstrapOptions
		want    string
	}{
		"nothing": {envoy.BootstrapOptions{Admin: local}, "bootstrap: node id: must not be empty\nbootstrap: server: must not be empty"},
		"admin for all": {envoy.BootstrapOptions{NodeID: "a", Server: local, Admin: remote},
			"bootstrap: admin: 0.0.0.0:18000: must be a unix socket or a port of loopback, because Envoy's admin interface has no authentication"},
		"admin by name": {envoy.BootstrapOptions{NodeID: "a", Server: local, Admin: envoy.Address{Host: "localhost", Port: 1}},
			"bootstrap: admin: localhost:1: must be an IP address, not a name"},
		"remote without TLS": {envoy.BootstrapOptions{NodeID: "a", Server: remote, Admin: local},
			"bootstrap: server: 0.0.0.0:18000: beyond loopback only with mutual TLS"},
		"TLS without key": {envoy.BootstrapOptions{NodeID: "a", Server: remote, Admin: local, TLS: &envoy.TLS{CA: "ca.pem", Certificate: "c.pem"}},
			"bootstrap: tls: an authority, a certificate and a key are needed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := envoy.Bootstrap(test.options); err == nil || err.Error() != test.want {
				t.Fatalf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// live starts an Envoy on the bootstrap of a child, with a control plane, not
// started yet, that has a listener, a cluster and weights for it.
func live(t *testing.T) (*envoytest.Envoy, *controlPlane, *stage) {
	t.Helper()
	s := newStage(t)
	control := newControlPlane(t, envoy.Address{Unix: s.dir + "/xds.sock"})
	control.serve(t, s)
	proxy := envoytest.Start(t, render(t, envoy.BootstrapOptions{
		NodeID: "child", RuntimeLayers: layers(),
		Server: control.address, Admin: envoy.Address{Unix: s.dir + "/admin.sock"},
	}), envoytest.NoWait())
	return proxy, control, s
}

// serve gives c the resources of s. Only the first runtime layer exists: the
// others are answered as not there, which is an answer too.
func (c *controlPlane) serve(t *testing.T, s *stage) {
	t.Helper()
	static := s.bootstrap.GetStaticResources()
	weights, err := structpb.NewStruct(map[string]any{"demo.weight": 25})
	if err != nil {
		t.Fatal(err)
	}
	first := layers()[0]
	c.set(t, map[string]proto.Message{"front": static.GetListeners()[0]})
	c.set(t, map[string]proto.Message{"model": static.GetClusters()[0]})
	c.set(t, map[string]proto.Message{first: &runtimev3.Runtime{Name: first, Layer: weights}})
}

// Over a network both sides prove who they are, by number and by name.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	certificates(t, dir)
	pair, err := tls.LoadX509KeyPair(dir+"/server.pem", dir+"/server.key")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(dir + "/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	mutual := grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}))
	tests := map[string]struct {
		name string
		live bool
	}{
		"by number":       {"", true},
		"by name":         {"headgate.test", true},
		"of another name": {"other.test", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			control := newControlPlane(t, envoy.Address{Host: "127.0.0.1", Port: uint16(envoytest.FreePort(t))}, mutual)
			control.serve(t, s)
			control.start(t)
			proxy := envoytest.Start(t, render(t, envoy.BootstrapOptions{
				NodeID: "edge", RuntimeLayers: layers(), Server: control.address, Admin: envoy.Address{Unix: s.dir + "/admin.sock"},
				TLS: &envoy.TLS{CA: dir + "/ca.pem", Certificate: dir + "/envoy.pem", Key: dir + "/envoy.key", ServerName: test.name},
			}), envoytest.NoWait())
			if test.live {
				proxy.AwaitLive(10 * time.Second)
				mustServe(t, s)
				return
			}
			const refused = "cluster.headgate_xds.ssl.fail_verify_san"
			envoytest.Eventually(t, 10*time.Second, "the certificate is refused", func() bool { return proxy.Stats(refused)[refused] >= 2 })
			if len(control.streams()) != 0 {
				t.Error("a stream was opened all the same")
			}
		})
	}
}

func TestFreshEnvoyWaitsForItsState(t *testing.T) {
	proxy, control, s := live(t)
	refused := func(when string) {
		t.Helper()
		if state := proxy.Admin("/ready"); strings.HasPrefix(state, "LIVE") {
			t.Fatalf("Envoy is live %s", when)
		}
		if resp, err := http.Get(s.url); err == nil {
			_ = resp.Body.Close()
			t.Fatalf("a port is open %s", when)
		}
	}
	refused("without a control plane")

	control.hold(runtimeType, true)
	control.start(t)
	envoytest.Eventually(t, 10*time.Second, "Envoy asks for weights", func() bool { return control.hasAsked(runtimeType) })
	refused("without its weights")
	if control.hasAsked(listenerType) {
		t.Error("Envoy asks for listeners before it has its weights")
	}

	control.hold(listenerType, true)
	control.hold(runtimeType, false)
	envoytest.Eventually(t, 10*time.Second, "Envoy asks for listeners", func() bool { return control.hasAsked(listenerType) })
	refused("without its listeners")

	control.hold(listenerType, false)
	proxy.AwaitLive(10 * time.Second)
	mustServe(t, s)
	if text := proxy.Admin("/runtime"); !strings.Contains(text, `"final_value": "25"`) {
		t.Errorf("runtime values: %s", text)
	}
	if log := proxy.Log(); strings.Contains(log, "[warning]") || strings.Contains(log, "no configured limit") {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "[warning]") && !strings.Contains(line, "gRPC config stream") {
				t.Error("Envoy warns: " + line)
			}
		}
	}
	node := control.nodes[0].GetNode()
	if node.GetId() != "child" || node.GetMetadata().GetFields()["headgate"].GetStructValue().GetFields()["bootstrap"].GetNumberValue() != envoy.BootstrapVersion {
		t.Errorf("node %v", node)
	}
}

func TestControlPlaneIsFoundAgain(t *testing.T) {
	proxy, control, s := live(t)
	control.start(t)
	proxy.AwaitLive(10 * time.Second)
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: s.url, Rate: 200})
	control.stop()
	// Long enough for the pauses to have reached their bound.
	envoytest.Eventually(t, 20*time.Second, "Envoy tried some times", func() bool {
		return proxy.Stats("cluster.headgate_xds.upstream_cx_connect_fail")["cluster.headgate_xds.upstream_cx_connect_fail"] >= 5
	})
	before := len(control.streams())
	back := time.Now()
	control.start(t)
	envoytest.Eventually(t, 10*time.Second, "a new stream", func() bool { return len(control.streams()) > before })
	took := control.streams()[before].Sub(back)
	t.Logf("found again after %s", took)
	if took > 1500*time.Millisecond {
		t.Errorf("found again after %s, want about a second at most", took)
	}
	if report := load.Stop(); report.Failed != 0 || report.Dials != 4 {
		t.Error(report)
	}
}

func TestFrozenExtProcIsLeftOut(t *testing.T) {
	proxy, control, _ := live(t)
	control.start(t)
	proxy.AwaitLive(10 * time.Second)
	healthy := func() bool {
		const name = "cluster.headgate_ext_proc.membership_healthy"
		return proxy.Stats(name)[name] == 1
	}
	within := func(limit time.Duration, what string, ok func() bool) {
		t.Helper()
		begin := time.Now()
		envoytest.Eventually(t, 10*time.Second, what, ok)
		t.Logf("%s after %s", what, time.Since(begin))
		if took := time.Since(begin); took > limit {
			t.Errorf("%s after %s, want %s", what, took, limit)
		}
	}
	sick := func() bool { return !healthy() }
	within(2*time.Second, "healthy at first", healthy)
	control.freeze(true)
	within(1500*time.Millisecond, "frozen and left out", sick)
	control.freeze(false)
	within(2*time.Second, "released and back", healthy)
	control.stop()
	within(1500*time.Millisecond, "stopped and left out", sick)
	control.start(t)
	within(2*time.Second, "started and back", healthy)
}
