package simulate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/routing/config"
)

// reader reads a document strictly, and collects every mistake.
type reader struct {
	errs config.Errors
}

// section is a mapping of which each field must be asked for.
type section struct {
	r      *reader
	node   *yaml.Node
	path   string
	fields map[string]*yaml.Node
	known  []string
}

func (r *reader) fail(n *yaml.Node, path, value, rule string) {
	r.errs = append(r.errs, config.Error{Line: n.Line, Column: n.Column, Path: path, Value: value, Message: rule})
}

// section reads a mapping. It is empty, and a mistake, when n is none.
func (r *reader) section(n *yaml.Node, path string) *section {
	s := &section{r: r, node: n, path: path, fields: map[string]*yaml.Node{}}
	if n.Kind != yaml.MappingNode {
		r.fail(n, path, "", "must be a mapping")
		s.known = nil
		return s
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if first, twice := s.fields[key.Value]; twice {
			r.fail(key, s.at(key.Value), "", fmt.Sprintf("is already in line %d", first.Line))
			continue
		}
		s.fields[key.Value] = value
	}
	return s
}

func (s *section) at(name string) string {
	if s.path == "" {
		return name
	}
	return s.path + "." + name
}

// take returns a field's node, or nil when it is absent.
func (s *section) take(name string) *yaml.Node {
	s.known = append(s.known, name)
	return s.fields[name]
}

// need is take for a field that must be there.
func (s *section) need(name string) *yaml.Node {
	n := s.take(name)
	if n == nil && s.node.Kind == yaml.MappingNode {
		s.r.fail(s.node, s.at(name), "", "is missing")
	}
	return n
}

// has tells whether an optional field is there, and reads it as a mapping.
func (s *section) has(name string) (*section, bool) {
	n := s.take(name)
	if n == nil {
		return nil, false
	}
	return s.r.section(n, s.at(name)), true
}

// end refuses the fields that nobody asked for.
func (s *section) end() {
	for i := 0; s.node.Kind == yaml.MappingNode && i+1 < len(s.node.Content); i += 2 {
		if key := s.node.Content[i]; !slices.Contains(s.known, key.Value) {
			s.r.fail(key, s.at(key.Value), "", "unknown field; known are "+strings.Join(s.known, ", "))
		}
	}
}

// word reads a scalar by a rule. An absent node is left alone.
func word[T any](s *section, name string, n *yaml.Node, into *T, parse func(string) (T, error)) {
	if n == nil {
		return
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		s.r.fail(n, s.at(name), "", "must be one value")
		return
	}
	got, err := parse(n.Value)
	if err != nil {
		s.r.fail(n, s.at(name), strconv.Quote(n.Value), err.Error())
		return
	}
	*into = got
}

// number reads digits with an optional fraction, and nothing else.
func number(word string) (float64, bool) {
	if word == "" || strings.Trim(word, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(word, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// maxRate keeps the counts of a minute within what is exact.
const maxRate = 1e7

// ParseRate reads "20/s" or "90/min", in requests a second.
func ParseRate(word string) (float64, error) {
	rule := errors.New("must be a rate like 20/s or 90/min")
	digits, unit, ok := strings.Cut(word, "/")
	n, fine := number(digits)
	if !ok || !fine {
		return 0, rule
	}
	switch unit {
	case "s":
	case "min":
		n /= 60
	default:
		return 0, rule
	}
	if n <= 0 || n > maxRate {
		return 0, errors.New("must be more than 0/s and at most 10000000/s")
	}
	return n, nil
}

// ParsePart reads "0.5%" as a part of one.
func ParsePart(word string) (float64, error) {
	digits, percent := strings.CutSuffix(word, "%")
	n, ok := number(digits)
	switch {
	case !percent || !ok:
		return 0, errors.New("must be a percentage like 0.5%")
	case n > 100:
		return 0, errors.New("must be at most 100%")
	}
	return n / 100, nil
}

// partOf reads "2%", or "4x" as four times what stable has.
func partOf(stable float64) func(string) (float64, error) {
	return func(word string) (float64, error) {
		if !strings.HasSuffix(word, "x") {
			part, err := ParsePart(word)
			if err != nil {
				err = fmt.Errorf("%w, or times stable's like 4x", err)
			}
			return part, err
		}
		f, err := parseFactor(word)
		if err == nil && f*stable > 1 {
			err = errors.New("is more than all of the requests")
		}
		return f * stable, err
	}
}

// parseFactor reads "1.5x".
func parseFactor(word string) (float64, error) {
	digits, times := strings.CutSuffix(word, "x")
	n, ok := number(digits)
	if !times || !ok || n > 1000 {
		return 0, errors.New("must be a factor like 1.5x, at most 1000x")
	}
	return n, nil
}

func parseFactorAboveZero(word string) (float64, error) {
	f, err := parseFactor(word)
	if err == nil && f == 0 {
		err = errors.New("must be more than 0x")
	}
	return f, err
}

// parseTime reads "90s" or "1h30m" or "2d"; more than nothing.
func parseTime(word string) (time.Duration, error) {
	if _, plain := number(word); plain {
		return 0, fmt.Errorf("has no unit; write %ss, %sm or %sh", word, word, word)
	}
	if days, ok := strings.CutSuffix(word, "d"); ok {
		if n, fine := number(days); fine && n > 0 && n <= 365 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(word)
	switch {
	case err != nil:
		return 0, errors.New("must be a duration like 500ms, 90s, 1h30m or 2d")
	case d <= 0:
		return 0, errors.New("must be more than nothing")
	case d > 365*24*time.Hour:
		return 0, errors.New("must be at most 365d")
	}
	return d, nil
}

// parseFailing reads "1% at 30%".
func parseFailing(word string) ([2]float64, error) {
	of, at, ok := strings.Cut(word, " at ")
	part, err1 := ParsePart(of)
	rate, err2 := ParsePart(at)
	if !ok || err1 != nil || err2 != nil {
		return [2]float64{}, errors.New(`must be like "1% at 30%": this part of the users, whose requests fail at that rate`)
	}
	return [2]float64{part, rate}, nil
}

// ParseLatency reads "40ms/250ms", the median and the 99 % quantile.
func ParseLatency(word string) (Latency, error) {
	median, p99, ok := strings.Cut(word, "/")
	if !ok {
		return Latency{}, errors.New("must be the median and p99, like 40ms/250ms")
	}
	l := Latency{}
	var err error
	if l.Median, err = parseTime(median); err != nil {
		return Latency{}, fmt.Errorf("the median %w", err)
	}
	if l.P99, err = parseTime(p99); err != nil {
		return Latency{}, fmt.Errorf("p99 %w", err)
	}
	return l, l.check()
}

// maxLatency is the largest that is simulated: its tail stays below what
// telemetry believes.
const maxLatency = time.Hour

func (l Latency) check() error {
	switch {
	case l.P99 <= l.Median:
		return fmt.Errorf("p99 must be more than the median, %s", l.Median)
	case l.P99 > maxLatency:
		return fmt.Errorf("p99 must be at most %s", maxLatency)
	case l.Median < 10*time.Microsecond:
		return errors.New("the median must be at least 10µs")
	}
	return nil
}
