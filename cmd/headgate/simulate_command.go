package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/routing/config"
)

// simulateFlags are what simulate can be told.
type simulateFlags struct {
	runs     int
	seed     uint64
	rules    []string
	every    time.Duration
	output   string
	replay   string
	traffic  trafficFlags
	candFrom time.Duration
	badErrs  string
	badSlow  string
	verbose  bool
	interval time.Duration
	failures int
	limited  bool // failures was given
}

// trafficFlags are the traffic of a model's file, or replace a scenario's.
type trafficFlags struct{ rate, errors, clientErrors, latency string }

func (t *trafficFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.rate, "rate", "", "`RATE` of requests, like 20/s or 90/min")
	f.StringVar(&t.errors, "errors", "", "`PART` of stable's requests that fail, like 0.5%")
	f.StringVar(&t.clientErrors, "client-errors", "", "`PART` of stable's requests that are answered with a 4xx")
	f.StringVar(&t.latency, "latency", "", "`MEDIAN/P99` of stable's answers, like 40ms/250ms")
}

// add adds the flags.
func (o *simulateFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&o.runs, "runs", 1000, "`N` runs of each of the two worlds")
	f.Uint64Var(&o.seed, "seed", 0, "`S` gives the same result again (default: a new one)")
	f.StringSliceVar(&o.rules, "rules", nil, "`NAMES` of the rules: "+strings.Join(simulate.RuleNames(), ", ")+" (default: all)")
	f.DurationVar(&o.interval, "interval", 0, "`TIME` between two measurements of the other rules, in whole minutes (default: 1m)")
	f.IntVar(&o.failures, "failure-limit", 0, "`N` failed measurements that argo-rollouts bears, and with which flagger goes back (default: 0 and 5)")
	f.DurationVar(&o.every, "every", 0, "`TIME` between two looks of the judge (default: 1s, less often where nothing changes)")
	outputFlag(cmd, &o.output, "table")
	o.traffic.add(cmd)
	f.StringVar(&o.badErrs, "candidate-errors", "", "`PART` of the harmful candidate's requests that fail, like 2%")
	f.StringVar(&o.badSlow, "candidate-latency", "", "`MEDIAN/P99` of the harmful candidate's answers")
	f.DurationVar(&o.candFrom, "candidate-from", 0, "`TIME` into the rollout at which the harm begins")
	f.StringVar(&o.replay, "replay", "", "`RECORDING` of a rollout to judge by the gates of FILE")
	f.BoolVar(&o.verbose, "verbose", false, "of a recording, tell also of gates that wait for their first requests")
}

func (p *program) simulateCommand() *cobra.Command {
	var o simulateFlags
	cmd := &cobra.Command{
		Use:     "simulate FILE",
		GroupID: "config",
		Short:   "Try a policy on synthetic traffic",
		Long: `simulate tells what the gates of a rollout would do before users depend on it:
how often a healthy candidate would be sent back, how often a bad one would be
promoted, and how long each takes. The judge and the state machine are those of
the server. Beside them, on the same traffic, are the rules of Argo Rollouts and
Flagger, and a test of significance that is repeated every minute. --interval and
--failure-limit set them up as somebody would who knows how few requests there
are.

FILE is a scenario: a rollout in the language of models' files, or model: with
the name of such a file, and what the traffic is (see the examples in
` + simulateExamples + `):

  model: churn.yaml                   # or rollout: {steps: [...], gates: [...]}
  traffic:
    rate: 20/s
    users: {number: 20000, zipf: 1, failing: 1% at 30%}
    bursts: {every: 30m, for: 20s, rate: 4x, errors: 5%}
    rhythm: {period: 24h, swing: 60%}
    gaps: {every: 2h, for: 20s}       # lost telemetry
  stable: {errors: 0.5%, latency: {median: 40ms, p99: 250ms}}
  candidate: {from: 3h, errors: 4x}   # of the harmful world; else as stable

or a model's file, with the traffic given by flags.

With --replay, FILE is a model's file, and what was recorded of a rollout is
judged by its gates.`,
		Example: `  headgate simulate scenario.yaml
  headgate simulate models/churn.yaml --rate 20/s --errors 0.5% --candidate-errors 2%
  headgate simulate scenario.yaml --runs 10000 --seed 7 -o json
  headgate simulate models/churn.yaml --replay state/recordings/churn-12.jsonl`,
		Args: exactly("FILE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	o.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.replay != "" {
			return p.replay(args[0], &o)
		}
		o.limited = cmd.Flags().Changed("failure-limit")
		if !cmd.Flags().Changed("seed") {
			o.seed = uint64(rand.Uint32())
		}
		return p.simulate(cmd.Context(), args[0], &o)
	}
	return cmd
}

