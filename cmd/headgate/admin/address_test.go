package admin_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

func TestCheckExposure(t *testing.T) {
	const beyond = "is beyond loopback"
	for _, tc := range []struct {
		addr      string
		protected bool
		want      string // part of the error; empty: none
	}{
		{addr: "127.0.0.1:9900"},
		{addr: "127.8.8.8:9900"},
		{addr: "[::1]:9900"},
		{addr: "[::ffff:127.0.0.1]:9900"},
		{addr: "localhost:9900"},
		{addr: "LOCALHOST.:9900"},
		{addr: "unix:/run/headgate.sock"},
		{addr: "unix:///run/headgate.sock"},
		{addr: "/run/headgate.sock"},
		{addr: "0.0.0.0:9900", want: beyond},
		{addr: ":9900", want: beyond},
		{addr: "[::]:9900", want: beyond},
		{addr: "10.0.0.7:9900", want: beyond},
		{addr: "localhost.example.org:9900", want: beyond},
		{addr: "127.0.0.1.example.org:9900", want: beyond},
		{addr: "0.0.0.0:9900", protected: true},
		{addr: "9900", want: "must be HOST:PORT or unix:PATH"},
		{addr: "127.0.0.1", want: "must be HOST:PORT or unix:PATH"},
		{addr: "127.0.0.1:", want: "must be HOST:PORT or unix:PATH"},
		{addr: "unix:", want: "needs a path"},
		{addr: "", want: "must be HOST:PORT or unix:PATH"},
	} {
		for name, check := range map[string]func(string, bool) error{
			"admin": admin.CheckExposure, "grpc": admin.CheckGRPCExposure,
		} {
			err := check(tc.addr, tc.protected)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s %q, protected %t: %v; want %q", name, tc.addr, tc.protected, err, tc.want)
			}
		}
	}
}

func TestListenOnUnixSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := admin.Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := admin.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a second server on one socket: %v", err)
	}
	// A killed process leaves its socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = admin.Listen(t.Context(), path); err != nil {
		t.Fatalf("on the socket of a killed process: %v", err)
	}
	l.Close()

	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(t.Context(), file); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("on a file: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

// TestTakenAddress tells what is probably wrong when a second headgate starts.
func TestTakenAddress(t *testing.T) {
	l, err := admin.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = admin.Listen(t.Context(), l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "does another headgate run here?") {
		t.Errorf("%v", err)
	}
}
