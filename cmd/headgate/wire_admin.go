package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/metrics"
	"github.com/headgate/headgate/routing"
)

// listenAdmin takes the address for people and scripts.
func (s *server) listenAdmin(ctx context.Context) error {
	var err error
	if s.adminListener, err = admin.Listen(ctx, s.options.Admin); err != nil {
		return fmt.Errorf("listen on --admin: %w", err)
	}
	s.onClose(func() error { _ = s.adminListener.Close(); return nil }) // closed before, when all went well
	return nil
}

// openAdmin puts the admin surface together.
func (s *server) openAdmin(ctx context.Context) error {
	opts := admin.Options{Names: s.options.AdminNames, Log: s.log, Version: version()}
	var err error
	if s.options.AdminTokens != "" {
		if opts.Tokens, err = admin.LoadTokens(s.options.AdminTokens, s.log); err != nil {
			return err
		}
	}
	if s.options.AdminCert != "" {
		if opts.TLS, err = rotatingTLS(s.options.AdminCert, s.options.AdminKey); err != nil {
			return fmt.Errorf("--admin-cert: %w", err)
		}
	}
	s.admin = admin.New(opts)
	collector := metrics.New(s.metricSources())
	updates, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go collector.Run(updates, s.controller.Subscribe)
	s.onClose(func() error { cancel(); return nil })
	admin.AddAPI(s.admin, admin.Sources{
		Controller: s.controller,
		Journal:    s.journal,
		Traffic:    s.records.ledger,
		Endpoints:  s.probes.endpoints,
		Envoys:     s.envoys,
		Config:     s.files.status,
		Policy:     s.policy,
		Check:      (&checker{dir: s.state.Path(), controller: s.controller}).check,
		Unready:    s.unready,
		Metrics:    collector.Handler(),
		Version:    buildVersion(),
	})
	return nil
}

// policy is how a model is judged by the configuration in force, or nil.
func (s *server) policy(model string) *routing.Policy {
	cfg := s.files.config()
	if cfg == nil {
		return nil
	}
	m := cfg.Model(model)
	if m == nil {
		return nil
	}
	return &m.Policy
}

// unready tells what is missing before headgate does its work. Once an Envoy
// has had everything, changes under way are no reason to turn people away.
func (s *server) unready() []string {
	var missing []string
	if s.stopping.Load() {
		missing = append(missing, "headgate is ending")
	}
	if !s.controller.Ready() {
		missing = append(missing, cmp.Or(s.files.missing(), "no configuration is in force"))
	}
	if s.runner != nil && !s.served.Load() {
		if !s.anyServed() {
			return append(missing, "Envoy does not serve yet")
		}
		s.served.Store(true)
	}
	return missing
}

func (s *server) anyServed() bool {
	for _, n := range s.publisher.Nodes() {
		if !n.Gone && n.Behind == 0 {
			return s.childLive()
		}
	}
	return false
}

// childLive asks Envoy itself: it acknowledges a listener before it listens.
func (s *server) childLive() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.runner.Admin().Ready(ctx) == nil
}

// envoys is what is known of the Envoys.
func (s *server) envoys() admin.Envoys {
	out := admin.Envoys{Envoys: []admin.Envoy{}, Refused: []admin.RefusedEnvoy{}}
	for _, n := range s.publisher.Nodes() {
		e := admin.Envoy{
			Node: n.ID, Version: n.Version, Since: n.Connected, Gone: n.Gone,
			Acknowledged: !n.Gone && n.Behind == 0, Behind: n.Behind, Rejected: n.Rejected,
			Warning: n.Warning, Records: s.records.receiver.Connected(n.ID),
		}
		if n.Duplicate && e.Warning == "" {
			e.Warning = "another Envoy is connected with the same node id"
		}
		out.Envoys = append(out.Envoys, e)
	}
	for _, r := range s.publisher.Refusals() {
		out.Refused = append(out.Refused, admin.RefusedEnvoy{Node: r.Node, Reason: r.Reason, Time: r.Time})
	}
	return out
}

func (s *server) metricSources() metrics.Sources {
	return metrics.Sources{
		Version:       version(),
		Statuses:      s.controller.Statuses,
		Traffic:       s.records.ledger,
		Config:        s.files.metrics,
		Fleet:         s.fleet,
		Decisions:     s.decisions,
		JournalErrors: s.history.failures.Load,
	}
}

func (s *server) fleet() metrics.Fleet {
	x := s.publisher.Metrics()
	f := metrics.Fleet{
		Connected: x.Streams,
		Streams:   map[string]int{"xds": x.Streams, "ext_proc": int(s.decider.Counters().Active), "access_log": s.records.receiver.Metrics().Streams},
		NACKs:     x.NACKs,
		Refused:   x.Refused,
	}
	if s.runner != nil {
		st := s.runner.State()
		f.Restarts, f.ChildAlive = uint64(st.Restarts), st.PID != 0
	}
	return f
}

func (s *server) decisions() metrics.Decisions {
	c := s.decider.Counters()
	d := metrics.Decisions{Undecided: c.Undecided(), Failures: map[string]uint64{
		"panic": c.Panics, "unexpected_message": c.Unexpected, "unknown_model": c.UnknownModel, "unreadable_body": c.Unreadable, "withheld": c.Withheld,
	}}
	for _, n := range c.Decisions {
		d.Decisions = append(d.Decisions, metrics.Decision{Model: n.Model, Version: n.Version, Reason: string(n.Reason), Count: n.Count})
	}
	return d
}
