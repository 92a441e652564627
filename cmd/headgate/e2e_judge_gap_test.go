package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// lossy stands between Envoys and headgate's gRPC server, and can keep the
// access log away from it while all else goes on.
type lossy struct {
	proxy *httputil.ReverseProxy

	mu    sync.Mutex
	lost  bool
	ended chan struct{} // closed: the streams that were open break
}

// newLossy listens on a socket beside the state folder, and returns its path.
func newLossy(t testing.TB, g *gate) (*lossy, string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(g.state), "lossy.sock")
	listener, err := net.Listen("unix", path)
	noError(t, err)
	plain := new(http.Protocols)
	plain.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: plain, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(g.state, "grpc.sock"))
	}}
	l := &lossy{proxy: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "headgate"}) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // break it here, too
		},
	}}
	l.ended = make(chan struct{})
	server := &http.Server{Handler: l, Protocols: plain}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
		transport.CloseIdleConnections()
	})
	return l, path
}

// set loses the access log from now on, or does not.
func (l *lossy) set(lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.ended)
	l.lost, l.ended = lost, make(chan struct{})
}

func (l *lossy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "AccessLogService") {
		l.mu.Lock()
		lost, ended := l.lost, l.ended
		l.mu.Unlock()
		if lost {
			panic(http.ErrAbortHandler)
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			defer cancel()
			select {
			case <-ended:
			case <-ctx.Done():
			}
		}()
		r = r.WithContext(ctx)
	}
	l.proxy.ServeHTTP(w, r)
}

// inGap tells whether a gate waits because something is unknown.
func inGap(s rollout.Status) bool {
	return finding(s, "error_rate", "max").Reason == routing.ReasonTelemetryGap
}

// TestFaultAccessLogLost breaks the access log of an Envoy in a rollout for
// some seconds, while all else is in order. What happens meanwhile is unknown:
// it neither ends the step nor the rollout.
func TestFaultAccessLogLost(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "gap", []string{half, "{traffic: 100%}"}, []string{"{metric: error_rate, max: 5%}"})
	g, w := newGate(t, "serve"), warm(t)
	g.put(w)
	g.start().up()
	way, socket := newLossy(t, g)
	envoytest.Start(t, g.must("bootstrap", "--node", "one", "--server", "unix:"+socket,
		"--envoy-admin", fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t))))
	g.awaitRecords(w)
	g.try(c)
	g.open(c)
	g.step(c, 0)
	before := c.batch(t, 20)["v2"]
	g.until(c, "the first requests", func(s rollout.Status) bool { return finding(s, "error_rate", "max").N == uint64(before) })

	way.set(true)
	g.until(c, "the gap", inGap)
	c.v2.SetStatus(http.StatusInternalServerError)
	load := c.load(t, 60)
	goesOn(t, load, 180) // 3 s
	s := g.status(c.name)
	if f := finding(s, "error_rate", "max"); f.Verdict != routing.VerdictWaiting || f.N != uint64(before) {
		t.Errorf("in the gap: %+v", f)
	}
	if s.Step != 0 || s.Phase != rollout.PhaseProgressing || !s.Acknowledged {
		t.Errorf("in the gap: %+v", s)
	}
	c.v2.SetStatus(http.StatusOK)
	goesOn(t, load, 10) // those under way have failed
	only(t, load.Stop(), "v2")

	way.set(false)
	g.mended(t, c, w)
	after := c.batch(t, 20)["v2"]
	g.until(c, "what comes after the gap", func(s rollout.Status) bool { return finding(s, "error_rate", "max").N >= uint64(before+after) })
	if f := finding(g.status(c.name), "error_rate", "max"); f.N != uint64(before+after) || *f.Estimate != 0 {
		t.Errorf("%d requests before the gap, %d after it, and judged: %+v", before, after, f)
	}

	c.batch(t, 300)
	g.until(c, "a verdict", func(s rollout.Status) bool { return finding(s, "error_rate", "max").Verdict == routing.VerdictSafe })
	way.set(true)
	g.until(c, "another gap", inGap)
	c.steps[0] = "{traffic: 50%, for: 1ms}" // which is over
	g.try(c)
	g.until(c, "the edit", func(s rollout.Status) bool { return s.Steps[0].For == "1ms" })
	goesOn(t, envoytest.StartLoad(t, envoytest.LoadOptions{URL: w.url(), Rate: 20}), 30) // 1.5 s
	if s := g.status(c.name); s.Step != 0 || s.Phase != rollout.PhaseProgressing || !inGap(s) {
		t.Errorf("in a gap, with all gates safe before it: %+v", s)
	}
	way.set(false)
	load = c.load(t, 60)
	g.phase(c, rollout.PhaseCompleted)
	clean(t, load)
	if n := g.metric("headgate_log_gaps_total"); n < 2 {
		t.Errorf("%v gaps are told", n)
	}
}

