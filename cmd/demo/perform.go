package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/demo/gate"
	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/process"
	"github.com/headgate/headgate/cmd/demo/screen"
	"github.com/headgate/headgate/cmd/demo/traffic"
)

// performance is one scene under way.
type performance struct {
	options
	scene  scene
	screen *screen.Screen
	began  time.Time
	events []screen.Event

	dir     string // of everything below
	conf    string // the model's file
	address string // where users ask
	admin   string // HOST:PORT of headgate's admin API
	models  []*process.Process
	gate    *gate.Gate
	ledger  *traffic.Ledger
}

// playAll plays the scenes one after the other and returns the exit code. A
// scene that went wrong does not keep the next from being played.
func playAll(ctx context.Context, o options, stdout, stderr *os.File) int {
	shown := screen.New(stdout, o.plain)
	defer shown.Close()
	code := exitFine
	var lines []string
	for i, scene := range o.scenes {
		p := &performance{options: o, scene: scene, screen: shown, began: time.Now()}
		p.stay = o.stay && i == len(o.scenes)-1
		line, fine := p.perform(ctx, stderr)
		lines = append(lines, line)
		if !fine {
			code = exitNo
		}
		if ctx.Err() != nil {
			return exitNo
		}
	}
	if len(lines) > 1 {
		shown.Print(strings.Join(lines, "\n") + "\n")
	}
	if code == exitFine && !o.stay {
		shown.Print(suggestions(o.scenes) + "  " + o.headgate + " --help")
	}
	return code
}

// perform plays a scene from start to end. It returns what came of it in a
// line, and whether that is as it should be.
func (p *performance) perform(ctx context.Context, stderr io.Writer) (line string, fine bool) {
	s, err := p.play(ctx)
	if err == nil {
		var text strings.Builder
		s.write(&text, p.screen.Palette())
		p.screen.Print(text.String())
		if p.stay {
			err = p.stayOn(ctx)
		}
	}
	fine = err == nil && len(s.wrong) == 0
	for _, left := range p.end() {
		say(stderr, "demo: %v", left)
		fine = false
	}
	p.clean(stderr, fine)
	switch {
	case errors.Is(err, context.Canceled):
		say(stderr, "demo: interrupted; everything is ended")
	case err != nil:
		say(stderr, "demo: %v", err)
		return fmt.Sprintf("scene %d  FAILED: %v", p.scene.number, err), false
	}
	return s.line(), fine
}

// play starts everything, lets the scene happen, and says what came of it.
func (p *performance) play(ctx context.Context) (summary, error) {
	p.tell(fmt.Sprintf("scene %d, %s", p.scene.number, p.scene.title))
	p.tell(p.scene.before)
	var s summary
	if err := p.setUp(ctx); err != nil {
		return s, err
	}
	status, err := p.happen(ctx, &s)
	if err != nil {
		return s, err
	}
	s.took = time.Since(p.began)
	s.outcome = outcome{scene: p.scene, status: status, account: p.ledger.Account(time.Now(), time.Minute)}
	s.stages = p.ledger.Stages()
	s.wrong = s.outcome.wrong()
	return s, nil
}

// setUp starts the models, headgate and Envoy, and returns when the first
// answer has come through.
func (p *performance) setUp(ctx context.Context) error {
	var err error
	if p.dir, err = os.MkdirTemp("", "headgate-demo-"); err != nil {
		return err
	}
	r := release{
		Stable: p.scene.stable.version, Candidate: p.scene.candidate.version,
		Shares: p.scene.shares, For: p.step, Gates: gates,
	}
	if r.StableAt, err = p.startModel(ctx, p.scene.stable); err != nil {
		return err
	}
	if r.CandidateAt, err = p.startModel(ctx, p.scene.candidate); err != nil {
		return err
	}
	if r.Listen, err = freeAddress(); err != nil {
		return err
	}
	p.address = "http://" + r.Listen + "/predict"
	if err := p.configure(r); err != nil {
		return err
	}
	return p.startGate(ctx)
}

