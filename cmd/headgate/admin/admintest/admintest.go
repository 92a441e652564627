// Package admintest runs the admin surface for tests: over a real socket, on
// the real controller with a journal in memory. Only the Envoys are stood in
// for, so that a test says when they acknowledge.
package admintest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// Gate is an admin surface that runs.
type Gate struct {
	Address    string // that it listens on, as [admin.ParseAddress] takes it
	URL        string // for TCP
	Controller *rollout.Controller
	Journal    *journal.Memory
	Ledger     *compare.Ledger
	Envoys     *Envoys
	Server     *admin.Server
	Log        *Buffer

	mu      sync.Mutex
	unready []string
	config  admin.Config
}

// Options change what a Gate is.
type Options struct {
	Address string // empty: a free port of loopback
	Tokens  *admin.Tokens
	Names   []string
	Metrics http.Handler
	Add     []admin.Route // further routes
}

// Start runs a gate until the test ends. It has the models churn, in a rollout
// from v1 to v2 with the steps 10, 25 and 100 %, and fraud, which is idle. One
// Envoy, edge-1, is connected and acknowledges at once.
func Start(t testing.TB, o Options) *Gate {
	t.Helper()
	g := &Gate{
		Journal: journal.NewMemory(), Ledger: compare.NewLedger(compare.Limits{}),
		Envoys: newEnvoys(), Log: &Buffer{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	t.Cleanup(func() { cancel(); tasks.Wait() })

	log := slog.New(slog.NewTextHandler(g.Log, nil))
	var err error
	g.Controller, err = rollout.New(ctx, rollout.Options{Journal: g.Journal, Publisher: g.Envoys, Prober: reachable{}})
	if err != nil {
		t.Fatal(err)
	}
	tasks.Go(func() { _ = g.Controller.Run(ctx) })

	g.Server = admin.New(admin.Options{Tokens: o.Tokens, Names: o.Names, Log: log, Version: "test"})
	admin.AddAPI(g.Server, g.sources(o.Metrics))
	for _, r := range o.Add {
		g.Server.Handle(r)
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	l, err := admin.Listen(ctx, o.Address)
	if err != nil {
		t.Fatal(err)
	}
	g.Address, g.URL = o.Address, "http://localhost"
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		g.Address, g.URL = tcp.String(), "http://"+tcp.String()
	}
	tasks.Go(func() {
		if err := g.Server.Serve(ctx, l); err != nil {
			t.Errorf("admin server: %v", err)
		}
	})
	g.Configure(t, "v1")
	g.Configure(t, "v2")
	g.Await(t, "churn", func(s rollout.Status) bool { return s.Acknowledged && s.StepStarted != nil })
	return g
}

func (g *Gate) sources(metrics http.Handler) admin.Sources {
	began := time.Now().UTC()
	g.SetConfig(admin.Config{Directory: "models", Hash: "abc", Loaded: &began, Attempt: &began, Errors: []admin.ConfigLine{
		{File: "fraud.yaml", Line: 3, Path: "release", Message: "v9: must be one of the versions"},
	}})
	return admin.Sources{
		Controller: g.Controller,
		Journal:    g.Journal,
		Traffic:    g.Ledger,
		Endpoints: func(_, version string) (admin.Reachability, string) {
			if version == "v2" {
				return admin.Unreachable, "connection refused"
			}
			return admin.Reachable, ""
		},
		Envoys: func() admin.Envoys {
			return admin.Envoys{
				Envoys:  []admin.Envoy{{Node: "edge-1", Version: "1.40.0", Since: began, Acknowledged: true, Records: true}},
				Refused: []admin.RefusedEnvoy{{Node: "edge\x1b[2J-9", Reason: "no certificate", Time: began}},
			}
		},
		Config: func() admin.Config {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.config
		},
		Check: func(_ context.Context, files map[string][]byte) ([]admin.ConfigLine, error) {
			if _, ok := files["churn.yaml"]; !ok {
				return []admin.ConfigLine{{Path: "churn", Message: "a rollout runs"}}, nil
			}
			return nil, nil
		},
		Unready: func() []string {
			g.mu.Lock()
			defer g.mu.Unlock()
			return slices.Clone(g.unready)
		},
		Metrics: metrics,
		Version: admin.Version{Version: "test", Go: "go1.26"},
	}
}

// Configure applies a configuration in which churn has a release.
func (g *Gate) Configure(t testing.TB, release string) {
	t.Helper()
	version := func(name string, port uint16) *routing.Version {
		return &routing.Version{
			Name: name, Definition: name,
			Endpoints: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)},
		}
	}
	listen := netip.MustParseAddrPort("127.0.0.1:8080")
	model := func(name, release string) *routing.Model {
		return &routing.Model{
			Name: name, Listen: listen, Match: routing.Match{Prefix: "/" + name},
			Versions: []*routing.Version{version("v1", 9101), version("v2", 9102)},
			Release:  release, From: "v1", Decide: routing.DecideNative,
			Key:       routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie},
			Overrides: []routing.Override{{Condition: routing.Condition{Source: routing.SourceHeader, Name: "canary", Op: routing.OpEquals, Value: "true"}, Version: "v2"}},
			Steps: []routing.Step{
				{Kind: routing.StepTraffic, Share: 1000, For: time.Hour},
				{Kind: routing.StepTraffic, Share: 2500, Hold: true},
				{Kind: routing.StepTraffic, Share: 10000, For: 90 * time.Minute},
			},
		}
	}
	err := g.Controller.Apply(t.Context(), &routing.Config{
		Models:    []*routing.Model{model("churn", release), model("fraud", "v1")},
		Listeners: []*routing.Listener{{Address: listen}},
		Hash:      release,
	})
	if err != nil {
		t.Fatal(err)
	}
	if release == "v1" {
		g.Await(t, "churn", func(s rollout.Status) bool { return s.Acknowledged })
	}
}

