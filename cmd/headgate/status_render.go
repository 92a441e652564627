package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// wideEnough is how many columns a terminal needs to show stable and candidate
// next to the weights, which name them too.
const wideEnough = 110

// models writes one line for each model.
func (s screen) models(w *strings.Builder, models []admin.Model) {
	if len(models) == 0 {
		w.WriteString("there are no models" + "\n")
		return
	}
	header := []string{"MODEL", "PHASE", "STABLE", "CANDIDATE", "STEP", "WEIGHTS", "ACK", "REQ/MIN", "ERRORS", "REASON"}
	narrow := s.width > 0 && s.width < wideEnough
	if narrow {
		header = slices.Delete(header, 2, 4)
	}
	rows := make([][]cell, 0, len(models))
	for _, m := range models {
		row := []cell{
			text(m.Model), phase(m.Phase), text(dash(m.Stable)), text(dash(m.Candidate)), text(step(m.Status)),
			text(weights(m.Status)), acknowledged(m.Status), requests(m), errorRate(m), attention(m),
		}
		if narrow {
			row = slices.Delete(row, 2, 4)
		}
		rows = append(rows, row)
	}
	s.table(w, "", header, rows)
}

// lately adds up what a model's versions did in the last minute.
func lately(m admin.Model) (requests, errors uint64) {
	for _, v := range m.Versions {
		requests += v.LastMinute.Requests
		errors += v.LastMinute.Errors
	}
	return requests, errors
}

func requests(m admin.Model) cell {
	n, _ := lately(m)
	return number(strconv.FormatUint(n, 10))
}

// errorRate is the share of errors in the last minute.
func errorRate(m admin.Model) cell {
	n, errors := lately(m)
	return rate(errors, n)
}

func rate(errors, requests uint64) cell {
	switch {
	case requests == 0:
		return number("-")
	case errors == 0:
		return number("0%")
	}
	share := 100 * float64(errors) / float64(requests)
	if share < 0.01 {
		return number("<0.01%").in(red)
	}
	return number(percent(share)).in(red)
}

// attention is the reason, behind what is wrong with the versions that have
// users.
func attention(m admin.Model) cell {
	var silent []string
	for _, v := range m.Versions {
		if v.Endpoints == admin.Unreachable && (v.Wanted > 0 || v.Version == m.Candidate) {
			silent = append(silent, v.Version)
		}
	}
	if len(silent) == 0 {
		return text(m.Reason)
	}
	verb := " does not answer"
	if len(silent) > 1 {
		verb = " do not answer"
	}
	return text(strings.Join(silent, ", ") + verb + "; " + m.Reason).in(red)
}

// model writes all that is known of a model.
func (s screen) model(w *strings.Builder, m admin.Model, now time.Time) {
	head := s.paint(bold, plain(m.Model)) + "  " + s.paint(phase(m.Phase).colour, plain(string(m.Phase)))
	if !m.Since.IsZero() {
		head += " for " + ago(now.Sub(m.Since))
	}
	w.WriteString(head + "\n")
	facts := [][]cell{
		{text("release"), text(dash(m.Release))},
		{text("stable"), text(dash(m.Stable))},
	}
	if m.Candidate != "" {
		facts = append(facts, []cell{text("candidate"), text(fmt.Sprintf("%s (rollout %d)", m.Candidate, m.Rollout))})
	}
	facts = append(facts, []cell{text("envoys"), text(envoyFact(m.Status))})
	if m.Reason != "" {
		facts = append(facts, []cell{text("reason"), text(m.Reason)})
	}
	s.table(w, "  ", nil, facts)
	if len(m.Steps) > 0 {
		w.WriteByte('\n')
		s.steps(w, m.Status, now)
	}
	if len(m.Gates) > 0 {
		w.WriteByte('\n')
		s.gates(w, m.Status, false)
	}
	if len(m.Versions) > 0 {
		w.WriteByte('\n')
		s.versions(w, m)
	}
}

