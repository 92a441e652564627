package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/headgate/simulate"
)

// simulation writes what was shown, for people.
func (s screen) simulation(w *strings.Builder, scenario *simulate.Scenario, r *simulate.Result) {
	fmt.Fprintf(w, "%s runs of each world, seed %d. Promised: false rollback %s, false promotion %s.\n",
		s.paint(bold, strconv.Itoa(r.Runs)), r.Seed, percent(100*r.FalseRollback), percent(100*r.FalsePromotion))
	switch warned := strings.Join(r.BreaksWarnings, ", "); {
	case scenario.Candidate == scenario.Stable:
		w.WriteString("No harmful candidate is described: only the healthy world is there.\n")
	case len(r.Breaks) == 0 && warned != "":
		w.WriteString(s.paint(yellow, "The harmful candidate breaks "+warned+", which only warns: to promote it is right.") + "\n")
	case len(r.Breaks) == 0:
		w.WriteString(s.paint(yellow, "The harmful candidate breaks no gate: to promote it is right.") + "\n")
	case warned != "":
		w.WriteString("The harmful candidate breaks " + strings.Join(r.Breaks, ", ") + ", and " + warned + ", which only warns.\n")
	default:
		w.WriteString("The harmful candidate breaks " + strings.Join(r.Breaks, ", ") + ".\n")
	}
	if len(r.HealthyBreaks) > 0 {
		w.WriteString(s.paint(yellow, "Stable itself breaks "+strings.Join(r.HealthyBreaks, ", ")+".") + "\n")
	}
	for _, note := range r.Notes {
		w.WriteString(s.paint(yellow, note) + "\n")
	}
	w.WriteByte('\n')
	t := tableOf(r)
	t.write(w, s)
	w.WriteByte('\n')
	w.WriteString(s.paint(faint, strings.TrimSuffix(t.legend(r), "\n")) + "\n")
	for i := range r.Rules {
		w.WriteString(s.paint(faint, r.Rules[i].Rule+": "+r.Rules[i].About) + "\n")
	}
}

// simulationTable is which columns a result needs.
type simulationTable struct {
	r       *simulate.Result
	healthy bool // some healthy runs were open: say which way
	harmful bool
	early   bool // some harmful runs went back before the harm
}

func tableOf(r *simulate.Result) *simulationTable {
	t := &simulationTable{r: r}
	for i := range r.Rules {
		rule := &r.Rules[i]
		t.healthy = t.healthy || open(&rule.Healthy) > 0
		t.harmful = t.harmful || open(&rule.Harmful) > 0
		t.early = t.early || rule.Harmful.Early > 0
	}
	return t
}

// open is how many runs were neither promoted nor back.
func open(e *simulate.Ends) int { return e.Paused + e.Waiting }

// Titles of the columns with which the part of a world begins.
const (
	healthyTitle = "FALSE ROLLBACK"
	harmfulTitle = "FALSE PROMOTION"
)

func (t *simulationTable) titles() []string {
	open := func(split bool) []string {
		if split {
			return []string{"PAUSED", "WAITING"}
		}
		return []string{"OPEN"}
	}
	out := append([]string{"RULE", healthyTitle, "DONE IN"}, open(t.healthy)...)
	out = append(out, harmfulTitle, "BACK IN", "99 % IN")
	if t.early {
		out = append(out, "TOO EARLY")
	}
	return append(out, open(t.harmful)...)
}

func (t *simulationTable) row(rule *simulate.RuleResult) []cell {
	part := func(n int) cell { return number(percent(100 * float64(n) / float64(t.r.Runs))) }
	open := func(split bool, e *simulate.Ends) []cell {
		if split {
			return []cell{part(e.Paused), part(e.Waiting)}
		}
		return []cell{part(0)}
	}
	out := []cell{
		text(rule.Rule),
		promised(rule.FalseRollback, rule.FalseRollbackLow, rule.FalseRollbackHigh, t.r.FalseRollback),
		number(took(rule.MedianSecondsToPromotion)),
	}
	out = append(out, open(t.healthy, &rule.Healthy)...)
	out = append(out,
		promised(rule.FalsePromotion, rule.FalsePromotionLow, rule.FalsePromotionHigh, t.r.FalsePromotion),
		number(took(rule.MedianSecondsToRollback)),
		number(took(rule.P99SecondsToRollback)),
	)
	if t.early {
		early := part(rule.Harmful.Early)
		if rule.Harmful.Early > 0 {
			early = early.in(yellow)
		}
		out = append(out, early)
	}
	return append(out, open(t.harmful, &rule.Harmful)...)
}

// write writes the table, with a line above that says of which world the columns
// are.
func (t *simulationTable) write(w *strings.Builder, s screen) {
	rows := make([][]cell, 0, len(t.r.Rules))
	for i := range t.r.Rules {
		rows = append(rows, t.row(&t.r.Rules[i]))
	}
	uncoloured := s
	uncoloured.colour = false
	var lines strings.Builder
	uncoloured.table(&lines, "", t.titles(), rows)
	header, _, _ := strings.Cut(lines.String(), "\n")
	left, right := strings.Index(header, healthyTitle), strings.Index(header, harmfulTitle)
	worlds := strings.Repeat(" ", left) + "healthy candidate"
	worlds += strings.Repeat(" ", max(right-len(worlds), 2)) + "harmful candidate"
	w.WriteString(s.paint(faint, worlds) + "\n")
	s.table(w, "", t.titles(), rows)
}

// legend explains the columns.
func (t *simulationTable) legend(r *simulate.Result) string {
	until := brief(duration(r.UntilSeconds))
	out := "In parentheses: 95 % intervals. DONE IN, BACK IN: medians, of healthy runs that were promoted and from\nthe first harm on.\n"
	if !t.healthy || !t.harmful {
		out += "OPEN: neither promoted nor back after " + until + ", when a run is given up (until).\n"
	}
	if t.healthy || t.harmful {
		out += "PAUSED, WAITING: neither promoted nor back after " + until + ", when a run is given up (until); it waited for\na person, or for its gates.\n"
	}
	if t.early {
		out += "TOO EARLY: went back before the harm began. FALSE PROMOTION and BACK IN are of the others.\n"
	}
	return out
}

// promised is a part with its interval, red when it is surely more than was
// promised.
func promised(got, low, high *float64, promise float64) cell {
	if got == nil {
		return number("-")
	}
	c := number(fmt.Sprintf("%s (%s-%s)", percent(100**got), twoDigits(100**low), twoDigits(100**high)))
	switch {
	case *low > promise:
		return c.in(red)
	case *got <= promise:
		return c.in(green)
	}
	return c
}

// twoDigits writes a percentage with two significant digits, of its distance
// from 100 where that is nearer: 0.37, 29, 99.63.
func twoDigits(v float64) string {
	near := min(v, 100-v)
	if near <= 0 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	places := max(1-int(math.Floor(math.Log10(near))), 0)
	return strconv.FormatFloat(v, 'f', places, 64)
}

func took(s *float64) string {
	if s == nil {
		return "-"
	}
	return brief(time.Duration(*s * float64(time.Second)))
}

// brief is a duration with two of its units.
func brief(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
