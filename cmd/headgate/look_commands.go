package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

func (p *program) historyCommand() *cobra.Command {
	var output string
	var limit int
	cmd := &cobra.Command{
		Use:     "history MODEL",
		GroupID: "look",
		Short:   "What happened to a model, newest first",
		Long: `history shows the newest records of MODEL in the journal: who did what, when and why.

BY is the name of a token, or without tokens "cli" with the user who typed the
command, "api" for other clients. Without a person it is

  config  an edited file
  timer   the time of a step: for, or at_most
  judge   what gates and hard rules have shown
  probe   the answer of an endpoint of the candidate, without which it gets nobody
  envoy   an acknowledgement: every Envoy has the weights; or what Envoys hold

SEQ counts the records of all models, and those that only keep how long a step
has run, which are not shown: numbers that are missing here are theirs.`,
		Example:           "  headgate history churn\n  headgate history churn --limit 500 -o json",
		Args:              exactly("MODEL"),
		ValidArgsFunction: p.completeModel,
	}
	outputFlag(cmd, &output, "table")
	cmd.Flags().IntVarP(&limit, "limit", "n", 50, "at most so many records, from 1 to 1000")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit < 1 || limit > 1000 {
			return usagef("--limit: %d: must be from 1 to 1000", limit)
		}
		var answer admin.History
		if err := p.ask(cmd, modelPath(args[0])+"/history?limit="+strconv.Itoa(limit), &answer); err != nil {
			return err
		}
		if output == "json" {
			return p.printJSON(answer.Records)
		}
		rows := make([][]cell, 0, len(answer.Records))
		for _, r := range answer.Records {
			rows = append(rows, []cell{
				number(strconv.FormatInt(r.Seq, 10)), text(r.Time.UTC().Format(time.DateTime) + "Z"),
				number(strconv.Itoa(r.Rollout)), text(r.Kind), text(r.Actor), text(cmp.Or(r.Summary, r.Reason)),
			})
		}
		p.screen.table(p.stdout, "", []string{"SEQ", "TIME", "ROLLOUT", "EVENT", "BY", "WHAT AND WHY"}, rows)
		return nil
	}
	return cmd
}

func (p *program) envoysCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "envoys",
		GroupID: "look",
		Short:   "The Envoys that are connected",
		Long: `envoys shows which Envoys are connected.

  FOR      since when it is connected
  STATE    "has all" when it has acknowledged all that was sent
  RECORDS  "yes" when its access log reaches headgate: without, its requests are
           missing in the counts of status
  REMARK   what it refused, in its own words, or what is wrong with its bootstrap`,
		Example: "  headgate envoys\n  headgate envoys -o json",
		Args:    cobra.NoArgs,
	}
	outputFlag(cmd, &output, "table")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var answer admin.Envoys
		if err := p.ask(cmd, "/v1/envoys", &answer); err != nil {
			return err
		}
		if output == "json" {
			return p.printJSON(answer)
		}
		p.printEnvoys(answer, time.Now())
		return nil
	}
	return cmd
}

func (p *program) printEnvoys(e admin.Envoys, now time.Time) {
	rows := make([][]cell, 0, len(e.Envoys))
	for _, e := range e.Envoys {
		state := text("has all")
		switch {
		case e.Gone:
			state = text("gone").in(red)
		case e.Rejected != "":
			state = text("refused").in(red)
		case !e.Acknowledged:
			state = text("behind by " + count(e.Behind, "model")).in(yellow)
		}
		records := text("yes")
		if !e.Records {
			records = text("no").in(yellow)
		}
		remark := strings.Trim(e.Rejected+"; "+e.Warning, "; ")
		rows = append(rows, []cell{
			text(e.Node), text(dash(e.Version)), text(ago(now.Sub(e.Since))), state, records, text(remark),
		})
	}
	if len(rows) == 0 {
		p.stdout.printf("no Envoy is connected\n")
	} else {
		p.screen.table(p.stdout, "", []string{"NODE", "VERSION", "FOR", "STATE", "RECORDS", "REMARK"}, rows)
	}
	for _, r := range e.Refused {
		p.stdout.printf("not let in %s ago: %s: %s\n", ago(now.Sub(r.Time)), plain(dash(r.Node)), plain(r.Reason))
	}
}

func (p *program) versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		GroupID: "look",
		Short:   "The version of this program",
		Long:    "version prints the version of this program, not of one that runs.",
		Example: "  headgate version\n  headgate version -o json",
		Args:    cobra.NoArgs,
	}
	outputFlag(cmd, &output, "text")
	cmd.RunE = func(*cobra.Command, []string) error {
		v := buildVersion()
		if output == "json" {
			return p.printJSON(v)
		}
		p.stdout.printf("headgate %s (%s, %s)\n", v.Version, dash(v.Revision), v.Go)
		return nil
	}
	return cmd
}

func (p *program) ask(cmd *cobra.Command, path string, v any) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return c.get(cmd.Context(), path, v)
}

func (p *program) printJSON(v any) error {
	encoded, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", encoded)
	return err
}

func version() string { return buildVersion().Version }

// buildVersion is what the compiler has noted of this program.
func buildVersion() admin.Version {
	v := admin.Version{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
