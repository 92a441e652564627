package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/compare"
)

// watch renders again and again until ctx ends. A headgate that does not answer
// is shown, and asked again. On a terminal it redraws; elsewhere it prints when
// something but the clock has changed.
func (v statusView) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last string
	for {
		shown, err := v.render(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case isNotFound(err):
			return err
		}
		if err := v.redraw(shown, err, &last); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// redraw writes a view, or why there is none, unless it was there before.
func (v statusView) redraw(shown view, failed error, last *string) error {
	var message string
	var exit *exitError
	if failed != nil && (!errors.As(failed, &exit) || exit.message != "") {
		message = "headgate: " + plainLines(failed.Error()) + "\n"
	}
	if v.screen.terminal && !v.json {
		text := "\x1b[H" + strings.ReplaceAll(message+shown.text, "\n", "\x1b[K\n") + "\x1b[J"
		if *last == "" {
			text = "\x1b[2J" + text
		}
		*last = text
		_, err := io.WriteString(v.stdout, text)
		return err
	}
	now := message + shown.matter
	if now == *last {
		return nil
	}
	*last = now
	_, _ = io.WriteString(v.stderr, message)
	_, err := io.WriteString(v.stdout, shown.text)
	return err
}

// ticking is what the clock alone moves in a reason.
var ticking = regexp.MustCompile(`\d+ of at least|\d+ \w+ by now`)

// counting is what requests move in a reason, from one look to the next: numbers
// with their units, intervals, and what a gate lacks.
var counting = regexp.MustCompile(`: [\d,]+ of about [\d,]+ \w+|: [\d,]+ requests are not enough|, shown at [\d:]+ UTC| \([^()]*\)|[-+]?\d[\d,.]*(%|pp|x|[mnuµ]?s)?`)

// matter is what has to change for a view to be printed again where nothing can
// be redrawn. Counters are part of it in JSON only: scripts want them.
func matter(models []admin.Model, banner string, counters bool) string {
	steady := slices.Clone(models)
	for i := range steady {
		m := &steady[i]
		m.StepEnds, m.StepTimesOut = nil, nil
		m.Reason = ticking.ReplaceAllString(m.Reason, "")
		if !counters {
			m.Reason = counting.ReplaceAllString(m.Reason, "")
			m.Gates = slices.Clone(m.Gates)
			for j := range m.Gates {
				g := &m.Gates[j]
				g.Estimate, g.Low, g.High, g.N, g.Needed, g.Text = nil, nil, nil, 0, 0, ""
			}
		}
		m.Versions = slices.Clone(m.Versions)
		for j := range m.Versions {
			v := &m.Versions[j]
			v.Recent = nil
			if !counters {
				v.TrafficCounts, v.Served, v.LastMinute = admin.TrafficCounts{}, nil, compare.Counts{}
			}
		}
	}
	encoded, _ := json.Marshal(steady) // has nothing that cannot be encoded
	return banner + "\n" + string(encoded)
}
