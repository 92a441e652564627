package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"

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
	peerLog *slog.Logger // of what Envoys do: no news while headgate ends

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

	binary      envoy.Binary // of the runner
	envoySocket string       // of its Envoy's admin interface

	grpc         *grpc.Server
	grpcCreds    credentials.TransportCredentials // nil: a unix socket or loopback
	grpcAddress  envoy.Address
	grpcListener net.Listener

	admin         *admin.Server
	adminListener net.Listener

	served   atomic.Bool // some Envoy has once had everything
	stopping atomic.Bool

	closers []func() error // in the order in which things were opened
}

// newServer opens everything that can fail: after it the work only begins. What
// fails for its flags or its surroundings does so before a file is made.
func newServer(ctx context.Context, o serverOptions, withChild bool, log *slog.Logger) (_ *server, err error) {
	s := &server{options: o}
	s.log, s.peerLog = log, slog.New(hushed{log.Handler(), &s.stopping})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	steps := []func(context.Context) error{s.lockState, s.listenAdmin, s.listenGRPC, s.openJournal, s.openController, s.openGRPC, s.openAdmin}
	if withChild {
		steps = slices.Insert(steps, 1, s.findEnvoy)
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

// lockState claims the state folder.
func (s *server) lockState(context.Context) error {
	var err error
	if s.state, err = envoy.LockState(s.options.State); err != nil {
		return err
	}
	s.onClose(s.state.Close)
	return nil
}

func (s *server) openJournal(context.Context) error {
	var err error
	if s.journal, err = journal.Open(filepath.Join(s.state.Path(), "journal.db")); err != nil {
		return err
	}
	s.onClose(s.journal.Close)
	s.history = &countedJournal{Journal: s.journal}
	return nil
}

func (s *server) openController(ctx context.Context) error {
	s.decider = extproc.New(s.peerLog)
	s.publisher = xds.NewPublisher(xds.PublisherOptions{
		// Envoys that connect by themselves may replace one another on one
		// machine; the one Envoy of `run` shares its addresses with nobody.
		Build:          xds.Options{SharePorts: s.binary.Path == ""},
		NodeIDFromPeer: s.peerCheck(), Log: s.peerLog,
	})
	s.probes = newProber(s.version)
	var err error
	if s.records, err = newRecords(s.state.Path(), s.steps, s.peerCheck(), s.peerLog); err != nil {
		return err
	}
	s.controller, err = rollout.New(ctx, rollout.Options{
		Journal:   s.history,
		Publisher: publisher{s.publisher, s.decider},
		Prober:    s.probes,
		Judge:     s.records.judge,
		Log:       s.log,
	})
	if err != nil {
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

// steps returns a model's steps by the configuration in force.
func (s *server) steps(model string) []routing.Step {
	if s.files == nil {
		return nil
	}
	cfg := s.files.config()
	if cfg == nil {
		return nil
	}
	if m := cfg.Model(model); m != nil {
		return m.Steps
	}
	return nil
}

// listenGRPC takes the address for Envoys.
func (s *server) listenGRPC(ctx context.Context) error {
	var err error
	if s.grpcAddress, err = s.findGRPCAddress(); err != nil {
		return err
	}
	if s.options.mutualTLS() {
		if s.grpcCreds, err = mutualTLS(s.options.GRPCCert, s.options.GRPCKey, s.options.GRPCClientCA); err != nil {
			return fmt.Errorf("listen for Envoys: %w", err)
		}
	}
	if s.grpcListener, err = grpcListen(ctx, s.grpcAddress); err != nil {
		return fmt.Errorf("listen for Envoys: %w", err)
	}
	s.onClose(func() error { _ = s.grpcListener.Close(); return nil }) // closed before, when all went well
	return nil
}

// openGRPC puts the services for Envoys together.
func (s *server) openGRPC(context.Context) error {
	if s.grpcCreds != nil {
		s.grpcCreds = doorkeeper{s.grpcCreds, s.publisher.Refuse}
	}
	s.grpc = newGRPCServer(s.grpcCreds)
	s.publisher.Register(s.grpc)
	s.decider.Register(s.grpc)
	s.records.register(s.grpc)
	return nil
}

// findGRPCAddress is the flag, or else a socket in the state folder.
func (s *server) findGRPCAddress() (envoy.Address, error) {
	if s.options.GRPC == "" {
		path, err := s.socket("grpc.sock")
		return envoy.Address{Unix: path}, err
	}
	a, err := envoy.ParseAddress(s.options.GRPC)
	if err != nil {
		return a, fmt.Errorf("--grpc: %w", err)
	}
	return a, nil
}

// socket returns the path of a socket of the state folder. Where that needed a
// folder of its own, it goes when the last socket in it has gone: those of an
// Envoy that serves on stay.
func (s *server) socket(name string) (string, error) {
	path, err := envoy.SocketPath(s.state.Path(), name)
	if err != nil {
		return "", err
	}
	if dir := filepath.Dir(path); dir != s.state.Path() {
		s.onClose(func() error { _ = syscall.Rmdir(dir); return nil })
	}
	return path, nil
}

// findEnvoy finds the Envoy to run.
func (s *server) findEnvoy(ctx context.Context) error {
	if s.options.mutualTLS() {
		return errors.New("--grpc-cert: run gives its Envoy a unix socket or loopback; use serve for Envoys with certificates")
	}
	var err error
	if s.binary, err = envoy.Find(ctx, s.options.Envoy); err != nil {
		return err
	}
	s.envoySocket, err = s.socket("envoy-admin.sock")
	return err
}

// openChild prepares the Envoy. It is started by run.
func (s *server) openChild(context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name of the Envoy: %w", err)
	}
	opts := envoy.BootstrapOptions{NodeID: host, Server: s.grpcAddress, Admin: envoy.Address{Unix: s.envoySocket}, RuntimeLayers: runtimeLayers()}
	bootstrap, err := envoy.Bootstrap(opts)
	if err != nil {
		return fmt.Errorf("bootstrap of the Envoy: %w", err)
	}
	s.runner, err = envoy.NewRunner(envoy.RunnerOptions{
		State: s.state, Binary: s.binary, Bootstrap: bootstrap, Drain: s.options.DrainTimeout, Log: s.log,
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
