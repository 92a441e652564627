package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/compare/protocol"
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

Each protocol has its outputs: predictions or outputs of tfserving, the named
outputs of openinference, the choices of openai. Of json all is compared, or what
--prediction names. With auto the form of an answer tells, and --prediction means
json. The first line says which it was and what was compared; members that were
not compared, and paths at which there is nothing, are warned of.

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
  headgate compare --prediction '$.items[*].price' --tolerance 2% v1.json v2.json -o json
  headgate compare --tolerance '$.outputs.score=0.05' --top-k '$.outputs.proba=1' v1.json v2.json`,
		Args: exactly("A", "B"),
	}
	outputFlag(cmd, &output, "text")
	flags.add(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		report, err := flags.compare(args[0], args[1])
		if err != nil {
			return err
		}
		if output == "json" {
			err = p.printJSON(report)
		} else {
			p.printReport(report)
		}
		if err == nil && !report.Agree {
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
	f.StringArrayVar(&c.predictions, "prediction", nil, "`PATH` of the prediction in json (default: all of it)")
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
func (c *compareFlags) compare(stable, shadow string) (*protocol.Report, error) {
	reader, err := c.reader()
	if err != nil {
		return nil, err
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
	return protocol.Explain(reader, comparer, a, b), nil
}

func (c *compareFlags) reader() (*protocol.Reader, error) {
	options := protocol.Options{Protocol: protocol.Protocol(c.protocol)}
	for _, s := range c.predictions {
		path, err := protocol.ParsePattern(s)
		if err != nil {
			return nil, usagef("--prediction %s: %v", s, err)
		}
		options.Paths = append(options.Paths, path)
	}
	if len(options.Paths) > 0 && options.Protocol == protocol.Auto {
		options.Protocol = protocol.JSON
	}
	reader, err := protocol.NewReader(options)
	if err != nil {
		return nil, usagef("--%v", err)
	}
	if len(options.Paths) > 0 && options.Protocol != protocol.JSON {
		return nil, usagef("--prediction %s: belongs to --protocol json; %s has its own outputs", options.Paths[0], options.Protocol)
	}
	return reader, nil
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

// printReport prints a comparison for people.
func (p *program) printReport(r *protocol.Report) {
	switch {
	case !r.Comparable:
		p.stdout.printf("not comparable: %s\n", plain(r.Reason))
	case r.Agree:
		p.stdout.printf("agree; difference %s; %s\n", shownDifference(r.Difference), compared(r))
	default:
		p.stdout.printf("disagree in %s; difference %s; %s\n", count(len(r.Differences)+r.More, "place"), shownDifference(r.Difference), compared(r))
	}
	for i := range r.Differences {
		p.stdout.printf("  %s\n", shownPlace(&r.Differences[i]))
	}
	if r.More > 0 {
		p.stdout.printf("  and %d more\n", r.More)
	}
	for _, path := range r.WithoutTolerance {
		p.stderr.printf("headgate: %s: compared exactly, for want of a tolerance: --tolerance '%s=1%%'\n", plain(path), plain(path))
	}
	for _, path := range r.NotCompared {
		p.stderr.printf("headgate: %s: not compared: is no output of %s; --protocol json compares it\n", plain(path), r.Protocol)
	}
	for _, path := range r.Unused {
		p.stderr.printf("headgate: %s: neither answer has it in what is compared; the flag has no effect\n", plain(path))
	}
}

// compared says what was compared: "as json: $.price".
func compared(r *protocol.Report) string {
	text := "as " + string(r.Protocol)
	if r.Shadow != "" {
		text += " and " + string(r.Shadow)
	}
	const most = 5
	outputs := make([]string, 0, most)
	for i, path := range r.Outputs {
		if path == "$" {
			path = "all of it"
		}
		if i == most {
			path = fmt.Sprintf("and %d more", len(r.Outputs)-most)
		}
		if outputs = append(outputs, plain(path)); i == most {
			break
		}
	}
	if len(outputs) > 0 {
		text += ": " + strings.Join(outputs, ", ")
	}
	return text
}

// shownDifference writes a difference without the last digits, which are those
// of binary fractions.
func shownDifference(d float64) string {
	if d == math.MaxFloat64 {
		return "not finite"
	}
	return strconv.FormatFloat(d, 'g', 12, 64)
}

func shownPlace(d *protocol.Difference) string {
	at := plain(d.Path) + ": "
	switch {
	case d.Stable == nil && d.Shadow != nil:
		return at + "only in shadow: " + plain(string(d.Shadow))
	case d.Shadow == nil && d.Stable != nil:
		return at + "only in stable: " + plain(string(d.Stable))
	}
	return at + string(d.Kind) + ": " + plain(string(d.Stable)) + " | " + plain(string(d.Shadow))
}
