package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/routing/config"
)

func (p *program) validateCommand() *cobra.Command {
	var output string
	var running bool
	cmd := &cobra.Command{
		Use:     "validate DIR",
		GroupID: "config",
		Short:   "Check a configuration directory",
		Long: `validate reads DIR as run and serve do, and prints every mistake in all of its
files with file, line, path and rule. The exit code is 1 when there is one.
What is not wrong and should be seen to is a warning: a certificate that ends
soon, a gate that a long step cannot measure.

What is fine by itself can still be refused by a headgate in the middle of a
rollout, like a version taken away that has users. With --running, or --admin,
the files are sent to it and it tells whether it would take them now. Nothing
changes by that.`,
		Example: "  headgate validate models/\n  headgate validate models/ -o json\n  headgate validate models/ --running",
		Args:    exactly("DIR"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	outputFlag(cmd, &output, "text")
	cmd.Flags().BoolVar(&running, "running", false, "ask the running headgate too")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		loaded, err := config.Load(args[0])
		mistakes, asked := mistakesOf(err), ""
		if err == nil && (running || cmd.Flags().Changed("admin")) {
			if mistakes, asked, err = p.askCheck(cmd.Context(), args[0]); err != nil {
				return err
			}
		}
		switch {
		case output == "json":
			if err := p.printJSON(mistakes); err != nil {
				return err
			}
		case len(mistakes) == 0:
			p.stdout.printf("%s: fine: %s, %s%s\n", plain(args[0]),
				count(len(loaded.Models), "model"), count(len(loaded.Listeners), "listener"), plain(asked))
			for _, w := range config.Warnings(loaded, time.Now()) {
				p.stderr.printf("warning: %s\n", plain(w.String()))
			}
		default:
			for _, mistake := range mistakes {
				p.stdout.printf("%s\n", plain(mistake.Error()))
			}
			p.stderr.printf("headgate: %s: %s\n", plain(args[0]), count(len(mistakes), "mistake"))
		}
		if len(mistakes) > 0 {
			return exitf(exitNo, "")
		}
		return nil
	}
	return cmd
}

// askCheck has a running headgate look at the files of dir.
func (p *program) askCheck(ctx context.Context, dir string) (mistakes config.Errors, asked string, err error) {
	c, err := p.client()
	if err != nil {
		return nil, "", err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	read, open := <-config.Watch(watching, dir, config.Options{Log: slog.New(slog.DiscardHandler)})
	switch {
	case !open:
		return nil, "", ctx.Err()
	case read.Err != nil: // edited since it was fine
		return mistakesOf(read.Err), "", nil
	}
	body := admin.ConfigFiles{Files: map[string][]byte{}}
	for name, content := range read.Contents.Files {
		if filepath.IsLocal(name) { // an absolute name is read on headgate's machine
			body.Files[name] = content
		}
	}
	var answer admin.ConfigCheck
	if err := c.post(ctx, "/v1/config/check", body, &answer); err != nil {
		return nil, "", err
	}
	mistakes = config.Errors{}
	for _, l := range answer.Errors {
		mistakes = append(mistakes, config.Error{File: l.File, Line: l.Line, Path: l.Path, Message: l.Message})
	}
	return mistakes, "; the headgate at " + c.shown + " would take it now", nil
}

// mistakesOf lists what config.Load found; never nil.
func mistakesOf(err error) config.Errors {
	var mistakes config.Errors
	switch {
	case err == nil:
		return config.Errors{}
	case errors.As(err, &mistakes):
		return mistakes
	default:
		return config.Errors{{Message: err.Error()}}
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (p *program) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		GroupID: "config",
		Short:   "Print the JSON Schema of a model file",
		Long: `schema prints the JSON Schema by which an editor can complete and check model files.
What needs more than one place to be seen, only validate sees.`,
		Example: "  headgate schema > headgate.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := p.stdout.Write(config.Schema())
			return err
		},
	}
}

// bootstrapFlags are addresses as they are written.
type bootstrapFlags struct {
	node, cluster                 string
	server, extProc, als, admin   string
	ca, cert, key, tlsServiceName string
}

func (p *program) bootstrapCommand() *cobra.Command {
	var b bootstrapFlags
	cmd := &cobra.Command{
		Use:     "bootstrap --server ADDRESS",
		GroupID: "config",
		Short:   "Print what an Envoy has to be started with",
		Long: `bootstrap prints the bootstrap of an Envoy that belongs to the headgate at
ADDRESS, the --grpc address of serve. The files that it names are on Envoy's
machine. Beyond loopback mutual TLS is needed.`,
		Example: `  headgate bootstrap --server unix:/run/headgate/grpc.sock > envoy.yaml
  headgate bootstrap --node edge-7 --server headgate.internal:9901 \
    --tls-ca ca.pem --tls-cert edge-7.pem --tls-key edge-7.key > envoy.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			content, err := b.render()
			if err != nil {
				return usagef("%v", err)
			}
			_, err = p.stdout.Write(content)
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&b.server, "server", "", "`ADDRESS` of headgate: HOST:PORT or unix:PATH (required)")
	f.StringVar(&b.node, "node", "", "`ID` of this Envoy, unique among those of one headgate (default: the host's name)")
	f.StringVar(&b.cluster, "cluster", "", "`NAME` of the group it belongs to (default: headgate)")
	f.StringVar(&b.admin, "envoy-admin", "127.0.0.1:9902", "`ADDRESS` of Envoy's own admin interface, on loopback")
	f.StringVar(&b.extProc, "ext-proc", "", "`ADDRESS` of ext_proc when it is not --server")
	f.StringVar(&b.als, "access-log", "", "`ADDRESS` for access logs when it is not --server")
	f.StringVar(&b.ca, "tls-ca", "", "PEM `FILE` of the authority of headgate's certificate")
	f.StringVar(&b.cert, "tls-cert", "", "PEM `FILE` of this Envoy's certificate")
	f.StringVar(&b.key, "tls-key", "", "PEM `FILE` of its key")
	f.StringVar(&b.tlsServiceName, "tls-server-name", "", "`NAME` in headgate's certificate (default: the host of the address)")
	return cmd
}

func (b *bootstrapFlags) render() ([]byte, error) {
	options := envoy.BootstrapOptions{NodeID: b.node, Cluster: b.cluster}
	if options.NodeID == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("--node: must be given: %w", err)
		}
		options.NodeID = host
	}
	if b.server == "" {
		return nil, errors.New("--server ADDRESS: must be there")
	}
	for _, f := range []struct {
		flag, value string
		to          *envoy.Address
	}{
		{"--server", b.server, &options.Server}, {"--ext-proc", b.extProc, &options.ExtProc},
		{"--access-log", b.als, &options.ALS}, {"--envoy-admin", b.admin, &options.Admin},
	} {
		if f.value == "" {
			continue
		}
		address, err := envoy.ParseAddress(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.flag, err)
		}
		*f.to = address
	}
	if b.ca != "" || b.cert != "" || b.key != "" {
		options.TLS = &envoy.TLS{CA: b.ca, Certificate: b.cert, Key: b.key, ServerName: b.tlsServiceName}
	}
	options.RuntimeLayers = runtimeLayers()
	bootstrap, err := envoy.Bootstrap(options)
	if err != nil {
		return nil, err
	}
	return envoy.YAML(bootstrap)
}
