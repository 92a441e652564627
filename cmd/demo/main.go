// Command demo shows headgate at work. It fits two real models, serves them
// over HTTP, runs headgate with an Envoy in front of them, sends traffic, edits
// one word in a configuration file, and shows how the users move, and come back
// when the new model is served badly.
//
//	demo [--headgate PATH] [--envoy PATH] [--scene N,…] [--plain]
//	demo serve-model --version NAME --recipe RECIPE --listen HOST:PORT
//
// Everything it starts it ends, also when it fails or is interrupted. It exits
// with 0 when the scenes went as they should, with 1 when not, with 2 when it was
// called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitFine  = 0
	exitNo    = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr *os.File) int {
	if len(args) > 0 && args[0] == serveCommand {
		return serve(ctx, args[1:], stdin, stdout, stderr)
	}
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitFine
	}
	if err != nil {
		say(stderr, "demo: %v", err)
		return exitUsage
	}
	if o.check {
		return exitFine
	}
	return playAll(ctx, o, stdout, stderr)
}

// say prints a line. Nothing can be done about an output that is gone.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

// options is what a person can choose.
type options struct {
	headgate string // path
	envoy    string // path; empty: headgate looks for one
	scenes   []scene
	plain    bool
	step     time.Duration // how long each step of a rollout is held at least
	rate     float64       // requests a second
	keep     bool          // the folder, after the end
	stay     bool          // go on after the end, until interrupted
	check    bool          // nothing but the options
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var list string
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		say(stderr, "demo shows headgate at work.\n\nScenes:\n%s\nOptions:", listScenes())
		f.PrintDefaults()
	}
	f.StringVar(&o.headgate, "headgate", "", "`path` of headgate (default: beside this program, then PATH)")
	f.StringVar(&o.envoy, "envoy", "", "`path` of Envoy (default: headgate looks for one)")
	f.StringVar(&list, "scene", "1,2", "`numbers` of the scenes, or all")
	f.BoolVar(&o.plain, "plain", false, "print lines instead of drawing on the terminal")
	f.DurationVar(&o.step, "step", 5*time.Second, "how long each step of a rollout is held at least; it waits for the gates")
	f.Float64Var(&o.rate, "rate", 400, "requests a second")
	f.BoolVar(&o.keep, "keep", false, "keep the folder with configuration, state and logs")
	f.BoolVar(&o.stay, "stay", false, "go on after the last scene, until Ctrl-C, to try things by hand")
	f.BoolVar(&o.check, "check", false, "refuse wrong options, and do nothing else")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q: is no option", f.Arg(0))
	}
	if o.rate < 1 || o.rate > 5000 {
		return o, fmt.Errorf("--rate %v: must be from 1 to 5000", o.rate)
	}
	if o.step < time.Second || o.step > time.Hour {
		return o, fmt.Errorf("--step %s: must be from 1s to 1h", o.step)
	}
	var err error
	if o.scenes, err = findScenes(list); err != nil {
		return o, err
	}
	o.headgate, err = findHeadgate(o.headgate)
	return o, err
}

// findHeadgate returns the path of the program.
func findHeadgate(path string) (string, error) {
	if path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("--headgate: %w", err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "headgate")
		if _, err := exec.LookPath(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("headgate")
	if err != nil {
		return "", errors.New("--headgate: there is none beside this program or on PATH; `make build` builds it")
	}
	return path, nil
}