func (s screen) steps(w *strings.Builder, m rollout.Status, now time.Time) {
	header := []string{"", "STEP", "KIND", "SHARE", "FOR", "AT MOST", "STATE"}
	limited := slices.ContainsFunc(m.Steps, func(step rollout.StepStatus) bool { return step.AtMost != "" })
	if !limited {
		header = slices.Delete(header, 5, 6)
	}
	rows := make([][]cell, 0, len(m.Steps))
	for i, step := range m.Steps {
		mark, state, colour := " ", "", ""
		switch {
		case i < m.Step:
			state, colour = "done", faint
		case i == m.Step:
			mark, state = ">", stepState(m, step, now)+timesOut(m, step)
		}
		row := []cell{
			text(mark), number(strconv.Itoa(i + 1)), text(string(step.Kind)).in(colour),
			number(plain(stepShare(step))).in(colour), text(cmp.Or(shortDuration(step.For), "until told")).in(colour),
			text(atMost(step)).in(colour), text(state).in(colour),
		}
		if !limited {
			row = slices.Delete(row, 5, 6)
		}
		rows = append(rows, row)
	}
	s.table(w, "  ", header, rows)
}

// stepShare is the candidate's share in a step, and what of 100 % is held back:
// "95% (5% control)".
func stepShare(step rollout.StepStatus) string {
	if step.Control == "" {
		return percent(step.Share)
	}
	held, err := strconv.ParseFloat(strings.TrimSuffix(step.Control, "%"), 64)
	if err != nil { // copies, and nobody is held back
		return percent(step.Share) + " (" + step.Control + ")"
	}
	return percent(step.Share-held) + " (" + step.Control + " control)"
}

// atMost says how long a step waits for its gates, and what follows then.
func atMost(step rollout.StepStatus) string {
	if step.AtMost == "" {
		return "-"
	}
	return shortDuration(step.AtMost) + ", then " + string(step.OnTimeout)
}

// timesOut says when that follows in the step that runs; empty: not known.
func timesOut(m rollout.Status, step rollout.StepStatus) string {
	if m.StepTimesOut == nil || m.Mode == routing.ModeObserve {
		return ""
	}
	form := "15:04"
	if whole, err := time.ParseDuration(step.AtMost); err == nil && whole < 10*time.Minute {
		form = time.TimeOnly
	}
	verb, unless := string(step.OnTimeout)+"s", "unless the gates are safe"
	switch step.OnTimeout {
	case routing.OnTimeoutPromote:
		verb, unless = "goes on", "safe or not"
	case routing.OnTimeoutRollback:
		verb = "rolls back"
	case routing.OnTimeoutPause:
	}
	return fmt.Sprintf("; %s at %s UTC %s", verb, m.StepTimesOut.UTC().Format(form), unless)
}

// stepState tells how far the step that runs is. Times add up: what has run and
// what is left is what the file says. Only time counts in which every Envoy had
// the share and nobody had paused, so what has run can be less than what has
// gone by.
func stepState(m rollout.Status, step rollout.StepStatus, now time.Time) string {
	switch {
	case m.Phase == rollout.PhasePaused:
		return "paused"
	case m.StepStarted == nil:
		return "waits for the Envoys"
	}
	passed := now.Sub(*m.StepStarted)
	whole, err := time.ParseDuration(step.For)
	if m.StepEnds == nil || err != nil || !m.StepEnds.After(now) {
		return "since " + ago(passed)
	}
	left := m.StepEnds.Sub(now)
	if whole >= time.Second { // shown in seconds: what has run is rounded down, what is left up
		left = min((left + time.Second - 1).Truncate(time.Second), whole)
	}
	ran := whole - left
	state := fmt.Sprintf("ran %s, %s left", ago(ran), ago(left))
	if passed-ran > 2*time.Second {
		state += fmt.Sprintf(" (began %s ago: pauses and waiting for Envoys do not count)", ago(passed))
	}
	return state
}

func (s screen) versions(w *strings.Builder, m admin.Model) {
	rows := make([][]cell, 0, len(m.Versions))
	for _, v := range m.Versions {
		served := "-"
		if v.Served != nil {
			served = percent(*v.Served)
		}
		latencies := v.TrafficCounts
		if v.Recent != nil && v.Recent.Requests > 0 {
			latencies = v.Recent.TrafficCounts
		}
		minute := v.LastMinute
		rows = append(rows, []cell{
			text(v.Version), number(percent(v.Wanted)), number(served),
			number(strconv.FormatUint(minute.Requests, 10)), rate(minute.Errors, minute.Requests),
			number(strconv.FormatUint(minute.ClientErrors, 10)),
			number(seconds(latencies.P50)), number(seconds(latencies.P90)), number(seconds(latencies.P99)),
			number(strconv.FormatUint(v.Requests, 10)), endpoints(v),
		})
	}
	s.table(w, "  ", []string{"VERSION", "WANTED", "SERVED", "REQ/MIN", "ERRORS", "4XX", "P50", "P90", "P99", "TOTAL", "ENDPOINTS"}, rows)
	for _, line := range footnotes(m) {
		w.WriteString(s.paint(faint, "  "+line) + "\n")
	}
}

