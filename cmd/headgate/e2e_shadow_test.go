package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// copiesOf are the requests of a version that were copies, and the others, by
// their ids.
func copiesOf(u *envoytest.Upstream) (copies, others map[string]bool) {
	copies, others = map[string]bool{}, map[string]bool{}
	for _, r := range u.Requests() {
		if r.Header.Get(routing.HeaderShadow) == "true" {
			copies[r.Header.Get("x-request-id")] = true
		} else {
			others[r.Header.Get("x-request-id")] = true
		}
	}
	return copies, others
}

// shadowed sends n requests that v1 answers, and waits until so many copies have
// come to a version.
func (g *gate) shadowed(c *trial, u *envoytest.Upstream, n, least, most int) {
	g.t.Helper()
	u.Forget()
	if versions := c.batch(g.t, n); versions["v1"] != n {
		g.t.Fatalf("%s: %d requests were answered by %v, want v1", c.name, n, versions)
	}
	g.eventually(20*time.Second, fmt.Sprintf("%s: %d copies to %s", c.name, least, u.Name), func() bool { return u.Count() >= least })
	copies, others := copiesOf(u)
	if len(others) > 0 || len(copies) > most {
		g.t.Errorf("%s: of %d requests %s got %d copies, want at most %d, and %d others", c.name, n, u.Name, len(copies), most, len(others))
	}
}

// makes waits until each request is copied to these versions, and to none of
// the others.
func (g *gate) makes(c *trial, to []*envoytest.Upstream, not ...*envoytest.Upstream) {
	g.t.Helper()
	id := 0
	has := func(u *envoytest.Upstream, id string) bool {
		copies, _ := copiesOf(u)
		return copies[id]
	}
	g.eventually(30*time.Second, c.name+": copies go where they should", func() bool {
		for _, u := range append(to, not...) {
			u.Forget()
		}
		id++
		this := fmt.Sprintf("00000000-0000-4000-8000-%012d", id)
		_, _, err := post(c.url(), "{}", "x-user-id", "u", "x-request-id", this)
		noError(g.t, err)
		for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
			all, none := true, true
			for _, u := range to {
				all = all && has(u, this)
			}
			for _, u := range not {
				none = none && !has(u, this)
			}
			if !none {
				return false
			}
			if all && len(to) > 0 {
				return true
			}
		}
		return len(to) == 0
	})
}

