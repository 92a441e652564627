package rollout_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// fleet stands in for the Envoys, so that a test says when they acknowledge.
type fleet struct {
	mu       sync.Mutex
	plan     *routing.Plan
	hold     []string
	history  []string // of every plan published: what it says of the models
	envoys   map[string]map[string]*routing.ModelPlan
	rejected string
	held     map[string][]string
	seen     bool
	auto     bool
	changed  chan struct{}
	// unplugged Envoys keep what they have.
	unplugged bool
	before    func() // is called when a plan comes, nil: nothing
}

func newFleet(envoys ...string) *fleet {
	f := &fleet{envoys: map[string]map[string]*routing.ModelPlan{}, changed: make(chan struct{}, 1)}
	for _, e := range envoys {
		f.connect(e)
	}
	return f
}

func (f *fleet) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fleet) connect(envoy string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.envoys[envoy], f.seen = map[string]*routing.ModelPlan{}, true
	if f.auto {
		f.ackLocked(envoy)
	}
	f.poke()
}

func (f *fleet) disconnect(envoy string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.envoys, envoy)
	f.poke()
}

func (f *fleet) ackLocked(envoy string) {
	if f.plan == nil {
		return
	}
	for _, m := range f.plan.Models {
		f.envoys[envoy][m.Model.Name] = m
	}
}

// ack has Envoys acknowledge all that was published.
func (f *fleet) ack(envoys ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range envoys {
		f.ackLocked(e)
	}
	f.poke()
}

func (f *fleet) Publish(plan *routing.Plan, hold []string) {
	if f.before != nil {
		f.before()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unplugged {
		return
	}
	f.plan, f.hold = plan, hold
	var all []string
	for _, m := range plan.Models {
		if err := m.Split.Validate(); err != nil {
			panic(err)
		}
		text := m.Model.Name + ": " + weights(m.Split)
		for _, c := range m.Mirrors {
			text += fmt.Sprintf(", copies to %s %s", c.Version, c.Share)
		}
		all = append(all, text)
	}
	f.history = append(f.history, strings.Join(all, "; "))
	if f.auto {
		for e := range f.envoys {
			f.ackLocked(e)
		}
		f.poke()
	}
}

func weights(s routing.Split) string {
	var all []string
	for _, r := range s.Ranges {
		all = append(all, fmt.Sprintf("%s %s", r.Version, r.Weight))
	}
	return strings.Join(all, ", ")
}

func (f *fleet) Delivery(model string) rollout.Delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := rollout.Delivery{Envoys: len(f.envoys), Rejected: f.rejected}
	var want *routing.ModelPlan
	if f.plan != nil {
		want = f.plan.Model(model)
	}
	for name, has := range f.envoys {
		if has[model] != want || want == nil {
			d.Waiting = append(d.Waiting, name)
		}
	}
	slices.Sort(d.Waiting)
	return d
}

func (f *fleet) Inventory() (map[string][]string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held, f.seen
}

func (f *fleet) Changed() <-chan struct{} { return f.changed }

func (f *fleet) weights(model string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan == nil || f.plan.Model(model) == nil {
		return ""
	}
	return weights(f.plan.Model(model).Split)
}

// endpoints stands in for the network.
type endpoints struct {
	mu   sync.Mutex
	errs map[string]error
	asks []string
}

func (p *endpoints) Probe(_ context.Context, v *routing.Version) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks = append(p.asks, v.Name)
	return p.errs[v.Name]
}

func (p *endpoints) fail(version string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.errs == nil {
		p.errs = map[string]error{}
	}
	p.errs[version] = err
}

// faulty is a journal that can refuse.
type faulty struct {
	*journal.Memory
	mu  sync.Mutex
	err error
}

func (j *faulty) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
}

func (j *faulty) KeepEvidence(ctx context.Context, evidence ...rollout.Evidence) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	return j.Memory.KeepEvidence(ctx, evidence...)
}

func (j *faulty) Append(ctx context.Context, records ...*rollout.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	return j.Memory.Append(ctx, records...)
}
