package simulate

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Headgate is the name of the rule that is simulated beside those of [Rules].
const Headgate = "headgate"

// Options are how a scenario is simulated.
type Options struct {
	Runs     int // of each world
	Seed     uint64
	Settings Settings // of the other rules
	// Rules are the names of the rules, headgate's among them; nil: all.
	Rules []string
	// Every is the time between two looks of the judge while there is something
	// to see; 0: a second at first, and up to a minute when nothing has changed
	// for long. Looks apart cost power, never the promise.
	Every time.Duration
	// OnlyHarmful leaves the healthy world out.
	OnlyHarmful bool
	// Workers is how many runs there are at once; 0: as many as processors.
	Workers int
	// Progress is told how many of the runs are done. It may be called from any
	// goroutine.
	Progress func(done, all int)
}

// RuleNames are the names that Options.Rules can have, in the order of the
// table.
func RuleNames() []string {
	names := []string{Headgate}
	for _, r := range Rules(Settings{}) {
		names = append(names, r.Name())
	}
	return names
}

// runner is a simulation under way.
type runner struct {
	s     *Scenario
	o     Options
	judge bool
	rules []Rule
	world [2]*world // healthy, harmful
	ends  [2][][]outcome
	done  atomic.Int64
}

// Run simulates the scenario. It ends with ctx's error when that is done.
func Run(ctx context.Context, s *Scenario, o Options) (*Result, error) {
	r := &runner{s: s, o: o}
	if err := r.choose(); err != nil {
		return nil, err
	}
	if every := o.Settings.Interval; every%minute != 0 || every < 0 {
		return nil, fmt.Errorf("interval: %v: must be whole minutes", every)
	}
	if o.Runs < 1 {
		return nil, fmt.Errorf("runs: %d: must be at least 1", o.Runs)
	}
	people := newPopulation(s.Traffic.Users)
	for i, wanted := range []bool{!o.OnlyHarmful, s.harms()} {
		if !wanted {
			continue
		}
		r.world[i] = newWorld(s, people, i == 1)
		r.ends[i] = make([][]outcome, o.Runs)
		if err := r.all(ctx, i); err != nil {
			return nil, err
		}
	}
	return r.result(), nil
}

// harms tells whether the scenario describes a harmful candidate.
func (s *Scenario) harms() bool { return s.Candidate != s.Stable }

func (r *runner) choose() error {
	known := RuleNames()
	for _, name := range r.o.Rules {
		if !slices.Contains(known, name) {
			return fmt.Errorf("rules: %q: must be some of %s", name, strings.Join(known, ", "))
		}
	}
	wanted := func(name string) bool { return len(r.o.Rules) == 0 || slices.Contains(r.o.Rules, name) }
	r.judge = wanted(Headgate)
	for _, rule := range Rules(r.o.Settings) {
		if wanted(rule.Name()) {
			r.rules = append(r.rules, rule)
		}
	}
	return nil
}

// all runs everything in one world. What a run gives depends on its number
// only, so it does not matter who runs it.
func (r *runner) all(ctx context.Context, world int) error {
	workers := r.o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(workers, r.o.Runs) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= r.o.Runs || ctx.Err() != nil {
					return ctx.Err()
				}
				ends, err := r.one(world, i)
				if err != nil {
					return err
				}
				r.ends[world][i] = ends
				if done := int(r.done.Add(1)); r.o.Progress != nil {
					r.o.Progress(done, r.worlds()*r.o.Runs)
				}
			}
		})
	}
	return g.Wait()
}

// worlds is how many worlds are simulated.
func (r *runner) worlds() int {
	if r.o.OnlyHarmful || !r.s.harms() {
		return 1
	}
	return 2
}

// one runs all rules on one history.
func (r *runner) one(world, run int) ([]outcome, error) {
	h := r.world[world].history(r.o.Seed, uint64(run))
	var out []outcome
	if r.judge {
		end, err := h.judge(r.o.Every)
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", run, err)
		}
		out = append(out, end)
	}
	for _, rule := range r.rules {
		out = append(out, h.follow(r.s.Model.Steps, rule.Begin(&r.s.Model.Policy), max(r.o.Settings.Interval, minute)))
	}
	return out, nil
}
