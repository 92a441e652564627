package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/demo/traffic"
)

// summary is what is said at the end of a scene.
type summary struct {
	scene   scene
	took    time.Duration
	outcome outcome
	stages  []traffic.Stage
	wrong   []string
	// firstAfter is the time from the saved file to the first answer by the
	// candidate; 0: it never answered.
	firstAfter time.Duration
}

// write prints the summary.
func (s summary) write(w io.Writer) {
	a := s.outcome.account
	say(w, "\nscene %d, %s: %s after %.0f s\n", s.scene.number, s.scene.title, s.verdict(), s.took.Seconds())
	line := func(name, figure, more string) {
		say(w, "%s", strings.TrimRight(fmt.Sprintf("  %-36s %8s  %s", name, figure, more), " "))
	}
	line("requests sent", strconv.Itoa(a.Sent), "")
	line("failed", strconv.Itoa(a.Failed), "")
	line("users who changed version backwards", strconv.Itoa(a.Backwards), "")
	for _, v := range a.Versions {
		share, _ := v.Accuracy()
		line("accuracy of "+v.Name, fmt.Sprintf("%.1f%%", 100*share), fmt.Sprintf("of %d answers", v.Answered))
	}
	if s.firstAfter > 0 {
		line("first answer by "+s.scene.candidate.version, fmt.Sprintf("%d ms", s.firstAfter.Milliseconds()),
			"after the file was saved")
	}
	say(w, "")
	s.writeStages(w)
	for _, why := range slices.Sorted(maps.Keys(a.Failures)) {
		say(w, "failed %d times: %s", a.Failures[why], why)
	}
	for _, text := range s.wrong {
		say(w, "not as it should be: %s", text)
	}
}

func (s summary) verdict() string {
	if len(s.wrong) > 0 {
		return "FAILED"
	}
	return "done"
}

func (s summary) writeStages(w io.Writer) {
	const layout = "  %-16s %8s %10s %8s %12s"
	say(w, layout, "stage", "held", "requests", "failed", "by "+s.scene.candidate.version)
	for _, stage := range s.stages {
		say(w, layout, stage.Name, fmt.Sprintf("%.1f s", stage.Ended.Sub(stage.Began).Seconds()),
			strconv.Itoa(stage.Requests), strconv.Itoa(stage.Failed),
			fmt.Sprintf("%.1f%%", 100*answeredBy(stage, s.scene.candidate.version)))
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
