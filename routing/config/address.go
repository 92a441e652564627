package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/headgate/headgate/routing"
)

// address is an IP address and a port.
type address struct{ netip.AddrPort }

var addressForm = form(`^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):`+portDigits+`$`,
	"must be an IP address and a port, like 127.0.0.1:8080 or [::1]:8080")

func (a *address) set(word string) error {
	host, port, ok := cutPort(word)
	switch {
	case !ok:
		return errors.New(addressForm.rule)
	case host == "":
		return fmt.Errorf("has no address; write 0.0.0.0:%s for every IPv4 address", port)
	}
	if err := checkPort(port); err != nil {
		return err
	}
	if dnsForm.re.MatchString(host) && !looksLikeIP(host) {
		return errors.New("must be an IP address, not a name")
	}
	got, err := netip.ParseAddrPort(word)
	if err != nil || got.Addr().Zone() != "" || !addressForm.re.MatchString(word) {
		return errors.New(addressForm.rule)
	}
	if got.Addr().Is4In6() {
		return fmt.Errorf("must be written as IPv4: %s", netip.AddrPortFrom(got.Addr().Unmap(), got.Port()))
	}
	a.AddrPort = got
	return nil
}

func (*address) schema() schema { return addressForm.schema() }

// endpoint is the address of one instance of a version.
type endpoint struct{ address }

func (e *endpoint) set(word string) error {
	if host, _, ok := cutPort(word); ok && dnsForm.re.MatchString(host) && !looksLikeIP(host) {
		return errors.New("must be an IP address and a port; for a name write dns: " + word)
	}
	if err := e.address.set(word); err != nil {
		return err
	}
	if ip := e.Addr(); ip.IsUnspecified() || ip.IsMulticast() {
		return errors.New("is not an address that can be connected to")
	}
	return nil
}

func cutPort(word string) (host, port string, ok bool) {
	i := strings.LastIndexByte(word, ':')
	if i < 0 {
		return "", "", false
	}
	return word[:i], word[i+1:], true
}

func checkPort(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return errors.New("the port must be a number from 1 to 65535")
	}
	return nil
}

func looksLikeIP(host string) bool {
	return strings.Trim(host, "0123456789.") == ""
}

const portDigits = `(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})`

const dnsLabel = `[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?`

var dnsForm = form(`^`+dnsLabel+`(\.`+dnsLabel+`)*$`, "must be a DNS name")

// dnsAddress is a DNS name and a port.
type dnsAddress routing.HostPort

var dnsAddressForm = form(`^`+dnsLabel+`(\.`+dnsLabel+`)*:`+portDigits+`$`, "must be a DNS name and a port, like churn.ml.svc:8080")

func (a *dnsAddress) set(word string) error {
	host, port, ok := cutPort(word)
	if !ok {
		return errors.New(dnsAddressForm.rule)
	}
	if err := checkPort(port); err != nil {
		return err
	}
	if looksLikeIP(host) || strings.HasPrefix(host, "[") {
		return fmt.Errorf("must be a name; for an IP address write endpoints: [%q]", word)
	}
	if len(host) > 253 || !dnsAddressForm.re.MatchString(word) {
		return errors.New(dnsAddressForm.rule)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	*a = dnsAddress{Host: strings.ToLower(host), Port: uint16(n)}
	return err
}

func (*dnsAddress) schema() schema { return dnsAddressForm.schema() }

// serverName is the name that a server's certificate must carry.
type serverName string

func (s *serverName) set(word string) error {
	*s = serverName(strings.ToLower(word))
	if len(word) > 253 {
		return errors.New(dnsForm.rule)
	}
	return dnsForm.check(word)
}

func (*serverName) schema() schema { return dnsForm.schema() }

// host is what a request's host is compared with.
type host string

var hostForm = form(`^(\*\.)?`+dnsLabel+`(\.`+dnsLabel+`)*$`, "must be a DNS name, or *. and the end of one, like *.example.com")

func (h *host) set(word string) error {
	*h = host(strings.ToLower(word))
	if name, port, ok := cutPort(word); ok && hostForm.re.MatchString(name) && checkPort(port) == nil {
		return errors.New("must be a name without a port")
	}
	if len(word) > 253 {
		return errors.New(hostForm.rule)
	}
	return hostForm.check(word)
}

func (*host) schema() schema { return hostForm.schema() }

// prefix is the beginning of a request's path, by whole segments.
type prefix string

var (
	prefixForm = form(`^/([A-Za-z0-9._~!$&'()*+,;=:@%-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*)?$`,
		"must be the beginning of a path, like /predict, without ? or #")
	dots = regexp.MustCompile(`(^|/)\.{1,2}(/|$)`)
)

func (p *prefix) set(word string) error {
	*p = prefix(word)
	switch {
	case !strings.HasPrefix(word, "/"):
		return errors.New("must begin with /")
	case word != "/" && strings.HasSuffix(word, "/"):
		return errors.New("must not end with /: a prefix is whole segments")
	case dots.MatchString(word):
		return errors.New("must not have . or .. as a segment: proxies resolve them")
	}
	return prefixForm.check(word)
}

func (*prefix) schema() schema { return prefixForm.schema() }

// checkPath is the path of a health check.
type checkPath string

var checkPathForm = form(`^/[\x21-\x22\x24-\x7e]*$`, "must be a path like /healthz")

func (c *checkPath) set(word string) error { *c = checkPath(word); return checkPathForm.check(word) }
func (*checkPath) schema() schema          { return checkPathForm.schema() }
