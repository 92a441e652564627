package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/envoy/envoytest"
)

// shapes is a model server that answers in every way that HTTP knows. The last
// part of the path says how.
type shapes struct {
	addr string
	done chan struct{} // closed at the end of the test: whoever hangs goes on
	mu   sync.Mutex
	seen []http.Header
}

func newShapes(t testing.TB) *shapes {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	s := &shapes{addr: l.Addr().String(), done: make(chan struct{})}
	server := &http.Server{Handler: s}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() {
		close(s.done)
		_ = server.Close()
		<-ended
	})
	return s
}

// whole is what a server read of a request.
type whole struct {
	Method, Path string
	Size         int64
	Sum          string
	Chunked      bool
	Trailer      string
}

func (s *shapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Header.Clone())
	s.mu.Unlock()
	switch how := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; how {
	case "echo":
		w.Header().Set("trailer", "x-answer-sum")
		sum := sha256.New()
		n, _ := io.Copy(sum, r.Body)
		_ = json.NewEncoder(w).Encode(whole{
			Method: r.Method, Path: r.URL.RequestURI(), Size: n, Sum: fmt.Sprintf("%x", sum.Sum(nil)),
			Chunked: len(r.TransferEncoding) > 0, Trailer: r.Trailer.Get("x-sum"),
		})
		w.Header().Set("x-answer-sum", "42")
	case "204":
		w.WriteHeader(http.StatusNoContent)
	case "304":
		w.Header().Set("etag", `"7"`)
		w.WriteHeader(http.StatusNotModified)
	case "large":
		w.Header().Set("content-length", "20971520")
		if r.Method != http.MethodHead {
			_, _ = w.Write(twentyMB())
		}
	case "events":
		s.events(w, r)
	case "silent":
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-s.done:
		case <-r.Context().Done():
		}
	case "upgrade":
		upgrade(w)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// events streams one event every 100 ms, after a pause of 4 s behind the first.
func (s *shapes) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("content-type", "text/event-stream")
	next := time.NewTimer(4 * time.Second)
	defer next.Stop()
	for i := 0; ; i++ {
		fmt.Fprintf(w, "data: %d\n\n", i)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-next.C:
			next.Reset(100 * time.Millisecond)
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		}
	}
}

// upgrade echoes bytes after the handshake of a WebSocket.
func upgrade(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

var twentyMB = sync.OnceValue(func() []byte {
	b := make([]byte, 20<<20)
	_, _ = rand.Read(b)
	return b
})

// shaped is a headgate with models whose versions are all the same server.
type shaped struct {
	*gate
	server *shapes
	port   int
}

// shapedModels are decided by Envoy, by ext_proc on headers, and by ext_proc on
// bodies.
var shapedModels = []string{"native", "asked", "bodies"}

func newShaped(t *testing.T, extra ...string) shaped {
	t.Helper()
	s := shaped{gate: newGate(t, "run"), server: newShapes(t), port: envoytest.FreePort(t)}
	version := func(name string) string { return fmt.Sprintf("%s: {endpoints: [%q]}", name, s.server.addr) }
	files := make([]modelFile, len(shapedModels))
	for i, name := range shapedModels {
		m := modelFile{name: name, port: s.port, release: "v1", versions: []string{version("v1"), version("v2")}, extra: extra}
		switch name {
		case "asked":
			m.extra = append([]string{"decide: ext_proc"}, extra...)
		case "bodies":
			m.key = "{body: $.user, absent: request}"
		}
		files[i] = m
	}
	s.put(files...)
	s.start().ready()
	for _, m := range files {
		s.serving(m.name, "v1", 100)
		m.release, m.steps = "v2", []string{"{traffic: 50%}", "{traffic: 100%}"}
		s.put(m)
	}
	for _, name := range shapedModels {
		s.serving(name, "v2", 50)
	}
	s.listens(s.url("native", "204"))
	return s
}

func (s shaped) url(model, how string) string {
	return fmt.Sprintf("http://127.0.0.1:%d/%s/%s", s.port, model, how)
}

// do sends a request and returns its answer with the whole body.
func do(t testing.TB, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	noError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	noError(t, err)
	return resp, body
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	noError(t, err)
	r.Header.Set("x-user-id", "somebody")
	return r
}

// unknownLength hides the length of a body.
type unknownLength struct{ io.Reader }

// TestFaultShapes passes every shape of request and answer through, native and
// by ext_proc.
func TestFaultShapes(t *testing.T) {
	t.Parallel()
	s := newShaped(t)
	large := twentyMB()
	for _, model := range shapedModels {
		echo := func(r *http.Request, want whole) {
			t.Helper()
			resp, body := do(t, r)
			var got whole
			if err := json.Unmarshal(body, &got); err != nil {
				t.Errorf("%s: HTTP %d: %s", model, resp.StatusCode, body)
				return
			}
			want.Method, want.Path = http.MethodPost, "/"+model+"/echo?q=a%20b"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", model, diff)
			}
			if got := resp.Trailer.Get("x-answer-sum"); got != "42" {
				t.Errorf("%s: trailer of the answer: %q", model, got)
			}
		}
		target := s.url(model, "echo?q=a%20b")
		small, smallSum := "abc", fmt.Sprintf("%x", sha256.Sum256([]byte("abc")))
		echo(request(t, "POST", target, strings.NewReader(small)), whole{Size: 3, Sum: smallSum})
		echo(request(t, "POST", target, unknownLength{strings.NewReader(small)}), whole{Size: 3, Sum: smallSum, Chunked: true})
		echo(request(t, "POST", target, bytes.NewReader(large)), whole{Size: 20 << 20, Sum: fmt.Sprintf("%x", sha256.Sum256(large))})
		echo(request(t, "POST", target, unknownLength{bytes.NewReader(large)}),
			whole{Size: 20 << 20, Sum: fmt.Sprintf("%x", sha256.Sum256(large)), Chunked: true})
		withTrailer := request(t, "POST", target, unknownLength{strings.NewReader(small)})
		withTrailer.Trailer = http.Header{"X-Sum": {"7"}}
		echo(withTrailer, whole{Size: 3, Sum: smallSum, Chunked: true, Trailer: "7"})
		expecting := request(t, "POST", target, strings.NewReader(small))
		expecting.Header.Set("expect", "100-continue")
		echo(expecting, whole{Size: 3, Sum: smallSum})

		resp, body := do(t, request(t, "GET", s.url(model, "large"), nil))
		if resp.StatusCode != http.StatusOK || resp.ContentLength != 20<<20 || !bytes.Equal(body, large) {
			t.Errorf("%s: a large answer: HTTP %d, %d bytes", model, resp.StatusCode, len(body))
		}
		resp, body = do(t, request(t, "HEAD", s.url(model, "large"), nil))
		if resp.StatusCode != http.StatusOK || resp.ContentLength != 20<<20 || len(body) != 0 {
			t.Errorf("%s: HEAD: HTTP %d, content-length %d, %d bytes", model, resp.StatusCode, resp.ContentLength, len(body))
		}
		resp, body = do(t, request(t, "DELETE", s.url(model, "204"), nil))
		if resp.StatusCode != http.StatusNoContent || len(body) != 0 || resp.Header.Get("content-length") != "" {
			t.Errorf("%s: 204: HTTP %d, %v", model, resp.StatusCode, resp.Header)
		}
		resp, body = do(t, request(t, "GET", s.url(model, "304"), nil))
		if resp.StatusCode != http.StatusNotModified || len(body) != 0 || resp.Header.Get("etag") != `"7"` {
			t.Errorf("%s: 304: HTTP %d, %v", model, resp.StatusCode, resp.Header)
		}
		webSocket(t, s, model)
	}
}

