package protocol

import (
	"encoding/json"
	"slices"

	"github.com/headgate/headgate/routing"
)

// Report is a comparison of two answers with what a person has to know to
// believe it: what was compared, and what was not.
type Report struct {
	*Diff
	// Protocol as which the answers were read, empty when none was. Shadow is
	// that of the shadow's answer when it is another one.
	Protocol, Shadow Protocol
	// Outputs are the places that were compared, of both answers; at most 100.
	Outputs []string
	// NotCompared are members of either answer that the protocol takes for no
	// part of the prediction, those apart that name the answer or the model.
	NotCompared []string
	// Unused are the configured paths at which there is nothing in either
	// answer, as they are written. None when an answer could not be read.
	Unused []string
}

// maxOutputs is how many places a report lists.
const maxOutputs = 100

// Explain reads two answers to one request, compares them, and says what was
// compared. It costs more than [Pair].
func Explain(r *Reader, c *Comparer, stable, shadow *Answer) *Report {
	p, errP := r.Read(stable)
	q, errQ := r.Read(shadow)
	out := &Report{Diff: c.pair(p, q, errP, errQ)}
	var read []*Prediction
	if errP == nil {
		read = append(read, p)
	}
	if errQ == nil {
		read = append(read, q)
	}
	for i, one := range read {
		switch {
		case i == 0:
			out.Protocol = one.Protocol
		case one.Protocol != out.Protocol:
			out.Shadow = one.Protocol
		}
		for j := range one.outputs {
			out.Outputs = listed(out.Outputs, one.outputs[j].path)
		}
		for _, name := range one.aside() {
			out.NotCompared = listed(out.NotCompared, routing.Path{{Name: name}})
		}
	}
	if len(read) == 2 {
		out.Unused = unused(r.options.Paths, c.rules, read)
	}
	return out
}

// listed adds a path to a list that does not have it yet.
func listed(list []string, path routing.Path) []string {
	if text := path.String(); len(list) < maxOutputs && !slices.Contains(list, text) {
		list = append(list, text)
	}
	return list
}

// aside returns the members at the top of an answer that its protocol does not
// take for a part of the prediction, in the order of the answer. An answer of
// plain JSON has none: there the whole is compared, or what was asked for. Of
// those of language models it is known what they are.
func (p *Prediction) aside() []string {
	if p.whole == nil || p.Failure != "" || p.Protocol != TFServing && p.Protocol != OpenInference {
		return nil
	}
	var names []string
	for i := range p.whole.kids(0) {
		name := p.whole.text(i)
		known := name == "parameters" || slices.Contains(volatile, name) || p.whole.isKind(i+1, kindNull) ||
			slices.ContainsFunc(p.outputs, func(o output) bool { return o.path[0].Name == name })
		if !known {
			names = append(names, name)
		}
	}
	return names
}

// unused returns the patterns that are nowhere in some predictions. An answer
// that is a failure has no place at all and says nothing.
func unused(paths []Pattern, rules []Rule, read []*Prediction) []string {
	if slices.ContainsFunc(read, func(p *Prediction) bool { return p.Failure != "" }) {
		return nil
	}
	all := slices.Clone(paths)
	for i := range rules {
		all = append(all, rules[i].Path)
	}
	var names []string
	for _, pattern := range all {
		somewhere := slices.ContainsFunc(read, func(p *Prediction) bool {
			k := check{Requirement: &Requirement{Path: pattern}}
			k.prediction(p)
			return k.matched
		})
		if name := pattern.String(); !somewhere && len(pattern.steps) > 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// MarshalJSON gives the form that scripts rely on: that of [Diff], and more.
func (r *Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Protocol Protocol `json:"protocol,omitempty"`
		Shadow   Protocol `json:"shadow_protocol,omitempty"`
		Outputs  []string `json:"outputs,omitempty"`
		diffForm
		NotCompared []string `json:"not_compared,omitempty"`
		Unused      []string `json:"unused_paths,omitempty"`
	}{r.Protocol, r.Shadow, r.Outputs, r.form(), r.NotCompared, r.Unused})
}
