package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// explanation is what explain tells in JSON.
type explanation struct {
	admin.Model

	Records []admin.Record `json:"records"` // of the rollout, oldest first
}

func (p *program) explainCommand() *cobra.Command {
	var output string
	var request admin.Request
	cmd := &cobra.Command{
		Use:     "explain MODEL",
		GroupID: "look",
		Short:   "Why a model is where it is: verdicts, numbers, and who asked for what",
		Long: `explain says why MODEL is in its phase, what each gate has shown and still lacks,
and what has happened in the rollout that runs, or in the last one: who asked for
what, and which numbers decided.

  VERDICT   safe    the limit is kept, shown for this step
            breach  the limit is broken, shown for this rollout
                    (overruled: a person resumed in spite of it)
            else why neither is shown yet: no evidence (too few requests), no
            traffic, telemetry gap (records of an Envoy are missing), baseline ill
            (stable breaks the limit too), not acknowledged (the step's share is
            not in force everywhere), not measurable (not in this step); a hard
            rule that has nothing to say is quiet
  BETWEEN   the true value lies in between: an interval that may be looked at as
            often as one likes; ≥ or ≤ where only one end is known yet
  REQUESTS  of the candidate, of about how many it takes

With --key or --header it says which version a request would get by the present
weights, and why: an override, or the bucket of the user's key.`,
		Example: `  headgate explain churn
  headgate explain churn -o json | jq '.gates[] | {metric, verdict, low, high}'
  headgate explain churn --key ada
  headgate explain churn --key ada --header canary=true`,
		Args:              exactly("MODEL"),
		ValidArgsFunction: p.completeModel,
	}
	outputFlag(cmd, &output, "text")
	cmd.Flags().StringVar(&request.Key, "key", "", "a user's `KEY`: which version would it get?")
	cmd.Flags().StringVar(&request.Path, "path", "", "`PATH` and query of such a request")
	cmd.Flags().StringToStringVar(&request.Headers, "header", nil, "`NAME=VALUE` of such a request; may be repeated")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if request.Key != "" || request.Path != "" || len(request.Headers) > 0 {
			return p.explainRequest(cmd, args[0], request, output == "json")
		}
		var e explanation
		if err := p.ask(cmd, modelPath(args[0]), &e.Model); err != nil {
			return err
		}
		var history admin.History
		if err := p.ask(cmd, modelPath(args[0])+"/history?limit=1000", &history); err != nil {
			return err
		}
		e.Records = ofRollout(history.Records, e.Rollout)
		if output == "json" {
			return p.printJSON(e)
		}
		var b strings.Builder
		p.screen.explain(&b, e, time.Now())
		_, err := io.WriteString(p.stdout, b.String())
		return err
	}
	return cmd
}

// explainRequest says which version a request would get.
func (p *program) explainRequest(cmd *cobra.Command, model string, request admin.Request, asJSON bool) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	var d admin.Decision
	if err := c.post(cmd.Context(), modelPath(model)+"/decision", request, &d); err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(d)
	}
	p.stdout.printf("%s: %s\n", plain(d.Version), plain(whyVersion(d)))
	return nil
}

// whyVersion says in words why a request gets its version.
func whyVersion(d admin.Decision) string {
	switch routing.Reason(d.Reason) {
	case routing.ReasonOverride:
		return fmt.Sprintf("overrides[%d] holds, whatever the weights", d.Rule)
	case routing.ReasonOnly:
		return "no other version has users"
	case routing.ReasonCurrent:
		return "the request has no key, and the file says absent: current"
	case routing.ReasonUndecided:
		return "the request has no key: it would be drawn by chance, and kept in a cookie where the file says so"
	}
	var ranges []string
	for _, r := range d.Ranges {
		if r.From < r.To {
			ranges = append(ranges, fmt.Sprintf("%s has %d to %d", r.Version, r.From, r.To-1))
		}
	}
	return fmt.Sprintf("the %s %q is in bucket %d (xxhash64 of %q modulo 10000); %s",
		d.Reason, d.Key, d.Bucket, d.Salt+"/"+d.Key, strings.Join(ranges, ", "))
}

// ofRollout returns the records of a rollout, oldest first. Before the first
// rollout those of the model.
func ofRollout(newestFirst []admin.Record, number int) []admin.Record {
	records := []admin.Record{}
	for i := len(newestFirst) - 1; i >= 0; i-- {
		if newestFirst[i].Rollout == number {
			records = append(records, newestFirst[i])
		}
	}
	return records
}

func (s screen) explain(w *strings.Builder, e explanation, now time.Time) {
	m := e.Model
	head := s.paint(bold, plain(m.Model)) + "  " + s.paint(phase(m.Phase).colour, plain(string(m.Phase)))
	if !m.Since.IsZero() {
		head += " for " + ago(now.Sub(m.Since))
	}
	w.WriteString(head + "\n\n")
	w.WriteString("Why\n")
	w.WriteString("  " + plain(cmp.Or(m.Reason, "nothing is known")) + "\n")
	if m.Mode == routing.ModeObserve {
		w.WriteString("  mode: observe: verdicts are only told, people move traffic\n")
	}
	if len(m.Gates) > 0 {
		w.WriteString("\n" + s.gateTitle(m.Status) + "\n")
		s.gates(w, m.Status, true)
		w.WriteString(s.paint(faint, "  "+promiseOf(m.Promise)) + "\n")
	}
	if len(m.Steps) > 0 {
		w.WriteString("\nSteps\n")
		s.steps(w, m.Status, now)
	}
	if len(e.Records) > 0 {
		fmt.Fprintf(w, "\nWho asked for what (%s)\n", rolloutName(e))
		s.records(w, e.Records)
	}
}

func (s screen) gateTitle(m rollout.Status) string {
	if m.Step < 0 {
		return "Gates, as the last rollout ended"
	}
	return "Gates, in step " + strconv.Itoa(m.Step+1)
}

// promiseOf says what the verdicts can be trusted for.
func promiseOf(p *admin.Promise) string {
	if p == nil {
		return "hard rules only: the file has no gates"
	}
	return fmt.Sprintf("promise, over the whole rollout and however often it is looked at: at most %s of good candidates go back, at most %s of bad ones pass",
		percent(100*p.FalseRollback), percent(100*p.FalsePromotion))
}

func rolloutName(e explanation) string {
	if e.Rollout == 0 {
		return "no rollout yet"
	}
	return "rollout " + strconv.Itoa(e.Rollout)
}

func (s screen) records(w *strings.Builder, records []admin.Record) {
	rows := make([][]cell, 0, len(records))
	for _, r := range records {
		rows = append(rows, []cell{
			text(r.Time.UTC().Format(time.DateTime) + "Z"), text(r.Kind), text(r.Actor), text(cmp.Or(r.Summary, r.Reason)),
		})
	}
	s.table(w, "  ", []string{"TIME", "EVENT", "BY", "WHAT AND WHY"}, rows)
}
