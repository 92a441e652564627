package accesslog_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
	"github.com/headgate/headgate/xds/accesslog"
)

// notes keeps what a sink is told.
type notes struct {
	mu   sync.Mutex
	seen []compare.Observation
	gaps []compare.Gap
}

func (n *notes) Observe(o compare.Observation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, o)
}

func (n *notes) Gap(node string, from, to time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gaps = append(n.gaps, compare.Gap{Node: node, From: from, To: to})
}

// find waits for the observation of a request.
func (n *notes) find(t *testing.T, id string) compare.Observation {
	t.Helper()
	var found compare.Observation
	envoytest.Eventually(t, 5*time.Second, "the entry of "+id, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, o := range n.seen {
			if o.RequestID == id {
				found = o
			}
		}
		return found.RequestID != ""
	})
	return found
}

// serve starts headgate's gRPC services on an address.
func serve(t *testing.T, addr string, p *xds.Publisher, r *accesslog.Receiver, more ...func(*grpc.Server)) (*grpc.Server, string) {
	t.Helper()
	var l net.Listener
	envoytest.Eventually(t, 5*time.Second, "the port is free", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	s := grpc.NewServer(xds.ServerOptions()...)
	p.Register(s)
	r.Register(s)
	for _, register := range more {
		register(s)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return s, l.Addr().String()
}

func bootstrap(t *testing.T, addr string) string {
	t.Helper()
	server := netip.MustParseAddrPort(addr)
	o := envoy.BootstrapOptions{
		NodeID: "one",
		Server: envoy.Address{Host: server.Addr().String(), Port: server.Port()},
		Admin:  envoy.Address{Host: "127.0.0.1", Port: uint16(envoytest.FreePort(t))},
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

func plan(listen string, up *envoytest.Upstream, dead string) *routing.Plan {
	at := netip.MustParseAddrPort(listen)
	model := func(name, endpoint string) *routing.ModelPlan {
		v := &routing.Version{Name: "v1", Endpoints: []netip.AddrPort{netip.MustParseAddrPort(endpoint)}}
		return &routing.ModelPlan{
			Stable: "v1", Split: routing.Split{Ranges: []routing.Range{{Version: "v1", Weight: routing.Whole}}},
			Model: &routing.Model{
				Name: name, Listen: at, Match: routing.Match{Prefix: "/" + name}, Versions: []*routing.Version{v},
				Release: "v1", Timeout: 500 * time.Millisecond, Decide: routing.DecideNative,
			},
		}
	}
	p := &routing.Plan{Models: []*routing.ModelPlan{model("dead", dead), model("live", up.Addr)}}
	p.Config = &routing.Config{Listeners: []*routing.Listener{{Address: at}}}
	for _, m := range p.Models {
		p.Config.Models = append(p.Config.Models, m.Model)
	}
	return p
}

// send makes one request and returns its id in the access log.
func send(ctx context.Context, t *testing.T, listen, path string, body io.Reader) string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listen+path, body)
	if err != nil {
		t.Fatal(err)
	}
	id := "id-" + strings.ReplaceAll(t.Name(), "/", "-") + "-" + time.Now().Format("150405.000000000")
	r.Header.Set("x-request-id", id)
	if resp, err := http.DefaultClient.Do(r); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return id
}

// trickle is an upload that does not end.
type trickle struct{ done <-chan struct{} }

func (r trickle) Read(p []byte) (int, error) {
	select {
	case <-r.done:
		return 0, context.Canceled
	case <-time.After(20 * time.Millisecond):
		p[0] = 'x'
		return 1, nil
	}
}

// What a real Envoy says of every kind of outcome.
func TestOutcomesOnEnvoy(t *testing.T) {
	sink := &notes{}
	p := xds.NewPublisher(xds.PublisherOptions{})
	r := accesslog.New(accesslog.Options{Sink: sink, Hasher: accesslog.NewHasher([]byte("secret"))})
	_, addr := serve(t, "127.0.0.1:0", p, r)
	up := envoytest.NewUpstream(t, "v1")
	listen := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(envoytest.FreePort(t))).String()
	dead := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(envoytest.FreePort(t))).String()
	p.Publish(plan(listen, up, dead), nil)
	envoytest.Start(t, bootstrap(t, addr))
	envoytest.Eventually(t, 10*time.Second, "the plan is delivered", func() bool {
		d := p.Delivery("live")
		return d.Envoys == 1 && len(d.Waiting) == 0
	})
	bg := context.Background()
	for _, tt := range []struct {
		name     string
		how      func() string
		class    compare.Class
		code     int
		answered bool
	}{
		{"fine", func() string { return send(bg, t, listen, "/live", strings.NewReader("{}")) }, compare.ClassSuccess, 200, true},
		{"its error", func() string {
			up.SetStatus(500)
			defer up.SetStatus(200)
			return send(bg, t, listen, "/live", strings.NewReader("{}"))
		}, compare.ClassError, 500, true},
		{"its refusal", func() string {
			up.SetStatus(422)
			defer up.SetStatus(200)
			return send(bg, t, listen, "/live", strings.NewReader("{}"))
		}, compare.ClassClientError, 422, true},
		{"reset", func() string {
			up.Reset(true)
			defer up.Reset(false)
			return send(bg, t, listen, "/live", strings.NewReader("{}"))
		}, compare.ClassError, 503, false},
		{"no endpoint", func() string { return send(bg, t, listen, "/dead", strings.NewReader("{}")) }, compare.ClassError, 503, false},
		{"timeout", func() string {
			up.Hang(true)
			defer up.Hang(false)
			return send(bg, t, listen, "/live", strings.NewReader("{}"))
		}, compare.ClassError, 504, false},
		{"client gone while it waits", func() string {
			up.Hang(true)
			defer up.Hang(false)
			ctx, cancel := context.WithTimeout(bg, 100*time.Millisecond)
			defer cancel()
			return send(ctx, t, listen, "/live", strings.NewReader("{}"))
		}, compare.ClassAborted, 0, false},
		{"client gone in mid-upload", func() string {
			ctx, cancel := context.WithTimeout(bg, 100*time.Millisecond)
			defer cancel()
			return send(ctx, t, listen, "/live", trickle{ctx.Done()})
		}, compare.ClassAborted, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := sink.find(t, tt.how())
			if o.Class != tt.class || o.Code != tt.code || (o.Duration >= 0) != tt.answered {
				t.Errorf("observed %+v", o)
			}
			if o.Node != "one" || o.Version != "v1" || time.Since(o.Start).Abs() > time.Minute {
				t.Errorf("observed %+v", o)
			}
		})
	}
}

