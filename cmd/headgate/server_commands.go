package main

import "github.com/spf13/cobra"

func (p *program) runCommand() *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use:     "run --config DIR [--state DIR] [--envoy PATH]",
		GroupID: "server",
		Short:   "Serve with an Envoy of its own",
		Long: `run is all of headgate in one process, with Envoy as a child. Envoy is started
again when it dies. What ends headgate, and what becomes of Envoy:

  Ctrl-C, SIGTERM   requests under way are finished, at most --drain-timeout
                    long, then Envoy and headgate end: nobody is served
  the same, with    headgate ends at once, Envoy serves on as it is
  --keep-envoy
  SIGKILL, a crash  Envoy serves on as it is

An Envoy that serves on keeps its versions and shares; no step advances. The next
run with the same --state takes it over and goes on where the journal says. So
with --keep-envoy headgate can be restarted or upgraded without an outage.`,
		Example: `  headgate run --config models/
  headgate run --config models/ --state /var/lib/headgate --envoy /usr/bin/envoy`,
		Args: cobra.NoArgs,
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.Envoy, "envoy", "", "`PATH` of the Envoy to start (default: $ENVOY, then as make installed it, then PATH)")
	cmd.Flags().BoolVar(&o.KeepEnvoy, "keep-envoy", false, "on Ctrl-C and SIGTERM leave Envoy serving: the next run takes it over")
	p.serverCommand(cmd, &o, true)
	return cmd
}

func (p *program) serveCommand() *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use:     "serve --config DIR [--state DIR] [--grpc ADDRESS]",
		GroupID: "server",
		Short:   "Serve Envoys that connect by themselves",
		Long: `serve is run without the child: Envoys connect to --grpc by themselves. Start them
with what headgate bootstrap prints.`,
		Example: `  headgate serve --config models/ --grpc unix:/run/headgate/grpc.sock
  headgate serve --config models/ --grpc 0.0.0.0:9901 \
    --grpc-cert server.pem --grpc-key server.key --grpc-client-ca envoys.pem`,
		Args: cobra.NoArgs,
	}
	o.flags(cmd)
	p.serverCommand(cmd, &o, false)
	return cmd
}

func (p *program) serverCommand(cmd *cobra.Command, o *serverOptions, withChild bool) {
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	_ = cmd.MarkFlagDirname("config")
	_ = cmd.MarkFlagDirname("state")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		return runServer(cmd.Context(), *o, withChild)
	}
}