// Await waits until fn holds for a model.
func (g *Gate) Await(t testing.TB, model string, fn func(rollout.Status) bool) rollout.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	status, err := g.Controller.Wait(ctx, model, fn)
	if err != nil {
		t.Fatalf("%v; last: %+v", err, status)
	}
	return status
}

// SetUnready says what is missing for the gate to be ready.
func (g *Gate) SetUnready(missing ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unready = missing
}

// SetConfig says what is known of the files. At the start one of them has a
// mistake.
func (g *Gate) SetConfig(c admin.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config = c
}

// Settle waits until what is served from now on is told to be served by the
// present weights of churn.
func (g *Gate) Settle() {
	if s, _ := g.Controller.Status("churn"); s.StepStarted != nil {
		<-time.After(time.Until(s.StepStarted.Add(compare.Tick)))
	}
}

// Serve counts n answers of a version, of which bad failed, as of now.
func (g *Gate) Serve(version string, n, bad int, latency time.Duration) {
	for i := range n {
		o := compare.Observation{
			Node: "edge-1", Model: "churn", Version: version, Start: time.Now(),
			Code: 200, Class: compare.ClassSuccess, Duration: latency,
		}
		if i < bad {
			o.Code, o.Class = 503, compare.ClassError
		}
		g.Ledger.Observe(o)
	}
}

type reachable struct{}

// Probe implements [rollout.Prober].
func (reachable) Probe(context.Context, *routing.Version) error { return nil }

// Envoys are one Envoy that acknowledges when it is told to.
type Envoys struct {
	mu       sync.Mutex
	frozen   bool
	gone     bool
	rejected string
	wanted   *routing.Plan
	has      *routing.Plan
	changed  chan struct{}
}

func newEnvoys() *Envoys { return &Envoys{changed: make(chan struct{}, 1)} }

// Freeze keeps the Envoy from acknowledging what comes from now on.
func (e *Envoys) Freeze() { e.set(func() { e.frozen = true }) }

// Thaw has the Envoy acknowledge all that it was sent.
func (e *Envoys) Thaw() { e.set(func() { e.frozen, e.has = false, e.wanted }) }

// Leave disconnects the Envoy.
func (e *Envoys) Leave() { e.set(func() { e.gone = true }) }

// Reject has the Envoy refuse what it was sent, in its own words.
func (e *Envoys) Reject(words string) { e.set(func() { e.rejected = words }) }

func (e *Envoys) set(fn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Publish implements [rollout.Publisher].
func (e *Envoys) Publish(plan *routing.Plan, _ []string) {
	e.set(func() {
		e.wanted = plan
		if !e.frozen {
			e.has = plan
		}
	})
}

// Delivery implements [rollout.Publisher].
func (e *Envoys) Delivery(model string) rollout.Delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return rollout.Delivery{}
	}
	d := rollout.Delivery{Envoys: 1, Rejected: e.rejected}
	if e.wanted == nil || e.has == nil || e.wanted.Model(model) != e.has.Model(model) {
		d.Waiting = []string{"edge-1"}
	}
	return d
}

// Inventory implements [rollout.Publisher].
func (e *Envoys) Inventory() (map[string][]string, bool) { return nil, true }

// Changed implements [rollout.Publisher].
func (e *Envoys) Changed() <-chan struct{} { return e.changed }

// Buffer is a bytes.Buffer for several goroutines.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Token returns a line of a tokens file, and the token itself.
func Token(name string, role admin.Role) (line, secret string) {
	secret = "secret-of-" + name
	return fmt.Sprintf("  - {name: %s, role: %s, sha256: %s}\n", name, role, hash(secret)), secret
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
