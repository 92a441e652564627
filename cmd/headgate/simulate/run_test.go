package simulate

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

// TestSameSeed gives the same result, whatever the number of workers, and
// another seed another one.
func TestSameSeed(t *testing.T) {
	s := scenario(t, harmAfter)
	run := func(seed uint64, workers int) *Result {
		r, err := Run(context.Background(), s, Options{Runs: 8, Seed: seed, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one := run(1, 1)
	if diff := cmp.Diff(one, run(1, 5)); diff != "" {
		t.Errorf("with one worker and with five (-one +five):\n%s", diff)
	}
	if other := run(2, 2); cmp.Equal(one.Rules, other.Rules) {
		t.Error("another seed gives the same")
	}
	if len(one.Rules) != len(RuleNames()) {
		t.Errorf("there are %d rules, not those of %v", len(one.Rules), RuleNames())
	}
}

// TestWrongOptions are refused, and an interrupted simulation ends.
func TestWrongOptions(t *testing.T) {
	s := scenario(t, harmAfter)
	_, err := Run(context.Background(), s, Options{Runs: 1, Rules: []string{"kayenta"}})
	if err == nil || err.Error() != `rules: "kayenta": must be some of headgate, argo-rollouts, argo-rollouts-3, flagger, z-test` {
		t.Errorf("an unknown rule: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, s, Options{Runs: 1000}); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted simulation ends with %v", err)
	}
}

// minuteOf is a minute with so many errors of so many requests.
func minuteOf(errors, requests uint64) *Measured {
	return &Measured{
		Candidate: Sample{Requests: requests, Errors: errors},
		Stable:    Sample{Requests: 1000, Errors: 5},
	}
}

// TestRules looks at what the usual rules make of single minutes, at a limit of
// 1 %.
func TestRules(t *testing.T) {
	policy := &routing.Policy{Gates: []routing.Gate{{Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate}}}
	fine, bad, none := minuteOf(1, 100), minuteOf(2, 100), minuteOf(0, 0)
	for _, c := range []struct {
		rule    Rule
		minutes []*Measured
		want    []Decision
	}{
		{argo{failureLimit: 0}, []*Measured{fine, none, bad}, []Decision{Go, Go, Abort}},
		{argo{failureLimit: 3}, []*Measured{bad, bad, fine, bad, bad}, []Decision{Go, Go, Go, Go, Abort}},
		{flagger{threshold: 5}, []*Measured{fine, bad, none, fine, bad, bad, bad}, []Decision{Go, Halt, Halt, Go, Halt, Halt, Abort}},
		{zTest{}, []*Measured{fine, fine, minuteOf(3, 100)}, []Decision{Go, Go, Abort}},
	} {
		w := c.rule.Begin(policy)
		for i, m := range c.minutes {
			if got := w.Measure(m); got != c.want[i] {
				t.Errorf("%s: minute %d is %v, want %v", c.rule.Name(), i, got, c.want[i])
			}
		}
	}
}

// TestTrafficIsAsDescribed compares what is drawn with what was asked for.
func TestTrafficIsAsDescribed(t *testing.T) {
	s := scenario(t, `
traffic: {rate: 50/s, users: {number: 2000, failing: 5% at 40%}}
stable: {errors: 1%, client_errors: 3%, latency: {median: 40ms, p99: 200ms}}
candidate: {from: 30m, errors: 3%}
rollout: {steps: [{traffic: 20%, for: 1h}, {traffic: 100%}], gates: [{metric: latency_p99, max: 1s}]}
`)
	h := newWorld(s, newPopulation(s.Traffic.Users), true).history(1, 1)
	sum := func(from, to time.Duration, arm int) (n, errors, client float64, bins []uint32) {
		for at := from; at < to; at += time.Minute {
			c := &h.draw(h.at(at), placement{share: 2_000})[arm]
			n, errors, client = n+float64(c.requests()), errors+float64(c.failed()), client+float64(c.client)
			if bins == nil {
				bins = make([]uint32, len(c.bins))
			}
			for i := range c.bins {
				bins[i] += c.bins[i]
			}
		}
		return n, errors, client, bins
	}
	check := func(what string, got, want, off float64) {
		t.Helper()
		if math.Abs(got-want) > off*want {
			t.Errorf("%s is %.4g, want %.4g", what, got, want)
		}
	}
	n, errors, client, bins := sum(0, 30*time.Minute, stable)
	check("stable's requests", n, 0.8*50*1800, 0.05)
	check("its error rate", errors/n, 0.95*0.01+0.05*(0.4+0.6*0.01), 0.2)
	check("its client error rate", client/n, 0.03*0.97, 0.1)
	sample := Sample{Requests: 1, bins: bins, values: h.w.grid.values}
	check("its median", sample.quantile(0.5), 0.04, 0.03)
	check("its p99", sample.quantile(0.99), 0.2, 0.05)
	before, e0, _, _ := sum(0, 30*time.Minute, candidate)
	after, e1, _, _ := sum(30*time.Minute, time.Hour, candidate)
	check("the candidate's requests", before, 0.2*50*1800, 0.15)
	check("the harm", e1/after-e0/before, 0.02, 0.4)
}

// TestHalvesAddUp takes a time apart.
func TestHalvesAddUp(t *testing.T) {
	s := scenario(t, harmAfter)
	h := newWorld(s, newPopulation(s.Traffic.Users), true).history(1, 1)
	src := newSource(1)
	whole := h.draw(h.at(0), placement{share: 2_500})
	n, bins := whole[stable].requests(), uint32(0)
	for _, k := range whole[stable].bins {
		bins += k
	}
	early := whole.take(src, 0.25)
	if got := whole[stable].requests() + early[stable].requests(); got != n {
		t.Errorf("the parts have %d requests of %d", got, n)
	}
	if part := float64(early[stable].requests()) / float64(n); part < 0.18 || part > 0.32 {
		t.Errorf("a quarter of the time has %.2f of the requests", part)
	}
	for _, c := range []*counts{&whole[stable], &early[stable]} {
		for _, k := range c.bins {
			bins -= k
		}
	}
	if bins != 0 {
		t.Errorf("%d latencies are lost", int32(bins))
	}
}

// TestMoreShareMovesNobodyBack keeps users where they are.
func TestMoreShareMovesNobodyBack(t *testing.T) {
	c := newCrowd(newPopulation(Users{Number: 1000, Zipf: 1}), 0, newSource(5))
	had := map[int]bool{}
	for _, share := range []routing.Share{100, 1_000, 5_000, routing.Whole} {
		c.at(placement{share: share})
		now := 0
		for user := range 1000 {
			if c.arm(user) == candidate {
				now++
				had[user] = true
			} else if had[user] {
				t.Fatalf("user %d went back at %s", user, share)
			}
		}
		if want := 1000 * float64(share) / float64(routing.Whole); math.Abs(float64(now)-want) > 50 {
			t.Errorf("at %s %d of 1000 users are on the candidate", share, now)
		}
	}
}