// webSocket upgrades a connection and sends bytes both ways.
func webSocket(t *testing.T, s shaped, model string) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	noError(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = fmt.Fprintf(conn, "GET /%s/upgrade HTTP/1.1\r\nhost: x\r\nx-user-id: u\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", model)
	noError(t, err)
	answers := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answers, nil)
	noError(t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("%s: upgrade: HTTP %d", model, resp.StatusCode)
		return
	}
	for _, word := range []string{"one\n", "two\n"} {
		_, err = io.WriteString(conn, word)
		noError(t, err)
		if got, err := answers.ReadString('\n'); got != word || err != nil {
			t.Errorf("%s: sent %q through the upgrade, got %q, %v", model, word, got, err)
		}
	}
}

// TestFaultStreams lets answers flow, and pause, for longer than the timeout,
// and lets clients read them slowly. The timeout ends requests whose answer
// does not begin.
func TestFaultStreams(t *testing.T) {
	t.Parallel()
	extra, last := []string{"timeout: 3s"}, 8*time.Second
	if soak() {
		extra, last = nil, 10*time.Minute // with the default
	}
	s := newShaped(t, extra...)
	var clients sync.WaitGroup
	for _, model := range shapedModels {
		slow, err := http.DefaultTransport.RoundTrip(request(t, "GET", s.url(model, "large"), nil))
		noError(t, err)
		defer slow.Body.Close()
		clients.Go(func() {
			if err := flows(t.Context(), s.url(model, "events"), last); err != nil {
				t.Errorf("%s: %v", model, err)
			}
			// This one has not been read meanwhile.
			if n, err := io.Copy(io.Discard, slow.Body); n != 20<<20 || err != nil {
				t.Errorf("%s: %d bytes of an answer that was read slowly, %v", model, n, err)
			}
		})
		clients.Go(func() {
			if code := statusOf(t, s.url(model, "silent")); code != http.StatusGatewayTimeout {
				t.Errorf("%s: without an answer: HTTP %d, want 504", model, code)
			}
		})
	}
	clients.Wait()
	for _, model := range shapedModels {
		s.eventually(20*time.Second, "the records", func() bool {
			v := s.versions(model)
			return v["v1"].Errors+v["v2"].Errors == 1 && v["v1"].Aborted+v["v2"].Aborted == 1 && v["v1"].Requests+v["v2"].Requests >= 3
		})
	}
}

