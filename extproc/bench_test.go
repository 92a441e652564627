package extproc_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// BenchmarkStream compares the service with a server in Go that answers every
// request with the same header, each behind a real Envoy, in short runs that
// alternate. It reports requests a second of both, the median ratio over the
// pairs, and the ratio of the processor time that a request took over all
// runs, of Envoy, server and load generator together: a busy machine changes
// that one less.
func BenchmarkStream(b *testing.B) {
	oursSocket, noopSocket := socketPath(b), socketPath(b)
	serve(b, oursSocket, churn(3000, nil))
	g := grpc.NewServer()
	extprocv3.RegisterExternalProcessorServer(g, noop{})
	healthv1.RegisterHealthServer(g, health.NewServer())
	serveOn(b, noopSocket, g)
	ours, other := startDirect(b, oursSocket), startDirect(b, noopSocket)
	const run = 400 * time.Millisecond
	hammer(b, ours, run)
	hammer(b, other, run)
	var rates, others, ratios []float64
	var cost, otherCost cost
	for b.Loop() {
		// The order changes from pair to pair: the first of a pair may find
		// the machine in another state than the second.
		var x, y pace
		if len(ratios)%2 == 0 {
			x, y = hammer(b, ours, run), hammer(b, other, run)
		} else {
			y, x = hammer(b, other, run), hammer(b, ours, run)
		}
		rates, others = append(rates, x.rate), append(others, y.rate)
		ratios = append(ratios, x.rate/y.rate)
		cost.add(x)
		otherCost.add(y)
	}
	b.ReportMetric(median(rates), "requests/s")
	b.ReportMetric(median(others), "noop-requests/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(cost.perRequest()/otherCost.perRequest(), "cpu-ratio")
	b.ReportMetric(0, "ns/op")
}

// startDirect starts an Envoy that asks the server and then answers by itself,
// so that the ext_proc server is most of what a request costs.
func startDirect(b *testing.B, socket string) *proxy {
	return startProxyWith(b, socket, func(config string) string {
		return strings.NewReplacer(
			"route: {cluster: churn/v1, timeout: 5s}", "direct_response: {status: 200}",
			"route: {cluster: churn/v2, timeout: 5s}", "direct_response: {status: 200}",
		).Replace(config)
	})
}

// pace is how fast requests were answered, and at what cost.
type pace struct {
	rate float64 // requests a second
	sent int64
	cpu  time.Duration // of this process and of Envoy
}

// cost is what several runs took.
type cost struct {
	sent int64
	cpu  time.Duration
}

func (c *cost) add(p pace) {
	c.sent += p.sent
	c.cpu += p.cpu
}

func (c *cost) perRequest() float64 { return float64(c.cpu) / float64(c.sent) }

// hammer sends requests over keep-alive connections for a while.
func hammer(b *testing.B, p *proxy, d time.Duration) pace {
	const connections = 16
	var sent atomic.Int64
	var workers sync.WaitGroup
	start, before := time.Now(), cpuTime(b, p.PID)
	for i := range connections {
		workers.Go(func() {
			n, err := hammerOne(strings.TrimPrefix(p.url, "http://"), i, start.Add(d))
			if err != nil {
				b.Error(err)
			}
			sent.Add(n)
		})
	}
	workers.Wait()
	n := sent.Load()
	return pace{float64(n) / time.Since(start).Seconds(), n, cpuTime(b, p.PID) - before}
}

// cpuTime returns the processor time of this process and another.
func cpuTime(b *testing.B, pid int) time.Duration {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// Behind the name in brackets, user and system time are the 12th and 13th
	// field, in hundredths of a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(own.Utime.Nano()+own.Stime.Nano()) + time.Duration(ticks)*10*time.Millisecond
}

func hammerOne(address string, id int, until time.Time) (n int64, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for ; time.Now().Before(until); n++ {
		_, err := fmt.Fprintf(conn, "GET /predict HTTP/1.1\r\nhost: churn.example\r\nx-user-id: user-%d-%d\r\n"+
			"accept: application/json\r\nuser-agent: bench\r\nx-request-id: 0b5e8f7e-1f0e-4a52-9e0b-6a7f9a3c1d2e\r\n\r\n", id, n)
		if err != nil {
			return n, err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return n, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return n, fmt.Errorf("status %d", resp.StatusCode)
		}
	}
	return n, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// noop is the least that an ext_proc server in Go can do: it answers every
// message with one that was made before.
type noop struct {
	extprocv3.UnimplementedExternalProcessorServer
}

var noopAnswer = &extprocv3.ProcessingResponse{
	Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{
		Response: &extprocv3.CommonResponse{
			ClearRouteCache: true,
			HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{{
				Header:       &corev3.HeaderValue{Key: "x-headgate-decision", RawValue: []byte("v1")},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}}},
		},
	}},
}

func (noop) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.Send(noopAnswer); err != nil {
			return err
		}
	}
}
