package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing/rollout"
)

// How often --wait and --watch ask.
const (
	waitEvery  = 100 * time.Millisecond
	watchEvery = time.Second
)

// action is a command that moves a model.
type action struct {
	name    rollout.Action
	short   string
	long    string
	example string
	// reached tells whether what was asked for has come about, once every
	// Envoy has acknowledged.
	reached func(rollout.Status) bool
	// undone tells whether it cannot come about any more.
	undone func(rollout.Status) bool
}

func in(phases ...rollout.Phase) func(rollout.Status) bool {
	return func(s rollout.Status) bool {
		for _, p := range phases {
			if s.Phase == p {
				return true
			}
		}
		return false
	}
}

// stepRuns tells whether the rollout's step has begun to run, or none is left.
// Before, its candidate may still be asked whether it answers.
func stepRuns(s rollout.Status) bool {
	return s.Phase == rollout.PhaseProgressing && s.StepStarted != nil || s.Phase == rollout.PhaseCompleted
}

var actions = []action{
	{
		name: rollout.ActionPromote, short: "Skip the remaining steps: the candidate serves everyone",
		long:    "promote ends the rollout of MODEL: the candidate serves everyone, now.",
		example: `  headgate promote churn --reason "checked by hand" --wait`,
		reached: in(rollout.PhaseCompleted, rollout.PhaseIdle), undone: in(rollout.PhaseRolledBack, rollout.PhaseBlocked),
	},
	{
		name: rollout.ActionPause, short: "Stay at the present weights",
		long:    "pause keeps MODEL where it is: its step does not end until resume.",
		example: `  headgate pause churn --reason "on call takes a look"`,
		reached: in(rollout.PhasePaused), undone: in(rollout.PhaseRolledBack, rollout.PhaseCompleted, rollout.PhaseBlocked),
	},
	{
		name: rollout.ActionResume, short: "Go on after a pause",
		long: `resume lets the step of MODEL go on where it was paused. After a pause by a gate of
on_breach: pause it overrules that gate: until the rollout ends no step waits for
it, and it pauses no more. Other gates and hard rules act as before. After a pause
by at_most the step waits for its gates for as long again.`,
		example: `  headgate resume churn`,
		reached: stepRuns, undone: in(rollout.PhaseRolledBack, rollout.PhaseBlocked),
	},
	{
		name: rollout.ActionRollback, short: "Back to the stable version, now",
		long: `rollback takes MODEL back to its stable version. After a rollout has completed, it
goes back to the version that served before.`,
		example: `  headgate rollback churn --reason "complaints" --wait --timeout 10s`,
		reached: in(rollout.PhaseRolledBack), undone: in(rollout.PhaseProgressing, rollout.PhaseBlocked),
	},
	{
		name: rollout.ActionRetry, short: "After going back: a new rollout of the same version",
		long:    "retry begins a new rollout of MODEL to the version that went back, from the first step.",
		example: `  headgate retry churn --reason "the model server was restarted"`,
		reached: stepRuns, undone: in(rollout.PhaseRolledBack, rollout.PhaseBlocked),
	},
	{
		name: rollout.ActionSkip, short: "End this step and begin the next",
		long:    "skip ends the step of MODEL that runs. After the last step the candidate serves everyone.",
		example: `  headgate skip churn`,
		reached: stepRuns, undone: in(rollout.PhaseRolledBack, rollout.PhaseBlocked),
	},
	{
		name: rollout.ActionAdopt, short: "Say which version serves, when headgate does not know",
		long: `adopt tells headgate that VERSION is the stable version of a MODEL that is blocked:
its journal is empty, and Envoys hold a state of their own. It needs the role admin.`,
		example: `  headgate adopt churn v1.0.0 --reason "the journal's disk was replaced"`,
		reached: func(s rollout.Status) bool { return s.Phase != rollout.PhaseBlocked },
		undone:  func(rollout.Status) bool { return false },
	},
}

func (p *program) actionCommands() []*cobra.Command {
	commands := make([]*cobra.Command, 0, len(actions))
	for _, a := range actions {
		commands = append(commands, p.actionCommand(a))
	}
	return commands
}

