package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
)

// maxScenario bounds a scenario's file.
const maxScenario = 256 << 10

// Load reads a scenario, or a model's file: then what the traffic is has to
// come from adjust, which may change what was read before it is checked. All
// mistakes are told at once, as [config.Errors].
func Load(file string, adjust func(*Scenario) error) (*Scenario, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s, err := parse(file, data)
	if err == nil && adjust != nil {
		err = adjust(s)
	}
	if err == nil {
		err = s.check(file)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		return nil, errors.New("is a directory; name a file")
	case err == nil && info.Size() > maxScenario:
		return nil, fmt.Errorf("is larger than %d kB", maxScenario>>10)
	}
	data, err := os.ReadFile(file)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return nil, failed.Err
	}
	return data, err
}

// parse reads a scenario's text. The file's name is for errors, and for what
// the text names.
func parse(file string, data []byte) (*Scenario, error) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil || len(doc.Content) != 1 {
		return nil, config.Errors{{File: file, Message: "cannot be read as YAML: " + notYAML(err)}}
	}
	root := doc.Content[0]
	if hasField(root, "versions") { // a model's file
		m, err := config.Parse(file, data)
		return &Scenario{Model: m, Traffic: calm()}, err
	}
	r := &reader{}
	s := r.scenario(file, data, root)
	for i := range r.errs {
		if r.errs[i].File == "" {
			r.errs[i].File = file
		}
	}
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	return s, nil
}

func notYAML(err error) string {
	if err == nil {
		return "is empty"
	}
	return strings.TrimPrefix(strings.SplitN(err.Error(), "\n", 2)[0], "yaml: ")
}

func hasField(n *yaml.Node, name string) bool {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

// calm is traffic of which nothing is said.
func calm() Traffic { return Traffic{Bursts: Bursts{Rate: 1, Latency: 1}} }

func (r *reader) scenario(file string, data []byte, root *yaml.Node) *Scenario {
	out := &Scenario{Traffic: calm()}
	s := r.section(root, "")
	if t := s.need("traffic"); t != nil {
		r.traffic(r.section(t, "traffic"), &out.Traffic)
	}
	if t := s.need("stable"); t != nil {
		r.truth(r.section(t, "stable"), &out.Stable, Truth{})
	}
	out.Candidate = out.Stable
	if c, ok := s.has("candidate"); ok {
		word(c, "from", c.take("from"), &out.From, parseTime)
		r.truth(c, &out.Candidate, out.Stable)
	}
	word(s, "until", s.take("until"), &out.Until, parseTime)
	model, inline := s.take("model"), s.take("rollout")
	switch {
	case inline != nil && model != nil:
		r.fail(inline, "rollout", "", "excludes model")
	case inline != nil:
		out.Model = r.inline(file, data, root, out.Keyed())
	case model != nil:
		word(s, "model", model, &out.Model, func(name string) (*routing.Model, error) {
			return r.modelFile(file, name)
		})
	case root.Kind == yaml.MappingNode:
		r.fail(root, "", "", "needs model, the name of a model's file, or rollout")
	}
	s.end()
	return out
}

// modelFile reads the model's file that a scenario names, relative to it.
func (r *reader) modelFile(file, name string) (*routing.Model, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(file), name)
	}
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	m, err := config.Parse(name, data)
	if wrong := (config.Errors)(nil); errors.As(err, &wrong) {
		r.errs = append(r.errs, wrong...)
		return nil, nil
	}
	return m, err
}

