package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// promise bounds how often a rollout may end wrongly.
type promise struct {
	_ struct{} `like:"{false_rollback: 5%, false_promotion: 5%}"`
	_ struct{} `hint:"confidence=write false_rollback and false_promotion, 95% is 5% of each;alpha|false_positive=write false_rollback;beta|false_negative=write false_promotion"`

	FalseRollback  risk `field:"false_rollback" default:"5%" doc:"Of candidates that keep every limit, the largest part that is rolled back."`
	FalsePromotion risk `field:"false_promotion" default:"5%" doc:"Of candidates that break a limit, the largest part that is promoted."`
}

// risk is the chance of an error that a promise allows.
type risk struct{ quantity }

var riskForm = form(`^`+decimal+`%$`, "must be a percentage like 5%")

func (r *risk) set(word string) error {
	if numeric.MatchString(word) {
		return errors.New("has no unit; write it like 5%")
	}
	if err := riskForm.check(word); err != nil {
		return err
	}
	if err := r.parse(word); err != nil {
		return err
	}
	switch {
	case r.number <= 0:
		return errors.New("must be more than 0%: no finite number of requests can promise that")
	case r.number > 50:
		return errors.New("must be at most 50%")
	}
	return nil
}

func (*risk) schema() schema { return riskForm.schema() }

type onTimeout routing.OnTimeout

var onTimeouts = choice{
	words:   []string{"pause", "promote", "rollback"},
	foreign: map[string]string{"abort": "rollback", "fail": "rollback", "hold": "pause", "wait": "pause", "continue": "promote", "proceed": "promote"},
}

func (o *onTimeout) set(word string) error { *o = onTimeout(word); return onTimeouts.check(word) }
func (*onTimeout) schema() schema          { return onTimeouts.schema() }

type mode routing.Mode

var modes = choice{
	words:   []string{"act", "observe"},
	foreign: map[string]string{"dryrun": "observe", "monitor": "observe", "enforce": "act"},
}

func (m *mode) set(word string) error { *m = mode(word); return modes.check(word) }
func (*mode) schema() schema          { return modes.schema() }

// control is what a candidate is compared with that serves everyone.
type control struct {
	routing.Control
	word string
}

const (
	controlNone   = "none"
	controlMirror = "mirror"
)

var controlForm = form(`^(none|(mirror +)?`+strings.Trim(shareForm.re.String(), "^$")+`|mirror)$`,
	"must be mirror, mirror 10%, a share of the users like 1%, or none")

// largestControl is the largest part of the users that can be held back.
const largestControl = routing.Whole / 2

func (c *control) set(word string) error {
	if *c = (control{word: word}); word == controlNone {
		return nil
	}
	if err := controlForm.check(word); err != nil {
		return err
	}
	rest, mirror := strings.CutPrefix(word, controlMirror)
	c.Mirror = mirror
	if rest = strings.TrimSpace(rest); rest == "" {
		c.Share = routing.Whole
		return nil
	}
	var s share
	if err := s.set(rest); err != nil {
		return err
	}
	if c.Share = routing.Share(s); !mirror && c.Share > largestControl {
		return fmt.Errorf("must be at most %s of the users; copies of requests are mirror %s", largestControl, rest)
	}
	return nil
}

func (*control) schema() schema { return controlForm.schema() }

// policy compiles what judges a rollout. Steps are already compiled, and get
// what holds for all of them.
func (c *compiler) policy(f *file, steps []routing.Step) routing.Policy {
	r, p := f.Rollout, (*path)(nil).in("rollout")
	if r == nil {
		return defaultPolicy
	}
	out := routing.Policy{
		Gates:     c.gates(r.Gates, p.in("gates")),
		Promise:   routing.Promise{FalseRollback: r.Promise.FalseRollback.part(), FalsePromotion: r.Promise.FalsePromotion.part()},
		Mode:      routing.Mode(r.Mode),
		MaxExcess: uint64(r.MaxExcess),
	}
	if out.Mode == routing.ModeObserve && len(r.Gates) == 0 {
		c.d.reject(p.in("mode"), string(r.Mode), "needs gates: without any there is nothing to observe")
	}
	c.controls(f, steps, p.in("steps"))
	c.timeouts(r, steps, p)
	c.measurable(r.Gates, out.Gates, steps, p.in("gates"))
	return out
}

var defaultPolicy = routing.Policy{
	Promise: routing.Promise{FalseRollback: 0.05, FalsePromotion: 0.05},
	Mode:    routing.ModeAct,
}

