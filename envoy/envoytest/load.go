package envoytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// LoadOptions say what a load generator sends. Only URL is required.
type LoadOptions struct {
	URL         string
	Method      string // POST by default: Go's client silently retries GETs, and a retry hides a failure
	Body        []byte // "{}" by default for POST
	Host        string
	Header      http.Header
	Connections int           // keep-alive connections, 4 by default
	Rate        float64       // requests a second over all connections; 0: as fast as answers come
	Requests    int           // in all; 0: until stopped, or a million
	Timeout     time.Duration // of a request, 5 s by default
	TLS         *tls.Config   // for a URL with https
	Users       []string      // user ids, taken in turn; empty: no header is sent
	UserHeader  string        // x-user-id by default
	// Prepare may change each request before it is sent. It is called from
	// several goroutines.
	Prepare func(r *http.Request, user string)
	// Failed tells whether an answer counts as failed. By default every error does,
	// and a status of 400 and above: a route that was lost gives 404.
	Failed func(Result) bool
}

// Result is one request and its answer.
type Result struct {
	User     string
	Version  string // x-headgate-version of the answer, or else x-upstream
	Status   int    // 0 when Err is set
	Err      error
	Header   http.Header // of the answer
	Start    time.Time
	Duration time.Duration // to the last byte of the answer
}

// Report is what a load generator saw.
type Report struct {
	Results  []Result // in order of Start
	Failed   int
	Versions map[string]int // answers by version; those without a version under ""
	Dials    int            // connections opened: more than Connections means that some were closed
	failures []Result
}

// Move is a user's change from one version to another.
type Move struct {
	User, From, To string
	At             time.Time // Start of the first request answered by To
}

// Load sends requests until ctx is done or options.Requests are answered. The
// requests in flight at the end are waited for, never cancelled.
func Load(ctx context.Context, options LoadOptions) *Report {
	l := startLoad(options)
	select {
	case <-ctx.Done():
	case <-l.done:
	}
	return l.Stop()
}

// Loader is a load generator that runs in the background.
type Loader struct {
	options LoadOptions
	stop    chan struct{}
	once    sync.Once
	done    chan struct{}
	tokens  atomic.Int64 // requests that were given out
	start   time.Time
	dials   atomic.Int64

	mu      sync.Mutex
	results []Result
}

// StartLoad begins to send requests, until [Loader.Stop] or the end of the
// test.
func StartLoad(t testing.TB, options LoadOptions) *Loader {
	l := startLoad(options)
	t.Cleanup(func() { l.Stop() })
	return l
}

func startLoad(options LoadOptions) *Loader {
	l := &Loader{options: withDefaults(options), stop: make(chan struct{}), done: make(chan struct{}), start: time.Now()}
	var workers sync.WaitGroup
	for i := range l.options.Connections {
		workers.Go(func() { l.work(i) })
	}
	go func() {
		workers.Wait()
		close(l.done)
	}()
	return l
}

func withDefaults(o LoadOptions) LoadOptions {
	if o.Method == "" {
		o.Method = http.MethodPost
	}
	if o.Body == nil && o.Method == http.MethodPost {
		o.Body = []byte("{}")
	}
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.Requests == 0 {
		o.Requests = 1_000_000
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.UserHeader == "" {
		o.UserHeader = "x-user-id"
	}
	if o.Failed == nil {
		o.Failed = func(r Result) bool { return r.Err != nil || r.Status >= 400 }
	}
	return o
}

// Stop waits for the requests in flight and returns what was seen. It may be
// called again.
func (l *Loader) Stop() *Report {
	l.once.Do(func() { close(l.stop) })
	<-l.done
	return l.Report()
}

// Report returns what was seen until now.
func (l *Loader) Report() *Report {
	l.mu.Lock()
	results := slices.Clone(l.results)
	l.mu.Unlock()
	slices.SortStableFunc(results, func(a, b Result) int { return a.Start.Compare(b.Start) })
	r := &Report{Results: results, Versions: map[string]int{}, Dials: int(l.dials.Load())}
	for _, result := range results {
		if result.Err == nil {
			r.Versions[result.Version]++
		}
		if l.options.Failed(result) {
			r.Failed++
			r.failures = append(r.failures, result)
		}
	}
	return r
}

// Sent returns how many requests have been answered or have failed.
func (l *Loader) Sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.results)
}

// work sends the requests of one connection. A user belongs to one connection,
// so that one user's requests never overtake each other.
func (l *Loader) work(index int) {
	transport := &http.Transport{
		MaxConnsPerHost: 1,
		TLSClientConfig: l.options.TLS,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			l.dials.Add(1)
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: l.options.Timeout, CheckRedirect: noRedirect}
	var mine []string
	for i := index; i < len(l.options.Users); i += l.options.Connections {
		mine = append(mine, l.options.Users[i])
	}
	if len(mine) == 0 && len(l.options.Users) > 0 {
		return
	}
	for i := 0; l.next(); i++ {
		user := ""
		if len(mine) > 0 {
			user = mine[i%len(mine)]
		}
		result := l.send(client, user)
		l.mu.Lock()
		l.results = append(l.results, result)
		l.mu.Unlock()
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// next waits for the moment of the next request, and is false at the end.
func (l *Loader) next() bool {
	select {
	case <-l.stop:
		return false
	default:
	}
	n := l.tokens.Add(1) - 1
	if n >= int64(l.options.Requests) {
		return false
	}
	if l.options.Rate <= 0 {
		return true
	}
	due := l.start.Add(time.Duration(float64(n) / l.options.Rate * float64(time.Second)))
	wait := time.NewTimer(time.Until(due))
	defer wait.Stop()
	select {
	case <-l.stop:
		return false
	case <-wait.C:
		return true
	}
}

func (l *Loader) send(client *http.Client, user string) (result Result) {
	result = Result{User: user, Start: time.Now()}
	defer func() { result.Duration = time.Since(result.Start) }()
	var body io.Reader
	if l.options.Body != nil {
		body = bytes.NewReader(l.options.Body)
	}
	req, err := http.NewRequest(l.options.Method, l.options.URL, body)
	if err != nil {
		result.Err = err
		return result
	}
	for name, values := range l.options.Header {
		req.Header[name] = values
	}
	if l.options.Host != "" {
		req.Host = l.options.Host
	}
	if user != "" {
		req.Header.Set(l.options.UserHeader, user)
	}
	if l.options.Prepare != nil {
		l.options.Prepare(req, user)
	}
	resp, err := client.Do(req)
	if err != nil {
		result.Err = err
		return result
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		result.Err = fmt.Errorf("read the answer: %w", err)
		return result
	}
	result.Status, result.Header = resp.StatusCode, resp.Header
	if result.Version = resp.Header.Get("x-headgate-version"); result.Version == "" {
		result.Version = resp.Header.Get(UpstreamHeader)
	}
	return result
}