func footnotes(m admin.Model) []string {
	notes := []string{
		"SERVED: of the last minute's requests, those that began when every Envoy had these weights",
		"REQ/MIN to 4XX: the last minute; P50 to P99: of it or of this step, else of all",
		"TOTAL: requests since headgate began",
	}
	if n, _ := lately(m); n > 0 && m.Versions[0].Served == nil {
		notes[0] += "; there are none yet"
	}
	return notes
}

func endpoints(v admin.ModelVersion) cell {
	switch v.Endpoints {
	case admin.Reachable:
		return text("answer").in(green)
	case admin.Unreachable:
		return text(strings.TrimSuffix("no answer: "+v.EndpointsWhy, ": ")).in(red)
	default:
		return text("-")
	}
}

func phase(p rollout.Phase) cell {
	c := text(string(p))
	switch p {
	case rollout.PhaseCompleted:
		return c.in(green)
	case rollout.PhaseProgressing, rollout.PhasePaused:
		return c.in(yellow)
	case rollout.PhaseRolledBack, rollout.PhaseBlocked:
		return c.in(red)
	default:
		return c
	}
}

// acknowledged tells how many Envoys have the weights.
func acknowledged(s rollout.Status) cell {
	switch {
	case s.Rejected != "":
		return text("refused").in(red)
	case s.Acknowledged:
		return text("yes")
	case s.Envoys == 0:
		return text("no envoy").in(yellow)
	default:
		return text(fmt.Sprintf("%d/%d", s.Envoys-len(s.Waiting), s.Envoys)).in(yellow)
	}
}

func envoyFact(s rollout.Status) string {
	var fact string
	switch {
	case s.Envoys == 0:
		fact = "none is connected"
	case s.Acknowledged:
		fact = fmt.Sprintf("%d connected, all have these weights", s.Envoys)
	default:
		fact = fmt.Sprintf("%d connected, waiting for %s", s.Envoys, dash(strings.Join(s.Waiting, ", ")))
	}
	if len(s.Late) > 0 {
		fact += "; late: " + strings.Join(s.Late, ", ")
	}
	if s.Rejected != "" {
		fact += "; refused: " + s.Rejected
	}
	return fact
}

// weights are the shares, the candidate's first.
func weights(s rollout.Status) string {
	names := slices.SortedFunc(maps.Keys(s.Weights), func(a, b string) int {
		return cmp.Or(first(b == s.Candidate)-first(a == s.Candidate), cmp.Compare(a, b))
	})
	parts := make([]string, 0, len(names))
	for _, name := range names {
		parts = append(parts, name+" "+percent(s.Weights[name]))
	}
	return dash(strings.Join(parts, " "))
}

func first(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func step(s rollout.Status) string {
	if s.Step < 0 || len(s.Steps) == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", min(s.Step+1, len(s.Steps)), len(s.Steps))
}

func dash(s string) string { return cmp.Or(s, "-") }

// percent writes a share with at most two digits after the point.
func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*100)/100, 'f', -1, 64) + "%"
}

// seconds writes a latency with three significant digits.
func seconds(s *float64) string {
	if s == nil {
		return "-"
	}
	d := time.Duration(*s * float64(time.Second))
	unit := time.Nanosecond
	for unit*1000 <= d {
		unit *= 10
	}
	return d.Round(unit).String()
}

// ago writes a time span as people say it: 42s, 3m20s, 5h2m, 3d4h.
func ago(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return shortDuration(d.Truncate(time.Second).String())
	case d < 48*time.Hour:
		return shortDuration(d.Truncate(time.Minute).String())
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// shortDuration leaves out the zeros of 1h0m0s.
func shortDuration(s string) string {
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}
