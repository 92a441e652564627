package capture_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// proxy is an Envoy with a model whose requests are captured and copied.
type proxy struct {
	*envoytest.Envoy
	t     testing.TB
	p     *xds.Publisher
	model *routing.Model
	url   string
}

// newProxy starts an Envoy on the control plane of a test. captured is the
// address of the capture service. The plan's model has v1 at primary and v2, v3
// ... at the shadows.
func newProxy(t testing.TB, captured, primary string, shadows []string, change func(*routing.ModelPlan)) *proxy {
	t.Helper()
	p := &proxy{t: t, p: xds.NewPublisher(xds.PublisherOptions{Build: xds.Options{DecideTimeout: 5 * time.Second}})}
	control := serve(t, "127.0.0.1:0", xds.ServerOptions(), func(g *grpc.Server) { p.p.Register(g) })
	listen := fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t))
	p.url = "http://" + listen
	at := func(addr string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(addr)} }
	p.model = &routing.Model{
		Name: "churn", Listen: netip.MustParseAddrPort(listen), Match: routing.Match{Prefix: "/"}, Release: "v1", Repeatable: true,
		Key:      routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentRequest},
		Timeout:  time.Minute,
		Versions: []*routing.Version{{Name: "v1", Endpoints: at(primary)}},
	}
	plan := &routing.ModelPlan{
		Model: p.model, Stable: "v1", Capture: &routing.Capture{Share: routing.Whole},
		Split: routing.Split{Ranges: []routing.Range{{Version: "v1", Weight: routing.Whole}}},
	}
	for i, addr := range shadows {
		name := fmt.Sprintf("v%d", i+2)
		p.model.Versions = append(p.model.Versions, &routing.Version{Name: name, Endpoints: at(addr)})
		plan.Mirrors = append(plan.Mirrors, routing.Mirror{Version: name, Share: routing.Whole})
	}
	if change != nil {
		change(plan)
	}
	p.publish(plan)
	p.Envoy = envoytest.Start(t, bootstrap(t, control, captured))
	envoytest.Eventually(t, 20*time.Second, "the model is served", func() bool {
		resp, err := http.Get(p.url)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	p.delivered()
	return p
}

func (p *proxy) publish(plan *routing.ModelPlan) { p.p.Publish(planOf(plan), nil) }

func planOf(plan *routing.ModelPlan) *routing.Plan {
	return &routing.Plan{
		Config: &routing.Config{Models: []*routing.Model{plan.Model}, Listeners: []*routing.Listener{{Address: plan.Model.Listen}}},
		Models: []*routing.ModelPlan{plan},
	}
}

// delivered waits until Envoy has what was published.
func (p *proxy) delivered() {
	p.t.Helper()
	envoytest.Eventually(p.t, 20*time.Second, "the plan is delivered", func() bool {
		d := p.p.Delivery("churn")
		return d.Envoys == 1 && len(d.Waiting) == 0
	})
}

func serve(t testing.TB, addr string, options []grpc.ServerOption, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(options...)
	register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return l.Addr().String()
}

func address(addr string) envoy.Address {
	a := netip.MustParseAddrPort(addr)
	return envoy.Address{Host: a.Addr().String(), Port: a.Port()}
}

func bootstrap(t testing.TB, control, captured string) string {
	t.Helper()
	o := envoy.BootstrapOptions{
		NodeID: "one", Server: address(control), ExtProc: address(captured),
		Admin: envoy.Address{Host: "127.0.0.1", Port: uint16(envoytest.FreePort(t))},
	}
	for i := range xds.RuntimeShards {
		o.RuntimeLayers = append(o.RuntimeLayers, xds.RuntimeLayerName(i))
	}
	b, err := envoy.Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
