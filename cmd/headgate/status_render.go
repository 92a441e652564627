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
	"github.com/headgate/headgate/routing/rollout"
)

// models writes one line for each model.
func (s screen) models(w *strings.Builder, models []admin.Model) {
	if len(models) == 0 {
		w.WriteString("there are no models" + "\n")
		return
	}
	rows := make([][]cell, 0, len(models))
	for _, m := range models {
		rows = append(rows, []cell{
			text(m.Model), phase(m.Phase), text(dash(m.Stable)), text(dash(m.Candidate)), text(step(m.Status)),
			text(weights(m.Status)), acknowledged(m.Status), text(m.Reason),
		})
	}
	s.table(w, "", []string{"MODEL", "PHASE", "STABLE", "CANDIDATE", "STEP", "WEIGHTS", "ACK", "REASON"}, rows)
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
	if len(m.Versions) > 0 {
		w.WriteByte('\n')
		s.versions(w, m.Versions)
	}
}

func (s screen) steps(w *strings.Builder, m rollout.Status, now time.Time) {
	rows := make([][]cell, 0, len(m.Steps))
	for i, step := range m.Steps {
		mark, state, colour := " ", "", ""
		switch {
		case i < m.Step:
			state, colour = "done", faint
		case i == m.Step:
			mark, state = ">", stepState(m, now)
		}
		rows = append(rows, []cell{
			text(mark), number(strconv.Itoa(i)), text(string(step.Kind)).in(colour),
			number(percent(step.Share)).in(colour), text(cmp.Or(shortDuration(step.For), "until told")).in(colour),
			text(state).in(colour),
		})
	}
	s.table(w, "  ", []string{"", "STEP", "KIND", "SHARE", "FOR", "STATE"}, rows)
}

// stepState tells how far the step that runs is.
func stepState(m rollout.Status, now time.Time) string {
	switch {
	case m.Phase == rollout.PhasePaused:
		return "paused"
	case m.StepStarted == nil:
		return "waits for the Envoys"
	case m.StepEnds != nil && m.StepEnds.After(now):
		return fmt.Sprintf("since %s, %s left", ago(now.Sub(*m.StepStarted)), ago(m.StepEnds.Sub(now)))
	default:
		return "since " + ago(now.Sub(*m.StepStarted))
	}
}

func (s screen) versions(w *strings.Builder, versions []admin.ModelVersion) {
	rows := make([][]cell, 0, len(versions))
	for _, v := range versions {
		served := "-"
		if v.Served != nil {
			served = percent(*v.Served)
		}
		counts := v.TrafficCounts
		if v.Recent != nil && v.Recent.Requests > 0 {
			counts = v.Recent.TrafficCounts
		}
		errors := number(strconv.FormatUint(v.Errors, 10))
		if v.Errors > 0 {
			errors = errors.in(red)
		}
		rows = append(rows, []cell{
			text(v.Version), number(percent(v.Wanted)), number(served),
			number(strconv.FormatUint(v.Requests, 10)), errors, number(strconv.FormatUint(v.ClientErrors, 10)),
			number(seconds(counts.P50)), number(seconds(counts.P90)), number(seconds(counts.P99)), endpoints(v),
		})
	}
	s.table(w, "  ", []string{"VERSION", "WANTED", "SERVED", "REQUESTS", "ERRORS", "4XX", "P50", "P90", "P99", "ENDPOINTS"}, rows)
	w.WriteString(s.paint(faint, "  served and latencies: the last minute or this step; counts: since headgate began") + "\n")
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
