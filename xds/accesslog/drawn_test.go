package accesslog_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
	"github.com/headgate/headgate/xds/accesslog"
)

// releasing is a plan of models in mid-rollout, named by how they find a
// request's version.
func releasing(t *testing.T, listen string, v1, v2 *envoytest.Upstream) *routing.Plan {
	t.Helper()
	at := netip.MustParseAddrPort(listen)
	user, err := routing.ParsePath("$.user")
	if err != nil {
		t.Fatal(err)
	}
	plan := &routing.Plan{Config: &routing.Config{Listeners: []*routing.Listener{{Address: at}}}}
	add := func(name string, key routing.Key, decide routing.DecideMode, overrides ...routing.Override) *routing.ModelPlan {
		m := &routing.Model{
			Name: name, Listen: at, Match: routing.Match{Prefix: "/" + name}, Release: "v2", Key: key, Decide: decide, Overrides: overrides,
			Versions: []*routing.Version{
				{Name: "v1", Endpoints: []netip.AddrPort{netip.MustParseAddrPort(v1.Addr)}},
				{Name: "v2", Endpoints: []netip.AddrPort{netip.MustParseAddrPort(v2.Addr)}},
			},
		}
		p := &routing.ModelPlan{Model: m, Stable: "v1", Split: routing.Split{Salt: name + "-r1", Ranges: []routing.Range{
			{Version: "v2", Weight: 3000}, {Version: "v1", Weight: 7000},
		}}}
		plan.Config.Models = append(plan.Config.Models, m)
		plan.Models = append(plan.Models, p)
		return p
	}
	header := func(absent routing.Absent) routing.Key {
		return routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: absent}
	}
	canary := routing.Override{
		Condition: routing.Condition{Source: routing.SourceHeader, Name: "canary", Op: routing.OpPresent}, Version: "v2",
	}
	seven := routing.Override{
		Condition: routing.Condition{Source: routing.SourceBody, Name: "$.user", Path: user, Op: routing.OpEquals, Value: "7"}, Version: "v2",
	}
	add("asked", header(routing.AbsentCookie), routing.DecideExtProc, canary)
	add("asked-current", header(routing.AbsentCurrent), routing.DecideExtProc)
	add("body", routing.Key{Source: routing.SourceBody, Name: "$.user", Path: user, Absent: routing.AbsentCookie}, routing.DecideNative, seven)
	add("native", header(routing.AbsentCookie), routing.DecideNative, canary)
	add("native-current", header(routing.AbsentCurrent), routing.DecideNative)
	add("native-request", header(routing.AbsentRequest), routing.DecideNative)
	one := add("only", header(routing.AbsentCookie), routing.DecideNative)
	one.Split = routing.Split{Ranges: []routing.Range{{Version: "v1", Weight: routing.Whole}}}
	return plan
}

// Of every way to find a version, whether the hash had a say in it.
func TestDrawnOnEnvoy(t *testing.T) {
	sink := &notes{}
	p := xds.NewPublisher(xds.PublisherOptions{Build: xds.Options{DecideTimeout: 5 * time.Second}})
	r := accesslog.New(accesslog.Options{Sink: sink, Hasher: accesslog.NewHasher([]byte("secret"))})
	decider := extproc.New(slog.New(slog.DiscardHandler))
	_, addr := serve(t, "127.0.0.1:0", p, r, func(s *grpc.Server) { decider.Register(s) })
	v1, v2 := envoytest.NewUpstream(t, "v1"), envoytest.NewUpstream(t, "v2")
	listen := fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t))
	plan := releasing(t, listen, v1, v2)
	decider.Publish(plan)
	p.Publish(plan, nil)
	envoytest.Start(t, bootstrap(t, addr))
	envoytest.Eventually(t, 10*time.Second, "the plan is delivered", func() bool {
		d := p.Delivery("only")
		return d.Envoys == 1 && len(d.Waiting) == 0
	})
	awaitDecider(t, listen, decider)
	type header = map[string]string
	for _, tt := range []struct {
		name   string
		path   string
		header header
		body   string
		drawn  bool
	}{
		{"key", "/native", header{"x-user-id": "anna"}, "{}", true},
		{"cookie", "/native", header{"cookie": "hg=abc"}, "{}", true},
		{"draw", "/native", nil, "{}", true},
		{"draw for each request", "/native-request", nil, "{}", true},
		{"override", "/native", header{"x-user-id": "anna", "canary": "1"}, "{}", false},
		{"override without a key", "/native", header{"canary": "1"}, "{}", false},
		{"current", "/native-current", nil, "{}", false},
		{"only", "/only", header{"x-user-id": "anna"}, "{}", false},
		{"asked: key", "/asked", header{"x-user-id": "anna"}, "{}", true},
		{"asked: cookie", "/asked", header{"cookie": "hg=abc"}, "{}", true},
		{"asked: draw", "/asked", nil, "{}", true},
		{"asked: override", "/asked", header{"x-user-id": "anna", "canary": "1"}, "{}", false},
		{"asked: current", "/asked-current", nil, "{}", false},
		{"body: key", "/body", nil, `{"user":"anna"}`, true},
		{"body: cookie", "/body", header{"cookie": "hg=abc"}, "{}", true},
		{"body: draw", "/body", nil, "{}", true},
		{"body: override", "/body", nil, `{"user":7}`, false},
		{"body: undecided", "/body", nil, `not JSON`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, "http://"+listen+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.header {
				req.Header.Set(name, value)
			}
			id := strings.ReplaceAll(t.Name(), " ", "-")
			req.Header.Set("x-request-id", id)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			o := sink.find(t, id)
			if o.Drawn != tt.drawn || o.HasUser != tt.drawn || o.Mirrored || o.Version != resp.Header.Get(routing.HeaderVersion) {
				t.Errorf("observed %+v of an answer by %s", o, resp.Header.Get(routing.HeaderVersion))
			}
		})
	}
}

// awaitDecider waits until Envoy, which probes the service first, asks it.
func awaitDecider(t *testing.T, listen string, s *extproc.Service) {
	t.Helper()
	envoytest.Eventually(t, 10*time.Second, "the service decides", func() bool {
		before := s.Counters().Streams
		resp, err := http.Post("http://"+listen+"/body", "application/json", strings.NewReader(`{"user":"a"}`))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return s.Counters().Streams > before
	})
}