// flows reads a stream for some time, and returns an error when it ends before.
func flows(ctx context.Context, url string, last time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	begin := time.Now()
	lines := bufio.NewReader(resp.Body)
	for time.Since(begin) < last {
		if _, err := lines.ReadString('\n'); err != nil {
			return fmt.Errorf("broke off after %s: %w", time.Since(begin), err)
		}
	}
	return nil
}

// TestFaultClientGone counts clients that go away in mid-upload and in
// mid-answer as aborted, and as nobody's error.
func TestFaultClientGone(t *testing.T) {
	t.Parallel()
	s := newShaped(t)
	const each = 10
	for _, model := range shapedModels {
		for i := range each {
			user := fmt.Sprintf("user-%d", i)
			for _, how := range []string{"echo", "events"} {
				before := s.server.count(user)
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
				noError(t, err)
				size := 2
				if how == "echo" {
					size = 1 << 20
				}
				_, err = fmt.Fprintf(conn, "POST /%s/%s HTTP/1.1\r\nhost: x\r\nx-user-id: %s\r\ncontent-length: %d\r\n\r\n{}", model, how, user, size)
				noError(t, err)
				if how == "events" {
					_, err = bufio.NewReader(conn).ReadString('\n')
					noError(t, err)
				} else {
					s.eventually(20*time.Second, "the upload arrives", func() bool { return s.server.count(user) > before })
				}
				noError(t, conn.Close())
			}
		}
	}
	for _, model := range shapedModels {
		s.eventually(20*time.Second, "the records", func() bool {
			v := s.versions(model)
			return v["v1"].Requests+v["v2"].Requests >= 2*each
		})
		for name, v := range s.versions(model) {
			if v.Errors != 0 || v.ClientErrors != 0 || v.Aborted == 0 || v.Aborted+1 < v.Requests { // the harness asked once
				t.Errorf("%s/%s after clients went away: %+v", model, name, v.TrafficCounts)
			}
		}
	}
}

// count is how many requests of a user have come.
func (s *shapes) count(user string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.seen {
		if h.Get("x-user-id") == user {
			n++
		}
	}
	return n
}

// TestFaultGRPC has gRPC models, decided on by Envoy and by ext_proc: answers,
// errors and streams pass, and failures count by their gRPC status.
func TestFaultGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	service := health.NewServer()
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, service)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	for _, decide := range []string{"native", "ext_proc"} {
		g := newGate(t, "run")
		version := func(name string) string {
			return fmt.Sprintf("%s: {endpoints: [%q], http2: true}", name, l.Addr().String())
		}
		m := modelFile{name: "grpc.health.v1.Health", port: envoytest.FreePort(t), release: "v1", versions: []string{version("v1"), version("v2")}}
		m.extra = []string{"decide: " + decide}
		file := func() { g.write("g.yaml", strings.Replace(m.String(), "model: "+m.name, "model: health", 1)) }
		file()
		g.start().ready()
		g.serving("health", "v1", 100)
		m.release, m.steps = "v2", []string{"{traffic: 50%}", "{traffic: 100%}"}
		file()
		g.serving("health", "v2", 50)
		callHealth(t, g, fmt.Sprintf("127.0.0.1:%d", m.port), service)
	}
}

func callHealth(t *testing.T, g *gate, address string, service *health.Server) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	noError(t, err)
	defer conn.Close()
	client := healthv1.NewHealthClient(conn)
	check := func(name string) (healthv1.HealthCheckResponse_ServingStatus, error) {
		r, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
		return r.GetStatus(), err
	}
	if got, err := check(""); got != healthv1.HealthCheckResponse_SERVING || err != nil {
		t.Errorf("Check: %v, %v", got, err)
	}
	if _, err := check("nobody"); status.Code(err) != codes.NotFound || status.Convert(err).Message() != "unknown service" {
		t.Errorf("Check of an unknown service: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := client.Watch(ctx, &healthv1.HealthCheckRequest{Service: "moving"})
	noError(t, err)
	for i, want := range []healthv1.HealthCheckResponse_ServingStatus{
		healthv1.HealthCheckResponse_SERVICE_UNKNOWN, healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING,
	} {
		if i > 0 {
			service.SetServingStatus("moving", want)
		}
		if got, err := watch.Recv(); got.GetStatus() != want || err != nil {
			t.Errorf("Watch, answer %d: %v, %v", i, got, err)
		}
	}
	service.SetServingStatus("moving", healthv1.HealthCheckResponse_SERVICE_UNKNOWN)
	cancel()
	g.eventually(20*time.Second, "the records", func() bool {
		v := g.versions("health")
		both := func(f func(string) uint64) uint64 { return f("v1") + f("v2") }
		return both(func(n string) uint64 { return v[n].Requests }) == 3 &&
			both(func(n string) uint64 { return v[n].ClientErrors }) == 1 &&
			both(func(n string) uint64 { return v[n].Aborted }) == 1
	})
}
