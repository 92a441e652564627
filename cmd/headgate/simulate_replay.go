package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
)

// replay judges what was recorded by the policy of a model's file.
func (p *program) replay(file string, o *simulateFlags) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fileError(err)
	}
	model, err := config.Parse(file, data)
	if err != nil {
		return scenarioError(err)
	}
	recording, err := os.Open(o.replay)
	if err != nil {
		return fileError(err)
	}
	defer func() { _ = recording.Close() }()
	replayed, err := replayed(recording, model)
	if err != nil {
		return fmt.Errorf("%s: %w", o.replay, err)
	}
	if o.output == "json" {
		return p.printJSON(replayed)
	}
	var b strings.Builder
	p.screen.replayed(&b, replayed, o.verbose)
	p.stdout.printf("%s", b.String())
	return nil
}

func replayed(recording *os.File, model *routing.Model) (*simulate.Replayed, error) {
	reader, err := simulate.NewReader(recording)
	if err != nil {
		return nil, err
	}
	if reader.Header.Model != model.Name {
		return nil, fmt.Errorf("is of the model %s, not %s", reader.Header.Model, model.Name)
	}
	return simulate.Replay(reader, model)
}

// replayed writes side by side what was done and what would have been.
func (s screen) replayed(w *strings.Builder, r *simulate.Replayed, verbose bool) {
	fmt.Fprintf(w, "%s rollout %d: %s %s %s, recorded from %s for %s\n", s.paint(bold, plain(r.Model)), r.Rollout,
		plain(r.Stable), "→", plain(r.Candidate), r.From.UTC().Format("2006-01-02 15:04:05Z"), brief(r.To.Sub(r.From)))
	w.WriteString("Shares are those that were recorded: what follows from other shares cannot be told.\n")
	for _, limit := range r.Limits {
		w.WriteString(s.paint(yellow, plain(limit)) + "\n")
	}
	w.WriteByte('\n')
	colours := map[string]string{simulate.WhatWould: bold, simulate.WhatNote: yellow, simulate.WhatVerdict: faint}
	rows := make([][]cell, 0, len(r.Events))
	for _, e := range r.Events {
		if e.Minor && !verbose {
			continue
		}
		rows = append(rows, []cell{
			number(brief(e.Time.Sub(r.From))), number(fmt.Sprint(e.Step + 1)), text(e.What).in(colours[e.What]), text(oneLine(e.Text)),
		})
	}
	if len(rows) == 0 {
		w.WriteString("Nothing happened, and nothing would have.\n")
	} else {
		s.table(w, "", []string{"AFTER", "STEP", "", "WHAT"}, rows)
	}
	did := "it goes on"
	if r.Did != "" {
		did = strings.ReplaceAll(r.Did, "_", " ")
	}
	would := strings.ReplaceAll(string(r.Would), "_", " ")
	if r.Ended {
		would = fmt.Sprintf("in step %d of %d; the recording ends here", r.Step+1, r.Steps)
	}
	fmt.Fprintf(w, "\nRecorded: %s. This policy: %s.\n", did, would)
}

// fileError is an error without the operation, for people.
func fileError(err error) error {
	if failed := (*os.PathError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("%s: %w", failed.Path, failed.Err)
	}
	return err
}
