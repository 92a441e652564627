package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
)

// securityHeaders stand on every answer. A route that serves pages replaces
// what it has to.
var securityHeaders = http.Header{
	"Content-Security-Policy":      {"default-src 'none'; frame-ancestors 'none'"},
	"X-Frame-Options":              {"DENY"},
	"X-Content-Type-Options":       {"nosniff"},
	"Referrer-Policy":              {"no-referrer"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Cache-Control":                {"no-store"},
}

type unixKey struct{}

// markUnix notes in a connection's context that it came by a unix socket.
func markUnix(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, unixKey{}, c.LocalAddr().Network() == "unix")
}

// checkOrigin refuses what a foreign page in a browser can send.
func (s *Server) checkOrigin(r *http.Request) *Problem {
	if byUnix, _ := r.Context().Value(unixKey{}).(bool); !byUnix && !s.knowsHost(r.Host) {
		return Problemf(http.StatusMisdirectedRequest,
			"host %q: must be an IP address, localhost or a name of this server (--admin-name)", r.Host)
	}
	if err := s.origin.Check(r); err != nil {
		return Problemf(http.StatusForbidden, "requests of other origins may not change anything")
	}
	return nil
}

// knowsHost tells whether a Host header names this server. A page that rebinds
// DNS is still called by the name of its author's domain; an IP address cannot
// be rebound.
func (s *Server) knowsHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || s.names[host]
}

// guarded is the route's handler behind the checks.
func (s *Server) guarded(route Route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller, p := s.authenticate(r, route.Role)
		if p == nil {
			p = checkBody(w, r, route)
		}
		if p != nil {
			if p.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="headgate"`)
			}
			s.opts.Log.Warn("admin request refused", "method", r.Method, "path", r.URL.Path,
				"caller", caller.Name, "remote", r.RemoteAddr, "reason", p.Detail)
			writeProblem(w, p)
			return
		}
		err := route.Handler(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
		if err == nil {
			return
		}
		p, expected := asProblem(err)
		if !expected {
			s.opts.Log.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		writeProblem(w, p)
	}
}

func (s *Server) authenticate(r *http.Request, needed Role) (Caller, *Problem) {
	if needed == RoleNone {
		return Caller{Role: RoleNone}, nil
	}
	if s.opts.Tokens == nil {
		name := "api"
		if strings.HasPrefix(r.UserAgent(), "headgate/") {
			name = "cli"
			if user := userName(r.Header.Get(UserHeader)); user != "" {
				name = "cli (" + user + ")"
			}
		}
		return Caller{Name: name, Role: RoleAdmin}, nil
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return Caller{}, Problemf(http.StatusUnauthorized, "needs a token (Authorization: Bearer TOKEN)")
	}
	caller, ok := s.opts.Tokens.caller(strings.TrimSpace(secret))
	if !ok {
		return Caller{}, Problemf(http.StatusUnauthorized, "the token is unknown or expired")
	}
	if !caller.Role.includes(needed) {
		return caller, Problemf(http.StatusForbidden, "%s is %s: this needs %s", caller.Name, caller.Role, needed)
	}
	return caller, nil
}

// UserHeader is where headgate's own commands say for whom they ask. It is
// noted, and proves nothing.
const UserHeader = "X-Headgate-User"

// userName keeps of a name what can stand in a journal.
func userName(name string) string {
	kept := strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("._-@", r) {
			return r
		}
		return -1
	}, name)
	return kept[:min(len(kept), 64)]
}

func checkBody(w http.ResponseWriter, r *http.Request, route Route) *Problem {
	if route.Method == http.MethodGet {
		return nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return Problemf(http.StatusUnsupportedMediaType, "content-type %q: must be application/json", r.Header.Get("Content-Type"))
	}
	limit := cmp.Or(route.MaxBody, maxBody)
	if r.ContentLength > limit {
		return Problemf(http.StatusRequestEntityTooLarge, "the body must be at most %d bytes", limit)
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	return nil
}

// ReadJSON decodes a request's body into v, strictly. An empty body leaves v
// as it is. The error is a [Problem].
func ReadJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		_, err = dec.Token()
		if err == nil {
			err = errors.New("must be one JSON value")
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return Problemf(http.StatusRequestEntityTooLarge, "the body must be at most %d bytes", tooLarge.Limit)
	}
	return Problemf(http.StatusBadRequest, "body: %s", trimJSONError(err))
}

func trimJSONError(err error) string {
	return strings.TrimPrefix(fmt.Sprint(err), "json: ")
}
