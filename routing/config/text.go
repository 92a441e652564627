package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// The kinds of text in the language. A pattern that JSON Schema publishes is
// what Set checks first, so that an editor and the parser agree.

// pattern is a rule on the form of a word.
type pattern struct {
	re   *regexp.Regexp
	rule string
}

func form(re, rule string) pattern {
	return pattern{regexp.MustCompile(re), rule}
}

// spacedUnit is a number with its unit apart.
var spacedUnit = regexp.MustCompile(`^([0-9.]+) +(%|pp|x|ms|s|m|h|d)$`)

func (p pattern) check(word string) error {
	if p.re.MatchString(word) {
		return nil
	}
	if m := spacedUnit.FindStringSubmatch(word); m != nil && p.re.MatchString(m[1]+m[2]) {
		return fmt.Errorf("must have no space; write %s", m[1]+m[2])
	}
	return errors.New(p.rule)
}

func (p pattern) schema() schema {
	return schema{"type": "string", "pattern": p.re.String()}
}

// name is the name of a model or a version. It becomes part of cluster names,
// header values and runtime keys.
type name string

var nameForm = form(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`,
	"must be 1 to 63 letters, digits, '.', '_' or '-', and begin and end with a letter or digit")

func (n *name) set(word string) error { *n = name(word); return nameForm.check(word) }
func (*name) schema() schema          { return nameForm.schema() }

// duration is a length of time.
type duration time.Duration

var durationForm = form(`^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$`, "must be a duration like 500ms, 90s, 1h30m or 2d")

var durationPart = regexp.MustCompile(`^([0-9.]+)(ms|s|m|h|d)`)

var units = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

const longestDuration = 365 * 24 * time.Hour

func (d *duration) set(word string) error {
	if numeric.MatchString(word) {
		return fmt.Errorf("has no unit; write %ss, %sm or %sh", word, word, word)
	}
	if err := durationForm.check(word); err != nil {
		return err
	}
	span, err := parseTimespan(word)
	if err != nil {
		return err
	}
	if *d = duration(span); span < time.Millisecond {
		return errors.New("must be at least 1ms")
	}
	return nil
}

// parseTimespan adds up what has the form of a duration.
func parseTimespan(word string) (time.Duration, error) {
	var sum float64
	for rest := word; rest != ""; {
		part := durationPart.FindStringSubmatch(rest)
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, errors.New("must be at most 365d")
		}
		sum += n * float64(units[part[2]])
		rest = rest[len(part[0]):]
	}
	if sum > float64(longestDuration) {
		return 0, errors.New("must be at most 365d")
	}
	return time.Duration(sum), nil
}

// brief writes a duration without the parts that are zero: "4h" for 4h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (*duration) schema() schema { return durationForm.schema() }

// limit is a duration, or "none".
type limit struct{ duration }

func (l *limit) set(word string) error {
	if word == "none" {
		l.duration = 0
		return nil
	}
	if err := l.duration.set(word); err != nil {
		return fmt.Errorf("%w; or none", err)
	}
	return nil
}

func (*limit) schema() schema {
	return schema{"type": "string", "pattern": "^(none|" + durationForm.re.String()[1:len(durationForm.re.String())-1] + ")$"}
}

// share is a part of the users.
type share routing.Share

var shareForm = form(`^([1-9][0-9]?(\.[0-9]{1,2}0*)?|0\.(0[1-9]|[1-9][0-9]?)0*|100(\.0+)?)%$`, "must be a percentage like 10%")

func (s *share) set(word string) error {
	if word != strings.TrimSpace(word) || strings.Contains(word, " ") {
		return errors.New("must be a percentage like 10%")
	}
	got, err := routing.ParseShare(word)
	if err != nil {
		return err
	}
	if *s = share(got); got == 0 {
		return errors.New("must be more than 0%")
	}
	if !shareForm.re.MatchString(word) {
		return errors.New(shareForm.rule)
	}
	return nil
}

func (*share) schema() schema { return shareForm.schema() }

// percent is a whole percentage.
type percent uint32

var percentForm = form(`^([1-9][0-9]?|100)%$`, "must be a whole percentage from 1% to 100%")

func (p *percent) set(word string) error {
	if err := percentForm.check(word); err != nil {
		return err
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(word, "%"), 10, 32)
	*p = percent(n)
	return err
}

func (*percent) schema() schema { return percentForm.schema() }

// The words of which one must be chosen. Planned ones are known and not
// implemented; foreign ones are what others call ours.
type choice struct {
	words, planned []string
	foreign        map[string]string
}

func (c choice) check(word string) error {
	switch {
	case slices.Contains(c.words, word):
		return nil
	case slices.ContainsFunc(c.planned, func(p string) bool { return bare(p) == bare(word) }):
		return errors.New("is not implemented in this version of headgate")
	}
	rule := "must be " + list(c.words, "or")
	if ours, ok := c.foreign[bare(word)]; ok {
		rule += "; write " + ours
	}
	return errors.New(rule)
}

// bare is a word without what people write in several ways: blueGreen,
// blue-green, Blue_Green.
func bare(word string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(word))
}

func (c choice) schema() schema { return schema{"type": "string", "enum": c.words} }

type protocol string

var protocols = choice{words: []string{"auto", "json", "openinference", "tfserving", "openai"}}

func (p *protocol) set(word string) error { *p = protocol(word); return protocols.check(word) }
func (*protocol) schema() schema          { return protocols.schema() }

type absent routing.Absent

var absents = choice{words: []string{"cookie", "request", "current"}}

func (a *absent) set(word string) error { *a = absent(word); return absents.check(word) }
func (*absent) schema() schema          { return absents.schema() }

type decider routing.DecideMode

var deciders = choice{words: []string{"native", "ext_proc"}}

func (d *decider) set(word string) error { *d = decider(word); return deciders.check(word) }
func (*decider) schema() schema          { return deciders.schema() }

type strategy string

const strategyShadowFirst = "shadow-first"

var strategies = choice{words: []string{"canary", strategyShadowFirst}, planned: []string{"blue-green"}}

func (s *strategy) set(word string) error { *s = strategy(word); return strategies.check(word) }
func (*strategy) schema() schema          { return strategies.schema() }

type method string

var methods = choice{words: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}}

func (m *method) set(word string) error {
	*m = method(word)
	err := methods.check(word)
	if upper := strings.ToUpper(word); err != nil && upper != word && methods.check(upper) == nil {
		return errors.New("methods are in capitals; write " + upper)
	}
	return err
}

func (*method) schema() schema { return methods.schema() }

// retryOn is a retry condition of Envoy.
type retryOn string

// Those of Envoy's conditions that need nothing else to be configured. The
// first three hold only while a version has not begun to work on the request.
var retryConditions = choice{words: []string{
	"connect-failure", "refused-stream", "reset-before-request",
	"5xx", "gateway-error", "reset", "retriable-4xx",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}}

const harmlessRetries = 3 // the first of retryConditions

func (r *retryOn) set(word string) error { *r = retryOn(word); return retryConditions.check(word) }
func (*retryOn) schema() schema          { return retryConditions.schema() }

// filename is the name of a file beside the configuration.
type filename string

var filenameForm = form(`^[^\x00-\x1f]{1,255}$`, "must be the name of a file, of at most 255 characters")

func (f *filename) set(word string) error { *f = filename(word); return filenameForm.check(word) }
func (*filename) schema() schema          { return filenameForm.schema() }
