package main

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// gates writes what each gate has shown. The interval is that of the present
// step, and narrows as requests come. With words, each gate's sentence follows.
func (s screen) gates(w *strings.Builder, m rollout.Status, words bool) {
	findings := m.Gates
	header := []string{"GATE", "LIMIT", "VERDICT", "ESTIMATE", "BETWEEN", "REQUESTS"}
	rows := make([][]cell, 0, len(findings))
	for i := range findings {
		f := &findings[i]
		rows = append(rows, []cell{
			text(f.Metric), text(limitOf(f)), verdict(f), number(amountOf(f, f.Estimate)),
			text(between(f)), number(evidence(f)),
		})
	}
	s.table(w, "  ", header, rows)
	for _, line := range gateNotes(m) {
		w.WriteString(s.paint(faint, "  "+plain(line)) + "\n")
	}
	for i := range findings {
		if f := &findings[i]; words && f.Text != "" {
			w.WriteString("  " + s.paint(faint, "- ") + plain(f.Text) + "\n")
		}
	}
}

// gateNotes says what the table cannot: why gates have no numbers, and who went
// on in spite of one.
func gateNotes(m rollout.Status) []string {
	var notes, overruled []string
	compared := func(f routing.Finding) bool {
		return f.Reason == routing.ReasonNotMeasurable && f.Bound != routing.BoundMax && !f.HardRule
	}
	everyone := m.Candidate
	if m.Phase == rollout.PhaseCompleted {
		everyone = m.Stable
	}
	if m.Weights[everyone] >= 100 && slices.ContainsFunc(m.Gates, compared) {
		notes = append(notes, "not measurable: "+everyone+" serves everyone, so nobody is left to compare it with; control: 1% or control: mirror in its step changes that")
	}
	for i := range m.Gates {
		if f := &m.Gates[i]; f.OverruledBy != "" {
			overruled = append(overruled, f.Metric+" by "+f.OverruledBy)
		}
	}
	if len(overruled) > 0 {
		notes = append(notes, "overruled: "+strings.Join(overruled, ", ")+"; no step of this rollout waits for it, and it pauses no more")
	}
	return notes
}

// limitOf says what a gate allows: "max 1%", "max +0.5pp".
func limitOf(f *routing.Finding) string {
	limit := amount(f, f.Limit)
	switch {
	case f.HardRule:
		return "hard rule"
	case f.Bound == routing.BoundMaxDrop:
		return "max drop " + strings.TrimPrefix(limit, "+")
	}
	return "max " + limit
}

func verdict(f *routing.Finding) cell {
	switch f.Verdict {
	case routing.VerdictSafe:
		return text("safe").in(green)
	case routing.VerdictBreach:
		if f.OverruledBy != "" {
			return text("breach, overruled").in(yellow)
		}
		return text("breach").in(red)
	}
	word := string(f.Verdict)
	if f.HardRule {
		return text("quiet").in(faint)
	}
	if f.Reason != "" {
		word = strings.ReplaceAll(string(f.Reason), "_", " ")
	}
	c := text(word)
	if f.Reason == routing.ReasonNotMeasurable {
		return c.in(faint)
	}
	return c.in(yellow)
}

// between is the interval in which the true value lies.
func between(f *routing.Finding) string {
	switch {
	case f.Low != nil && f.High != nil:
		return amount(f, *f.Low) + " to " + amount(f, *f.High)
	case f.Low != nil:
		return "≥ " + amount(f, *f.Low)
	case f.High != nil:
		return "≤ " + amount(f, *f.High)
	}
	return "-"
}

// evidence is how many requests there are, and how many it will take about.
func evidence(f *routing.Finding) string {
	n := thousands(f.N)
	if f.Verdict == routing.VerdictWaiting && f.Needed > f.N {
		n += "/~" + thousands(f.Needed)
	}
	return n
}

func amountOf(f *routing.Finding, v *float64) string {
	if v == nil {
		return "-"
	}
	return amount(f, *v)
}

// amount writes a value of a gate with three significant digits, as people write
// it in files: of a rate 1.5x, as 50% of a rate can mean two things, of a latency
// +50%.
func amount(f *routing.Finding, v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "∞"
	case math.IsInf(v, -1):
		return "-∞"
	case math.IsNaN(v):
		return "-"
	}
	switch f.Unit {
	case routing.UnitRate:
		return digits(100*v) + "%"
	case routing.UnitPoints:
		return signed(100*v) + "pp"
	case routing.UnitRatio:
		if m, ok := compare.LookupMetric(f.Metric); ok && m.Kind == compare.KindRate {
			return digits(v) + "x"
		}
		return signed(100*(v-1)) + "%"
	case routing.UnitSeconds:
		return latencyOf(f, v)
	default:
		return digits(v)
	}
}

// latencyOf writes a latency, or a difference of two with its sign.
func latencyOf(f *routing.Finding, v float64) string {
	size := math.Abs(v)
	text := seconds(&size)
	switch {
	case v < 0:
		return "-" + text
	case v > 0 && f.Bound == routing.BoundMaxIncrease:
		return "+" + text
	}
	return text
}

func signed(v float64) string {
	if v > 0 {
		return "+" + digits(v)
	}
	return digits(v)
}

// digits writes three significant digits, and never an exponent.
func digits(v float64) string {
	if v == 0 || math.Abs(v) < 1e-9 {
		return "0"
	}
	places := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', places, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// thousands writes 12,345.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