// TestShadowSteps has candidates that get copies before they get users.
func TestShadowSteps(t *testing.T) {
	t.Parallel()
	gates := []string{"{metric: error_rate, max: 20%}", "{metric: error_rate, max_increase: 20pp}", "{metric: latency_p50, max: 20s}"}
	shares := newTrial(t, "shares", []string{"shadow: 10%", "shadow: 100%", "traffic: 10%", "traffic: 100%"}, gates)
	ill := newTrial(t, "ill", []string{"{shadow: 10%, for: 24h}", "{traffic: 10%, for: 1ms}", "traffic: 100%"}, gates)
	gross := newTrial(t, "gross", []string{"{shadow: 100%, for: 24h}", "traffic: 100%"}, nil)
	well := newTrial(t, "well", []string{"{shadow: 100%, for: 1s}", "traffic: 10%", "traffic: 100%"}, gates)
	stuck := newTrial(t, "stuck", []string{"{shadow: 100%, for: 1ms}", "traffic: 10%", "traffic: 100%"}, gates)
	ill.v2.SetStatus(http.StatusInternalServerError)
	gross.v2.SetStatus(http.StatusInternalServerError)
	stuck.v2.Hang(true)
	g, _ := court(t, shares, ill, gross, well, stuck)
	for _, c := range []*trial{shares, ill, gross, well, stuck} {
		g.step(c, 0)
	}
	s := g.status(shares.name)
	if s.Weights["v2"] != 0 || s.Steps[0].Kind != routing.StepShadow || s.Steps[0].Share != 10 || !strings.HasPrefix(s.Reason, "copies of 10% since ") {
		t.Errorf("%+v", s)
	}

	// Copies come in their share, and nobody else notices.
	g.shadowed(shares, shares.v2, 3000, 220, 380) // 300, five standard deviations
	g.until(shares, "the copies in the verdicts", func(s rollout.Status) bool { return finding(s, "error_rate", "max").N >= 220 })
	g.must("skip", shares.name)
	g.step(shares, 1)
	g.shadowed(shares, shares.v2, 500, 500, 500)

	loads := map[*trial]*envoytest.Loader{ill: ill.load(t, 100), gross: gross.load(t, 50), well: well.load(t, 100), stuck: stuck.load(t, 50)}
	for c, rule := range map[*trial]string{ill: "_", gross: "gross_failure"} { // of two, whichever is first
		if s := g.phase(c, rollout.PhaseRolledBack); s.Weights["v1"] != 100 {
			t.Errorf("%s: after the way back: %v", c.name, s.Weights)
		}
		if r := g.event(c, rollout.KindRolledBack); r.Actor != rollout.ActorJudge || !strings.Contains(r.Reason, rule) ||
			!strings.HasSuffix(r.Reason, "it was a shadow, no user got it") {
			t.Errorf("%s: rolled back by %s: %q", c.name, r.Actor, r.Reason)
		}
	}
	g.serving(well.name, "v2", 10)
	if r := g.event(well, rollout.KindAdvanced); r.Actor != rollout.ActorJudge || !strings.Contains(r.Reason, "safe: error_rate max") {
		t.Errorf("well: advanced by %s: %q", r.Actor, r.Reason)
	}
	s = g.status(stuck.name)
	if f := finding(s, "error_rate", "max"); s.Step != 0 || s.Phase != rollout.PhaseProgressing || f.Verdict == routing.VerdictSafe {
		t.Errorf("a shadow that answers nothing: %+v", s)
	}
	for c, load := range loads {
		r := clean(t, load)
		if c != well && r.Versions["v1"] != len(r.Results) {
			t.Errorf("%s: users were answered by %v", c.name, r.Versions)
		}
	}
	for _, c := range []*trial{ill, gross, stuck} {
		if _, users := copiesOf(c.v2); len(users) > 0 {
			t.Errorf("%s: %d users got the candidate", c.name, len(users))
		}
	}

	// With users, no copies are made any more.
	g.must("skip", shares.name)
	g.step(shares, 2)
	g.makes(shares, nil, shares.v2)
	if versions := shares.batch(t, 400); versions["v2"] == 0 || versions["v1"] < 300 {
		t.Errorf("with 10%% of the users: %v", versions)
	}
}

// TestStandingShadows has two versions get copies through edits, a rollout and
// restarts.
func TestStandingShadows(t *testing.T) {
	t.Parallel()
	c := newTrial(t, "standing", []string{"traffic: 50%", "traffic: 100%"}, nil)
	v3 := envoytest.NewUpstream(t, "v3")
	c.versions = append(c.versions, at("v3", v3))
	plain := c.extra
	shadow := func(release, line string) {
		c.release, c.extra = release, append([]string{}, plain...)
		if line != "" {
			c.extra = append(c.extra, "shadow: "+line)
		}
	}
	shadow("v1", "[{version: v2, share: 100%}, {version: v3, share: 20%}]")
	g, _ := court(t, c)
	g.makes(c, []*envoytest.Upstream{c.v2})
	v3.Forget()
	g.shadowed(c, c.v2, 1000, 1000, 1000)
	all, _ := copiesOf(c.v2)
	some, others := copiesOf(v3)
	if n := len(some); n < 120 || n > 280 || len(others) > 0 { // 200, six standard deviations
		t.Errorf("of 1000 requests v3 got %d copies and %d others", n, len(others))
	}
	var alone []string
	for id := range some {
		if !all[id] {
			alone = append(alone, id)
		}
	}
	if len(alone) > 1 { // one may be late, of the request before
		t.Errorf("v3 got copies of %v, v2 did not", alone)
	}

	shadow("v1", "[{version: v3, share: 100%}]")
	g.try(c)
	g.makes(c, []*envoytest.Upstream{v3}, c.v2)
	g.kill()
	g.makes(c, []*envoytest.Upstream{v3}, c.v2)
	g.start().ready()
	g.makes(c, []*envoytest.Upstream{v3}, c.v2)

	load := c.load(t, 50)
	shadow("v2", "[{version: v3, share: 100%}]")
	g.try(c)
	g.serving(c.name, "v2", 50)
	g.makes(c, []*envoytest.Upstream{v3}, c.v2)
	g.must("rollback", c.name)
	g.serving(c.name, "v1", 100)
	g.makes(c, []*envoytest.Upstream{v3}, c.v2)
	shadow("v1", "")
	g.try(c)
	g.makes(c, nil, v3, c.v2)
	clean(t, load)
}
