package main

import (
	"context"
	"encoding/json"
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
such model.

With --watch it goes on: on a terminal it redraws, elsewhere it prints what has
changed, with -o json one line each time.`,
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
		text, err := v.render(cmd.Context())
		if err != nil {
			return err
		}
		_, err = io.WriteString(p.stdout, text)
		return err
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

func (v statusView) render(ctx context.Context) (string, error) {
	var b strings.Builder
	if v.model == "" {
		var list admin.Models
		if err := v.client.get(ctx, "/v1/models", &list); err != nil {
			return "", err
		}
		if v.json {
			return v.encode(list.Models)
		}
		v.screen.models(&b, list.Models)
		return b.String(), nil
	}
	var m admin.Model
	if err := v.client.get(ctx, modelPath(v.model), &m); err != nil {
		return "", err
	}
	if v.json {
		return v.encode(m)
	}
	v.screen.model(&b, m, time.Now())
	return b.String(), nil
}

func (v statusView) encode(value any) (string, error) {
	if v.compact {
		encoded, err := json.Marshal(value)
		return string(encoded) + "\n", err
	}
	encoded, err := json.MarshalIndent(value, "", "  ")
	return string(encoded) + "\n", err
}

// watch renders again and again until ctx ends. A headgate that does not answer
// is shown, and asked again.
func (v statusView) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last string
	for {
		text, err := v.render(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case isNotFound(err):
			return err
		case err != nil:
			text = "headgate: " + plainLines(err.Error()) + "\n"
		}
		switch {
		case v.screen.terminal && !v.json:
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
			if last == "" {
				text = "\x1b[2J" + text
			}
		case text == last:
			text = ""
		case err != nil:
			_, _ = io.WriteString(v.stderr, text)
			last, text = text, ""
		}
		if text != "" {
			last = text
			if _, err := io.WriteString(v.stdout, text); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
