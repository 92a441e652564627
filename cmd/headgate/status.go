package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

func (p *program) statusCommand() *cobra.Command {
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use:     "status [MODEL]",
		GroupID: "look",
		Short:   "Where models are in their releases",
		Long: `status shows every model, or one MODEL with its steps, the shares wanted and
served, errors and latency of each version. The exit code is 1 when there is no
such model, or no configuration is in force.

  ACK        whether every Envoy has the weights, else how many of them
  REQ/MIN    requests of the last minute, ERRORS the share of 5xx, resets and
             timeouts among them
  WANTED     share of the users by the present weights
  SERVED     share of the requests since every Envoy has them, at most of the
             last minute; "-" when there are none
  ENDPOINTS  "answer" when one of them at least takes a connection from headgate

Steps are counted from 1; step in -o json counts from 0. The time of a step runs
only while every Envoy has its share and nobody has paused it.

AT MOST is how long a step waits for its gates, and what follows then.

With --watch it goes on: on a terminal it redraws, elsewhere it prints when
something but the clock and the counters has changed, like a verdict; with
-o json one line each time, for counters too.`,
		Example: `  headgate status
  headgate status churn --watch
  headgate status churn -o json | jq .weights`,
		Args:              atMostOneModel,
		ValidArgsFunction: p.completeModel,
	}
	outputFlag(cmd, &output, "table")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := p.client()
		if err != nil {
			return err
		}
		v := statusView{program: p, client: c, json: output == "json", compact: watch}
		if len(args) == 1 {
			v.model = args[0]
		}
		if watch {
			return v.watch(cmd.Context())
		}
		view, err := v.render(cmd.Context())
		_, writing := io.WriteString(p.stdout, view.text)
		return cmp.Or(err, writing)
	}
	return cmd
}

func atMostOneModel(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%q: is too much", args[1])
	}
	return nil
}

// outputFlag adds -o with json and one other form.
func outputFlag(cmd *cobra.Command, output *string, other string) {
	cmd.Flags().VarP(&choice{value: output, of: []string{other, "json"}}, "output", "o", other+" or json")
	*output = other
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{other, "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// choice is a flag that takes one of some words.
type choice struct {
	value *string
	of    []string
}

func (c *choice) String() string { return *c.value }
func (c *choice) Type() string   { return "FORM" }
func (c *choice) Set(s string) error {
	for _, word := range c.of {
		if s == word {
			*c.value = s
			return nil
		}
	}
	return fmt.Errorf("must be %s", strings.Join(c.of, " or "))
}

// statusView renders the status of one model or of all.
type statusView struct {
	*program

	client  *client
	model   string // empty: all
	json    bool
	compact bool // JSON on one line
}

// view is what was rendered.
type view struct {
	text string
	// matter is equal for two views that differ in what only the clock has moved.
	matter string
}

// render asks and returns the view. With an error it can have a text all the
// same: models without a configuration in force.
func (v statusView) render(ctx context.Context) (view, error) {
	config, err := v.client.configOf(ctx)
	if err != nil {
		return view{}, err
	}
	models, err := v.ask(ctx)
	why := notInForce(config)
	if err != nil && isNotFound(err) && why != "" {
		return view{}, fmt.Errorf("%w\n%s", err, why)
	}
	if err != nil {
		return view{}, err
	}
	var nothing error
	if config != nil && config.Loaded == nil && config.Attempt != nil {
		nothing = exitf(exitNo, "%s", why)
	}
	out := view{matter: matter(models, why, v.json)}
	switch {
	case v.json && v.model == "":
		out.text, err = v.encode(models)
	case v.json:
		out.text, err = v.encode(models[0])
	case nothing != nil && len(models) == 0:
		return view{}, nothing
	default:
		out.text = v.draw(models, config)
		if nothing != nil {
			nothing = exitf(exitNo, "") // the banner has said it
		}
	}
	return out, errors.Join(err, nothing)
}

// ask returns the models that the view shows: all, or the one.
func (v statusView) ask(ctx context.Context) ([]admin.Model, error) {
	if v.model == "" {
		var list admin.Models
		err := v.client.get(ctx, "/v1/models", &list)
		return list.Models, err
	}
	var m admin.Model
	err := v.client.get(ctx, modelPath(v.model), &m)
	return []admin.Model{m}, err
}

func (v statusView) draw(models []admin.Model, config *admin.Config) string {
	var b strings.Builder
	v.screen.banner(&b, config)
	if v.model == "" {
		v.screen.models(&b, models)
	} else {
		v.screen.model(&b, models[0], time.Now())
	}
	return b.String()
}

func (v statusView) encode(value any) (string, error) {
	if v.compact {
		encoded, err := json.Marshal(value)
		return string(encoded) + "\n", err
	}
	encoded, err := json.MarshalIndent(value, "", "  ")
	return string(encoded) + "\n", err
}
