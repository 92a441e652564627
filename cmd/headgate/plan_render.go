package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/routing"
)

// plan writes a plan for people.
func (s screen) plan(w *strings.Builder, plan *simulate.Plan, m *routing.Model, present *presentTraffic) {
	fmt.Fprintf(w, "%s: %.4g requests a second", s.paint(bold, plain(plan.Model)), plan.Rate)
	if present.seen > 0 && present.seen < time.Minute {
		fmt.Fprintf(w, " (seen for %s only)", brief(present.seen))
	}
	fmt.Fprintf(w, ", %s errors", percent(100*present.Errors))
	if present.guessed {
		w.WriteString(s.paint(yellow, " (not told; give --errors)"))
	}
	if onClientErrors(m) {
		fmt.Fprintf(w, ", %s client errors", percent(100*present.ClientErrors))
		if present.guessedClient {
			w.WriteString(s.paint(yellow, " (not told; give --client-errors)"))
		}
	}
	if h := present.Latency; h != nil {
		p50, p99 := h.Quantile(0.5), h.Quantile(0.99)
		fmt.Fprintf(w, ", p50 %s, p99 %s", seconds(&p50), seconds(&p99))
	}
	w.WriteString("\n\n")
	s.plannedSteps(w, plan)
	w.WriteByte('\n')
	if len(m.Policy.Gates) == 0 {
		w.WriteString("There are no gates: nothing is judged but the hard rules.\n")
	}
	if m.Policy.Mode == routing.ModeObserve {
		w.WriteString("The file says mode: observe: people move the rollout. This is what it would do by itself.\n")
	}
	s.plannedEnd(w, plan)
}

// onClientErrors tells whether a gate of a model looks at client errors.
func onClientErrors(m *routing.Model) bool {
	return slices.ContainsFunc(m.Policy.Gates, func(g routing.Gate) bool { return g.Metric == clientErrorRate })
}

const clientErrorRate = "client_error_rate"

func (s screen) plannedSteps(w *strings.Builder, plan *simulate.Plan) {
	timed := false
	for i := range plan.Steps {
		timed = timed || plan.Steps[i].AtMost > 0
	}
	var rows [][]cell
	for i := range plan.Steps {
		step := &plan.Steps[i]
		lasts := brief(duration(step.For))
		if step.Hold {
			lasts = "by hand"
		}
		head := []cell{number(fmt.Sprint(i + 1)), plannedShare(step), number(lasts)}
		if timed && step.AtMost > 0 {
			head = append(head, number(brief(duration(step.AtMost))))
		} else if timed {
			head = append(head, number("-"))
		}
		head = append(head, plannedTime(step))
		if len(step.Gates) == 0 {
			rows = append(rows, append(head, text(""), number(""), number("")))
		}
		for k := range step.Gates {
			rows = append(rows, append(head, plannedGate(&step.Gates[k])...))
			head = make([]cell, len(head))
			for i := range head {
				head[i] = number("")
			}
		}
	}
	titles := []string{"STEP", "SHARE", "FOR", "TIME", "GATE", "SAFE IN", "HARM FROM"}
	if timed {
		titles = []string{"STEP", "SHARE", "FOR", "AT MOST", "TIME", "GATE", "SAFE IN", "HARM FROM"}
	}
	s.table(w, "", titles, rows)
}

func plannedShare(s *simulate.PlannedStep) cell {
	if s.Kind == routing.StepShadow {
		return number("copies " + percent(s.Percent))
	}
	return number(percent(s.Percent))
}

// timeoutWords are what follows when a step has lasted for at_most: of one
// rollout, and of several.
var timeoutWords = map[routing.OnTimeout][2]string{
	routing.OnTimeoutPause:    {"pauses", "pause"},
	routing.OnTimeoutRollback: {"goes back", "go back"},
	routing.OnTimeoutPromote:  {"goes on", "go on"},
}