// mended waits until the access log is back, by requests of a model that
// nobody judges.
func (g *gate) mended(t *testing.T, c *trial, warm modelFile) {
	t.Helper()
	before := g.requests(warm.name, "v1")
	g.until(c, "the end of the gap", func(s rollout.Status) bool {
		_, _, err := post(warm.url(), "{}")
		noError(t, err)
		return !inGap(s) && g.requests(warm.name, "v1") > before
	})
}

// TestFaultFrozenThenKilled freezes headgate, which loses nothing, and then
// kills it, which does. The candidate fails while headgate is away.
func TestFaultFrozenThenKilled(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "away", []string{"{traffic: 50%, for: 1s}", "{traffic: 100%}"}, []string{"{metric: error_rate, max: 2%}"})
	g, w := court(t, c)
	g.step(c, 0)
	noError(t, g.cmd.Process.Signal(syscall.SIGSTOP))
	defer func() { _ = g.cmd.Process.Signal(syscall.SIGCONT) }()
	n := c.batch(t, 60)["v2"]
	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: w.url(), Rate: 20})
	goesOn(t, load, 60) // 3 s
	load.Stop()
	noError(t, g.cmd.Process.Signal(syscall.SIGCONT))
	s := g.until(c, "all requests", func(s rollout.Status) bool { return finding(s, "error_rate", "max").N >= uint64(n) })
	if f := finding(s, "error_rate", "max"); f.N != uint64(n) || inGap(s) {
		t.Errorf("%d requests while it was frozen, and judged: %+v", n, f)
	}
	g.durable(c)

	g.kill()
	c.v2.SetStatus(http.StatusInternalServerError)
	if failed := c.batch(t, 60)["v2"]; failed < 10 {
		t.Fatalf("v2 got %d requests", failed)
	}
	c.v2.SetStatus(http.StatusOK)
	g.start().up()
	s = g.resumed(c, n)
	if f := finding(s, "error_rate", "max"); *f.Estimate != 0 || s.Step != 0 || s.Phase != rollout.PhaseProgressing {
		t.Errorf("after the restart: %+v", s)
	}
	load = c.load(t, 80)
	g.phase(c, rollout.PhaseCompleted)
	clean(t, load)
	if r := g.event(c, rollout.KindRolledBack); r.Kind != "" {
		t.Errorf("rolled back: %s", r.Reason)
	}
}

// durable has what is known of a trial written, with a record about something
// else.
func (g *gate) durable(c *trial) {
	g.t.Helper()
	for _, action := range []rollout.Action{rollout.ActionPause, rollout.ActionResume} {
		if status, body := g.post(c.name, action, admin.Order{}); status != http.StatusOK {
			g.t.Fatalf("%s: HTTP %d: %s", action, status, body)
		}
	}
}

// resumed waits until a headgate that was killed has judged again, from at least
// n requests on. Until then status tells what a record said; the last answers
// alone are not kept.
func (g *gate) resumed(c *trial, n int) rollout.Status {
	g.t.Helper()
	return g.until(c, fmt.Sprintf("the judge again, with %d requests", n), func(s rollout.Status) bool {
		f := finding(s, "error_rate", "max")
		return settled(s) && f.N >= uint64(n) && f.Reason != routing.ReasonNotAcknowledged &&
			finding(s, "gross_failure", "max").Reason == routing.ReasonNoTraffic
	})
}
