package capture_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/compare/pair"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc/capture"
	"github.com/headgate/headgate/routing"
)

// ill is an ext_proc server that says that it is well.
type ill struct {
	extprocv3.UnimplementedExternalProcessorServer

	process func(extprocv3.ExternalProcessor_ProcessServer) error
}

func (i ill) Process(s extprocv3.ExternalProcessor_ProcessServer) error { return i.process(s) }

func illServer(t *testing.T, process func(extprocv3.ExternalProcessor_ProcessServer) error) string {
	t.Helper()
	return serve(t, "127.0.0.1:0", nil, func(g *grpc.Server) {
		extprocv3.RegisterExternalProcessorServer(g, ill{process: process})
		healthv1.RegisterHealthServer(g, health.NewServer())
	})
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)) }

// deaf is an address where connections are taken and nothing is read.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range all {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// pattern are bytes of which every answer is a beginning.
var pattern = func() []byte {
	b := make([]byte, 8<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
}()

// sized reads a request and answers as many bytes as it asks for.
func sized(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	_, _ = w.Write(pattern[:n])
}

// traffic is what users saw.
type traffic struct {
	sent, failed atomic.Int64
	mu           sync.Mutex
	took         []time.Duration
	first        string // failure
}

func (u *traffic) percentile(q float64) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.took) == 0 {
		return 0
	}
	slices.Sort(u.took)
	return u.took[int(q*float64(len(u.took)-1))]
}

// use sends requests with random bodies, and wants answers of random lengths,
// over connections for a while.
func (p *proxy) use(connections int, d time.Duration, asked, answered int) *traffic {
	var u traffic
	transport := &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	end := time.Now().Add(d)
	var workers sync.WaitGroup
	for i := range connections {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			size := func(most int) int {
				if rng.IntN(2) == 0 {
					most = min(most, 64<<10)
				}
				return rng.IntN(most + 1)
			}
			for time.Now().Before(end) {
				begin := time.Now()
				err := use(client, p.url, pattern[:size(asked)], size(answered))
				took := time.Since(begin)
				u.sent.Add(1)
				u.mu.Lock()
				u.took = append(u.took, took)
				if err != nil {
					u.failed.Add(1)
					if u.first == "" {
						u.first = err.Error()
					}
				}
				u.mu.Unlock()
			}
		})
	}
	workers.Wait()
	return &u
}

func use(client *http.Client, at string, content []byte, n int) error {
	resp, err := client.Post(at+"/?n="+url.QueryEscape(strconv.Itoa(n)), "application/octet-stream", bytes.NewReader(content))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(got, pattern[:n]) {
		return fmt.Errorf("status %d, %d bytes of %d", resp.StatusCode, len(got), n)
	}
	return nil
}

// fine fails the test if a user saw anything, or Envoy is gone.
func (p *proxy) fine(u *traffic) {
	p.t.Helper()
	p.t.Logf("%d requests, p50 %s, p99 %s; Envoy has had %s at most", u.sent.Load(), u.percentile(0.5), u.percentile(0.99), p.peak())
	if u.sent.Load() == 0 || u.failed.Load() != 0 {
		p.t.Errorf("%d of %d requests failed: %s", u.failed.Load(), u.sent.Load(), u.first)
	}
	if got := p.Admin("/ready"); !strings.Contains(got, "LIVE") {
		p.t.Errorf("Envoy is %s", got)
	}
}

// peak is the most memory that Envoy has had, where the system tells.
func (p *proxy) peak() string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return "(unknown)"
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "(unknown)"
}

// Whatever the capture service does, users do not notice.
func TestIllCaptureServer(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(t *testing.T) string{
		"absent": closedPort,
		"deaf":   deaf,
		"frozen, and its health check is not": func(t *testing.T) string {
			end := make(chan struct{})
			t.Cleanup(func() { close(end) })
			return illServer(t, func(extprocv3.ExternalProcessor_ProcessServer) error { <-end; return nil })
		},
		"slow": func(t *testing.T) string {
			return illServer(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
				for {
					if _, err := s.Recv(); err != nil {
						return err
					}
					select {
					case <-time.After(100 * time.Millisecond):
					case <-s.Context().Done():
					}
				}
			})
		},
		"ends at once": func(t *testing.T) string {
			return illServer(t, func(extprocv3.ExternalProcessor_ProcessServer) error { return nil })
		},
		"answers": func(t *testing.T) string {
			return illServer(t, func(s extprocv3.ExternalProcessor_ProcessServer) error {
				for {
					if _, err := s.Recv(); err != nil {
						return err
					}
					_ = s.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
						ImmediateResponse: &extprocv3.ImmediateResponse{Body: []byte("no")},
					}})
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, server(t), behind(t, sized), []string{behind(t, sized)}, nil)
			p.fine(p.use(8, time.Second, 300<<10, 300<<10))
		})
	}
}