// A server that is away loses entries and says so; one that is only slow does
// not.
func TestServerAwayIsAGap(t *testing.T) {
	sink := &notes{}
	p := xds.NewPublisher(xds.PublisherOptions{})
	r := accesslog.New(accesslog.Options{Sink: sink, Hasher: accesslog.NewHasher([]byte("secret"))})
	server, addr := serve(t, "127.0.0.1:0", p, r)
	up := envoytest.NewUpstream(t, "v1")
	listen := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(envoytest.FreePort(t))).String()
	p.Publish(plan(listen, up, "127.0.0.1:1"), nil)
	envoytest.Start(t, bootstrap(t, addr))
	envoytest.Eventually(t, 10*time.Second, "the plan is delivered", func() bool {
		d := p.Delivery("live")
		return d.Envoys == 1 && len(d.Waiting) == 0
	})
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: "http://" + listen + "/live", Rate: 200})
	envoytest.Eventually(t, 5*time.Second, "entries arrive", func() bool { return r.Metrics().Entries > 50 })
	server.Stop()
	away := time.Now()
	sent := load.Sent()
	envoytest.Eventually(t, 5*time.Second, "requests go on", func() bool { return load.Sent() > sent+100 })
	back := time.Now()
	serve(t, addr, p, r)
	before := r.Metrics().Entries
	envoytest.Eventually(t, 15*time.Second, "entries arrive again", func() bool { return r.Metrics().Entries > before })
	if report := load.Stop(); report.Failed > 0 {
		t.Errorf("failed requests: %s", report)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	last := sink.gaps[len(sink.gaps)-1]
	if last.Node != "one" || last.From.After(away) || last.To.Before(back) {
		t.Errorf("gap from %s to %s, away from %s to %s", last.From, last.To, away, back)
	}
}
