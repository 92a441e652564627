package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

// defaultAdmin is where the admin surface listens, and where the other commands
// look for it.
const defaultAdmin = "127.0.0.1:9900"

// serverOptions are the flags of run and serve.
type serverOptions struct {
	Config string // the configuration directory
	State  string // the folder of journal, sockets and what run keeps of its Envoy
	Envoy  string // the Envoy to start; empty: looked for. Only for run

	KeepEnvoy bool // SIGTERM and SIGINT leave Envoy serving. Only for run

	Admin       string   // address of the admin surface
	AdminTokens string   // tokens file; empty: none
	AdminNames  []string // further host names of the admin surface
	AdminCert   string   // certificate of the admin surface, PEM; empty: plain HTTP
	AdminKey    string

	GRPC         string // address for Envoys; empty: a unix socket in State
	GRPCCert     string // PEM files of mutual TLS; all or none
	GRPCKey      string
	GRPCClientCA string

	LogFormat    string // text | json
	LogLevel     slog.Level
	DrainTimeout time.Duration // how long SIGTERM waits for requests under way
}

// flags adds the flags that run and serve share.
func (o *serverOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Config, "config", "", "`DIR` with one file per model (required)")
	f.StringVar(&o.State, "state", ".headgate", "`DIR` of the journal; made when it is not there")
	f.StringVar(&o.Admin, "admin", defaultAdmin, "`ADDRESS` for people and scripts: HOST:PORT or unix:PATH")
	f.StringVar(&o.AdminTokens, "admin-tokens", "", "`FILE` that names who may do what; needed beyond loopback")
	f.StringSliceVar(&o.AdminNames, "admin-name", nil, "further host `NAME` by which the admin address is called")
	f.StringVar(&o.AdminCert, "admin-cert", "", "PEM `FILE`: serve the admin address by TLS")
	f.StringVar(&o.AdminKey, "admin-key", "", "PEM `FILE` of its key")
	f.StringVar(&o.GRPC, "grpc", "", "`ADDRESS` for Envoys: HOST:PORT or unix:PATH (default: a socket in --state)")
	f.StringVar(&o.GRPCCert, "grpc-cert", "", "PEM `FILE`: the server's certificate; beyond loopback TLS is needed, and mutual")
	f.StringVar(&o.GRPCKey, "grpc-key", "", "PEM `FILE` of its key")
	f.StringVar(&o.GRPCClientCA, "grpc-client-ca", "", "PEM `FILE` of the authority that signs the Envoys' certificates")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 5*time.Second, "how long SIGTERM waits for requests under way, at most 9s")
	f.StringVar(&o.LogFormat, "log-format", "text", "`FORM`: text or json")
	f.TextVar(&o.LogLevel, "log-level", slog.LevelInfo, "`LEVEL`: debug, info, warn or error")
}

// check tells all that is wrong with the flags.
func (o *serverOptions) check() error {
	var errs []error
	if o.Config == "" {
		errs = append(errs, errors.New("--config DIR: must be there"))
	}
	if o.State == "" {
		errs = append(errs, errors.New("--state DIR: must not be empty"))
	}
	if (o.AdminCert == "") != (o.AdminKey == "") {
		errs = append(errs, errors.New("--admin-cert, --admin-key: must be given together"))
	}
	mutual := o.mutualTLS()
	if any := o.GRPCCert != "" || o.GRPCKey != "" || o.GRPCClientCA != ""; any && !mutual {
		errs = append(errs, errors.New("--grpc-cert, --grpc-key, --grpc-client-ca: must be given together"))
	}
	errs = append(errs, admin.CheckExposure(o.Admin, o.AdminTokens != ""))
	if o.GRPC != "" {
		errs = append(errs, admin.CheckGRPCExposure(o.GRPC, mutual))
	}
	if o.DrainTimeout < 0 || o.DrainTimeout > 9*time.Second {
		errs = append(errs, fmt.Errorf("--drain-timeout: %v: must be from 0s to 9s", o.DrainTimeout))
	}
	if o.LogFormat != "text" && o.LogFormat != "json" {
		errs = append(errs, fmt.Errorf("--log-format: %q: must be text or json", o.LogFormat))
	}
	if err := errors.Join(errs...); err != nil {
		return usagef("%v", err)
	}
	return nil
}

func (o *serverOptions) mutualTLS() bool {
	return o.GRPCCert != "" && o.GRPCKey != "" && o.GRPCClientCA != ""
}

// logger writes to w in the form that the flags ask for. Both forms quote what
// could break a line, and leave out what is empty.
func (o *serverOptions) logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: o.LogLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
			return slog.Attr{}
		}
		return a
	}}
	if o.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