// Whatever a shadow does, users do not notice, and the pair says it.
func TestIllShadow(t *testing.T) {
	t.Parallel()            // one of them waits for 10 s
	var never chan struct{} // of each test its own
	wait := func(r *http.Request, d time.Duration) {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		case <-never:
		}
	}
	for _, tt := range []struct {
		name   string
		shadow func(t *testing.T) string
		want   func(a *pair.Answer) bool
	}{
		{"slow", func(t *testing.T) string {
			return behind(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				wait(r, 10*time.Second)
				_, _ = w.Write([]byte("late"))
			})
		}, func(a *pair.Answer) bool {
			return a.Fault == pair.FaultNone && string(a.Body) == "late" && a.Duration > 9*time.Second
		}},
		{"refusing", closedPort, func(a *pair.Answer) bool {
			return a.Fault == pair.FaultSilent && a.Status == 503 && strings.Contains(a.Detail, "connection_failure")
		}},
		{"hanging", func(t *testing.T) string {
			return behind(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				wait(r, time.Hour)
			})
		}, func(a *pair.Answer) bool {
			return a.Fault == pair.FaultSilent && a.Status == 504 && strings.Contains(a.Detail, "timeout")
		}},
		{"never reading", func(t *testing.T) string {
			return behind(t, func(_ http.ResponseWriter, r *http.Request) { wait(r, time.Hour) })
		}, func(a *pair.Answer) bool { return a.Fault == pair.FaultSilent }},
		{"closing half-way", func(t *testing.T) string {
			return behind(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("content-length", "1000")
				_, _ = w.Write(make([]byte, 500))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
		}, func(a *pair.Answer) bool {
			return a.Fault == pair.FaultBroken && a.Status == 200 && len(a.Body) <= 500
		}},
		{"answering 100 MB", func(t *testing.T) string {
			return behind(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				for n := 100 << 20; n > 0; n -= len(pattern) {
					_, _ = w.Write(pattern[:min(n, len(pattern))])
				}
			})
		}, func(a *pair.Answer) bool {
			return a.Fault == pair.FaultNone && a.Truncated && bytes.Equal(a.Body, pattern[:1<<20])
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := &kept{}
			service, addr := captured(t, capture.Options{Sink: sink, Join: pair.Options{Bytes: 256 << 20}})
			end := make(chan struct{})
			never = end
			shadow := tt.shadow(t)
			t.Cleanup(func() { close(end) }) // before the server is closed, which waits
			p := newProxy(t, addr, behind(t, sized), []string{shadow}, func(m *routing.ModelPlan) {
				if tt.name != "slow" {
					m.Model.Timeout = 2 * time.Second
				}
			})
			u := p.use(8, time.Second, 300<<10, 300<<10)
			p.fine(u)
			settled(t, service)
			sink.mu.Lock()
			defer sink.mu.Unlock()
			c := service.Counters()
			if len(sink.pairs) == 0 {
				t.Fatalf("no pairs: %+v", c)
			}
			for _, q := range sink.pairs {
				if !tt.want(&q.Shadow) {
					a := q.Shadow
					a.Body = a.Body[:min(len(a.Body), 100)]
					t.Fatalf("of %d pairs: %+v", len(sink.pairs), a)
				}
			}
			t.Logf("%d pairs of %d requests: %+v", len(sink.pairs), u.sent.Load(), c)
		})
	}
}

// Bodies of all lengths on many connections, with a service that is well and
// with one that is frozen: nothing fails, and memory is bounded.
func TestLargeBodies(t *testing.T) {
	t.Run("captured", func(t *testing.T) {
		sink := &counting{}
		service, addr := captured(t, capture.Options{Sink: sink, Memory: 32 << 20, Join: pair.Options{Bytes: 16 << 20}})
		p := newProxy(t, addr, behind(t, sized), []string{behind(t, sized)}, nil)
		stop := make(chan struct{})
		var most atomic.Int64
		var watch sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					c := service.Counters()
					most.Store(max(most.Load(), c.Memory+int64(c.Join.Bytes)))
				}
			}
		})
		u := p.use(32, 4*time.Second, 8<<20, 8<<20)
		close(stop)
		watch.Wait()
		p.fine(u)
		settled(t, service)
		t.Logf("%d pairs, the service held %d bytes at most: %+v", sink.pairs.Load(), most.Load(), service.Counters())
		if sink.pairs.Load() == 0 || most.Load() > 48<<20 {
			t.Errorf("%d pairs, %d bytes", sink.pairs.Load(), most.Load())
		}
	})
	t.Run("frozen", func(t *testing.T) {
		end := make(chan struct{})
		t.Cleanup(func() { close(end) })
		p := newProxy(t, illServer(t, func(extprocv3.ExternalProcessor_ProcessServer) error { <-end; return nil }),
			behind(t, sized), []string{behind(t, sized)}, nil)
		p.fine(p.use(32, 4*time.Second, 8<<20, 8<<20))
	})
}

// counting is a Sink that counts.
type counting struct{ exchanges, pairs atomic.Int64 }

func (c *counting) Exchange(*pair.Exchange) { c.exchanges.Add(1) }
func (c *counting) Pair(*pair.Pair)         { c.pairs.Add(1) }
