package rollout

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// findings are what the gates say now, and who overruled them.
func (s State) findings() []routing.Finding {
	all := append([]routing.Finding{}, s.said()...)
	for i := range all {
		all[i].OverruledBy = s.overruledBy(&all[i])
	}
	return all
}

// said are what the gates say now; once a rollout is paused or over, what the
// last record that told them says they said.
func (s State) said() []routing.Finding {
	switch {
	case s.Judgement != nil:
		return s.Judgement.Findings
	case s.Phase == PhaseProgressing:
		return s.unseen()
	}
	return s.Rollout.Findings
}

// unseen are the gates of a step that nobody has looked at yet. What they said
// in the step before is not true of this one.
func (s State) unseen() []routing.Finding {
	reason := routing.ReasonNoEvidence
	if s.Rollout.StepStarted.IsZero() {
		reason = routing.ReasonNotAcknowledged
	}
	var out []routing.Finding
	for i := range s.policy().Gates {
		g := &s.policy().Gates[i]
		out = append(out, routing.Finding{
			Metric: g.Metric, Bound: g.Bound, Verdict: routing.VerdictWaiting, Reason: reason, Limit: g.Limit, Unit: g.Unit,
			OnBreach: cmp.Or(g.OnBreach, routing.OnBreachRollback), Text: g.Metric + ": not looked at yet in this step",
		})
	}
	return out
}

func (s State) mode() routing.Mode {
	if s.Observes() {
		return routing.ModeObserve
	}
	return routing.ModeAct
}

// timeDecides tells whether only the clock keeps the step from ending.
func (s State) timeDecides() bool { return !s.Observes() && s.safe() }

// most is how many gates are named in a line.
const most = 3

// waitsFor says what keeps the step from ending: gates, and how far they are:
// ", waits for latency_p99: 2,100 of about 3,200 requests", then what follows
// when they stay so, then those that are broken. Nothing, when there are none or
// all are safe.
func (s State) waitsFor(now time.Time) string {
	if len(s.policy().Gates) == 0 {
		return ""
	}
	byHand := s.Observes() || s.Rollout.step().Hold
	text := ""
	if s.Observes() && !s.Rollout.step().Hold {
		text = ", waits for a person"
	}
	switch {
	case s.Judgement == nil && byHand:
		return text
	case s.Judgement == nil:
		return ", waits for a first look at the gates" + s.timeOutWords(now)
	}
	lacking, broken := s.lacks()
	switch {
	case len(lacking) == 0:
	case s.Observes():
		text += "; not safe yet: " + strings.Join(lacking, ", ")
	case !byHand:
		text += ", waits for " + strings.Join(lacking, ", ")
	}
	if !s.safe() {
		text += s.timeOutWords(now)
	}
	for _, words := range broken {
		text += "; " + words
	}
	return text
}

// lacks says of the gates that are not safe what the first of them lack, and
// which are broken, and who overruled them.
func (s State) lacks() (lacking, broken []string) {
	all := s.Judgement.Findings
	for i := range all {
		f := &all[i]
		by := s.overruledBy(f)
		switch {
		case f.Verdict == routing.VerdictSafe || !f.Required():
		case by != "" && f.Verdict == routing.VerdictBreach:
			broken = append(broken, reasonOf(f)+", and overruled by "+by)
		case by != "":
			broken = append(broken, nameOf(all, f)+" is overruled by "+by)
		case f.Verdict == routing.VerdictBreach:
			broken = append(broken, reasonOf(f))
		default:
			lacking = append(lacking, waitWords(nameOf(all, f), f))
		}
	}
	if more := len(lacking) - most; more > 0 {
		lacking = append(lacking[:most], fmt.Sprintf("%d more", more))
	}
	return lacking, broken
}

// nameOf is the metric, with what is limited where another gate has the same.
func nameOf(findings []routing.Finding, f *routing.Finding) string {
	for i := range findings {
		if other := &findings[i]; other.Metric == f.Metric && other.Bound != f.Bound {
			return f.Metric + " " + string(f.Bound)
		}
	}
	return f.Metric
}

// waitWords says what a gate that is not safe is about, and what it lacks.
func waitWords(name string, f *routing.Finding) string {
	switch {
	case f.Reason == routing.ReasonNoTraffic:
		return name + ": no traffic"
	case f.Reason == routing.ReasonTelemetryGap:
		return name + ": what Envoys served is partly unknown"
	case f.Reason == routing.ReasonBaselineIll:
		return name + ": the stable version breaks the limit too"
	case f.Reason == routing.ReasonNotAcknowledged:
		return name + ": not every Envoy serves the share"
	case f.Needed > f.N:
		return fmt.Sprintf("%s: %s of about %s requests", name, thousands(f.N), thousands(f.Needed))
	case f.N > 0:
		return fmt.Sprintf("%s: %s requests are not enough", name, thousands(f.N))
	}
	return name
}

// thousands formats 12345 as 12,345.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
