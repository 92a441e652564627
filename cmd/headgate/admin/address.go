package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// ParseAddress splits an address as people write it, HOST:PORT, an absolute
// path, unix:PATH or unix://PATH, into what package net wants.
func ParseAddress(addr string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return "", "", fmt.Errorf("%q: a unix socket needs a path", addr)
		}
		return "unix", path, nil
	}
	if strings.HasPrefix(addr, "/") {
		return "unix", addr, nil
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return "", "", fmt.Errorf("%q: must be HOST:PORT or unix:PATH", addr)
	}
	return "tcp", addr, nil
}

// CheckExposure tells why a server must not listen on addr: a TCP address
// beyond loopback needs a tokens file. A host name other than localhost counts
// as beyond, since what it resolves to can change.
func CheckExposure(addr string, tokens bool) error {
	local, err := isLocal(addr)
	if err != nil {
		return fmt.Errorf("--admin %w", err)
	}
	if local || tokens {
		return nil
	}
	return fmt.Errorf("--admin %s: is beyond loopback: needs --admin-tokens FILE, "+
		"or everybody who can connect could move traffic; listen on 127.0.0.1 or on unix:PATH otherwise", addr)
}

// CheckGRPCExposure tells why the gRPC server for Envoys must not listen on
// addr: beyond loopback it needs mutual TLS.
func CheckGRPCExposure(addr string, mutualTLS bool) error {
	local, err := isLocal(addr)
	if err != nil {
		return fmt.Errorf("--grpc %w", err)
	}
	if local || mutualTLS {
		return nil
	}
	return fmt.Errorf("--grpc %s: is beyond loopback: needs mutual TLS (--grpc-cert, --grpc-key and --grpc-client-ca), "+
		"or everybody who can connect could read the configuration and forge records; listen on 127.0.0.1 or on unix:PATH otherwise", addr)
}

func isLocal(addr string) (bool, error) {
	network, address, err := ParseAddress(addr)
	if err != nil || network == "unix" {
		return err == nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	return isLoopback(host), nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Listen opens addr. A unix socket can be used by its owner only; one that a
// killed process left behind is replaced, one that answers is not.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	network, address, err := ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		l, err := new(net.ListenConfig).Listen(ctx, network, address)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w (does another headgate run here? `headgate status --admin %s` asks it; give this one another address)", err, addr)
		}
		return l, err
	}
	if err := removeStale(ctx, address); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(address, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict socket: %w", err), l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at old socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s: is there and is not a socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s: another process listens on it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look at old socket: %w", err)
	}
	return os.Remove(path)
}
