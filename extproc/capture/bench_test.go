package capture_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/extproc/capture"
)

// noop reads what is captured, to the end of each answer, and keeps nothing.
type noop struct {
	extprocv3.UnimplementedExternalProcessorServer

	ended atomic.Int64
}

func (n *noop) Process(s extprocv3.ExternalProcessor_ProcessServer) error {
	var in extprocv3.ProcessingRequest
	for {
		if err := s.RecvMsg(&in); err != nil {
			return err
		}
		if in.GetResponseBody().GetEndOfStream() {
			n.ended.Add(1)
			return nil
		}
	}
}

// BenchmarkPairs compares the service with a server that reads and forgets,
// each behind a real Envoy that copies and captures every request, in short runs
// that alternate. It reports what is captured of both, in requests with their
// copies a second, the median ratio, and the share of the requests that became
// pairs.
func BenchmarkPairs(b *testing.B) {
	sink := &counting{}
	service, addr := captured(b, capture.Options{Sink: sink})
	other := &noop{}
	forgetful := serve(b, "127.0.0.1:0", extproc.ServerOptions(), func(g *grpc.Server) {
		extprocv3.RegisterExternalProcessorServer(g, other)
		healthv1.RegisterHealthServer(g, health.NewServer())
	})
	model := behind(b, small)
	ours, theirs := newProxy(b, addr, model, []string{model}, nil), newProxy(b, forgetful, model, []string{model}, nil)
	const run = 500 * time.Millisecond
	pairs := func() (float64, int64) {
		before := sink.pairs.Load()
		rate, sent := ours.hammer(run)
		settled(b, service)
		return rate * float64(sink.pairs.Load()-before) / float64(sent), sent
	}
	halves := func() float64 {
		before := other.ended.Load()
		rate, sent := theirs.hammer(run)
		last := int64(-1)
		for now := other.ended.Load(); now != last; now = other.ended.Load() {
			last = now
			<-time.After(50 * time.Millisecond)
		}
		return rate * float64(last-before) / 2 / float64(sent)
	}
	pairs()
	halves()
	start := sink.pairs.Load()
	var all int64
	var rates, others, ratios []float64
	for b.Loop() {
		var x, y float64
		var sent int64
		if len(ratios)%2 == 0 {
			x, sent = pairs()
			y = halves()
		} else {
			y = halves()
			x, sent = pairs()
		}
		all += sent
		rates, others, ratios = append(rates, x), append(others, y), append(ratios, x/y)
	}
	b.ReportMetric(median(rates), "pairs/s")
	b.ReportMetric(median(others), "noop-pairs/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(float64(sink.pairs.Load()-start)/float64(all), "coverage")
	b.ReportMetric(0, "ns/op")
}

// small answers like a model.
func small(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("content-type", "application/json")
	_, _ = w.Write([]byte(`{"predictions":[0.123456,0.5,0.75]}`))
}

// hammer sends requests over keep-alive connections for a while, and returns
// how many were answered a second, and in all.
func (p *proxy) hammer(d time.Duration) (rate float64, sent int64) {
	const connections = 16
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var n atomic.Int64
	start := time.Now()
	var workers sync.WaitGroup
	for range connections {
		workers.Go(func() {
			for time.Since(start) < d {
				resp, err := client.Post(p.url, "application/json", strings.NewReader(`{"instances":[[1,2,3,4,5,6,7,8]]}`))
				if err != nil {
					p.t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				n.Add(1)
			}
		})
	}
	workers.Wait()
	return float64(n.Load()) / time.Since(start).Seconds(), n.Load()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
