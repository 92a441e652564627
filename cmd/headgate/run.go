package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// runServer is `headgate run` (with an Envoy as a child) and `headgate serve`
// (without). It returns nil when ctx ends and everything was brought to an end
// in order.
func runServer(ctx context.Context, o serverOptions, withChild bool) error {
	s, err := newServer(ctx, o, withChild, o.logger(os.Stderr))
	if err != nil {
		return err
	}
	return errors.Join(s.run(ctx), s.close())
}

// stopTimeout is what is left to end everything, beyond the time that requests
// under way get: SIGTERM is obeyed within ten seconds.
const stopTimeout = 3 * time.Second

// run does the work until ctx ends or a part of it fails. When a part fails,
// Envoy is left to serve on by itself.
func (s *server) run(ctx context.Context) error {
	all, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(all)
	g.Go(func() error { return s.controller.Run(work) })
	g.Go(func() error { return s.files.run(work) })
	g.Go(func() error { return s.probes.run(work) })
	g.Go(func() error { return s.records.recorder.run(work, s.controller.Subscribe) })
	g.Go(func() error { return s.admin.Serve(work, s.adminListener) })
	g.Go(func() error {
		if err := s.grpc.Serve(s.grpcListener); err != nil {
			return fmt.Errorf("serve Envoys: %w", err)
		}
		return nil
	})
	if s.runner != nil {
		g.Go(func() error { return s.runner.Run(work) })
	}
	s.log.Info("headgate runs", "config", s.options.Config, "state", s.state.Path(), "admin", s.adminListener.Addr().String(), "grpc", s.grpcAddress.String())

	var drained error
	select {
	case <-ctx.Done():
		drained = s.drain(work)
	case <-work.Done():
	}
	stop()
	s.stopGRPC()
	return errors.Join(g.Wait(), drained)
}

// drain tells the world that this process goes, and ends the child or takes
// leave of it.
func (s *server) drain(ctx context.Context) error {
	s.stopping.Store(true)
	switch {
	case s.runner == nil:
		s.log.Info("headgate ends: Envoys serve on as they are")
		return nil
	case s.options.KeepEnvoy:
		s.log.Info("headgate ends: Envoy serves on as it is, and the next run takes it over", "pid", s.runner.State().PID)
		s.runner.Detach()
		return nil
	}
	s.log.Info("headgate ends, and Envoy with it: requests under way are finished first")
	ctx, cancel := context.WithTimeout(ctx, s.options.DrainTimeout+stopTimeout)
	defer cancel()
	if err := s.runner.Stop(ctx); err != nil {
		return fmt.Errorf("end Envoy: %w", err)
	}
	_ = os.Remove(s.envoySocket) // Envoy leaves it behind
	return nil
}

// stopGRPC lets decisions under way finish. The streams of xDS and access logs
// never end by themselves.
func (s *server) stopGRPC() {
	s.decider.Shutdown()
	t := time.AfterFunc(time.Second, s.grpc.Stop)
	defer t.Stop()
	s.grpc.GracefulStop()
}
