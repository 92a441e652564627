package main

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

// silent returns an address at which connections are neither taken nor
// refused: its queue is full.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	noError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	noError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	noError(t, err)
	bound, _ := name.(*syscall.SockaddrInet4)
	addr := netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port))
	for range 16 {
		conn, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue is never full")
	return addr
}

// An endpoint that is silent does not hide one that answers.
func TestProbeAsksAll(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p := newProber(nil)
	dead := silent(t)
	if err := p.Probe(t.Context(), &routing.Version{Endpoints: []netip.AddrPort{dead}}); err == nil {
		t.Error("a silent endpoint is said to answer")
	}
	answers := netip.MustParseAddrPort(l.Addr().String())
	if err := p.Probe(t.Context(), &routing.Version{Endpoints: []netip.AddrPort{dead, answers}}); err != nil {
		t.Errorf("one of two endpoints answers: %v", err)
	}
}