func (p *program) actionCommand(a action) *cobra.Command {
	var reason, output string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     string(a.name) + " MODEL",
		GroupID: "release",
		Short:   a.short,
		Long: a.long + `

With --wait it returns when every connected Envoy has acknowledged. When they do
not within --timeout, the exit code is 3: the command holds, and what is missing
is named. When somebody else has undone it meanwhile, the exit code is 1. With
-o json the status after the command is printed, as headgate status MODEL does,
also when the exit code of --wait is 1 or 3.`,
		Example:           a.example,
		Args:              exactly("MODEL"),
		ValidArgsFunction: p.completeModel,
	}
	if a.name == rollout.ActionAdopt {
		cmd.Use, cmd.Args = "adopt MODEL VERSION", exactly("MODEL", "VERSION")
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the journal: why")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until every connected Envoy has it")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long --wait waits")
	outputFlag(cmd, &output, "text")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if timeout <= 0 {
			return usagef("--timeout: %v: must be more than 0s", timeout)
		}
		p.quiet = output == "json"
		order := admin.Order{Reason: reason}
		if len(args) > 1 {
			order.Version = args[1]
		}
		c, err := p.client()
		if err != nil {
			return err
		}
		var m admin.Model
		if err := c.post(cmd.Context(), modelPath(args[0])+"/"+string(a.name), order, &m); err != nil {
			return err
		}
		if wait {
			m, err = p.wait(cmd.Context(), c, a, m, timeout)
		}
		if output == "json" {
			return cmp.Or(err, p.printJSON(m))
		}
		if err == nil {
			p.stdout.printf("%s\n", summary(m.Status))
		}
		return err
	}
	return cmd
}

// wait asks until what a wants has come about and every Envoy has it.
func (p *program) wait(ctx context.Context, c *client, a action, m admin.Model, timeout time.Duration) (admin.Model, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := m.Rollout
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		switch {
		case a.reached(m.Status) && m.Acknowledged:
			p.progress("")
			return m, nil
		case a.undone(m.Status) || m.Rollout != began:
			p.progress("")
			return m, exitf(exitNo, "%s did not hold: %s", a.name, summary(m.Status))
		}
		p.progress(summary(m.Status))
		select {
		case <-bounded.Done():
		case <-tick.C:
		}
		if ctx.Err() != nil {
			p.progress("")
			return m, exitf(exitNo, "%s is in the journal; interrupted while waiting for the Envoys", a.name)
		}
		if bounded.Err() != nil {
			p.progress("")
			return m, exitf(exitLosses, "%s is in the journal, but after %v %s: %s", a.name, timeout, missing(m.Status), summary(m.Status))
		}
		if err := c.get(bounded, modelPath(m.Model), &m); err != nil && bounded.Err() == nil {
			return m, err
		}
	}
}

// progress replaces the line that tells what is waited for. It shows on
// terminals only.
func (p *program) progress(line string) {
	if p.screen.terminal && !p.quiet {
		p.stdout.printf("\r\x1b[K%s", shorten(line, p.screen.width-1))
	}
}

// missing says what keeps a command from being everywhere.
func missing(s rollout.Status) string {
	switch {
	case s.Rejected != "":
		return "an Envoy refuses it (" + plain(s.Rejected) + ")"
	case s.Envoys == 0:
		return "no Envoy is connected"
	case len(s.Waiting) > 0:
		return "these Envoys have not acknowledged: " + plain(strings.Join(s.Waiting, ", "))
	default:
		return "it has not come about"
	}
}

// summary is a model in one line.
func summary(s rollout.Status) string {
	line := fmt.Sprintf("%s: %s, %s", s.Model, s.Phase, weights(s))
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	return plain(line)
}

func modelPath(model string) string { return "/v1/models/" + url.PathEscape(model) }

// exactly checks that the arguments are there, and names the one that is not.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s: must be given", names[len(args)])
		}
		if len(args) > len(names) {
			return fmt.Errorf("%q: is too much", args[len(names)])
		}
		for i, name := range names {
			if args[i] == "" {
				return fmt.Errorf("%s: must not be empty", name)
			}
		}
		return nil
	}
}

// completeModel offers the names of models to the shell.
func (p *program) completeModel(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := p.modelNames(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (p *program) modelNames(ctx context.Context) ([]string, error) {
	c, err := p.client()
	if err != nil {
		return nil, err
	}
	var list admin.Models
	if err := c.get(ctx, "/v1/models", &list); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list.Models))
	for _, m := range list.Models {
		names = append(names, m.Model)
	}
	return names, nil
}

// isNotFound tells whether headgate does not know what was asked for.
func isNotFound(err error) bool {
	var problem *admin.Problem
	return errors.As(err, &problem) && problem.Status == 404
}