const simulateExamples = "cmd/headgate/simulate/examples"

func (p *program) simulate(ctx context.Context, file string, o *simulateFlags) error {
	if o.runs < 1 || o.runs > 1_000_000 {
		return usagef("--runs: %d: must be from 1 to 1000000", o.runs)
	}
	if o.every != 0 && o.every < time.Second {
		return usagef("--every: %v: must be at least 1s", o.every)
	}
	settings, err := o.settings()
	if err != nil {
		return err
	}
	s, err := simulate.Load(file, o.adjust)
	if err != nil {
		return scenarioError(err)
	}
	progress, clear := p.runsDone()
	result, err := simulate.Run(ctx, s, simulate.Options{
		Runs: o.runs, Seed: o.seed, Rules: o.rules, Every: o.every, Settings: settings, Progress: progress,
	})
	clear()
	switch {
	case errors.Is(err, context.Canceled):
		return exitf(exitNo, "interrupted")
	case err != nil:
		return usagef("--%v", err)
	case o.output == "json":
		return p.printJSON(result)
	}
	var b strings.Builder
	p.screen.simulation(&b, s, result)
	p.stdout.printf("%s", b.String())
	return nil
}

// settings are those of the other rules.
func (o *simulateFlags) settings() (simulate.Settings, error) {
	out := simulate.Settings{Interval: o.interval}
	if o.interval < 0 || o.interval%time.Minute != 0 || o.interval > 24*time.Hour {
		return out, usagef("--interval: %v: must be whole minutes, at most 24h", o.interval)
	}
	if o.failures < 0 || o.failures > 1000 {
		return out, usagef("--failure-limit: %d: must be from 0 to 1000", o.failures)
	}
	if o.limited {
		out.FailureLimit = &o.failures
	}
	return out, nil
}

// scenarioError makes every mistake of a file a line of its own.
func scenarioError(err error) error {
	if err == nil {
		return nil
	}
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		return err
	}
	lines := make([]string, len(mistakes))
	for i, m := range mistakes {
		lines[i] = m.Error()
	}
	return exitf(exitNo, "%s", strings.Join(lines, "\n"))
}

// adjust lets the flags replace what the file says.
func (o *simulateFlags) adjust(s *simulate.Scenario) error {
	same := s.Candidate == s.Stable
	if err := o.traffic.adjust(s); err != nil {
		return err
	}
	if same {
		s.Candidate = s.Stable
	}
	if o.candFrom > 0 {
		s.From = o.candFrom
	}
	return errors.Join(
		flagValue("candidate-errors", o.badErrs, &s.Candidate.Errors, simulate.ParsePart),
		flagValue("candidate-latency", o.badSlow, &s.Candidate.Latency, simulate.ParseLatency),
	)
}

func (t *trafficFlags) adjust(s *simulate.Scenario) error {
	return errors.Join(
		flagValue("rate", t.rate, &s.Traffic.Rate, simulate.ParseRate),
		flagValue("errors", t.errors, &s.Stable.Errors, simulate.ParsePart),
		flagValue("client-errors", t.clientErrors, &s.Stable.ClientErrors, simulate.ParsePart),
		flagValue("latency", t.latency, &s.Stable.Latency, simulate.ParseLatency),
	)
}

func flagValue[T any](name, word string, into *T, parse func(string) (T, error)) error {
	if word == "" {
		return nil
	}
	got, err := parse(word)
	if err != nil {
		return usagef("--%s: %s: %v", name, word, err)
	}
	*into = got
	return nil
}

// runsDone shows on a terminal how far the runs are. The second function takes
// that away.
func (p *program) runsDone() (func(done, all int), func()) {
	s := screenOf(p.stderr.w, p.getenv)
	if !s.terminal {
		return nil, func() {}
	}
	var mu sync.Mutex
	var shown time.Time
	return func(done, all int) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(shown) > 100*time.Millisecond {
			shown = now
			p.stderr.printf("\r%d of %d runs", done, all)
		}
	}, func() { p.stderr.printf("\r\x1b[K") }
}
