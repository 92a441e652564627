package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Admin speaks to the admin interface of an Envoy.
type Admin struct {
	client *http.Client
}

// NewAdmin returns a client of the admin interface at that address. Nothing is
// sent yet.
func NewAdmin(at Address) *Admin {
	network, target := at.network()
	return &Admin{client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, target)
		},
		// A connection that stays open would count among those that drain.
		DisableKeepAlives: true,
	}}}
}

// ServerInfo is who an Envoy says it is.
type ServerInfo struct {
	State   string // LIVE, DRAINING, PRE_INITIALIZING, INITIALIZING
	Version string // "<commit>/1.40.0/Clean/RELEASE/BoringSSL"
	Node    struct {
		ID string
	}
}

// ServerInfo asks who the Envoy is.
func (a *Admin) ServerInfo(ctx context.Context) (ServerInfo, error) {
	var info ServerInfo
	text, err := a.do(ctx, http.MethodGet, "/server_info")
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return info, fmt.Errorf("admin interface: server_info: %w", err)
	}
	return info, nil
}

// Ready returns nil when the Envoy is live: it has its listeners and takes
// requests.
func (a *Admin) Ready(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodGet, "/ready")
	return err
}

// active returns the requests and the connections of clients that are open,
// over all listeners.
func (a *Admin) active(ctx context.Context) (requests, connections int, err error) {
	filter := url.Values{"filter": {`^http\..*\.downstream_(rq|cx)_active$`}}
	text, err := a.do(ctx, http.MethodGet, "/stats?"+filter.Encode())
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(name, "http.admin.") {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return 0, 0, fmt.Errorf("admin interface: stats: %s: %w", name, err)
		}
		if strings.HasSuffix(name, "_rq_active") {
			requests += n
		} else {
			connections += n
		}
	}
	return requests, connections, nil
}

// drain asks for the end of every connection: closeAfterAnswer tells clients
// with their next answer, stopListening closes the ports.
func (a *Admin) closeAfterAnswer(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/drain_listeners?graceful&skip_exit")
	return err
}

func (a *Admin) stopListening(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/drain_listeners")
	return err
}

func (a *Admin) do(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("admin interface: %w", err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("admin interface: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("admin interface: %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("admin interface: %s: status %d: %s", path, resp.StatusCode, firstLine(string(body)))
	}
	return body, nil
}
