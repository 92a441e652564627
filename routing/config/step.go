package config

import (
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// step is one stage of a rollout: the field of its kind, and options. A new
// kind is a field of group "kind" here and an entry in stepKinds.
type step struct {
	_ struct{} `needs:"kind" planned:"smoke,experiment,flag,flags,pairs" hint:"canary|weight|setWeight|stepWeight|canaryTrafficPercent|percent|share=write traffic: 10%;switch=write traffic: 100%;pause=write for, or leave it out to wait for a person;hold=leave out for to wait for a person;duration|interval|wait=write for;timeout=write at_most;setHeaderRoute=write overrides"`
	_ struct{} `hint:"mirror|setMirrorRoute|mirrorWeight=copies for the candidate are a step like {shadow: 10%, for: 1h}, copies for stable at traffic: 100% are control: mirror;gates|analysis|metrics=write gates in rollout, they hold for every step;promise|mode|max_excess=write it in rollout"`

	Traffic *share    `field:"traffic" one:"kind" doc:"Share of the users that get the candidate."`
	Shadow  *share    `field:"shadow" one:"kind" doc:"Share of the requests of which the candidate gets copies. Nobody sees its answers, and no user gets it."`
	For     *duration `field:"for" doc:"How long the step lasts at least. Until a person promotes when absent; a last step of 100% then ends at once."`

	AtMost    *duration  `field:"at_most" doc:"How long the step may wait for its gates, from its beginning. As at_most of the rollout when absent."`
	OnTimeout *onTimeout `field:"on_timeout" doc:"What follows then. As on_timeout of the rollout when absent."`
	Control   *control   `field:"control" doc:"What the candidate is compared with while it serves everyone: mirror, mirror 10%, a share of the users that stays with stable like 1%, or none."`
}

// stepKind is how one kind of step is compiled. It returns false for the steps
// of other kinds.
type stepKind func(s *step) (routing.Step, bool)

var stepKinds = []stepKind{trafficStep, shadowStep}

func trafficStep(s *step) (routing.Step, bool) {
	if s.Traffic == nil {
		return routing.Step{}, false
	}
	return routing.Step{Kind: routing.StepTraffic, Share: routing.Share(*s.Traffic)}, true
}

func shadowStep(s *step) (routing.Step, bool) {
	if s.Shadow == nil {
		return routing.Step{}, false
	}
	return routing.Step{Kind: routing.StepShadow, Share: routing.Share(*s.Shadow)}, true
}

// canary is strategy: canary.
var canary = []routing.Step{
	{Kind: routing.StepTraffic, Share: 1_000, For: time.Hour},
	{Kind: routing.StepTraffic, Share: 2_500, For: 2 * time.Hour},
	{Kind: routing.StepTraffic, Share: 5_000, For: 4 * time.Hour},
	{Kind: routing.StepTraffic, Share: routing.Whole},
}

// shadowFirst is strategy: shadow-first.
var shadowFirst = append([]routing.Step{{Kind: routing.StepShadow, Share: routing.Whole, For: time.Hour}}, canary...)

// allAtOnce is the course of a model without a rollout.
var allAtOnce = []routing.Step{{Kind: routing.StepTraffic, Share: routing.Whole}}

// steps compiles the course of a rollout.
func (c *compiler) steps(r *rollout, p *path) []routing.Step {
	switch {
	case r == nil:
		return allAtOnce
	case r.Strategy != nil && *r.Strategy == strategyShadowFirst:
		return slices.Clone(shadowFirst)
	case r.Strategy != nil:
		return slices.Clone(canary)
	}
	at := p.in("steps")
	var out []routing.Step
	for i := range r.Steps {
		s := c.step(&r.Steps[i])
		completes := i == len(r.Steps)-1 && s.Kind == routing.StepTraffic && s.Share == routing.Whole
		s.Hold = r.Steps[i].For == nil && !completes
		out = append(out, s)
	}
	c.order(r.Steps, out, at)
	return out
}

func (c *compiler) step(s *step) routing.Step {
	var out routing.Step
	for _, kind := range stepKinds {
		if compiled, ok := kind(s); ok {
			out = compiled
		}
	}
	if s.For != nil {
		out.For = time.Duration(*s.For)
	}
	return out
}

// order checks that shadows come first, that shares of the users only grow, and
// that they end at all of them.
func (c *compiler) order(written []step, steps []routing.Step, at *path) {
	var before routing.Share
	for i, s := range steps {
		if s.Kind == routing.StepShadow && before > 0 {
			c.d.reject(at.at(i).in("shadow"), s.Share.String(), "must stand before the first step with traffic: a shadow has no users, they would go back")
		}
		if s.Kind != routing.StepTraffic {
			continue
		}
		if s.Share <= before && s.Share > 0 {
			c.d.reject(at.at(i).in("traffic"), s.Share.String(), "must be more than the step before it, "+before.String())
		}
		before = max(before, s.Share)
	}
	switch n := len(steps); {
	case n == 0:
	case written[n-1].Traffic != nil && steps[n-1].Share < routing.Whole:
		c.d.reject(at.at(n-1).in("traffic"), steps[n-1].Share.String(), "the last step must be traffic: 100%; without for, the step before it waits for a person")
	case steps[n-1].Kind == routing.StepShadow && before == 0:
		c.d.reject(at.at(n-1).in("shadow"), steps[n-1].Share.String(), "the last step must be traffic: 100%; without for, the step before it waits for a person")
	}
}
