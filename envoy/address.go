package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// maxSocketPath is what fits into a socket address on every system that
// headgate runs on, without the final zero: 108 bytes on Linux, 104 on macOS.
const maxSocketPath = 103

// Address is where a server listens: a unix socket, or a host and a port.
type Address struct {
	Unix string // absolute path; the rest is empty then
	Host string // IP address or DNS name
	Port uint16
}

// ParseAddress reads "unix:/path" or "host:port". A port must be given and not
// be 0.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return Address{}, fmt.Errorf("%s: the path of a unix socket must be absolute", s)
		}
		if len(path) > maxSocketPath {
			return Address{}, fmt.Errorf("%s: the path of a unix socket must have at most %d bytes, this has %d", s, maxSocketPath, len(path))
		}
		return Address{Unix: path}, nil
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return Address{}, fmt.Errorf("%s: must be host:port or unix:/path", s)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return Address{}, fmt.Errorf("%s: the port must be a number from 1 to 65535", s)
	}
	return Address{Host: host, Port: uint16(port)}, nil
}

// String is the form that [ParseAddress] reads.
func (a Address) String() string {
	if a.Unix != "" {
		return "unix:" + a.Unix
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// Local tells whether only this machine can reach the address: a unix socket,
// an address of loopback, or the name localhost.
func (a Address) Local() bool {
	if a.Unix != "" || a.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.Unmap().IsLoopback()
}

// network and target are what net.Dial wants.
func (a Address) network() (network, target string) {
	if a.Unix != "" {
		return "unix", a.Unix
	}
	return "tcp", net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// proto is the address in Envoy's terms. A unix socket that Envoy itself
// creates gets mode, unless that is 0.
func (a Address) proto(mode uint32) *corev3.Address {
	if a.Unix != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: a.Unix, Mode: mode}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port)},
	}}}
}

// SocketPath returns where the unix socket called name of a state directory
// is: in the directory itself, or, because the path of a socket is limited to
// about a hundred bytes, in a private directory under the system's one for
// temporary files whose name is derived from dir. The same dir always gives
// the same path. The directory exists afterwards.
func SocketPath(dir, name string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state directory %s: %w", dir, err)
	}
	if path := filepath.Join(dir, name); len(path) <= maxSocketPath {
		return path, os.MkdirAll(dir, 0o700)
	}
	// Not os.TempDir: a different $TMPDIR on the next start must not hide the
	// sockets of the Envoy that runs.
	sum := sha256.Sum256([]byte(dir))
	short := fmt.Sprintf("/tmp/headgate-%d-%s", os.Getuid(), hex.EncodeToString(sum[:8]))
	if err := os.Mkdir(short, 0o700); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("directory for sockets: %w", err)
	}
	info, err := os.Lstat(short)
	if err != nil {
		return "", fmt.Errorf("directory for sockets: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("directory for sockets: %s: must be a directory of this user with mode 0700", short)
	}
	path := filepath.Join(short, name)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket %s: the name must be shorter", path)
	}
	return path, nil
}
