package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
)

const serveCommand = "serve-model"

// drainWithin is how long requests under way have when the server ends.
const drainWithin = 2 * time.Second

// keepAlive is how long a connection may be silent. It is longer than the
// demo: a server that closes a connection while a proxy sends a request on it
// makes that request fail. ReadHeaderTimeout counts here too, because Envoy
// opens connections that get their first request much later.
const keepAlive = 10 * time.Minute

// serveOptions are the options of serve-model.
type serveOptions struct {
	version string
	recipe  string
	listen  string
	leash   bool
	faults  server.Faults
}

func parseServe(args []string, stderr io.Writer) (serveOptions, error) {
	o := serveOptions{faults: server.Faults{Skew: map[string]float64{}}}
	f := flag.NewFlagSet("demo "+serveCommand, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.version, "version", "v1.0.0", "`name` of the version, told in each answer")
	f.StringVar(&o.recipe, "recipe", string(model.Size), fmt.Sprintf("what the model is fitted on, one of `%v`", model.Recipes()))
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "`HOST:PORT`")
	f.BoolVar(&o.leash, "leash", false, "end when standard input is closed")
	f.Float64Var(&o.faults.FailRate, "fail-rate", 0, "`share` of the predictions that fail, 0 to 1")
	f.DurationVar(&o.faults.Delay, "delay", 0, "`time` added to predictions")
	f.Float64Var(&o.faults.SlowRate, "slow-rate", 1, "`share` of the predictions that have the delay, 0 to 1")
	f.Func("skew", "`FEATURE=FACTOR` by which a feature is multiplied before the model sees it; may be repeated", func(s string) error {
		name, factor, ok := strings.Cut(s, "=")
		v, err := strconv.ParseFloat(factor, 64)
		if !ok || err != nil {
			return errors.New("must be FEATURE=FACTOR")
		}
		o.faults.Skew[name] = v
		return nil
	})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q: is no option", f.Arg(0))
	}
	if o.faults.SlowRate == 0 {
		o.faults.Delay = 0
	}
	return o, nil
}

// args is the reverse of parseServe.
func (o serveOptions) args() []string {
	out := []string{
		serveCommand, "--version", o.version, "--recipe", o.recipe, "--listen", o.listen,
		"--fail-rate", strconv.FormatFloat(o.faults.FailRate, 'g', -1, 64), "--delay", o.faults.Delay.String(),
	}
	if o.faults.SlowRate > 0 {
		out = append(out, "--slow-rate", strconv.FormatFloat(o.faults.SlowRate, 'g', -1, 64))
	}
	for name, factor := range o.faults.Skew {
		out = append(out, "--skew", name+"="+strconv.FormatFloat(factor, 'g', -1, 64))
	}
	if o.leash {
		out = append(out, "--leash")
	}
	return out
}

// serve is a model server. The first line that it prints ends with its
// address.
func serve(ctx context.Context, args []string, stdin io.Reader, stdout, stderr *os.File) int {
	o, err := parseServe(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitFine
	}
	if err != nil {
		say(stderr, "demo serve-model: %v", err)
		return exitUsage
	}
	if o.leash {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, stdin) // until it is closed, whatever the reason
			cancel()
		}()
	}
	if err := o.serve(ctx, stdout); err != nil {
		say(stderr, "demo serve-model: %v", err)
		return exitNo
	}
	return exitFine
}

func (o serveOptions) serve(ctx context.Context, stdout io.Writer) error {
	data, err := model.Load()
	if err != nil {
		return err
	}
	m, err := model.Cook(data, model.Recipe(o.recipe))
	if err != nil {
		return fmt.Errorf("--recipe: %w", err)
	}
	s, err := server.New(o.version, m, data.Features, o.faults)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	say(stdout, "%s: %d features, %.1f%% right on %d held-out rows, at %s", o.version,
		len(m.Features), 100*m.Accuracy(data, data.HeldOut), len(data.HeldOut), l.Addr())
	h := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: keepAlive, IdleTimeout: keepAlive}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		drain, cancel := context.WithTimeout(context.Background(), drainWithin)
		defer cancel()
		_ = h.Shutdown(drain) // what is not done by then is cut off with the process
	})
	defer stop()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-drained
	return nil
}
