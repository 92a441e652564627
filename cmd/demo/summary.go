package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headgate/headgate/cmd/demo/screen"
	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing/rollout"
)

// summary is what is said at the end of a scene.
type summary struct {
	took    time.Duration
	outcome outcome
	stages  []traffic.Stage
	wrong   []string
	// firstAfter is the time from the saved file to the first answer by the
	// candidate; 0: it never answered.
	firstAfter time.Duration
}

// write prints the summary.
func (s summary) write(w io.Writer, p screen.Palette) {
	o := s.outcome
	say(w, "\nscene %d, %s: %s after %.0f s\n", o.scene.number, o.scene.title, s.verdict(), s.took.Seconds())
	if len(s.wrong) == 0 {
		say(w, "%s\n\n%s\n", wrap(s.after(), 2), wrap("headgate: "+o.status.Reason, 2))
	}
	s.writeFigures(w)
	if lines := screen.Gates(o.status.Gates, p); len(lines) > 0 {
		say(w, "%s\n", strings.Join(lines, "\n"))
	}
	s.writeStages(w)
	for _, why := range slices.Sorted(maps.Keys(o.account.Failures)) {
		say(w, "failed %d times: %s", o.account.Failures[why], why)
	}
	for _, text := range s.wrong {
		say(w, "not as it should be: %s", text)
	}
	say(w, "%s", p.Bold(s.line()))
}

// after says what happened.
func (s summary) after() string {
	v := s.outcome.scene.candidate.version
	if s.outcome.scene.back {
		return fmt.Sprintf("Nobody did anything: %s was sent back %.1f s after its first bad answer.", v, s.outcome.exposed().Seconds())
	}
	return "Nobody did anything: at every step " + v + " was shown to keep every limit, and went on."
}

// wrap breaks a text into lines that fit the screen, indented by so many
// columns.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		size := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b.WriteString(strings.Repeat(" ", indent))
			column = indent
		case column+1+size > screen.Width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += size
	}
	return b.String()
}

func (s summary) writeFigures(w io.Writer) {
	o := s.outcome
	line := func(name, figure, more string) {
		say(w, "%s", strings.TrimRight(fmt.Sprintf("  %-36s %8s  %s", name, figure, more), " "))
	}
	line("requests sent", strconv.Itoa(o.account.Sent), "")
	line("failed", strconv.Itoa(o.account.Failed), o.blame())
	if o.scene.back {
		v := o.candidate()
		if o.scene.patience > 0 {
			line("slow answers of "+v.Name, strconv.Itoa(v.Slow), fmt.Sprintf("longer than %s", o.scene.patience))
		}
		line("users who went back to "+o.scene.stable.version, strconv.Itoa(o.account.Backwards), "")
		if !v.FirstBad.IsZero() {
			line("first bad answer to last request", fmt.Sprintf("%.1f s", o.exposed().Seconds()), "on "+v.Name)
		}
	} else {
		line("users who changed version backwards", strconv.Itoa(o.account.Backwards), "")
	}
	for _, v := range o.account.Versions {
		share, _ := v.Accuracy()
		line("accuracy of "+v.Name, fmt.Sprintf("%.1f%%", 100*share), fmt.Sprintf("of %d answers", v.Answered))
	}
	if s.firstAfter > 0 {
		line("first answer by "+o.scene.candidate.version, fmt.Sprintf("%d ms", s.firstAfter.Milliseconds()),
			"after the file was saved")
	}
	say(w, "")
}

// line is the scene in one line.
func (s summary) line() string {
	o := s.outcome
	text := fmt.Sprintf("scene %d  %s: %d requests, %d failed", o.scene.number, s.verdict(), o.account.Sent, o.account.Failed)
	if blame := o.blame(); blame != "" {
		text += " (" + blame + ")"
	}
	if o.status.Phase == rollout.PhaseCompleted {
		return text + fmt.Sprintf(", %s serves everyone after %.0f s", o.scene.candidate.version, s.took.Seconds())
	}
	v := o.candidate()
	if o.scene.patience > 0 {
		text += fmt.Sprintf(", %d slow", v.Slow)
	}
	if o.scene.back && !v.FirstBad.IsZero() {
		text += fmt.Sprintf(", %.1f s from the first bad answer to the last request on %s", o.exposed().Seconds(), v.Name)
	}
	return text
}

func (s summary) verdict() string {
	if len(s.wrong) > 0 {
		return "FAILED"
	}
	return "done"
}

func (s summary) writeStages(w io.Writer) {
	const layout = "  %-16s %8s %10s %8s %12s"
	say(w, layout, "stage", "held", "requests", "failed", "by "+s.outcome.scene.candidate.version)
	for _, stage := range s.stages {
		say(w, layout, stage.Name, fmt.Sprintf("%.1f s", stage.Ended.Sub(stage.Began).Seconds()),
			strconv.Itoa(stage.Requests), strconv.Itoa(stage.Failed),
			fmt.Sprintf("%.1f%%", 100*answeredBy(stage, s.outcome.scene.candidate.version)))
	}
	say(w, "")
}

// answeredBy returns the share of a stage's answers that came from a version.
func answeredBy(s traffic.Stage, version string) float64 {
	sum := 0
	for _, n := range s.Answered {
		sum += n
	}
	return float64(s.Answered[version]) / float64(max(sum, 1))
}
