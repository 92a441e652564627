package main

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
)

func (p *program) planCommand() *cobra.Command {
	var traffic trafficFlags
	var output string
	cmd := &cobra.Command{
		Use:     "plan MODEL",
		GroupID: "config",
		Short:   "What to expect of a rollout at the present traffic",
		Long: `plan tells, for each step of a model's rollout, how long it will take, which gate
will outlast it, and the smallest harm that each gate can find in its time.

MODEL is a model's file, or the name of a model of the headgate that runs. The
present traffic is what that headgate has seen in the last minute: the requests
of all versions, and how the stable one answered. With --rate, nothing is asked
when MODEL is a file, and what no flag tells is 0.

  FOR        at least; by hand: a person ends the step
  AT MOST    what it may wait for its gates
  TIME       expected, when the candidate behaves as stable does, and people end
             steps when the gates are safe; what follows when more than half of
             such rollouts time out
  SAFE IN    in half of the cases; red when it outlasts the step's time
  HARM FROM  value of the metric that is found to break the limit in nine of ten
             cases within the step's time; in parentheses, where an increase is
             limited, how much more than now that is`,
		Example: "  headgate plan churn\n  headgate plan models/churn.yaml --rate 20/s --errors 0.5% --latency 40ms/250ms",
		Args:    exactly("MODEL"),
	}
	outputFlag(cmd, &output, "table")
	traffic.add(cmd)
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := p.planned(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		present, err := p.present(cmd.Context(), m, &traffic)
		if err != nil {
			return err
		}
		plan := simulate.PlanOf(m, present.Present)
		if output == "json" {
			return p.printJSON(plan)
		}
		var b strings.Builder
		p.screen.plan(&b, plan, m, present)
		p.stdout.printf("%s", b.String())
		return nil
	}
	return cmd
}

// planned is the model of a file, or of the headgate that runs.
func (p *program) planned(ctx context.Context, name string) (*routing.Model, error) {
	data, err := os.ReadFile(name)
	if err == nil {
		m, err := config.Parse(name, data)
		return m, scenarioError(err)
	}
	if !errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(name, "/\\") {
		return nil, fileError(err)
	}
	c, err := p.client()
	if err != nil {
		return nil, err
	}
	var running admin.Config
	if err := c.get(ctx, "/v1/config", &running); err != nil {
		return nil, err
	}
	loaded, err := config.Load(running.Directory)
	if err != nil {
		return nil, scenarioError(err)
	}
	for _, m := range loaded.Models {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, exitf(exitNo, "%s: is no model of %s, and no file", name, running.Directory)
}

// present is the traffic of a model by the flags, and where these say nothing
// by what a running headgate has seen.
func (p *program) present(ctx context.Context, m *routing.Model, flags *trafficFlags) (*presentTraffic, error) {
	out := &presentTraffic{}
	var s simulate.Scenario
	if flags.rate == "" {
		var err error
		if out.seen, err = p.seen(ctx, m.Name, &s); err != nil {
			return nil, err
		}
		out.answered = s.Stable.Latency.Median > 0
	}
	if err := flags.adjust(&s); err != nil {
		return nil, err
	}
	if s.Traffic.Rate <= 0 {
		return nil, exitf(exitNo, "%s: no requests in the last minute; give --rate", m.Name)
	}
	if simulate.OnLatency(m) && s.Stable.Latency.Median <= 0 {
		return nil, exitf(exitNo, "%s: a gate is on latency, and how long stable takes is not known; give --latency 40ms/250ms", m.Name)
	}
	out.guessed = flags.errors == "" && !out.answered
	out.guessedClient = flags.clientErrors == "" && !out.answered
	out.Present = simulate.Present{
		Rate: s.Traffic.Rate, Errors: s.Stable.Errors, ClientErrors: s.Stable.ClientErrors, Keyed: m.Key.Source != "",
	}
	if s.Stable.Latency.Median > 0 {
		out.Latency = s.Stable.Latency.Histogram()
	}
	return out, nil
}

// presentTraffic is the present traffic, and where that is from.
type presentTraffic struct {
	simulate.Present

	seen     time.Duration // for how long a running headgate has seen it; 0: none was asked
	answered bool          // stable has answered in that time
	guessed  bool          // nobody has told the errors

	guessedClient bool // nor the client errors
}

// seen is what a running headgate has seen of a model in the last minute, or
// since it began: the requests of all versions, and how the stable one answered.
// It returns for how long.
func (p *program) seen(ctx context.Context, model string, s *simulate.Scenario) (time.Duration, error) {
	c, err := p.client()
	if err != nil {
		return 0, err
	}
	var m admin.Model
	if err := c.get(ctx, "/v1/models/"+url.PathEscape(model), &m); err != nil {
		return 0, err
	}
	var running admin.Version
	if err := c.get(ctx, "/v1/version", &running); err != nil {
		return 0, err
	}
	lasted := min(max(running.Uptime, 1), 60)
	for _, v := range m.Versions {
		n := float64(v.LastMinute.Requests)
		s.Traffic.Rate += n / lasted
		if v.Version != m.Stable || n == 0 {
			continue
		}
		s.Stable.Errors = float64(v.LastMinute.Errors) / n
		s.Stable.ClientErrors = float64(v.LastMinute.ClientErrors) / n
		if v.P50 != nil && v.P99 != nil && *v.P50 > 0 {
			s.Stable.Latency = simulate.Latency{
				Median: time.Duration(*v.P50 * float64(time.Second)),
				P99:    time.Duration(max(*v.P99, *v.P50*1.01) * float64(time.Second)),
			}
		}
	}
	return duration(lasted), nil
}
