package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
	"github.com/headgate/headgate/xds"
)

// server is a headgate that runs: the parts, and how they hang together. The
// arrows go one way. Files and commands reach the controller; it alone
// publishes plans, to the Envoys and to the ext_proc service; what Envoys log
// is counted in the ledger.
type server struct {
	options serverOptions
	log     *slog.Logger

	state      *envoy.StateDir
	journal    *journal.Journal
	history    *countedJournal
	records    *records
	decider    *extproc.Service
	publisher  *xds.Publisher
	probes     *prober
	controller *rollout.Controller
	files      *files
	runner     *envoy.Runner // nil: Envoys connect by themselves

	grpc         *grpc.Server
	grpcAddress  envoy.Address
	grpcListener net.Listener

	admin         *admin.Server
	adminListener net.Listener

	served   atomic.Bool // some Envoy has once had everything
	stopping atomic.Bool

	closers []func() error // in the order in which things were opened
}

// newServer opens everything that can fail: after it the work only begins.
func newServer(ctx context.Context, o serverOptions, withChild bool, log *slog.Logger) (_ *server, err error) {
	s := &server{options: o, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	steps := []func(context.Context) error{s.openState, s.openController, s.openGRPC, s.openAdmin}
	if withChild {
		steps = append(steps, s.openChild)
	}
	for _, open := range steps {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *server) onClose(f func() error) { s.closers = append(s.closers, f) }

// close gives everything back, the newest first.
func (s *server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// openState claims the state folder and reads the journal in it.
func (s *server) openState(context.Context) error {
	var err error
	if s.state, err = envoy.LockState(s.options.State); err != nil {
		return err
	}
	s.onClose(s.state.Close)
	if s.journal, err = journal.Open(filepath.Join(s.state.Path(), "journal.db")); err != nil {
		return err
	}
	s.onClose(s.journal.Close)
	s.history = &countedJournal{Journal: s.journal}
	return nil
}

func (s *server) openController(ctx context.Context) error {
	s.decider = extproc.New(s.log)
	s.publisher = xds.NewPublisher(xds.PublisherOptions{NodeIDFromPeer: s.peerCheck(), Log: s.log})
	s.probes = newProber(s.version)
	var err error
	s.controller, err = rollout.New(ctx, rollout.Options{
		Journal:   s.history,
		Publisher: publisher{s.publisher, s.decider},
		Prober:    s.probes,
		Log:       s.log,
	})
	if err != nil {
		return err
	}
	if s.records, err = newRecords(s.state.Path(), s.peerCheck(), s.log); err != nil {
		return err
	}
	s.files = newFiles(filesOptions{
		dir: s.options.Config, state: s.state.Path(), useKept: !s.journal.Fresh(),
		controller: s.controller, taken: s.records.retain, log: s.log,
	})
	return nil
}

// peerCheck tells whether an Envoy may call itself what it does; nil: there are
// no certificates to tell by, and the socket or loopback is trusted.
func (s *server) peerCheck() func(ctx context.Context, id string) error {
	if s.options.mutualTLS() {
		return xds.RequireCertificate
	}
	return nil
}

// version returns a version of the configuration in force, or nil.
func (s *server) version(model, version string) *routing.Version {
	cfg := s.files.config()
	if cfg == nil {
		return nil
	}
	m := cfg.Model(model)
	if m == nil {
		return nil
	}
	return m.Version(version)
}

// openGRPC listens for Envoys.
func (s *server) openGRPC(ctx context.Context) error {
	var err error
	if s.grpcAddress, err = s.findGRPCAddress(); err != nil {
		return err
	}
	var creds credentials.TransportCredentials
	if s.options.mutualTLS() {
		if creds, err = mutualTLS(s.options.GRPCCert, s.options.GRPCKey, s.options.GRPCClientCA); err != nil {
			return fmt.Errorf("listen for Envoys: %w", err)
		}
		creds = doorkeeper{creds, s.publisher.Refuse}
	}
	if s.grpcListener, err = grpcListen(ctx, s.grpcAddress); err != nil {
		return fmt.Errorf("listen for Envoys: %w", err)
	}
	s.onClose(func() error { _ = s.grpcListener.Close(); return nil }) // closed before, when all went well
	s.grpc = newGRPCServer(creds)
	s.publisher.Register(s.grpc)
	s.decider.Register(s.grpc)
	s.records.register(s.grpc)
	return nil
}

// findGRPCAddress is the flag, or else a socket in the state folder.
func (s *server) findGRPCAddress() (envoy.Address, error) {
	if s.options.GRPC == "" {
		path, err := envoy.SocketPath(s.state.Path(), "grpc.sock")
		return envoy.Address{Unix: path}, err
	}
	a, err := envoy.ParseAddress(s.options.GRPC)
	if err != nil {
		return a, fmt.Errorf("--grpc: %w", err)
	}
	return a, nil
}

// openChild finds the Envoy to run. It is started by run.
func (s *server) openChild(ctx context.Context) error {
	binary, err := envoy.Find(ctx, s.options.Envoy)
	if err != nil {
		return err
	}
	socket, err := envoy.SocketPath(s.state.Path(), "envoy-admin.sock")
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name of the Envoy: %w", err)
	}
	opts := envoy.BootstrapOptions{NodeID: host, Server: s.grpcAddress, Admin: envoy.Address{Unix: socket}, RuntimeLayers: runtimeLayers()}
	if s.options.mutualTLS() {
		return errors.New("--grpc-cert: run gives its Envoy a unix socket or loopback; use serve for Envoys with certificates")
	}
	bootstrap, err := envoy.Bootstrap(opts)
	if err != nil {
		return fmt.Errorf("bootstrap of the Envoy: %w", err)
	}
	s.runner, err = envoy.NewRunner(envoy.RunnerOptions{
		State: s.state, Binary: binary, Bootstrap: bootstrap, Drain: s.options.DrainTimeout, Log: s.log,
	})
	return err
}

func runtimeLayers() []string {
	names := make([]string, xds.RuntimeShards)
	for i := range names {
		names[i] = xds.RuntimeLayerName(i)
	}
	return names
}
