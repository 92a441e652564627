package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// Bounds of what one client can hold.
const (
	maxBody       = 64 << 10 // of a request, in bytes
	maxHeader     = 16 << 10 // of a request, in bytes
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Options are what a server needs to check requests.
type Options struct {
	Tokens  *Tokens  // nil: every caller may do everything
	Names   []string // host names by which this server may be called, next to loopback, IP addresses and its own name
	TLS     *tls.Config
	Log     *slog.Logger
	Version string // of headgate, for the OpenAPI document
}

// Server checks requests and hands them to routes.
type Server struct {
	opts    Options
	names   map[string]bool
	origin  *http.CrossOriginProtection
	mux     *http.ServeMux
	routes  []Route
	methods map[string][]string // by path
	closing chan struct{}       // closed when streams have to end
}

// Handler answers a request. An error that is no [Problem] is logged, and its
// words are not shown to the client. It must not be returned once the answer
// has begun.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Route is a part of the surface.
type Route struct {
	Method  string
	Path    string // as http.ServeMux takes it, e.g. /v1/models/{model}
	Role    Role   // needed at least
	Summary string // a sentence
	Params  []Param
	MaxBody int64  // of the request, in bytes; 0: 64 KiB
	Body    any    // a value of the type that the JSON body is decoded to; nil: takes none
	Answer  any    // a value of the type that the answer has; nil: see Media
	Media   string // type of an answer that is not JSON
	Handler Handler
}

// Param describes a parameter of the path or of the query.
type Param struct {
	Name string
	In   string // path | query | header
	Doc  string
	Type any // a value of the type
}

// New returns a server with the routes that tell about itself.
func New(opts Options) *Server {
	s := &Server{
		opts:    opts,
		names:   map[string]bool{},
		origin:  http.NewCrossOriginProtection(),
		mux:     http.NewServeMux(),
		methods: map[string][]string{},
		closing: make(chan struct{}),
	}
	names := opts.Names
	if own, err := os.Hostname(); err == nil {
		names = append(slices.Clone(names), own)
	}
	for _, name := range names {
		s.names[strings.ToLower(name)] = true
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, Problemf(http.StatusNotFound, "there is nothing here; GET /v1/openapi.json tells what there is"))
	})
	s.Handle(Route{
		Method: http.MethodGet, Path: "/v1/openapi.json", Role: RoleViewer,
		Summary: "This description.", Answer: map[string]any{},
		Handler: func(w http.ResponseWriter, _ *http.Request) error { return WriteJSON(w, s.openAPI()) },
	})
	return s
}

// Handle adds a route. It panics when the route says no known role or is there
// already, as http.ServeMux does. It must not be called once the server runs.
func (s *Server) Handle(r Route) {
	if !slices.Contains(roles, r.Role) {
		panic(fmt.Sprintf("admin: %s %s: unknown role %q", r.Method, r.Path, r.Role))
	}
	s.routes = append(s.routes, r)
	s.mux.Handle(r.Method+" "+r.Path, s.guarded(r))
	if _, known := s.methods[r.Path]; !known {
		s.mux.HandleFunc(r.Path, s.wrongMethod(r.Path))
	}
	s.methods[r.Path] = append(s.methods[r.Path], r.Method)
}

// Routes returns what was added, in order.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

func (s *Server) wrongMethod(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allowed := strings.Join(s.methods[path], ", ")
		w.Header().Set("Allow", allowed)
		writeProblem(w, Problemf(http.StatusMethodNotAllowed, "%s: must be %s", r.Method, allowed))
	}
}

// ServeHTTP makes the server usable without a listener of its own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	maps.Copy(w.Header(), securityHeaders)
	if p := s.checkOrigin(r); p != nil {
		s.opts.Log.Warn("admin request refused", "method", r.Method, "path", r.URL.Path, "host", r.Host,
			"origin", r.Header.Get("Origin"), "remote", r.RemoteAddr, "reason", p.Detail)
		writeProblem(w, p)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Serve answers requests on l until ctx ends. Then streams are told to end and
// requests have five seconds to finish.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.opts.TLS != nil {
		l = tls.NewListener(l, s.opts.TLS)
	}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
		ConnContext:       markUnix,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		close(s.closing)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(bounded); err != nil {
			_ = server.Close()
		}
		close(stopped)
	})
	err := server.Serve(l)
	if stop() { // ctx has not ended: the listener failed
		return fmt.Errorf("serve admin: %w", err)
	}
	<-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve admin: %w", err)
}