// inline compiles the rollout of a scenario in the language of models' files,
// by the same code: as part of a model of which nothing else matters. All other
// lines are blanked, so that mistakes have their place.
func (r *reader) inline(file string, data []byte, root *yaml.Node, keyed bool) *routing.Model {
	if root.Style&yaml.FlowStyle != 0 {
		r.fail(root, "rollout", "", "must begin a line of its own")
		return nil
	}
	lines := strings.Split(string(data), "\n")
	from, to := 0, len(lines)+1
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i]
		switch {
		case key.Value == "rollout":
			from = key.Line
		case from > 0 && key.Line > from:
			to = min(to, key.Line)
		}
	}
	for i := range lines {
		if line := i + 1; line < from || line >= to {
			lines[i] = ""
		}
	}
	text := strings.Join(lines, "\n") + `
model: simulated
listen: 127.0.0.1:1
repeatable: true
versions: {candidate: {endpoints: ["127.0.0.1:2"]}, stable: {endpoints: ["127.0.0.1:3"]}}
release: candidate
from: stable
`
	if keyed {
		text += "key: {header: x-user}\n"
	}
	m, err := config.Parse(file, []byte(text))
	if wrong := (config.Errors)(nil); errors.As(err, &wrong) {
		r.errs = append(r.errs, wrong...)
	} else if err != nil {
		r.fail(root, "rollout", "", err.Error())
	}
	return m
}

func (r *reader) traffic(s *section, t *Traffic) {
	word(s, "rate", s.need("rate"), &t.Rate, ParseRate)
	if u, ok := s.has("users"); ok {
		word(u, "number", u.need("number"), &t.Users.Number, parseCount)
		word(u, "zipf", u.take("zipf"), &t.Users.Zipf, parseZipf)
		var failing [2]float64
		word(u, "failing", u.take("failing"), &failing, parseFailing)
		t.Users.Failing, t.Users.FailingRate = failing[0], failing[1]
		u.end()
	}
	if b, ok := s.has("bursts"); ok {
		word(b, "every", b.need("every"), &t.Bursts.Every, parseTime)
		word(b, "for", b.need("for"), &t.Bursts.For, parseTime)
		word(b, "rate", b.take("rate"), &t.Bursts.Rate, parseFactor)
		word(b, "errors", b.take("errors"), &t.Bursts.Errors, ParsePart)
		word(b, "latency", b.take("latency"), &t.Bursts.Latency, parseFactorAboveZero)
		b.end()
	}
	if w, ok := s.has("rhythm"); ok {
		t.Rhythm.Period = 24 * time.Hour
		word(w, "period", w.take("period"), &t.Rhythm.Period, parseTime)
		word(w, "swing", w.need("swing"), &t.Rhythm.Swing, parseSwing)
		w.end()
	}
	if g, ok := s.has("gaps"); ok {
		word(g, "every", g.need("every"), &t.Gaps.Every, parseTime)
		word(g, "for", g.need("for"), &t.Gaps.For, parseTime)
		g.end()
	}
	s.end()
}

// truth reads how a version behaves, onto what it is already. Factors are of
// stable.
func (r *reader) truth(s *section, t *Truth, stable Truth) {
	parse := ParsePart
	if stable != (Truth{}) {
		parse = partOf(stable.Errors)
	}
	word(s, "errors", s.take("errors"), &t.Errors, parse)
	if stable != (Truth{}) {
		parse = partOf(stable.ClientErrors)
	}
	word(s, "client_errors", s.take("client_errors"), &t.ClientErrors, parse)
	r.latency(s, "latency", &t.Latency, stable.Latency)
	r.latency(s, "error_latency", &t.ErrorLatency, stable.ErrorLatency)
	s.end()
}

func (r *reader) latency(s *section, name string, l *Latency, stable Latency) {
	n := s.take(name)
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode:
		m, got := r.section(n, s.at(name)), Latency{}
		word(m, "median", m.need("median"), &got.Median, parseTime)
		word(m, "p99", m.need("p99"), &got.P99, parseTime)
		m.end()
		if got.Median > 0 && got.P99 > 0 {
			if err := got.check(); err != nil {
				r.fail(n, s.at(name), "", err.Error())
			}
		}
		*l = got
	default:
		word(s, name, n, l, latencyOf(stable))
	}
}

// latencyOf reads "40ms/250ms", or "1.3x" as that times what stable has.
func latencyOf(stable Latency) func(string) (Latency, error) {
	return func(word string) (Latency, error) {
		if !stable.known() || !strings.HasSuffix(word, "x") {
			return ParseLatency(word)
		}
		f, err := parseFactorAboveZero(word)
		if err != nil {
			return Latency{}, err
		}
		got := stable.times(f)
		return got, got.check()
	}
}