// timeouts gives the steps that wait for gates their at_most and on_timeout.
func (c *compiler) timeouts(r *rollout, steps []routing.Step, p *path) {
	if r.OnTimeout != nil && r.AtMost == nil && !slices.ContainsFunc(r.Steps, func(s step) bool { return s.AtMost != nil }) {
		c.d.reject(p.in("on_timeout"), string(*r.OnTimeout), needsAtMost)
	}
	if r.AtMost != nil && len(r.Gates) == 0 {
		c.d.reject(p.in("at_most"), c.written(p.in("at_most")), noGates)
	}
	for i := range steps {
		s := &steps[i]
		var own step
		if r.Strategy == nil {
			own = r.Steps[i]
			c.ownTimeout(r, &own, s, p.in("steps").at(i))
		}
		if s.Hold || s.Unwatched() {
			continue
		}
		switch {
		case own.AtMost != nil:
			s.AtMost = time.Duration(*own.AtMost)
		case r.AtMost != nil:
			if s.AtMost = time.Duration(*r.AtMost); s.AtMost < s.For {
				rule := fmt.Sprintf("is shorter than for of steps[%d], %s", i, brief(s.For))
				if r.Strategy == nil {
					rule += "; a step can have an at_most of its own"
				}
				c.d.reject(p.in("at_most"), c.written(p.in("at_most")), rule)
			}
		default:
			continue
		}
		s.OnTimeout = routing.OnTimeoutPause
		if then := cmp.Or(own.OnTimeout, r.OnTimeout); then != nil {
			s.OnTimeout = routing.OnTimeout(*then)
		}
	}
}

const (
	needsAtMost = "needs at_most"
	noGates     = "needs gates: a step without them ends when for is over"
)

// ownTimeout checks what a step says by itself.
func (c *compiler) ownTimeout(r *rollout, own *step, s *routing.Step, at *path) {
	waits := ""
	switch {
	case s.Hold:
		waits = "needs for: without it the step waits for a person"
	case s.Unwatched():
		waits = "needs for: without it the last step ends at once"
	case len(r.Gates) == 0:
		waits = noGates
	}
	if own.OnTimeout != nil {
		switch word := string(*own.OnTimeout); {
		case own.AtMost == nil && r.AtMost == nil:
			c.d.reject(at.in("on_timeout"), word, needsAtMost)
		case waits != "" && own.AtMost == nil && len(r.Gates) > 0:
			c.d.reject(at.in("on_timeout"), word, waits)
		}
	}
	if own.AtMost == nil {
		return
	}
	switch p := at.in("at_most"); {
	case waits != "":
		c.d.reject(p, c.written(p), waits)
	case time.Duration(*own.AtMost) < s.For:
		c.d.reject(p, c.written(p), "is shorter than for, "+brief(s.For))
	}
}

// controls takes what each step is compared with.
func (c *compiler) controls(f *file, steps []routing.Step, at *path) {
	for i := range f.Rollout.Steps {
		written := f.Rollout.Steps[i].Control
		if written == nil || written.Share == 0 {
			continue
		}
		s, p := &steps[i], at.at(i).in("control")
		switch {
		case s.Kind == routing.StepShadow:
			c.d.reject(p, written.word, "belongs to traffic: 100%; a shadow is compared with what stable answers to the same requests")
		case s.Share < routing.Whole:
			c.d.reject(p, written.word, "belongs to traffic: 100%; below, the candidate is compared with the users of stable")
		case s.For == 0 && len(f.Rollout.Gates) == 0:
			c.d.reject(p, written.word, "needs for, or gates: without them the last step ends at once")
		case written.Mirror && !mayCopy(f):
			c.d.reject(p, written.word, needsRepeatable)
		}
		s.Control = written.Control
	}
}

const needsRepeatable = "sends a request to two versions, which needs repeatable: true, or a match of no methods but GET and HEAD"

// mayCopy tells whether a model's requests may be answered by two versions.
func mayCopy(f *file) bool { return f.Repeatable || readsOnly(f.Match.Methods) }

// readsOnly tells whether requests of these methods change nothing.
func readsOnly(methods []method) bool {
	return len(methods) > 0 && !slices.ContainsFunc(methods, func(m method) bool { return m != "GET" && m != "HEAD" })
}

// measurable refuses gates that no step can measure.
func (c *compiler) measurable(written []gate, gates []routing.Gate, steps []routing.Step, at *path) {
	if len(gates) < len(written) || len(steps) == 0 {
		return // other things are wrong
	}
	for i := range gates {
		g := &gates[i]
		if slices.ContainsFunc(steps, func(s routing.Step) bool { return measures(&s, g) }) {
			continue
		}
		why := "at traffic: 100% nobody is left to compare with; begin with a smaller share, or give the step control: mirror or control: 1%"
		if steps[len(steps)-1].Unwatched() {
			why = "the only step ends at once; give it for, or begin with a smaller share"
		}
		c.d.reject(at.at(i).in(string(g.Bound)), g.Written, "no step can measure it: "+why)
	}
}

// measures tells whether a gate gets data in a step.
func measures(s *routing.Step, g *routing.Gate) bool {
	if s.Unwatched() {
		return false
	}
	return g.Bound == routing.BoundMax || s.Kind == routing.StepShadow || s.Share < routing.Whole || s.Control.Share > 0
}
