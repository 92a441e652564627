package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
)

// TestFaultListenerCertificate rotates a listener's certificate under load:
// new connections get the new one, those that are open go on, and a broken one
// is refused while the last good one serves.
func TestFaultListenerCertificate(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	ours := newAuthority(t, "ours")
	made := t.TempDir()
	ca, err := os.ReadFile(ours.write(t, filepath.Join(made, "ca.pem")))
	noError(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &tls.Config{RootCAs: roots, ServerName: "models.test", MinVersion: tls.VersionTLS12}

	ours.issue(t, g.conf, "server", "models.test")
	g.write("churn.yaml", strings.Replace(p.file("v1"), fmt.Sprintf("listen: 127.0.0.1:%d", p.port),
		fmt.Sprintf("listen: {address: \"127.0.0.1:%d\", tls: {cert: server.pem, key: server.key}}", p.port), 1))
	g.start().ready()
	g.serving("churn", "v1", 100)
	// served is the serial number of the certificate that a new connection gets.
	served := func() (string, error) {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port), client)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
	}
	becomes := func(want string) {
		t.Helper()
		g.eventually(20*time.Second, "the certificate "+want, func() bool { got, err := served(); return err == nil && got == want })
	}
	becomes(serialOf(t, g.conf))
	load := envoytest.StartLoad(t, envoytest.LoadOptions{
		URL: strings.Replace(p.url(), "http:", "https:", 1), TLS: client, Rate: 200, Users: userIDs(100), Connections: 8,
	})
	for i := range times(5, 50) {
		ours.issue(t, made, "server", "models.test")
		for _, name := range []string{"server.pem", "server.key"} { // which do not belong together in between
			if i%2 == 0 {
				noError(t, os.Rename(filepath.Join(made, name), filepath.Join(g.conf, name)))
				continue
			}
			data, err := os.ReadFile(filepath.Join(made, name))
			noError(t, err, os.WriteFile(filepath.Join(g.conf, name), data, 0o600))
		}
		becomes(serialOf(t, g.conf))
	}
	last := serialOf(t, g.conf)

	good, err := os.ReadFile(filepath.Join(g.conf, "server.pem"))
	noError(t, err)
	for _, broken := range []string{"nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", string(ca)} {
		g.write("server.pem", broken)
		c := g.awaitConfig("refusal of a broken certificate", refused)
		if e := c.Errors[0]; e.File != "churn.yaml" || e.Line != 2 || !strings.HasPrefix(e.Path, "listen.tls.") {
			t.Errorf("a broken certificate is told as %+v, want churn.yaml:2 listen.tls", e)
		}
		if got, err := served(); err != nil || got != last {
			t.Errorf("with a broken file the certificate %s is served (%v), want the last good one, %s", got, err, last)
		}
		g.write("server.pem", string(good))
		g.awaitConfig("the mended certificate in force", inForce)
	}
	clean(t, load)
	stats, err := g.envoyAdmin("/stats")
	noError(t, err)
	undrained(t, stats)
}

// serialOf reads the serial number of server.pem in a folder.
func serialOf(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "server.pem"))
	noError(t, err)
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	noError(t, err)
	return certificate.SerialNumber.String()
}
