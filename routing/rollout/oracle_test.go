package rollout_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
)

// oracle is a judge that says what a test wants. Its evidence is the number of
// looks that it ever had at the rollout, in this process and in those before.
type oracle struct {
	alarm chan string

	mu      sync.Mutex
	trials  map[string]routing.Trial
	looks   map[string]int
	says    string   // of each gate: s, b or w, see judgement
	calls   []string // of Watch and Forget
	blocked chan struct{}
	silent  bool // no evidence
}

func newOracle(says string) *oracle {
	return &oracle{alarm: make(chan string), trials: map[string]routing.Trial{}, looks: map[string]int{}, says: says}
}

func (o *oracle) say(says string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.says = says
}

// block lets looks wait until the channel is closed.
func (o *oracle) block(until chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.blocked = until
}

func (o *oracle) Watch(t routing.Trial, kept []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, on := o.trials[t.Model]; !on {
		o.looks[t.Model] = 0
	}
	if kept != nil {
		o.looks[t.Model], _ = strconv.Atoi(string(kept))
	}
	o.trials[t.Model] = t
	call := fmt.Sprintf("watch %s #%d step %d/%d %s→%s %s", t.Model, t.Rollout, t.Step, t.Steps, t.Stable, t.Candidate, t.Share)
	if t.Shadow > 0 {
		call += " shadow " + t.Shadow.String()
	}
	if t.Control != (routing.Control{}) {
		call += " control " + t.Control.String()
	}
	if !t.Since.IsZero() {
		call += " since " + t.Since.UTC().Format("15:04:05")
	}
	if kept != nil {
		call += " kept " + string(kept)
	}
	o.calls = append(o.calls, call)
}

func (o *oracle) Forget(model string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.trials, model)
	o.calls = append(o.calls, "forget "+model)
}

func (o *oracle) Look(model string, _ time.Time) routing.Judgement {
	o.mu.Lock()
	blocked := o.blocked
	t, on := o.trials[model]
	says := o.says
	o.mu.Unlock()
	if !on {
		return routing.Judgement{}
	}
	if blocked != nil {
		<-blocked
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks[model]++
	j := routing.Judgement{Rollout: t.Rollout, Step: t.Step, Findings: judgement(t.Policy.Gates, says)}
	if !o.silent {
		j.Evidence = []byte(strconv.Itoa(o.looks[model]))
	}
	return j
}

func (o *oracle) Alarm() <-chan string { return o.alarm }

// took returns the calls since the last time.
func (o *oracle) took() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := o.calls
	o.calls = nil
	return calls
}

// judgement is s for safe, b for breach and w for waiting, of each gate.
func judgement(gates []routing.Gate, says string) []routing.Finding {
	findings := make([]routing.Finding, 0, len(gates))
	for i := range gates {
		g := &gates[i]
		f := routing.Finding{
			Metric: g.Metric, Bound: g.Bound, Limit: g.Limit, Unit: g.Unit, OnBreach: g.OnBreach,
			Verdict: routing.VerdictWaiting, Reason: routing.ReasonNoEvidence, N: 2100, Needed: 3200,
		}
		switch says[min(i, len(says)-1)] {
		case 's':
			f.Verdict, f.Reason = routing.VerdictSafe, ""
		case 'b':
			f.Verdict, f.Reason, f.Text = routing.VerdictBreach, "", g.Metric+" is too much"
		}
		findings = append(findings, f)
	}
	return findings
}

// gates gives a model two gates, of which the second pauses.
func gates(m *routing.Model) {
	m.Policy = routing.Policy{
		Gates: []routing.Gate{
			{Metric: "error_rate", Bound: routing.BoundMax, Limit: 0.01, Unit: routing.UnitRate, Written: "1%"},
			{Metric: "latency_p99", Bound: routing.BoundMaxIncrease, Limit: 1.1, Unit: routing.UnitRatio, Written: "10%", OnBreach: routing.OnBreachPause},
		},
		Promise: routing.Promise{FalseRollback: 0.05, FalsePromotion: 0.05},
		Mode:    routing.ModeAct,
	}
}

// judged runs a controller with a judge, and Envoys that acknowledge at once.
func judged(t *testing.T, j *journal.Memory, o *oracle) *gate {
	t.Helper()
	g := &gate{t: t, fleet: newAutoFleet(), journal: &faulty{Memory: j}, probe: &endpoints{}, judge: o}
	g.open()
	return g
}

func (g *gate) open() {
	g.t.Helper()
	options := rollout.Options{Journal: g.journal, Publisher: g.fleet, Prober: g.probe}
	if g.judge != nil {
		options.Judge = g.judge
	}
	var err error
	if g.Controller, err = rollout.New(g.t.Context(), options); err != nil {
		g.t.Fatal(err)
	}
	g.run()
}

// ring has the judge ask for a look at once.
func (g *gate) ring() {
	g.judge.alarm <- "churn"
	synctest.Wait()
}

// kept is the evidence in the journal, and of which rollout.
func (g *gate) kept() string {
	g.t.Helper()
	all, err := g.journal.Evidence(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	e := all["churn"]
	return strings.TrimSpace(fmt.Sprintf("#%d %s", e.Rollout, e.Data))
}