// startModel starts a model server and returns its address.
func (p *performance) startModel(ctx context.Context, d deployment) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	o := serveOptions{version: d.version, recipe: string(d.recipe), listen: "127.0.0.1:0", leash: true, faults: d.faults}
	first := process.NewFirstLine()
	m, err := process.Start(process.Spec{
		Name: "the server of " + d.version, Path: self, Args: o.args(),
		Log: filepath.Join(p.dir, d.version+".log"), Leash: true, Output: first,
	})
	if err != nil {
		return "", err
	}
	p.models = append(p.models, m)
	select {
	case line := <-first.C():
		p.tell(line)
		return line[strings.LastIndexByte(line, ' ')+1:], nil
	case <-m.Done():
		return "", m.Ended()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// requestFile is the body of a request, for people who try one.
const requestFile = "request.json"

// configure writes the configuration, and a request to try.
func (p *performance) configure(r release) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	p.conf = filepath.Join(p.dir, "conf", modelName+".yaml")
	if err := os.Mkdir(filepath.Dir(p.conf), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(p.conf, []byte(text), 0o600); err != nil {
		return err
	}
	data, err := model.Load()
	if err != nil {
		return err
	}
	body, err := traffic.Body(data.Features, data.HeldOut[0])
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, requestFile), body, 0o600)
}

func (p *performance) startGate(ctx context.Context) error {
	var err error
	if p.admin, err = freeAddress(); err != nil {
		return err
	}
	p.gate, err = gate.Start(gate.Options{
		Headgate: p.headgate, Envoy: p.envoy, Config: filepath.Dir(p.conf),
		State: filepath.Join(p.dir, "state"), Admin: p.admin, Log: filepath.Join(p.dir, "headgate.log"),
	})
	if err != nil {
		return err
	}
	if err := p.gate.Await(ctx, "headgate ready", p.gate.Ready); err != nil {
		return err
	}
	g, err := p.generator(traffic.NewLedger())
	if err != nil {
		return err
	}
	err = p.gate.Await(ctx, "a first answer", func(context.Context) error {
		version, err := g.Ask()
		if err == nil && version != p.scene.stable.version {
			return fmt.Errorf("it came from %s", version)
		}
		return err
	})
	if err != nil {
		return err
	}
	p.tell("Envoy answers at " + p.address + ", everyone gets " + p.scene.stable.version)
	p.tell("elsewhere: " + p.headgate + " status " + modelName + " --admin " + p.admin)
	return nil
}

func (p *performance) generator(l *traffic.Ledger) (*traffic.Generator, error) {
	data, err := model.Load()
	if err != nil {
		return nil, err
	}
	return traffic.NewGenerator(traffic.Options{
		URL: p.address, Rate: p.rate, Users: 1000, Visitors: 30, AnonymousShare: 0.1,
		Features: data.Features, Rows: data.HeldOut, Seed: 1,
	}, l)
}

// tell shows an event.
func (p *performance) tell(text string) {
	e := screen.Event{At: time.Since(p.began), Text: text}
	p.events = append(p.events, e)
	p.screen.Event(e)
}

// end ends everything in the reverse order of its start, and returns what went
// wrong with that.
func (p *performance) end() []error {
	var left []error
	if p.gate != nil {
		if err := p.gate.Stop(); err != nil {
			left = append(left, err)
		}
	}
	for _, m := range slices.Backward(p.models) {
		if err := m.Stop(2 * drainWithin); err != nil {
			left = append(left, err)
		}
	}
	return left
}

// clean removes the folder, unless someone may want to look into it.
func (p *performance) clean(stderr io.Writer, fine bool) {
	switch {
	case p.dir == "":
	case p.keep:
		p.screen.Print("configuration, state and logs are in " + p.dir)
	case fine:
		_ = os.RemoveAll(p.dir)
	default:
		say(stderr, "demo: logs, configuration and state are in %s", p.dir)
		say(stderr, "%s", lastLines(filepath.Join(p.dir, "headgate.log"), 10))
	}
}

// lastLines returns the end of a log, each line indented.
func lastLines(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}

// suggestions say what to try next: the scenes that were not played, and more.
func suggestions(played []scene) string {
	var b strings.Builder
	b.WriteString("What to try next:\n")
	line := func(what, why string) { fmt.Fprintf(&b, "  %-29s  %s\n", what, why) }
	for _, s := range scenes {
		if !slices.ContainsFunc(played, func(p scene) bool { return p.number == s.number }) {
			line(fmt.Sprintf("make demo SCENE=%d", s.number), s.title)
		}
	}
	line("make demo SCENE=1 ARGS=--stay", "goes on until Ctrl-C, with commands to try")
	line("cmd/demo/example", "the same by hand: two models and headgate")
	return b.String()
}
