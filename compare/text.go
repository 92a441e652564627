package compare

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/headgate/headgate/routing"
)

// text says a finding in words and numbers: what was measured, of how many, the
// limit, and what follows.
func (g *gate) text(t *Trial, f *routing.Finding) string {
	var b strings.Builder
	b.WriteString(g.name())
	if f.Estimate != nil || f.Low != nil {
		b.WriteString(" " + g.measured(t, f))
	}
	if g.progress(f) {
		fmt.Fprintf(&b, ", limit %s: %s of about %s", g.limitText(), count(f.N), t.requests(f.Needed))
		return b.String()
	}
	if f.N > 0 && f.Reason != routing.ReasonNotMeasurable {
		fmt.Fprintf(&b, " of %s", t.requests(f.N))
	}
	fmt.Fprintf(&b, ", limit %s: %s", g.limitText(), g.because(t, f))
	return b.String()
}

// requests are so many of the candidate's, which of a shadow are copies.
func (t *Trial) requests(n uint64) string {
	switch {
	case t.now.Shadow == 0:
		return plural(n, "request")
	case n == 1:
		return "1 copy"
	}
	return count(n) + " copies"
}

func (g *gate) progress(f *routing.Finding) bool {
	return f.Reason == routing.ReasonNoEvidence && f.Needed > 0
}

func (g *gate) name() string {
	if g.gate.Metric == "" {
		return "a gate without a metric"
	}
	return g.gate.Metric
}

// because is what a verdict means, in words.
func (g *gate) because(t *Trial, f *routing.Finding) string {
	switch f.Verdict {
	case routing.VerdictBreach:
		return "broken" + g.since(t)
	case routing.VerdictSafe:
		return "safe"
	case routing.VerdictWaiting:
	}
	switch f.Reason {
	case routing.ReasonBaselineIll:
		return "broken, but " + t.now.Stable + " breaks it too and nothing shows that " + t.now.Candidate + " is worse; waits"
	case routing.ReasonTelemetryGap:
		return "waits, what Envoys served is partly unknown"
	case routing.ReasonNotAcknowledged:
		if t.now.Shadow > 0 {
			return "waits until every Envoy makes copies of " + t.now.Shadow.String()
		}
		return "waits until every Envoy serves " + t.now.Share.String()
	case routing.ReasonNotMeasurable:
		return g.cannot(t)
	case routing.ReasonNoTraffic:
		return t.silent(f, g.metric.Kind != KindRate)
	case routing.ReasonNoEvidence:
	}
	if g.kind == testShare && f.High == nil {
		return "nothing to compare yet, hardly a request of either version failed"
	}
	if f.Estimate != nil && *f.Estimate > g.gate.Limit {
		return "beyond the limit, but chance is not ruled out yet"
	}
	if f.Estimate == nil && f.Low == nil {
		return "waits, " + t.now.Stable + " has not shown yet what is usual"
	}
	return "too close to the limit to be shown safe"
}

// since tells when a breach was shown that the step's figures do not show any
// more.
func (g *gate) since(t *Trial) string {
	if g.brokenAt.IsZero() || t.to.Sub(g.brokenAt) < freshEvery {
		return ""
	}
	return ", shown at " + g.brokenAt.UTC().Format("15:04:05") + " UTC"
}

// cannot is why the present step has no data for the gate.
func (g *gate) cannot(t *Trial) string {
	switch {
	case g.metric.Name == "":
		return "not measured, there is no such metric"
	case g.metric.Source == SourcePairs:
		return "not measured in this step, it takes pairs of answers"
	case g.metric.Source == SourceOutcomes:
		return "not measured in this step, it takes outcomes"
	case g.kind == testNone:
		return "not measured, " + string(g.gate.Bound) + " is no limit of it"
	case t.weight <= 0:
		return "not measured in this step, no user is sent to " + t.now.Candidate
	}
	return "not measured in this step, " + t.now.Stable + " gets no requests to compare with (control: none)"
}