func plannedTime(step *simulate.PlannedStep) cell {
	switch {
	case !step.TimesOut:
		return expectedTime(step.Seconds)
	case step.OnTimeout == routing.OnTimeoutPromote:
		return expectedTime(step.Seconds).in(yellow)
	}
	return number(timeoutWords[step.OnTimeout][0]).in(red)
}

// plannedEnd says how long it takes, or why it does not end.
func (s screen) plannedEnd(w *strings.Builder, plan *simulate.Plan) {
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if step.Seconds != nil && !step.TimesOut {
			continue
		}
		why := strings.Join(notSafeIn(step), ", ")
		if !step.TimesOut {
			w.WriteString(s.paint(yellow, fmt.Sprintf("The rollout never ends: step %d waits, %s.", i+1, why)) + "\n")
			return
		}
		who := whoTimesOut(step)
		fmt.Fprintf(w, "%s\n", s.paint(yellow, fmt.Sprintf("%s in step %d after %s: %s.", who, i+1, brief(duration(step.AtMost)), why)))
		if step.Seconds == nil {
			return
		}
	}
	if plan.Seconds != nil {
		w.WriteString("The rollout takes " + expectedTime(plan.Seconds).text + ", when the candidate behaves as stable does and traffic stays as it is.\n")
	}
}

// whoTimesOut says what a step does that times out. When a gate is never safe,
// every rollout does it.
func whoTimesOut(step *simulate.PlannedStep) string {
	words := timeoutWords[step.OnTimeout]
	for i := range step.Gates {
		if g := &step.Gates[i]; g.Required && g.Measurable && g.SafeAfter == nil {
			return "The rollout " + words[0]
		}
	}
	return "More than half of healthy rollouts " + words[1]
}

// notSafeIn names the gates that a step waits for in vain, or for too long.
func notSafeIn(step *simulate.PlannedStep) []string {
	var out []string
	for i := range step.Gates {
		g := &step.Gates[i]
		name := g.Metric + " " + string(g.Bound) + " " + g.Limit
		switch {
		case !g.Required || !g.Measurable:
		case g.SafeAfter == nil && g.Bound == routing.BoundMax && g.Present != nil:
			out = append(out, name+" is never safe at "+presentWords(g))
		case g.SafeAfter == nil:
			out = append(out, name+" is never safe at so few requests")
		case step.AtMost > 0 && *g.SafeAfter > step.AtMost:
			out = append(out, name+" is safe in "+brief(duration(*g.SafeAfter)))
		}
	}
	return out
}

func presentWords(g *simulate.PlannedGate) string {
	words := plannedValue(g, *g.Present)
	switch g.Metric {
	case "error_rate":
		words += " errors"
	case clientErrorRate:
		words += " client errors"
	}
	return words
}

func plannedGate(g *simulate.PlannedGate) []cell {
	name := text(g.Metric + " " + string(g.Bound) + " " + g.Limit)
	if !g.Measurable {
		return []cell{name, number("not here").in(faint), number("-")}
	}
	safe := expectedTime(g.SafeAfter)
	if g.Outlasts {
		safe = safe.in(red)
	}
	if g.SmallestHarm == nil {
		return []cell{name, safe, number("-")}
	}
	harm := plannedValue(g, *g.SmallestHarm)
	if g.Bound != routing.BoundMax && g.Present != nil {
		harm += " (+" + plannedIncrease(g) + ")"
	}
	return []cell{name, safe, number(harm)}
}

// plannedValue is a value of a gate's metric.
func plannedValue(g *simulate.PlannedGate, value float64) string {
	if g.Unit == routing.UnitSeconds {
		return seconds(&value)
	}
	return percent(100 * value)
}

// plannedIncrease is how much more than now the smallest harm is.
func plannedIncrease(g *simulate.PlannedGate) string {
	more := *g.SmallestHarm - *g.Present
	if g.Unit == routing.UnitSeconds {
		return seconds(&more)
	}
	return strings.TrimSuffix(percent(100*more), "%") + "pp"
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func expectedTime(s *float64) cell {
	if s == nil {
		return number("never").in(red)
	}
	return number(brief(duration(*s)))
}
