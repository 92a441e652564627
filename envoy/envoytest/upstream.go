package envoytest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// UpstreamHeader is the answer header with an [Upstream]'s name.
const UpstreamHeader = "x-upstream"

// keptRequests bounds how many requests an Upstream remembers.
const keptRequests = 20_000

// Request is what an [Upstream] saw of one request.
type Request struct {
	Method, Path, Host string // Path includes the query
	Header             http.Header
	Body               []byte // the first 64 KiB
	BodySize           int64
	At                 time.Time // when the body was read
}

// Upstream is a small model server. It answers every request with its name, in
// the header x-upstream and in a JSON body. Its behaviour can be changed at any
// moment. It speaks HTTP/1.1 and cleartext HTTP/2.
type Upstream struct {
	Name string
	Addr string // host:port on loopback

	t      testing.TB
	mu     sync.Mutex
	server *http.Server
	served chan struct{} // closed when server has ended
	how    behaviour
	count  int
	seen   []Request
}

type behaviour struct {
	status    int
	delay     time.Duration
	released  chan struct{} // not nil: requests hang until it is closed
	reset     bool
	unhealthy bool
	header    http.Header
	body      []byte // nil: the usual one
}

// NewUpstream starts a model server on a free port, until the test ends.
func NewUpstream(t testing.TB, name string) *Upstream {
	t.Helper()
	u := &Upstream{Name: name, Addr: "127.0.0.1:0", t: t, how: behaviour{status: http.StatusOK}}
	u.Start()
	t.Cleanup(u.Stop)
	return u
}

// Start listens again, on the same port, after [Upstream.Stop].
func (u *Upstream) Start() {
	u.t.Helper()
	listener, err := net.Listen("tcp", u.Addr)
	if err != nil {
		u.t.Fatalf("upstream %s: %v", u.Name, err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: u, Protocols: protocols}
	served := make(chan struct{})
	u.mu.Lock()
	u.Addr, u.server, u.served = listener.Addr().String(), server, served
	u.mu.Unlock()
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
}

// Stop closes the port and every connection, and releases hanging requests.
func (u *Upstream) Stop() {
	u.Hang(false)
	u.mu.Lock()
	server, served := u.server, u.served
	u.server = nil
	u.mu.Unlock()
	if server != nil {
		_ = server.Close()
		<-served
	}
}

// Port returns the port number of Addr.
func (u *Upstream) Port() int {
	addr, err := net.ResolveTCPAddr("tcp", u.Addr)
	if err != nil {
		u.t.Fatal(err)
	}
	return addr.Port
}

// SetStatus sets the HTTP status of the answers.
func (u *Upstream) SetStatus(code int) { u.change(func(b *behaviour) { b.status = code }) }

// SetDelay makes each answer take this long.
func (u *Upstream) SetDelay(d time.Duration) { u.change(func(b *behaviour) { b.delay = d }) }

// SetHeader adds a header to the answers.
func (u *Upstream) SetHeader(name, value string) {
	u.change(func(b *behaviour) {
		next := b.header.Clone()
		if next == nil {
			next = http.Header{}
		}
		next.Set(name, value)
		b.header = next
	})
}

// SetBody replaces the body of the answers; nil brings the usual one back.
func (u *Upstream) SetBody(body []byte) { u.change(func(b *behaviour) { b.body = body }) }

// SetUnhealthy makes GET /healthz answer 503. Checks are not counted as
// requests.
func (u *Upstream) SetUnhealthy(on bool) { u.change(func(b *behaviour) { b.unhealthy = on }) }

// Reset makes the server read requests and break their connections.
func (u *Upstream) Reset(on bool) { u.change(func(b *behaviour) { b.reset = on }) }

// Hang makes the server read requests and not answer. Hang(false) lets the
// waiting ones go on.
func (u *Upstream) Hang(on bool) {
	u.change(func(b *behaviour) {
		if b.released != nil {
			close(b.released)
			b.released = nil
		}
		if on {
			b.released = make(chan struct{})
		}
	})
}

func (u *Upstream) change(f func(*behaviour)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.how)
}

// Count returns how many requests have arrived, without health checks.
func (u *Upstream) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count
}

// Requests returns the requests that arrived since the start or the last
// [Upstream.Forget], the first 20,000 of them, in order of arrival.
func (u *Upstream) Requests() []Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]Request(nil), u.seen...)
}

// Forget sets the count to 0 and drops the requests.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count, u.seen = 0, nil
}

// ServeHTTP answers one request.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		u.mu.Lock()
		unhealthy := u.how.unhealthy
		u.mu.Unlock()
		if unhealthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	how := u.record(r)
	if how.released != nil {
		select {
		case <-how.released:
		case <-r.Context().Done():
			return
		}
	}
	if how.delay > 0 {
		select {
		case <-time.After(how.delay):
		case <-r.Context().Done():
			return
		}
	}
	if how.reset {
		panic(http.ErrAbortHandler)
	}
	for name, values := range how.header {
		w.Header()[name] = values
	}
	w.Header().Set(UpstreamHeader, u.Name)
	body := how.body
	if body == nil {
		w.Header().Set("content-type", "application/json")
		body, _ = json.Marshal(map[string]any{"version": u.Name, "prediction": 0.5})
	}
	w.WriteHeader(how.status)
	_, _ = w.Write(body)
}

func (u *Upstream) record(r *http.Request) behaviour {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	rest, _ := io.Copy(io.Discard, r.Body)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count++
	if len(u.seen) < keptRequests {
		u.seen = append(u.seen, Request{
			Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host, Header: r.Header.Clone(),
			Body: body, BodySize: int64(len(body)) + rest, At: time.Now(),
		})
	}
	return u.how
}
