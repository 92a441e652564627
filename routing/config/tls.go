package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/headgate/headgate/routing"
)

// references reads the files that a model's file names.
type references interface {
	// read returns a file's contents. Its error is the rule in words.
	read(name string) ([]byte, error)
}

// reference reads a named file, or rejects the place that names it.
func (c *compiler) reference(f *filename, p *path) []byte {
	if f == nil || *f == "" {
		return nil
	}
	c.used = append(c.used, f.orEmpty())
	data, err := c.files.read(f.orEmpty())
	if err != nil {
		c.d.reject(p, shown(string(*f)), err.Error())
	}
	return data
}

func (c *compiler) serverTLS(t *serverTLS, p *path) *routing.ServerTLS {
	out := &routing.ServerTLS{}
	out.CertificateChain, out.PrivateKey = c.pair(&t.Cert, &t.Key, p)
	out.ClientCA = c.authorities(t.ClientCA, p.in("client_ca"))
	return out
}

func (c *compiler) clientTLS(v *namedVersion, p *path) *routing.ClientTLS {
	t := v.TLS
	out := &routing.ClientTLS{Insecure: t.Insecure}
	switch {
	case t.SNI != nil:
		out.SNI = string(*t.SNI)
	case v.DNS != nil:
		out.SNI = v.DNS.Host
	case !t.Insecure && len(v.Endpoints) > 0:
		c.d.reject(p.in("sni"), "", "is missing: the name that the certificate at the endpoints must carry")
	}
	if t.Insecure && t.CA != nil {
		c.d.reject(p.in("insecure"), "true", "excludes ca: nothing would be verified with it")
	}
	switch {
	case t.Cert != nil && t.Key == nil:
		c.d.reject(p.in("key"), "", "is missing: it belongs to cert")
	case t.Key != nil && t.Cert == nil:
		c.d.reject(p.in("cert"), "", "is missing: it belongs to key")
	case t.Cert != nil:
		out.CertificateChain, out.PrivateKey = c.pair(t.Cert, t.Key, p)
	}
	out.CA = c.authorities(t.CA, p.in("ca"))
	return out
}

// pair reads a certificate chain and its key. Whether the certificate is still
// valid is not checked here, see [Warnings].
func (c *compiler) pair(cert, key *filename, p *path) (chain, private []byte) {
	chain, private = c.reference(cert, p.in("cert")), c.reference(key, p.in("key"))
	if chain == nil || private == nil {
		return chain, private
	}
	if err := checkCertificates(chain); err != nil {
		c.d.reject(p.in("cert"), shown(string(*cert)), err.Error())
	} else if _, err := tls.X509KeyPair(chain, private); err != nil {
		c.d.reject(p.in("key"), shown(string(*key)), "must be the unencrypted private key of cert, as PEM")
	}
	return chain, private
}

func (c *compiler) authorities(ca *filename, p *path) []byte {
	data := c.reference(ca, p)
	if data == nil {
		return nil
	}
	if err := checkCertificates(data); err != nil {
		c.d.reject(p, shown(string(*ca)), err.Error())
	}
	return data
}

// checkCertificates checks that data is one or more certificates, all readable.
func checkCertificates(data []byte) error {
	found, err := certificates(data)
	if err == nil && len(found) == 0 {
		return errors.New("must contain a certificate, as PEM")
	}
	return err
}

func certificates(data []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for rest := bytes.TrimSpace(data); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("contains a certificate that cannot be parsed")
		}
		found = append(found, cert)
	}
	return found, nil
}
