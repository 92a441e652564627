package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/rollout"
)

var p224 = elliptic.P224()

// authority signs certificates for one test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	curve       elliptic.Curve // of the keys of what it issues
	until       time.Time
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	noError(t, err)
	return &authority{key: key, curve: elliptic.P256(), until: time.Now().Add(time.Hour), certificate: &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
}

// write puts the authority's own certificate into a file.
func (a *authority) write(t testing.TB, path string) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &a.key.PublicKey, a.key)
	noError(t, err, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path
}

// issue writes dir/file.pem and dir/file.key for a name on loopback.
func (a *authority) issue(t testing.TB, dir, file, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(a.curve, rand.Reader)
	noError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: a.certificate.NotBefore, NotAfter: a.until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.certificate, &private.PublicKey, a.key)
	noError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	noError(t, err)
	cert, key = filepath.Join(dir, file+".pem"), filepath.Join(dir, file+".key")
	noError(t,
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600))
	return cert, key
}

// TestFaultForeignEnvoys lets an Envoy in by its certificate, and keeps others
// out: another authority's, an expired one, one that calls itself differently.
// Who was kept out is told.
func TestFaultForeignEnvoys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	ca := ours.write(t, filepath.Join(dir, "ca.pem"))
	cert, key := ours.issue(t, dir, "server", "headgate.test")
	port := envoytest.FreePort(t)
	p := newPair(t)
	g := newGate(t, "serve", "--grpc", fmt.Sprintf("127.0.0.1:%d", port), "--grpc-cert", cert, "--grpc-key", key, "--grpc-client-ca", ca)
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	bootstrap := func(node string, by *authority, name string) string {
		cert, key := by.issue(t, dir, node, name)
		return g.must("bootstrap", "--node", node, "--server", fmt.Sprintf("127.0.0.1:%d", port),
			"--envoy-admin", fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)),
			"--tls-ca", ca, "--tls-cert", cert, "--tls-key", key, "--tls-server-name", "headgate.test")
	}
	envoytest.Start(t, bootstrap("edge-1", ours, "edge-1"))
	g.serving("churn", "v1", 100)
	g.listens(p.url())
	// Access logs and ext_proc go the same way.
	g.eventually(20*time.Second, "requests are told", func() bool {
		if _, err := p.ask("u"); err != nil {
			t.Errorf("a request: %v", err)
		}
		return g.requests("churn", "v1") > 0
	})
	out := g.must("envoys")
	if strings.Contains(out, "not let in") {
		t.Errorf("headgate envoys:\n%s", out)
	}

	liar := envoytest.Start(t, bootstrap("edge-2", ours, "edge-9"), envoytest.NoWait())
	g.eventually(20*time.Second, "the one with another's name", func() bool {
		line := lineWith(g.must("envoys"), `certificate is for ["edge-9"`)
		return strings.Contains(line, "not let in") && strings.Contains(line, "edge-2")
	})
	stranger := envoytest.Start(t, bootstrap("edge-3", theirs, "edge-3"), envoytest.NoWait())
	g.eventually(20*time.Second, "the one of another authority", func() bool {
		return strings.Contains(lineWith(g.must("envoys"), "unknown authority"), "not let in")
	})
	ours.until = time.Now().Add(-time.Hour)
	late := envoytest.Start(t, bootstrap("edge-4", ours, "edge-4"), envoytest.NoWait())
	g.eventually(20*time.Second, "the one that has expired", func() bool {
		return strings.Contains(lineWith(g.must("envoys"), "expired"), "not let in")
	})
	for _, e := range []*envoytest.Envoy{liar, stranger, late} {
		if listeners := e.Admin("/listeners"); strings.TrimSpace(listeners) != "" {
			t.Errorf("one that was not let in listens: %s", listeners)
		}
	}
	g.await("churn", "the one Envoy", func(s rollout.Status) bool { return s.Envoys == 1 && s.Acknowledged })
	if n := g.metric("headgate_xds_refused_total"); n < 3 {
		t.Errorf("headgate_xds_refused_total is %v, want 3 and more", n)
	}
}

// TestFaultRotation changes authority and certificates under load: streams that
// are open go on, and an Envoy that comes now is measured by the new ones.
func TestFaultRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours := newAuthority(t, "ours")
	ca := ours.write(t, filepath.Join(dir, "ca.pem"))
	cert, key := ours.issue(t, dir, "server", "headgate.test")
	port := envoytest.FreePort(t)
	p := newPair(t)
	g := newGate(t, "serve", "--grpc", fmt.Sprintf("127.0.0.1:%d", port), "--grpc-cert", cert, "--grpc-key", key, "--grpc-client-ca", ca)
	g.write("churn.yaml", p.file("v1"))
	g.start().up()
	envoyCert, envoyKey := ours.issue(t, dir, "edge", "edge")
	envoytest.Start(t, g.must("bootstrap", "--node", "edge", "--server", fmt.Sprintf("127.0.0.1:%d", port),
		"--envoy-admin", fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)),
		"--tls-ca", ca, "--tls-cert", envoyCert, "--tls-key", envoyKey, "--tls-server-name", "headgate.test"))
	g.serving("churn", "v1", 100)
	g.listens(p.url())
	load := keepAlive(t, p.url())
	goesOn(t, load, 50)
	next := newAuthority(t, "next")
	next.write(t, ca)
	next.issue(t, dir, "server", "headgate.test")
	second, secondKey := next.issue(t, dir, "edge-2", "edge-2")
	envoytest.Start(t, g.must("bootstrap", "--node", "edge-2", "--server", fmt.Sprintf("127.0.0.1:%d", port),
		"--envoy-admin", fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)),
		"--tls-ca", ca, "--tls-cert", second, "--tls-key", secondKey, "--tls-server-name", "headgate.test"))
	g.await("churn", "two Envoys", func(s rollout.Status) bool { return s.Envoys == 2 && s.Acknowledged })
	goesOn(t, load, 100)
	g.write("churn.yaml", p.file("v2", "{traffic: 10%}", "{traffic: 100%}"))
	g.serving("churn", "v2", 10)
	clean(t, load)
	g.kill() // now its log is whole
	if strings.Contains(g.log.String(), "has ended") || strings.Contains(g.log.String(), "broke off") {
		t.Error("streams broke off when certificates changed")
	}
}

// tryStatusOf is the HTTP status of a request, or 0.
func tryStatusOf(url string) int {
	resp, err := http.Post(url, "application/json", strings.NewReader("{}"))
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func statusOf(t testing.TB, url string) int {
	t.Helper()
	code := tryStatusOf(url)
	if code == 0 {
		t.Fatalf("%s does not answer", url)
	}
	return code
}
