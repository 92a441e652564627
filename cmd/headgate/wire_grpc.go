package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/xds"
)

// grpcListen opens the address that Envoys connect to. A unix socket is for its
// owner only.
func grpcListen(ctx context.Context, addr envoy.Address) (net.Listener, error) {
	if addr.Unix == "" {
		return new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
	}
	// A socket left behind by a killed process refuses connections; the lock on
	// the state folder says that nobody else is using it.
	if err := os.Remove(addr.Unix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", addr.Unix)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(addr.Unix, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("restrict socket: %w", err)
	}
	return l, nil
}

// newGRPCServer returns the one server that takes Envoy's xDS, ext_proc and
// access log streams.
func newGRPCServer(creds credentials.TransportCredentials) *grpc.Server {
	// Where both say something, what Envoy's reports need counts: they are larger.
	opts := append(extproc.ServerOptions(), xds.ServerOptions()...)
	if creds != nil {
		opts = append(opts, grpc.Creds(creds))
	}
	return grpc.NewServer(opts...)
}

// mutualTLS returns credentials that demand a client certificate signed by the
// authority in caFile. The files are read for every connection, so they may
// rotate; streams that are open go on.
func mutualTLS(certFile, keyFile, caFile string) (credentials.TransportCredentials, error) {
	load := func() (*tls.Config, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("load certificate: %w", err)
		}
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("load client authority: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("load client authority: %s: no certificate in it", caFile)
		}
		return &tls.Config{
			Certificates: []tls.Certificate{cert},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    pool,
			MinVersion:   tls.VersionTLS12,
			NextProtos:   []string{"h2"},
		}, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return load() },
	}), nil
}

// doorkeeper tells whose certificate was turned away. A connection that ends
// without one, like that of a port check, is not worth a word.
type doorkeeper struct {
	credentials.TransportCredentials

	refused func(node string, why error)
}

func (d doorkeeper) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := d.TransportCredentials.ServerHandshake(conn)
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) && len(bad.UnverifiedCertificates) > 0 {
		d.refused(bad.UnverifiedCertificates[0].Subject.CommonName, err)
	}
	return secure, info, err
}

func (d doorkeeper) Clone() credentials.TransportCredentials {
	return doorkeeper{d.TransportCredentials.Clone(), d.refused}
}

// rotatingTLS reads the files for every connection.
func rotatingTLS(certFile, keyFile string) (*tls.Config, error) {
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		return &cert, err
	}
	if _, err := load(nil); err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: load, MinVersion: tls.VersionTLS12}, nil
}
