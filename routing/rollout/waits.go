package rollout

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/headgate/headgate/routing"
)

// findings are what the gates say now, or what the last record that told them
// says they said.
func (s State) findings() []routing.Finding {
	if s.Judgement != nil {
		return s.Judgement.Findings
	}
	return s.Rollout.Findings
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

// waitsFor says which gates keep the step from ending, and how far they are:
// ", waits for latency_p99: 2,100 of about 3,200 requests". Nothing, when there
// are none or all are safe.
func (s State) waitsFor() string {
	if len(s.policy().Gates) == 0 {
		return ""
	}
	if s.Judgement == nil {
		return ", waits for a first look at the gates"
	}
	var told []string
	for i := range s.Judgement.Findings {
		f := &s.Judgement.Findings[i]
		if !f.Required() || f.Verdict == routing.VerdictSafe {
			continue
		}
		told = append(told, waitWords(f))
	}
	if more := len(told) - most; more > 0 {
		told = append(told[:most], fmt.Sprintf("%d more", more))
	}
	if len(told) == 0 || s.Rollout.step().Hold {
		return ""
	}
	return ", waits for " + strings.Join(told, ", ")
}

// waitWords says what a gate that is not safe is about, and what it lacks.
func waitWords(f *routing.Finding) string {
	name := f.Metric
	switch {
	case f.Verdict == routing.VerdictBreach:
		return name + ", which is broken: " + reasonOf(f)
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
