package gate

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/cmd/demo/process"
)

// Options say how to run headgate.
type Options struct {
	Headgate string // path of the program
	Envoy    string // path of Envoy; empty: headgate looks for one
	Config   string // folder
	State    string // folder
	Admin    string // HOST:PORT
	Log      string // file
}

// Gate is a running headgate with its Envoy.
type Gate struct {
	Client
	*process.Process

	options Options
}

// readyWithin is how long headgate and Envoy have to start.
const readyWithin = 30 * time.Second

// stopWithin is longer than headgate takes to drain Envoy and end.
const stopWithin = 20 * time.Second

// Start runs headgate.
func Start(o Options) (*Gate, error) {
	args := []string{"run", "--config", o.Config, "--state", o.State, "--admin", o.Admin}
	if o.Envoy != "" {
		args = append(args, "--envoy", o.Envoy)
	}
	p, err := process.Start(process.Spec{Name: "headgate", Path: o.Headgate, Args: args, Log: o.Log})
	if err != nil {
		return nil, err
	}
	return &Gate{Client: Client{URL: "http://" + o.Admin}, Process: p, options: o}, nil
}

// Await calls ok until it returns nil, headgate ends, or the time to start is
// over.
func (g *Gate) Await(ctx context.Context, what string, ok func(context.Context) error) error {
	deadline := time.NewTimer(readyWithin)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.Done():
			return g.Ended()
		case <-deadline.C:
			return fmt.Errorf("%s: not within %s: %w; see %s", what, readyWithin, err, g.Log)
		case <-again.C:
		}
	}
}

// Stop ends headgate and its Envoy. Envoy is made to outlive headgate; one
// that is left because headgate could not end it is killed.
func (g *Gate) Stop() error {
	err := g.Process.Stop(stopWithin)
	killLeftEnvoy(filepath.Clean(g.options.State))
	return err
}
