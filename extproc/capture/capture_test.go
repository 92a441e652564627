package capture_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/pair"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/extproc/capture"
)

// kept is a Sink that keeps everything.
type kept struct {
	mu        sync.Mutex
	exchanges []*pair.Exchange
	pairs     []*pair.Pair
}

func (k *kept) Exchange(x *pair.Exchange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.exchanges = append(k.exchanges, x)
}

func (k *kept) Pair(p *pair.Pair) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pairs = append(k.pairs, p)
}

func (k *kept) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.exchanges, k.pairs = nil, nil
}

// of returns the exchanges and the pairs of a request id.
func (k *kept) of(id string) (exchanges []*pair.Exchange, pairs []*pair.Pair) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, x := range k.exchanges {
		if x.RequestID == id {
			exchanges = append(exchanges, x)
		}
	}
	for _, p := range k.pairs {
		if p.RequestID == id {
			pairs = append(pairs, p)
		}
	}
	return exchanges, pairs
}

// captured starts a capture service that gives what it captures to a sink.
func captured(t testing.TB, o capture.Options) (service *capture.Service, addr string) {
	t.Helper()
	service, _, addr = capturedAndDecided(t, o)
	return service, addr
}

func capturedAndDecided(t testing.TB, o capture.Options) (service *capture.Service, decider *extproc.Service, addr string) {
	t.Helper()
	service = capture.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		service.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	decider = extproc.New(slog.New(slog.DiscardHandler))
	decider.PassCaptures(service)
	return service, decider, serve(t, "127.0.0.1:0", extproc.ServerOptions(), decider.Register)
}

// settled waits until nothing is under way any more.
func settled(t testing.TB, s *capture.Service) {
	t.Helper()
	envoytest.Eventually(t, 30*time.Second, "nothing is held", func() bool {
		c := s.Counters()
		return c.Active == 0 && c.Memory == 0 && c.Join.Waiting == 0 && c.Join.Bytes == 0
	})
}

// behind starts a model server, until the test ends.
func behind(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// body is what a version answers at a path.
func body(version, path string) []byte {
	text := []byte(`{"path":"` + path + `","prediction":0.5,"version":"` + version + `"}`)
	switch path {
	case "/big":
		return bytes.Repeat(text, 5<<20/len(text))
	case "/gzip":
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(text)
		_ = w.Close()
		return b.Bytes()
	case "/204":
		return nil
	case "/sse":
		return []byte("data: " + string(text) + "\n\ndata: [DONE]\n\n")
	}
	return text
}

// answers is a model server that answers in every way that HTTP knows.
func answers(version string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b := body(version, r.URL.Path)
		w.Header().Set("content-type", "application/json")
		flush := func() { _ = http.NewResponseController(w).Flush() }
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
			return
		case "/gzip":
			w.Header().Set("content-encoding", "gzip")
		case "/sse":
			w.Header().Set("content-type", "text/event-stream")
			for _, line := range bytes.SplitAfter(b, []byte("\n\n")) {
				_, _ = w.Write(line)
				flush()
			}
			return
		case "/chunked":
			_, _ = w.Write(b[:len(b)/2])
			flush()
			_, _ = w.Write(b[len(b)/2:])
			return
		case "/trailers":
			w.Header().Set("trailer", "x-checksum")
			_, _ = w.Write(b)
			w.Header().Set("x-checksum", "1")
			return
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write(b)
	}
}

