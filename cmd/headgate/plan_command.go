package main

import (
	"context"
	"errors"
	"fmt"
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
present traffic is what that headgate has seen of the stable version in the last
minute. With --rate, nothing is asked when MODEL is a file.

  FOR        at least; by hand: a person ends the step
  TIME       expected, when the candidate behaves as stable does, and people end
             steps when the gates are safe
  SAFE IN    in half of the cases; red when it outlasts the step's time
  HARM FROM  what is found in nine of ten cases within the step's time`,
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
		plan := simulate.PlanOf(m, *present)
		if output == "json" {
			return p.printJSON(plan)
		}
		var b strings.Builder
		p.screen.plan(&b, plan, present)
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
func (p *program) present(ctx context.Context, m *routing.Model, flags *trafficFlags) (*simulate.Present, error) {
	var s simulate.Scenario
	if flags.rate == "" {
		if err := p.seen(ctx, m.Name, &s); err != nil {
			return nil, err
		}
	}
	if err := flags.adjust(&s); err != nil {
		return nil, err
	}
	if s.Traffic.Rate <= 0 {
		return nil, exitf(exitNo, "%s: no requests in the last minute; give --rate", m.Name)
	}
	out := &simulate.Present{
		Rate: s.Traffic.Rate, Errors: s.Stable.Errors, ClientErrors: s.Stable.ClientErrors, Keyed: m.Key.Source != "",
	}
	if s.Stable.Latency.Median > 0 {
		out.Latency = s.Stable.Latency.Histogram()
	}
	return out, nil
}

// seen is what a running headgate has seen of a model: the requests of all
// versions, and how the stable one answered.
func (p *program) seen(ctx context.Context, model string, s *simulate.Scenario) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	var m admin.Model
	if err := c.get(ctx, "/v1/models/"+url.PathEscape(model), &m); err != nil {
		return err
	}
	for _, v := range m.Versions {
		n := float64(v.LastMinute.Requests)
		s.Traffic.Rate += n / 60
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
	return nil
}

// plan writes a plan for people.
func (s screen) plan(w *strings.Builder, plan *simulate.Plan, present *simulate.Present) {
	fmt.Fprintf(w, "%s: %.4g requests a second, %s errors", s.paint(bold, plain(plan.Model)), plan.Rate, percent(100*present.Errors))
	if h := present.Latency; h != nil {
		fmt.Fprintf(w, ", p50 %.3g ms, p99 %.3g ms", 1000*h.Quantile(0.5), 1000*h.Quantile(0.99))
	}
	w.WriteString("\n\n")
	var rows [][]cell
	for i, step := range plan.Steps {
		lasts := brief(duration(step.For))
		if step.Hold {
			lasts = "by hand"
		}
		head := []cell{number(fmt.Sprint(i + 1)), number(percent(step.Percent)), number(lasts), expectedTime(step.Seconds)}
		if len(step.Gates) == 0 {
			rows = append(rows, append(head, text(""), number(""), number("")))
		}
		for _, g := range step.Gates {
			rows = append(rows, append(head, plannedGate(&g)...))
			head = []cell{number(""), number(""), number(""), number("")}
		}
	}
	s.table(w, "", []string{"STEP", "SHARE", "FOR", "TIME", "GATE", "SAFE IN", "HARM FROM"}, rows)
	w.WriteByte('\n')
	if plan.Seconds == nil {
		w.WriteString(s.paint(yellow, "The rollout never ends: stable itself is not shown to keep the limits.") + "\n")
		return
	}
	w.WriteString("The rollout takes " + expectedTime(plan.Seconds).text + ", when the candidate behaves as stable does and traffic stays as it is.\n")
}

func plannedGate(g *simulate.PlannedGate) []cell {
	name := text(g.Metric + " " + string(g.Bound) + " " + g.Limit)
	if !g.Measurable {
		return []cell{name, number("not here").in(faint), number("-")}
	}
	safe := expectedTime(g.SafeAfter)
	if g.Outlasts {
		safe = safe.in(red)
	}
	harm := number("-")
	switch {
	case g.SmallestHarm == nil:
	case g.Unit == routing.UnitSeconds:
		harm = number(fmt.Sprintf("%.3gms", 1000**g.SmallestHarm))
	default:
		harm = number(percent(100 * *g.SmallestHarm))
	}
	return []cell{name, safe, harm}
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func expectedTime(s *float64) cell {
	if s == nil {
		return number("never").in(red)
	}
	return number(brief(duration(*s)))
}
