package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes that scripts may rely on.
const (
	exitOK     = 0
	exitNo     = 1 // the answer is no, or there is none
	exitUsage  = 2 // wrong use
	exitLosses = 3 // done, with losses that are named
)

// exitError ends the program with a code. An empty message prints nothing.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

func exitf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Sprintf(format, args...)}
}

func usagef(format string, args ...any) error { return exitf(exitUsage, format, args...) }

// program is what every command works with.
type program struct {
	stdout, stderr *output
	getenv         func(string) string
	screen         screen // of stdout
	connect        connectOptions
	began          bool // the command line was fine, a command runs
	quiet          bool // stdout is for a script: no progress on it
}

// output remembers the first error of writing, so that a command whose output
// was lost does not end well.
type output struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(text []byte) (int, error) {
	n, err := o.w.Write(text)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

func (o *output) printf(format string, args ...any) { _, _ = fmt.Fprintf(o, format, args...) }

// run is headgate as a function: it takes a command line and returns the exit
// code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	p := &program{stdout: &output{w: stdout}, stderr: &output{w: stderr}, getenv: getenv, screen: screenOf(stdout, getenv)}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && p.stdout.err != nil {
		err = fmt.Errorf("write output: %w", p.stdout.err)
	}
	if err == nil {
		return exitOK
	}
	var exit *exitError
	switch {
	case errors.As(err, &exit):
	case p.began:
		exit = &exitError{exitNo, err.Error()}
	default: // cobra did not like the command line
		exit = &exitError{exitUsage, err.Error()}
	}
	if exit.message != "" {
		p.stderr.printf("headgate: %s\n", plainLines(exit.message))
	}
	return exit.code
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "headgate",
		Short: "Release ML models behind Envoy, step by step",
		Long: `headgate moves traffic from one version of a model to the next, step by step,
and back when it has to. It is an xDS control plane for Envoy, with a journal.

Start it with run (Envoy is a child of it) or serve (Envoys connect to it). These
need no headgate that runs: validate, simulate, compare, schema, bootstrap,
version, and plan with a file and --rate. All other commands ask one.`,
		Example: `  headgate validate models/
  headgate run --config models/ --state .headgate
  headgate status churn --watch
  headgate promote churn --reason "looks good" --wait`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		PersistentPreRun: func(*cobra.Command, []string) {
			p.began = true
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.stderr)
			_ = cmd.Help()
			return usagef("")
		},
	}
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "Servers:"},
		&cobra.Group{ID: "release", Title: "Moving traffic:"},
		&cobra.Group{ID: "look", Title: "Looking:"},
		&cobra.Group{ID: "config", Title: "Configuration:"},
	)
	root.AddCommand(p.runCommand(), p.serveCommand())
	root.AddCommand(p.statusCommand(), p.explainCommand(), p.historyCommand(), p.envoysCommand(), p.configCommand(), p.versionCommand())
	root.AddCommand(p.actionCommands()...)
	root.AddCommand(p.validateCommand(), p.simulateCommand(), p.planCommand(), p.schemaCommand(), p.bootstrapCommand(), p.compareCommand())
	return root
}
