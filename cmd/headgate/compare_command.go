package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/compare/protocol"
	"github.com/headgate/headgate/routing"
)

// compareFlags are rules of comparison as they are written.
type compareFlags struct {
	protocol    string
	predictions []string
	rules       []ruleFlag // in the order of the command line
	nan, fold   bool
}

// ruleFlag is a flag that says how what is at a path is compared.
type ruleFlag struct {
	name, value string
}

func (p *program) compareCommand() *cobra.Command {
	var output string
	var flags compareFlags
	cmd := &cobra.Command{
		Use:     "compare A B",
		GroupID: "look",
		Short:   "How the answers of two versions differ",
		Long: `compare reads two answers to the same request from files, A as the stable
version's and B as the shadow's, and says where they disagree. It is what
headgate does with pairs of captured answers. Either file may be compressed by
gzip.

Numbers of which both are in [0, 1] may differ by 0.1. For others give a
tolerance; without one they are compared exactly, and that is said. Labels must
be the same, and so must texts, apart from white space. Order of members, 1 or
1.0, dimensions of size one, ids, times, names and versions of models make no
difference.

PATH is like $.predictions[*].score, and holds for all beneath it; without
PATH= a flag holds for everything. Where several hold, the longest PATH counts.

The difference is one number: the largest |A - B| of the numbers that are
compared, the total variation of vectors, and 1 for what has no size.

The exit code is 1 when they disagree, or cannot be compared: then comparable
is false and the reason is told. It is 2 when a file cannot be opened.`,
		Example: `  headgate compare v1.json v2.json
  headgate compare --protocol json --prediction $.price --tolerance 2% v1.json v2.json -o json
  headgate compare --tolerance '$.outputs.score=0.05' --top-k '$.outputs.proba=1' v1.json v2.json`,
		Args: exactly("A", "B"),
	}
	outputFlag(cmd, &output, "text")
	flags.add(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		diff, err := flags.compare(args[0], args[1])
		if err != nil {
			return err
		}
		if output == "json" {
			err = p.printJSON(diff)
		} else {
			p.printDiff(diff)
		}
		if err == nil && !diff.Agree {
			return exitf(exitNo, "")
		}
		return err
	}
	return cmd
}

func (c *compareFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&c.protocol, "protocol", "auto", "`P`: auto, json, openinference, tfserving or openai")
	f.StringArrayVar(&c.predictions, "prediction", nil, "`PATH` of the prediction in plain JSON (default: all of it)")
	for _, r := range []struct{ name, usage string }{
		{"tolerance", "`[PATH=]T`: numbers may differ by T, or by T% of A's"},
		{"threshold", "`[PATH=]T`: numbers must be on the same side of T"},
		{"top-k", "`[PATH=]K`: the K most probable classes of a vector must be the same"},
		{"total-variation", "`[PATH=]T`: vectors may differ by a total variation of T"},
		{"cosine", "`[PATH=]T`: 1 - cosine of vectors must not exceed T"},
		{"label", "`PATH`: numbers there are names of classes"},
		{"text", "`PATH`: texts there may differ in white space"},
		{"ignore", "`PATH`: what is there does not count"},
	} {
		f.Var(&ruleValue{name: r.name, to: &c.rules}, r.name, r.usage)
	}
	f.BoolVar(&c.nan, "nan-equal", false, "NaN equals NaN")
	f.BoolVar(&c.fold, "fold-case", false, "texts may differ in case")
}

// ruleValue is a flag that may come many times, among others of its kind.
type ruleValue struct {
	name string
	to   *[]ruleFlag
}

func (v *ruleValue) String() string { return "" }
func (v *ruleValue) Type() string   { return "string" }
func (v *ruleValue) Set(s string) error {
	*v.to = append(*v.to, ruleFlag{v.name, s})
	return nil
}

// compare reads and compares two files.
func (c *compareFlags) compare(stable, shadow string) (*protocol.Diff, error) {
	options := protocol.Options{Protocol: protocol.Protocol(c.protocol)}
	for _, s := range c.predictions {
		path, err := routing.ParsePath(s)
		if err != nil {
			return nil, usagef("--prediction %s: %v", s, err)
		}
		options.Paths = append(options.Paths, path)
	}
	reader, err := protocol.NewReader(options)
	if err != nil {
		return nil, usagef("--%v", err)
	}
	rules, err := c.merged()
	if err != nil {
		return nil, usagef("%v", err)
	}
	comparer, err := protocol.NewComparer(rules)
	if err != nil {
		return nil, usagef("%v", err)
	}
	a, err := answerFile(stable)
	if err != nil {
		return nil, err
	}
	b, err := answerFile(shadow)
	if err != nil {
		return nil, err
	}
	return protocol.Pair(reader, comparer, a, b), nil
}