// send sends a request and returns its answer.
func (p *proxy) send(method, path, id string, content io.Reader, edit ...func(*http.Request)) (*http.Response, []byte) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, content)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("x-request-id", id)
	r.Header.Set("content-type", "application/json")
	r.Header.Set("accept-encoding", "gzip") // or Go would ask for it and undo it
	for _, f := range edit {
		f(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, got
}

// What is captured is what was sent.
func TestCapturedOnEnvoy(t *testing.T) {
	sink := &kept{}
	service, addr := captured(t, capture.Options{Sink: sink, User: func(key string) uint64 { return uint64(len(key)) }})
	p := newProxy(t, addr, behind(t, answers("v1")), []string{behind(t, answers("v2")), behind(t, answers("v3"))}, nil)
	for i, tt := range []struct {
		method, path, body string
		kind, encoding     string
	}{
		{"POST", "/json", `{"x":1}`, "application/json", ""},
		{"POST", "/json", "", "application/json", ""},
		{"GET", "/json", "", "application/json", ""},
		{"POST", "/large", strings.Repeat("x", 1<<20), "application/json", ""},
		{"POST", "/chunked", `{"x":1}`, "application/json", ""},
		{"POST", "/gzip", `{"x":1}`, "application/json", "gzip"},
		{"POST", "/204", `{"x":1}`, "application/json", ""},
		{"HEAD", "/json", "", "application/json", ""},
		{"GET", "/sse", "", "text/event-stream", ""},
		{"POST", "/trailers", `{"x":1}`, "application/json", ""},
		{"POST", "/teapot", `{"x":1}`, "application/json", ""},
		{"POST", "/big", `{"x":1}`, "application/json", ""},
	} {
		t.Run(fmt.Sprintf("%s%s/%d", tt.method, tt.path, len(tt.body)), func(t *testing.T) {
			id := fmt.Sprintf("id-%d", i)
			began := time.Now()
			var content io.Reader
			if tt.body != "" || tt.method == http.MethodPost {
				content = strings.NewReader(tt.body)
			}
			resp, got := p.send(tt.method, tt.path, id, content)
			want := func(version string) pair.Content {
				c := pair.Content{Type: tt.kind, Encoding: tt.encoding, Body: body(version, tt.path)}
				if tt.method == http.MethodHead {
					c.Body = nil
				}
				if len(c.Body) > 1<<20 {
					c.Body, c.Truncated = c.Body[:1<<20], true
				}
				return c
			}
			if sent := body("v1", tt.path); tt.method != http.MethodHead && !bytes.Equal(got, sent) {
				t.Errorf("the user got %d bytes of %d", len(got), len(sent))
			}
			var exchanges []*pair.Exchange
			var pairs []*pair.Pair
			envoytest.Eventually(t, 20*time.Second, "the pairs", func() bool {
				exchanges, pairs = sink.of(id)
				return len(exchanges) == 1 && len(pairs) == 2
			})
			x := *exchanges[0]
			if x.Start.Before(began.Add(-time.Second)) || x.Start.After(time.Now()) {
				t.Errorf("start %s", x.Start)
			}
			if x.Primary.Duration <= 0 || x.Primary.FirstByte > x.Primary.Duration {
				t.Errorf("first byte %s, all %s", x.Primary.FirstByte, x.Primary.Duration)
			}
			x.Start, x.Primary.FirstByte, x.Primary.Duration = time.Time{}, 0, 0
			wanted := pair.Exchange{
				Model: "churn", RequestID: id, Method: tt.method,
				Request: pair.Content{Type: "application/json", Body: []byte(tt.body)},
				Primary: pair.Answer{Version: "v1", Status: resp.StatusCode, Content: want("v1")},
			}
			if tt.method == http.MethodHead || tt.method == http.MethodGet || tt.path == "/204" {
				wanted.Request.Type = "application/json"
			}
			if diff := diffOf(wanted, x); diff != "" {
				t.Errorf("exchange (-want +got):\n%s", diff)
			}
			seen := map[string]bool{}
			for _, q := range pairs {
				seen[q.Shadow.Version] = true
				a := q.Shadow
				a.FirstByte, a.Duration = 0, 0
				if diff := diffOf(pair.Answer{Version: q.Shadow.Version, Status: resp.StatusCode, Content: want(q.Shadow.Version)}, a); diff != "" {
					t.Errorf("shadow (-want +got):\n%s", diff)
				}
				if q.Exchange != exchanges[0] {
					t.Error("the pair has another exchange")
				}
			}
			if len(seen) != 2 || !seen["v2"] || !seen["v3"] {
				t.Errorf("shadows %v", seen)
			}
		})
	}
	settled(t, service)
	c := service.Counters()
	if c.Truncated != 3 || c.Dropped != 0 || c.Undecodable != 0 || c.Join.Late != 0 || c.Join.Twice != 0 || c.Join.Alone != 0 {
		t.Errorf("counters %+v", c)
	}
}

// diffOf compares without telling megabytes.
func diffOf(want, got any) string {
	return cmp.Diff(want, got, cmp.Transformer("short", func(b []byte) string {
		if len(b) > 200 {
			return fmt.Sprintf("%d bytes: %x", len(b), b[len(b)-8:])
		}
		return string(b)
	}))
}
