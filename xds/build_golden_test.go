package xds_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

var update = flag.Bool("update", false, "write the golden files anew and remove those without a plan")

// built is all that comes of a plan.
type built struct {
	clusters, listeners, internal, routes, secrets, runtime []xds.Resource
	weights                                                 map[string]uint32
}

func build(t *testing.T, plan *routing.Plan) built {
	t.Helper()
	s, err := xds.NewBuilder(xds.Options{}).Build(plan)
	if err != nil {
		t.Fatal(err)
	}
	b := built{listeners: s.Listeners, secrets: s.Secrets, weights: map[string]uint32{}}
	for _, m := range s.Models {
		b.clusters = append(b.clusters, m.Clusters...)
		b.internal = append(b.internal, m.Internal...)
		for k, v := range m.Weights {
			b.weights[k] = v
		}
		if m.Weights != nil {
			b.runtime = append(b.runtime, xds.RuntimeLayer(m.Shard, s.Models))
		}
	}
	for _, l := range s.Listeners {
		table, err := xds.RouteTable(l.Name, s.Models)
		if err != nil {
			t.Fatal(err)
		}
		b.routes = append(b.routes, table)
	}
	return b
}

// readable turns resources into what YAML shows, without their versions.
func readable(t *testing.T, resources []xds.Resource) []any {
	t.Helper()
	var list []any
	for _, r := range resources {
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, readableMessage(t, m))
	}
	return list
}

func readableMessage(t *testing.T, m proto.Message) any {
	t.Helper()
	j, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(j, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (b built) yaml(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	doc := map[string]any{
		"clusters": readable(t, b.clusters), "listeners": readable(t, b.listeners), "routes": readable(t, b.routes),
		"secrets": readable(t, b.secrets), "weights": b.weights,
	}
	if len(b.internal) > 0 {
		doc["internal"] = readable(t, b.internal)
	}
	err := e.Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	plans := goldenPlans(t)
	for name, plan := range plans {
		t.Run(name, func(t *testing.T) {
			got := build(t, plan).yaml(t)
			path := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v: run the test with -update", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if plans[strings.TrimSuffix(filepath.Base(f), ".golden.yaml")] != nil {
			continue
		}
		if !*update {
			t.Errorf("%s: has no plan: run the test with -update", f)
		} else if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// Envoy itself accepts everything that the golden files show.
func TestEnvoyAcceptsGoldens(t *testing.T) {
	binary := envoytest.Binary(t)
	for name, plan := range goldenPlans(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "bootstrap.json")
			if err := os.WriteFile(path, static(t, build(t, plan)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), binary, "--mode", "validate", "--use-dynamic-base-id", "-c", path).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// static is a bootstrap that holds resources instead of asking for them, which
// is what --mode validate looks into.
func static(t *testing.T, b built) []byte {
	t.Helper()
	clusters := readable(t, b.clusters)
	for _, name := range []string{xds.ClusterExtProc, xds.ClusterCapture, xds.ClusterALS} {
		clusters = append(clusters, map[string]any{"name": name, "type": "STATIC", "load_assignment": map[string]any{"cluster_name": name}})
	}
	var listeners []any
	for i, r := range b.listeners {
		var l listenerv3.Listener
		var h hcmv3.HttpConnectionManager
		var table routev3.RouteConfiguration
		chain := func() *listenerv3.FilterChain { return l.GetFilterChains()[0] }
		unpack(t, r.Body, &l)
		unpack(t, chain().GetFilters()[0].GetTypedConfig(), &h)
		unpack(t, b.routes[i].Body, &table)
		table.ValidateClusters = nil
		h.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &table}
		chain().Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, &h)}
		if s := chain().GetTransportSocket(); s != nil {
			var d tlsv3.DownstreamTlsContext
			unpack(t, s.GetTypedConfig(), &d)
			for _, c := range d.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
				c.SdsConfig = nil
			}
			if v := d.GetCommonTlsContext().GetValidationContextSdsSecretConfig(); v != nil {
				v.SdsConfig = nil
			}
			s.GetTypedConfig().Value = packed(t, &d).GetValue()
		}
		listeners = append(listeners, readableMessage(t, &l))
	}
	listeners = append(listeners, readable(t, b.internal)...)
	var layers []any
	seen := map[string]bool{}
	for _, r := range readable(t, b.runtime) {
		if name := r.(map[string]any)["name"].(string); !seen[name] {
			seen[name] = true
			layers = append(layers, map[string]any{"name": name, "static_layer": r.(map[string]any)["layer"]})
		}
	}
	j, err := json.Marshal(map[string]any{
		"layered_runtime": map[string]any{"layers": layers},
		"bootstrap_extensions": []any{map[string]any{
			"name":         "envoy.bootstrap.internal_listener",
			"typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
		}},
		"static_resources": map[string]any{
			"clusters": clusters, "listeners": listeners, "secrets": readable(t, b.secrets),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func unpack(t *testing.T, a *anypb.Any, m proto.Message) {
	t.Helper()
	if err := a.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A listener that changes closes its connections: only its own address, and
// whether it has TLS, may change it.
func TestListenersDependOnNothingElse(t *testing.T) {
	seen := make(map[string]string)
	plans := goldenPlans(t)
	for name, plan := range plans {
		edited := *plan
		for _, p := range []*routing.Plan{plan, &edited} {
			for _, l := range build(t, p).listeners {
				if v, ok := seen[l.Name]; ok && v != l.Version {
					t.Errorf("%s: listener %s differs from another plan's", name, l.Name)
				}
				seen[l.Name] = l.Version
			}
		}
		edited.Models = nil
	}
	if len(seen) >= len(plans) {
		t.Fatalf("%d listeners in %d plans: nothing was compared", len(seen), len(plans))
	}
	rotated := goldenPlans(t)["listener-tls"]
	before := build(t, rotated)
	l := *rotated.Config.Listeners[0]
	tls := *l.TLS
	tls.CertificateChain = slices.Concat(tls.CertificateChain, []byte("\n"))
	l.TLS = &tls
	rotated.Config.Listeners = []*routing.Listener{&l}
	after := build(t, rotated)
	if before.listeners[0].Version != after.listeners[0].Version || before.secrets[0].Version == after.secrets[0].Version {
		t.Error("a rotated certificate must change the secret and not the listener")
	}
}