// maxAnswerFile is more than is read of an answer, so that one of more bytes is
// seen to be too large.
const maxAnswerFile = 2 << 20

func answerFile(name string) (*protocol.Answer, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer func() { _ = file.Close() }()
	body, err := io.ReadAll(io.LimitReader(file, maxAnswerFile))
	if err != nil {
		return nil, usagef("%v", err)
	}
	return &protocol.Answer{Body: body}, nil
}

// merged makes one rule of all flags with the same path.
func (c *compareFlags) merged() ([]protocol.Rule, error) {
	var rules []protocol.Rule
	byPath := map[string]int{}
	rule := func(path protocol.Pattern) *protocol.Rule {
		i, ok := byPath[path.String()]
		if !ok {
			i = len(rules)
			byPath[path.String()] = i
			rules = append(rules, protocol.Rule{Path: path, NaNEqual: c.nan, Fold: c.fold})
		}
		return &rules[i]
	}
	rule(protocol.Pattern{})
	for _, f := range c.rules {
		path, value, err := f.split()
		if err == nil {
			err = f.set(rule(path), value)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w", f.name, f.value, err)
		}
	}
	return rules, nil
}

// split parts PATH and value.
func (f *ruleFlag) split() (path protocol.Pattern, value string, err error) {
	value = f.value
	switch f.name {
	case "label", "text", "ignore":
		path, err = protocol.ParsePattern(value)
		return path, "", err
	}
	if !strings.HasPrefix(value, "$") {
		return path, value, nil
	}
	at := strings.LastIndexByte(value, '=')
	if at < 0 {
		return path, "", errors.New("must be PATH=VALUE or VALUE")
	}
	path, err = protocol.ParsePattern(value[:at])
	return path, value[at+1:], err
}

// set puts one flag into a rule.
func (f *ruleFlag) set(r *protocol.Rule, value string) error {
	switch f.name {
	case "label":
		r.As = protocol.AsLabel
		return nil
	case "text":
		r.As = protocol.AsText
		return nil
	case "ignore":
		r.As = protocol.AsIgnore
		return nil
	}
	digits, percent := strings.CutSuffix(value, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || percent && f.name != "tolerance" {
		return fmt.Errorf("%q: must be a number", value)
	}
	switch f.name {
	case "tolerance":
		if r.Tolerance == nil {
			r.Tolerance = &protocol.Tolerance{}
		}
		if percent {
			r.Tolerance.Relative = n / 100
		} else {
			r.Tolerance.Absolute = n
		}
	case "threshold":
		r.Thresholds = append(r.Thresholds, n)
	case "top-k":
		if n < 1 || n != float64(int(n)) {
			return fmt.Errorf("%q: must be a whole number from 1 on", value)
		}
		r.TopK = int(n)
	case "total-variation":
		r.MaxVariation = n
	case "cosine":
		r.MaxCosine = n
	}
	return nil
}

// printDiff prints a comparison for people.
func (p *program) printDiff(d *protocol.Diff) {
	if !d.Comparable {
		p.stdout.printf("not comparable: %s\n", plain(d.Reason))
		return
	}
	if d.Agree {
		p.stdout.printf("agree; difference %g\n", d.Difference)
	} else {
		p.stdout.printf("disagree in %s; difference %g\n", count(len(d.Differences)+d.More, "place"), d.Difference)
	}
	for i := range d.Differences {
		one := &d.Differences[i]
		p.stdout.printf("  %s: %s: %s | %s\n", plain(one.Path), one.Kind, shownValue(one.Stable), shownValue(one.Shadow))
	}
	if d.More > 0 {
		p.stdout.printf("  and %d more\n", d.More)
	}
	for _, path := range d.WithoutTolerance {
		p.stderr.printf("headgate: %s: compared exactly, for want of a tolerance: --tolerance '%s=1%%'\n", plain(path), plain(path))
	}
}

func shownValue(value []byte) string {
	if value == nil {
		return "nothing"
	}
	return plain(string(value))
}
