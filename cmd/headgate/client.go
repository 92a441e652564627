package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

const (
	// requestTimeout bounds one request to the admin surface.
	requestTimeout = 30 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes. Ten thousand
	// models are about 10 MB.
	maxAnswer = 256 << 20
)

// connectOptions say how to reach a headgate that runs.
type connectOptions struct {
	admin     string
	tokenFile string
	ca        string
}

func (p *program) connectFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.connect.admin, "admin", "",
		"`ADDRESS` of headgate: HOST:PORT, unix:PATH or a URL (default: $HEADGATE_ADMIN, else "+defaultAdmin+")")
	f.StringVar(&p.connect.tokenFile, "token-file", "", "`FILE` with the token (default: $HEADGATE_TOKEN)")
	f.StringVar(&p.connect.ca, "admin-ca", "", "PEM `FILE` of the authority of an https address (default: the system's)")
}

// client asks a headgate that runs.
type client struct {
	http  *http.Client
	base  string // without a slash at the end
	token string
	user  string // who asks, as the system calls them; empty: unknown
	shown string // the address, for messages
}

func (p *program) client() (*client, error) {
	addr := cmp.Or(p.connect.admin, p.getenv("HEADGATE_ADMIN"), defaultAdmin)
	transport := &http.Transport{Proxy: nil, ResponseHeaderTimeout: requestTimeout}
	c := &client{http: &http.Client{Transport: transport, CheckRedirect: noRedirects}, shown: addr, user: cmp.Or(p.getenv("USER"), p.getenv("LOGNAME"), p.getenv("USERNAME"))}
	if strings.HasPrefix(addr, "http://") || strings.HasPrefix(addr, "https://") {
		u, err := url.Parse(addr)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, usagef("--admin %q: must be a URL like https://HOST:PORT", addr)
		}
		c.base = strings.TrimSuffix(u.String(), "/")
	} else {
		network, address, err := admin.ParseAddress(addr)
		if err != nil {
			return nil, usagef("--admin %v", err)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		}
		c.base = "http://" + address
		if network == "unix" {
			c.base = "http://localhost"
		}
	}
	var err error
	if transport.TLSClientConfig, err = p.tlsConfig(); err != nil {
		return nil, err
	}
	c.token, err = p.token()
	return c, err
}

// noRedirects keeps the token from being sent anywhere else.
func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (p *program) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.connect.ca == "" {
		return config, nil
	}
	pem, err := os.ReadFile(p.connect.ca)
	if err != nil {
		return nil, usagef("--admin-ca: %v", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, usagef("--admin-ca: %s: no certificate in it", p.connect.ca)
	}
	return config, nil
}

func (p *program) token() (string, error) {
	if p.connect.tokenFile == "" {
		return strings.TrimSpace(p.getenv("HEADGATE_TOKEN")), nil
	}
	content, err := os.ReadFile(p.connect.tokenFile)
	if err != nil {
		return "", usagef("--token-file: %v", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// get asks for path and decodes the answer into v.
func (c *client) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, nil, v)
}

// post sends body to path and decodes the answer into v.
func (c *client) post(ctx context.Context, path string, body, v any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, encoded, v)
}

func (c *client) do(ctx context.Context, method, path string, body []byte, v any) error {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask headgate at %s: %w", c.shown, err)
	}
	req.Header.Set("User-Agent", "headgate/"+version())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if user := plain(c.user); user != "" {
		req.Header.Set(admin.UserHeader, user)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("no answer from %s: %w (does headgate run there? --admin or $HEADGATE_ADMIN say where)", c.shown, err)
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.shown, err)
	}
	if answer.StatusCode != http.StatusOK {
		return problemOf(answer, content)
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("%s does not answer like headgate: %w", c.shown, err)
	}
	return nil
}

// problemOf returns the error that an answer tells.
func problemOf(answer *http.Response, content []byte) error {
	var problem admin.Problem
	if err := json.Unmarshal(content, &problem); err != nil || problem.Detail == "" {
		return fmt.Errorf("the admin address answers %s", answer.Status)
	}
	problem.Status = answer.StatusCode
	return &problem
}
