package extproc_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// rolledOut is an Envoy that package xds feeds and this package decides for.
func rolledOut(t *testing.T, plan *routing.Plan) (*extproc.Service, *xds.Publisher, *envoytest.Envoy) {
	t.Helper()
	socket := socketPath(t)
	service := extproc.New(slog.New(slog.DiscardHandler))
	publisher := xds.NewPublisher(xds.PublisherOptions{Build: xds.Options{DecideTimeout: 5 * time.Second}})
	g := grpc.NewServer(append(extproc.ServerOptions(), xds.ServerOptions()...)...)
	service.Register(g)
	publisher.Register(g)
	serveOn(t, socket, g)
	service.Publish(plan)
	publisher.Publish(plan, nil)
	options := envoy.BootstrapOptions{
		NodeID: "a", Server: envoy.Address{Unix: socket},
		Admin: envoy.Address{Host: "127.0.0.1", Port: uint16(envoytest.FreePort(t))},
	}
	for i := range xds.RuntimeShards {
		options.RuntimeLayers = append(options.RuntimeLayers, xds.RuntimeLayerName(i))
	}
	bootstrap, err := envoy.Bootstrap(options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return service, publisher, envoytest.Start(t, string(text))
}

// The whole of it: routes by package xds, decisions from here. A model that
// asks for ext_proc, one whose key is in the body, and one that Envoy decides
// on by itself give the same users the same versions, known and anonymous.
func TestPlanOnEnvoy(t *testing.T) {
	listen := netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)))
	upstreams := map[string]*envoytest.Upstream{"v1": envoytest.NewUpstream(t, "v1"), "v2": envoytest.NewUpstream(t, "v2")}
	model := func(name string, key routing.Key, mode routing.DecideMode) *routing.ModelPlan {
		p := churn(4000, func(m *routing.Model) {
			m.Name, m.Listen, m.Match = name, listen, routing.Match{Prefix: "/" + name}
			m.Key, m.Decide, m.Timeout = key, mode, 5*time.Second
			for _, v := range m.Versions {
				v.Endpoints = []netip.AddrPort{netip.MustParseAddrPort(upstreams[v.Name].Addr)}
				v.Connect, v.Definition = time.Second, v.Name
			}
		})
		p.Split.Salt = "same"
		return p
	}
	header := routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
	inBody := routing.Key{Source: routing.SourceBody, Name: "$.user.id", Path: mustPath("$.user.id"), Absent: routing.AbsentCookie}
	asked := model("asked", header, routing.DecideExtProc)
	models := []*routing.ModelPlan{asked, model("body", inBody, routing.DecideNative), model("native", header, routing.DecideNative)}
	plan := &routing.Plan{
		Config: &routing.Config{
			Models:    []*routing.Model{models[0].Model, models[1].Model, models[2].Model},
			Listeners: []*routing.Listener{{Address: listen}},
		},
		Models: models,
	}
	service, publisher, e := rolledOut(t, plan)
	envoytest.Eventually(t, 10*time.Second, "the plan on Envoy", func() bool {
		d := publisher.Delivery("asked")
		return d.Envoys == 1 && len(d.Waiting) == 0
	})
	p := &proxy{Envoy: e, stable: upstreams["v1"], candidate: upstreams["v2"], url: "http://" + listen.String()}
	awaitDecisions(t, &proxy{Envoy: e, url: p.url + "/asked"}, candidateUser(t, asked))
	list := users(1000)
	for _, m := range models {
		eachUser(t, p, "/"+m.Model.Name, list, bucketVersion(m))
	}
	for _, m := range models {
		t.Run("anonymous at "+m.Model.Name, func(t *testing.T) { keepsItsCookie(t, p, "/"+m.Model.Name) })
	}
	if n := service.Counters().Undecided(); n != 0 {
		t.Errorf("%d undecided: %+v", n, service.Counters())
	}
}

// keepsItsCookie asks as new anonymous users, who must get again what they got
// at first, and both versions among them.
func keepsItsCookie(t *testing.T, p *proxy, path string) {
	versions := map[string]int{}
	for range 40 {
		first, cookie := askWith(t, p, path, "")
		name, _, _ := strings.Cut(cookie, ";")
		if !strings.HasPrefix(name, routing.CookieName+"=") {
			t.Fatalf("no cookie: %q", cookie)
		}
		again, second := askWith(t, p, path, name)
		if again != first || second != "" {
			t.Errorf("first %s, then %s (set-cookie %q)", first, again, second)
		}
		versions[first]++
	}
	if len(versions) != 2 {
		t.Errorf("all of them got one version: %v", versions)
	}
}

func askWith(t *testing.T, p *proxy, path, cookie string) (version, setCookie string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(`{"x":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("cookie", cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return resp.Header.Get(envoytest.UpstreamHeader), resp.Header.Get("set-cookie")
}
