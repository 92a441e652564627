package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

// bannerLines is how many mistakes a banner shows.
const bannerLines = 5

func (p *program) configCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "config",
		GroupID: "look",
		Short:   "Whether the files are in force, and why not",
		Long: `config shows what the running headgate knows of its configuration directory: what
is in force, since when, and every mistake for which the files as they are now
are not. The exit code is 1 when they are not in force.

To ask before a file is saved there, see headgate validate --help.`,
		Example: "  headgate config\n  headgate config -o json | jq -r '.errors[].message'",
		Args:    cobra.NoArgs,
	}
	outputFlag(cmd, &output, "text")
	p.connectFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var c admin.Config
		if err := p.ask(cmd, "/v1/config", &c); err != nil {
			return err
		}
		if output == "json" {
			if err := p.printJSON(c); err != nil {
				return err
			}
		} else {
			p.printConfig(c, time.Now())
		}
		if !c.OK {
			return exitf(exitNo, "")
		}
		return nil
	}
	return cmd
}

func (p *program) printConfig(c admin.Config, now time.Time) {
	facts := [][]cell{{text("directory"), text(c.Directory)}}
	if c.Loaded == nil {
		facts = append(facts, []cell{text("in force"), text("nothing").in(red)})
	} else {
		facts = append(facts, []cell{text("in force"), text("what was read " + ago(now.Sub(*c.Loaded)) + " ago")},
			[]cell{text("hash"), text(c.Hash)})
	}
	switch {
	case c.Attempt == nil:
		facts = append(facts, []cell{text("files now"), text("are not read yet").in(yellow)})
	case c.OK:
		facts = append(facts, []cell{text("files now"), text("are in force").in(green)})
	default:
		facts = append(facts, []cell{text("files now"), text("are not in force: " + count(len(c.Errors), "mistake")).in(red)})
	}
	if c.Polling {
		facts = append(facts, []cell{text("changes"), text("are found by reading again and again: the system tells none")})
	}
	p.screen.table(p.stdout, "", nil, facts)
	for _, line := range c.Errors {
		p.stdout.printf("%s\n", plain(line.String()))
	}
	for _, line := range c.Warnings {
		p.stdout.printf("%s %s\n", p.screen.paint(yellow, "warning:"), plain(line.String()))
	}
}

// configOf asks what is known of the files. It returns nil when headgate does
// not tell.
func (c *client) configOf(ctx context.Context) (*admin.Config, error) {
	var config admin.Config
	if err := c.get(ctx, "/v1/config", &config); err != nil {
		if isNotFound(err) {
			return nil, nil //nolint:nilnil // there is no such route
		}
		return nil, err
	}
	return &config, nil
}

// notInForce says that the files as they are now do not serve, and what does;
// empty: they do, or it is not known.
func notInForce(c *admin.Config) string {
	if c == nil || c.OK || c.Attempt == nil && len(c.Errors) == 0 {
		return ""
	}
	serves := "the last good configuration serves"
	if c.Loaded == nil {
		serves = "no configuration is in force"
	}
	var b strings.Builder
	switch n := len(c.Errors); n {
	case 0:
		fmt.Fprintf(&b, "the files in %s are not in force (%s)", plain(c.Directory), serves)
	case 1:
		fmt.Fprintf(&b, "the files are not in force: %s (%s)", plain(oneLine(c.Errors[0].String())), serves)
	default:
		fmt.Fprintf(&b, "the files are not in force: %s (%s)", count(n, "mistake"), serves)
		for _, line := range c.Errors[:min(n, bannerLines)] {
			b.WriteString("\n  " + plain(oneLine(line.String())))
		}
		if n > bannerLines {
			fmt.Fprintf(&b, "\n  and %d more: headgate config", n-bannerLines)
		}
	}
	return b.String()
}

// banner is what stands above every status while the files are not in force.
func (s screen) banner(w *strings.Builder, c *admin.Config) {
	message := notInForce(c)
	if message == "" {
		return
	}
	for line := range strings.Lines(message) {
		w.WriteString(s.paint(red, strings.TrimSuffix(line, "\n")) + "\n")
	}
	w.WriteByte('\n')
}
