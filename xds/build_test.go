package xds_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

func keyed(m *routing.Model) {
	m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
}

func snapshot(t testing.TB, b *xds.Builder, plan *routing.Plan) *xds.Snapshot {
	t.Helper()
	s, err := b.Build(plan)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A share that moves changes the weights and nothing else.
func TestWeightsLeaveTheRest(t *testing.T) {
	for name, plan := range goldenPlans(t) {
		if len(plan.Models) != 1 || len(plan.Models[0].Split.Ranges) != 2 {
			continue
		}
		before := snapshot(t, xds.NewBuilder(xds.Options{}), plan).Models[0]
		p := moved(plan.Models[0], 7500)
		after := snapshot(t, xds.NewBuilder(xds.Options{}), &routing.Plan{Config: plan.Config, Models: []*routing.ModelPlan{p}}).Models[0]
		if before.RouteVersion != after.RouteVersion {
			t.Errorf("%s: the routes changed", name)
		}
		if diff := cmp.Diff(versions(before.Clusters), versions(after.Clusters)); diff != "" {
			t.Errorf("%s: the clusters changed: %s", name, diff)
		}
		want := map[string]uint32{
			"headgate.churn.churn-r1.churn/v2.0.0": 7500, "headgate.churn.churn-r1.churn/v1.0.0": 2500,
			"headgate-fallback.churn.churn-r1.churn/v2.0.0": 1, "headgate-fallback.churn.churn-r1.churn/v1.0.0": 0,
		}
		for _, m := range p.Mirrors {
			want["headgate-mirror.churn/"+m.Version] = uint32(m.Share)
		}
		if diff := cmp.Diff(want, after.Weights); diff != "" {
			t.Errorf("%s: weights (-want +got):\n%s", name, diff)
		}
	}
}

func versions(resources []xds.Resource) map[string]string {
	v := make(map[string]string)
	for _, r := range resources {
		v[r.Name] = r.Version
	}
	return v
}

// A builder that has seen the plan with other weights gives the same as one
// that has not, and notices weights that cannot be.
func TestBuilderMovesWeights(t *testing.T) {
	p := goldenModel("churn", keyed)
	b := xds.NewBuilder(xds.Options{})
	before := snapshot(t, b, planOf(p)).Models[0]
	for _, next := range []*routing.ModelPlan{moved(p, 0), moved(p, 10_000)} {
		after := snapshot(t, b, planOf(next)).Models[0]
		fresh := snapshot(t, xds.NewBuilder(xds.Options{}), planOf(next)).Models[0]
		if diff := cmp.Diff(fresh.Weights, after.Weights); diff != "" || after == before || fresh.RouteVersion != after.RouteVersion {
			t.Errorf("weights (-fresh +remembering):\n%s", diff)
		}
	}
	wrong := *p
	wrong.Split.Ranges = []routing.Range{{Version: "v2.0.0", Weight: 1}, {Version: "v1.0.0", Weight: 1}}
	if _, err := b.Build(planOf(&wrong)); err == nil {
		t.Error("weights that sum to 2 were built")
	}
	back := *p
	back.Stable = "v2.0.0"
	if after := snapshot(t, b, planOf(&back)).Models[0]; after.RouteVersion == before.RouteVersion {
		t.Error("another stable version needs other safe weights in the routes")
	}
}

// A share that is copied is a runtime value, too; another mirror is another
// route.
func TestMirrorSharesLeaveTheRest(t *testing.T) {
	p := mirrored(goldenModel("churn", keyed), "v1.0.0")
	b := xds.NewBuilder(xds.Options{})
	before := snapshot(t, b, planOf(p)).Models[0]
	next := *p
	next.Mirrors = []routing.Mirror{{Version: "v1.0.0", Share: routing.Whole}}
	after := snapshot(t, b, planOf(&next)).Models[0]
	if before.RouteVersion != after.RouteVersion || cmp.Diff(versions(before.Internal), versions(after.Internal)) != "" {
		t.Error("a share changed more than the runtime")
	}
	if got := after.Weights["headgate-mirror.churn/v1.0.0"]; got != 10_000 {
		t.Errorf("weights %v", after.Weights)
	}
	other := *p
	other.Mirrors = []routing.Mirror{{Version: "v2.0.0", Share: 1}}
	if r := snapshot(t, b, planOf(&other)).Models[0]; r.RouteVersion == before.RouteVersion || len(r.Internal) != 1 {
		t.Error("another mirror has the same routes")
	}
	for want, wrong := range map[string][]routing.Mirror{
		"models.churn: mirrors[0]: v9: is no version of the model":       {{Version: "v9", Share: 1}},
		"models.churn: mirrors[1]: v1.0.0: stands there twice":           {{Version: "v1.0.0", Share: 1}, {Version: "v1.0.0", Share: 2}},
		"models.churn: mirrors[0]: share: 100.01%: must be at most 100%": {{Version: "v1.0.0", Share: routing.Whole + 1}},
	} {
		bad := *p
		bad.Mirrors = wrong
		if _, err := b.Build(planOf(&bad)); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// The next rollout reads other runtime keys than the last one.
func TestRolloutsDoNotShareWeights(t *testing.T) {
	first := goldenModel("churn", keyed)
	second := *first
	second.Split.Salt = "churn-r2"
	b := xds.NewBuilder(xds.Options{})
	old := snapshot(t, b, planOf(first)).Models[0]
	next := snapshot(t, b, planOf(&second)).Models[0]
	for key := range next.Weights {
		if _, shared := old.Weights[key]; shared {
			t.Errorf("both rollouts read %s", key)
		}
	}
	if old.RouteVersion == next.RouteVersion {
		t.Error("the routes must change with the salt")
	}
}

func TestBuilderRemembers(t *testing.T) {
	one, two := goldenModel("one", keyed), goldenModel("two", keyed)
	b := xds.NewBuilder(xds.Options{})
	before := snapshot(t, b, planOf(one, two))
	after := snapshot(t, b, planOf(one, moved(two, 5000)))
	if before.Models[0] != after.Models[0] {
		t.Error("the model that did not change was built again")
	}
	if before.Models[1] == after.Models[1] {
		t.Error("the model that changed was not built")
	}
	fresh := snapshot(t, xds.NewBuilder(xds.Options{}), planOf(one, moved(two, 5000)))
	for i := range fresh.Models {
		if fresh.Models[i].RouteVersion != after.Models[i].RouteVersion {
			t.Errorf("%s: another builder has other routes", fresh.Models[i].Model)
		}
	}
}

// The cookie of a listener with TLS is for TLS only, also when the listener
// gets its TLS later.
func TestCookieIsSecureWithTLS(t *testing.T) {
	p := goldenModel("churn", keyed)
	plain := planOf(p)
	b := xds.NewBuilder(xds.Options{})
	if got := cookieOf(t, b, plain); strings.Contains(got, "Secure") {
		t.Errorf("without TLS: %s", got)
	}
	withTLS := planOf(p)
	withTLS.Config.Listeners[0].TLS = &routing.ServerTLS{CertificateChain: pem(t, "server.pem"), PrivateKey: pem(t, "server.key")}
	if got := cookieOf(t, b, withTLS); !strings.HasSuffix(got, "; Secure") {
		t.Errorf("with TLS: %s", got)
	}
}

func cookieOf(t *testing.T, b *xds.Builder, plan *routing.Plan) string {
	t.Helper()
	routes := snapshot(t, b, plan).Models[0].Routes
	return routes[len(routes)-1].GetResponseHeadersToAdd()[0].GetHeader().GetValue()
}

func TestRouteTableOrder(t *testing.T) {
	s := snapshot(t, xds.NewBuilder(xds.Options{}), hosts())
	want, err := xds.RouteTable(anyPort.String(), s.Models)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		shuffled := slices.Clone(s.Models)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, err := xds.RouteTable(anyPort.String(), shuffled)
		if err != nil || got.Version != want.Version {
			t.Fatalf("another order of models gives another table: %v", err)
		}
	}
	other, err := xds.RouteTable("127.0.0.1:1", s.Models)
	if err != nil {
		t.Fatal(err)
	}
	var table routev3.RouteConfiguration
	unpack(t, other.Body, &table)
	if len(table.GetVirtualHosts()) != 0 {
		t.Error("a listener without models has routes")
	}
}

func TestRouteTableConditionsFirst(t *testing.T) {
	loose := goldenModel("a", func(m *routing.Model) { m.Match.Prefix = "/p" })
	strict := goldenModel("b", func(m *routing.Model) { m.Match.Prefix, m.Match.Methods = "/p", []string{"POST"} })
	s := snapshot(t, xds.NewBuilder(xds.Options{}), planOf(alone(loose), alone(strict)))
	r, err := xds.RouteTable(anyPort.String(), s.Models)
	if err != nil {
		t.Fatal(err)
	}
	var table routev3.RouteConfiguration
	unpack(t, r.Body, &table)
	if got := table.GetVirtualHosts()[0].GetRoutes()[0].GetName(); got != "b/only" {
		t.Errorf("first route %s", got)
	}
}

func TestRuntimeLayers(t *testing.T) {
	s := snapshot(t, xds.NewBuilder(xds.Options{}), planOf(goldenModel("one", keyed), goldenModel("three", keyed), goldenModel("two", keyed)))
	got := make(map[string]float64)
	for shard := range xds.RuntimeShards {
		r := xds.RuntimeLayer(shard, s.Models)
		if r.Name != fmt.Sprintf("headgate-weights-%02d", shard) || r.Name != xds.RuntimeLayerName(shard) {
			t.Errorf("name %s", r.Name)
		}
		var layer runtimev3.Runtime
		unpack(t, r.Body, &layer)
		for k, v := range layer.GetLayer().GetFields() {
			if strings.HasPrefix(k, "headgate") {
				got[k] = v.GetNumberValue()
			}
		}
	}
	want := make(map[string]float64)
	for _, m := range s.Models {
		for k, v := range m.Weights {
			want[k] = float64(v)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) != 12 {
		t.Errorf("over all layers (-want +got):\n%s", diff)
	}
}

func TestBuildErrors(t *testing.T) {
	override := func(c routing.Condition, version string) func(*routing.Model) {
		return func(m *routing.Model) { m.Overrides = []routing.Override{{Condition: c, Version: version}} }
	}
	cookie := func(expression string) routing.Condition {
		return routing.Condition{Source: routing.SourceCookie, Name: "c", Op: routing.OpRegex, Regex: regexp.MustCompile(expression)}
	}
	tests := []struct {
		name string
		plan *routing.Plan
		want string
	}{
		{"unknown version of an override", planOf(goldenModel("m", override(routing.Condition{Source: routing.SourceHeader, Name: "a", Op: routing.OpPresent}, "v9"))),
			"models.m: overrides[0]: version: v9: is no version of the model"},
		{"unknown version of the split", planOf(edited(func(p *routing.ModelPlan) { p.Split.Ranges[0].Version = "v9" })),
			"models.m: split.ranges[0]: v9: is no version of the model"},
		{"sum", planOf(edited(func(p *routing.ModelPlan) { p.Split.Ranges[0].Weight = 1 })),
			"models.m: split: weights sum to 9001, must be 10000"},
		{"twice", planOf(edited(func(p *routing.ModelPlan) { p.Split.Ranges[1].Version = "v2.0.0" })),
			"models.m: split.ranges[1]: v2.0.0: stands there twice, and Envoy knows one weight per version"},
		{"stable without a range", planOf(edited(func(p *routing.ModelPlan) { p.Stable = "v0" })),
			`models.m: stable: "v0": has no range in the split`},
		{"name", planOf(goldenModel("a/b", keyed)), `models.a/b: name: "a/b": must be letters, digits and . _ + ~ : @ -`},
		{"empty match", planOf(goldenModel("m", override(cookie("^(?:a*)$"), "v1.0.0"))),
			"models.m: overrides[0]: regex: must not match the empty value, write + for *: an empty value counts as absent"},
		{"anchor inside", planOf(goldenModel("m", override(cookie("^(?:a(b|^c)+)$"), "v1.0.0"))),
			"models.m: overrides[0]: regex: ^ and $ can only stand at its ends"},
		{"prefix", planOf(goldenModel("m", func(m *routing.Model) { m.Match.Prefix = "predict" })),
			`models.m: match: prefix: "predict": must begin with /`},
		{"no endpoints", planOf(goldenModel("m", func(m *routing.Model) { m.Versions[0].Endpoints = nil })),
			"models.m: versions.v1.0.0: endpoints: there are none, and no dns"},
		{"one match, two models", planOf(goldenModel("m", keyed), goldenModel("n", func(m *routing.Model) { m.Match.Prefix = "/m" })),
			"models.n: match: model m has the same"},
		{"twice the same model", planOf(goldenModel("m", keyed), goldenModel("m", func(m *routing.Model) { m.Match.Prefix = "/n" })),
			"models.m: stands after m: must be sorted by name, each once"},
		{"unknown listener", planOf(goldenModel("m", func(m *routing.Model) { m.Listen = netip.MustParseAddrPort("127.0.0.1:9") })),
			"models.m: listen: 127.0.0.1:9: is no listener of the configuration"},
		{"two listeners", func() *routing.Plan {
			p := planOf()
			p.Config.Listeners = append(p.Config.Listeners, &routing.Listener{Address: anyPort})
			return p
		}(), "listeners.127.0.0.1:0: stands in the configuration twice"},
		{"rules of the protos", planOf(goldenModel("m", func(m *routing.Model) {
			m.Versions[0].Health = &routing.HealthCheck{Path: "", Interval: time.Second, Timeout: time.Second, Healthy: 1, Unhealthy: 1}
		})), "models.m: versions.v1.0.0: m/v1.0.0: invalid Cluster.HealthChecks[0]: embedded message failed validation | caused by: " +
			"invalid HealthCheck.HttpHealthCheck: embedded message failed validation | caused by: " +
			"invalid HealthCheck_HttpHealthCheck.Path: value length must be at least 1 runes"},
		{"all at once", planOf(goldenModel("a/b", keyed), edited(func(p *routing.ModelPlan) { p.Stable = "v0" })),
			"models.a/b: name: \"a/b\": must be letters, digits and . _ + ~ : @ -\nmodels.m: stable: \"v0\": has no range in the split"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := xds.NewBuilder(xds.Options{}).Build(tt.plan)
			if s != nil || err == nil {
				t.Fatal("was built")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func edited(edit func(*routing.ModelPlan)) *routing.ModelPlan {
	p := goldenModel("m", keyed)
	edit(p)
	return p
}

// many is a plan of 10,000 models in mid-rollout.
func many() *routing.Plan {
	models := make([]*routing.ModelPlan, 10_000)
	for i := range models {
		models[i] = goldenModel(fmt.Sprintf("m%05d", i), keyed)
	}
	return planOf(models...)
}

func BenchmarkBuildMany(b *testing.B) {
	plan := many()
	for b.Loop() {
		snapshot(b, xds.NewBuilder(xds.Options{}), plan)
	}
}

func BenchmarkRouteTableOfMany(b *testing.B) {
	s := snapshot(b, xds.NewBuilder(xds.Options{}), many())
	for b.Loop() {
		if _, err := xds.RouteTable(anyPort.String(), s.Models); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWeightOfOneOfMany is what a share costs that moves.
func BenchmarkWeightOfOneOfMany(b *testing.B) {
	plan := many()
	builder := xds.NewBuilder(xds.Options{})
	snapshot(b, builder, plan)
	for i := 0; b.Loop(); i++ {
		models := slices.Clone(plan.Models)
		models[5000] = moved(models[5000], routing.Share(i%10_000))
		plan = &routing.Plan{Config: plan.Config, Models: models}
		s := snapshot(b, builder, plan)
		_ = xds.RuntimeLayer(s.Models[5000].Shard, s.Models)
	}
}