// silent is who gave nothing to judge by.
func (t *Trial) silent(f *routing.Finding, latency bool) string {
	who := t.now.Candidate
	if f.N > 0 {
		who = t.now.Stable
	}
	if latency && t.step.candidate.Requests > 0 && f.N == 0 {
		return "waits, " + who + " has answered nothing yet"
	}
	return t.noTraffic(who)
}

func (t *Trial) noTraffic(who string) string {
	if t.now.Shadow > 0 && who == t.now.Candidate {
		return "waits, no request was copied to " + who + " yet"
	}
	return "waits, no traffic on " + who + " yet"
}

// measured is the estimate, beside stable's where the two are compared, and the
// interval.
func (g *gate) measured(t *Trial, f *routing.Finding) string {
	span := interval(f, g.format(f.Unit))
	if g.gate.Bound == routing.BoundMax {
		return value(f.Estimate, g.format(f.Unit)) + " " + span
	}
	c, s := g.both(t)
	return fmt.Sprintf("%s vs %s, %s %s", c, s, value(f.Estimate, g.format(f.Unit)), span)
}

// both are the metric of the candidate and that of stable.
func (g *gate) both(t *Trial) (candidate, stable string) {
	if g.metric.Kind == KindRate {
		c := g.stepCounts(t, false)
		return percent(float64(c.c) / float64(c.n)), percent(float64(c.s) / float64(c.m))
	}
	ca, st := &t.step.candidate.Latency, &t.step.stable.Latency
	return seconds(g.value(ca, 0, 0).estimate), seconds(g.value(st, 0, 0).estimate)
}

// format is how a value of the gate is written in a unit.
func (g *gate) format(u routing.Unit) func(float64) string {
	increase := g.gate.Bound != routing.BoundMax
	switch {
	case u == routing.UnitPoints:
		return func(v float64) string { return signed(v, func(v float64) string { return trim(v*100) + "pp" }) }
	case u == routing.UnitRatio && g.metric.Kind == KindRate:
		return func(v float64) string { return trim(v) + "x" }
	case u == routing.UnitRatio:
		return func(v float64) string { return signed(v-1, percent) }
	case u == routing.UnitSeconds && increase:
		return func(v float64) string { return signed(v, seconds) }
	case u == routing.UnitSeconds:
		return seconds
	}
	return percent
}

// limitText is the limit as people know it.
func (g *gate) limitText() string {
	if g.gate.Bound == routing.BoundMax {
		if g.gate.Written != "" {
			return g.gate.Written
		}
		return g.format(g.gate.Unit)(g.gate.Limit)
	}
	limit := g.format(g.gate.Unit)(g.gate.Limit)
	if safe := g.safeLimit(); safe > g.gate.Limit {
		limit += " (safe below " + g.format(g.gate.Unit)(safe) + ")"
	}
	return limit
}

func value(v *float64, format func(float64) string) string {
	if v == nil {
		return "not known"
	}
	return format(*v)
}

// interval is the ends of the confidence sequence; one that is not known is
// left out.
func interval(f *routing.Finding, format func(float64) string) string {
	switch {
	case f.Low != nil && f.High != nil:
		return "(" + format(*f.Low) + " to " + format(*f.High) + ")"
	case f.Low != nil:
		return "(at least " + format(*f.Low) + ")"
	case f.High != nil:
		return "(at most " + format(*f.High) + ")"
	}
	return "(no bounds yet)"
}

func signed(v float64, format func(float64) string) string {
	if s := format(math.Abs(v)); v < 0 && strings.Trim(s, "0.%pmsx") != "" {
		return "-" + s
	} else {
		return "+" + s
	}
}

func percent(v float64) string { return trim(v*100) + "%" }

// trim is a number with as many digits as a reader needs: two after the point
// below 1, one below 100, none above.
func trim(v float64) string {
	digits := 0
	switch a := math.Abs(v); {
	case a < 0.1:
		digits = 3
	case a < 1:
		digits = 2
	case a < 100:
		digits = 1
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		return "0"
	}
	return s
}

func seconds(v float64) string {
	switch a := math.Abs(v); {
	case a > 0 && a < 1e-3:
		return trim(v*1e6) + "us"
	case a < 10:
		return trim(v*1e3) + "ms"
	}
	return trim(v) + "s"
}

// count is a number with commas.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}
