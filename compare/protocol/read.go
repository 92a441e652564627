package protocol

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// Protocol is how the answers of a model are to be read.
type Protocol string

// The protocols.
const (
	Auto          Protocol = "auto"          // each answer tells by itself
	JSON          Protocol = "json"          // any JSON; the prediction is at configured paths, or is all of it
	OpenInference Protocol = "openinference" // KServe v2 REST, with its binary tensors: MLServer, Triton, KServe, OpenVINO
	TFServing     Protocol = "tfserving"     // TensorFlow Serving and KServe v1
	OpenAI        Protocol = "openai"        // completions, chat, embeddings, responses; streamed or not
)

// Protocols returns every protocol.
func Protocols() []Protocol { return []Protocol{Auto, JSON, OpenInference, TFServing, OpenAI} }

// Options are how a [Reader] reads. The zero value reads any protocol.
type Options struct {
	Protocol Protocol // empty: Auto
	// Paths are where the prediction is in an answer of plain JSON. With none
	// all of it is the prediction, but for what names the answer and the model:
	// see the package's README. Other protocols know their places by themselves.
	// In Auto an answer that has a place of the first one is read as plain JSON.
	Paths  []Pattern
	Limits Limits
}

// Reader reads answers. It is safe for concurrent use.
type Reader struct{ options Options }

// NewReader returns a reader. The protocol must be known.
func NewReader(o Options) (*Reader, error) {
	if o.Protocol == "" {
		o.Protocol = Auto
	}
	if !slices.Contains(Protocols(), o.Protocol) {
		return nil, fmt.Errorf("protocol: %q: must be one of %v", o.Protocol, Protocols())
	}
	o.Limits = o.Limits.withDefaults()
	return &Reader{options: o}, nil
}

// Prediction is what an answer says, in a form that all protocols share: a set
// of outputs with their paths. It keeps the answer's body alive, and is safe
// for concurrent use as long as nobody changes that.
type Prediction struct {
	Protocol Protocol // as which it was read; never Auto
	Status   int      // of HTTP; 200 when it was not known
	// Failure says that the server gave an error instead of a prediction, by
	// its status or by the form that its protocol has for errors. Then there is
	// no output.
	Failure string
	LLM     *LLM // of an OpenAI answer with text; else nil

	outputs []output
	whole   *document // nil: not one JSON document
}

// output is one part of a prediction.
type output struct {
	path  routing.Path
	doc   *document
	node  int
	shape []int // as the answer declares it; nil when it does not
	fault string
	all   bool // the whole answer: what names it is not compared
}

// Read reads an answer. The error is an [*UnreadableError]. A status of 300 and more
// is a failure whatever the body has.
func (r *Reader) Read(a *Answer) (*Prediction, error) {
	p := &Prediction{Protocol: r.options.Protocol, Status: a.Status}
	if p.Status == 0 {
		p.Status = 200
	}
	if p.Protocol == Auto {
		p.Protocol = JSON
	}
	if p.Status >= 300 {
		p.Failure = fmt.Sprintf("status %d", p.Status)
		return p, nil
	}
	if a.Truncated { // a part may be JSON too, and say something else
		return nil, truncated()
	}
	body, err := a.content(r.options.Limits)
	if err != nil {
		return nil, err
	}
	if r.streamed(a, body) {
		p.Protocol = OpenAI
		return p, p.readStream(body, r.options.Limits)
	}
	doc, end, err := parse(body, r.options.Limits)
	if err != nil {
		return nil, parseError(err, r.options.Limits)
	}
	rest := body[end:]
	if !binaryTensors(doc) {
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, unreadable(ReasonMalformed, "something stands behind the JSON document")
		}
		rest = nil
	}
	p.whole = doc
	if r.options.Protocol == Auto {
		p.Protocol = r.detect(doc)
	}
	return p, r.read(p, doc, rest)
}

func (r *Reader) read(p *Prediction, doc *document, rest []byte) error {
	// In plain JSON a member called error may be anything, unless it is all.
	if p.Protocol != JSON || r.options.Protocol == Auto && doc.nodes[0].kids == 1 {
		if message, failed := failure(doc); failed {
			p.Failure = message
			return nil
		}
	}
	switch p.Protocol {
	case OpenInference:
		return p.readOpenInference(doc, rest, r.options.Limits)
	case TFServing:
		return p.readTFServing(doc)
	case OpenAI:
		return p.readOpenAI(doc, r.options.Limits)
	default:
		return p.readJSON(doc, r.options.Paths)
	}
}

// streamed tells whether the body is a stream of server-sent events.
func (r *Reader) streamed(a *Answer, body []byte) bool {
	if r.options.Protocol != Auto && r.options.Protocol != OpenAI {
		return false
	}
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.ContentType)), "text/event-stream") {
		return true
	}
	for _, field := range []string{"data:", "event:", "id:", "retry:", ":"} {
		if bytes.HasPrefix(bytes.TrimLeft(body, "\r\n"), []byte(field)) {
			return true
		}
	}
	return false
}

// detect tells by the form of an answer which protocol it has.
func (r *Reader) detect(doc *document) Protocol {
	if len(r.options.Paths) > 0 {
		for range doc.places(r.options.Paths[0]) {
			return JSON
		}
	}
	outputs := doc.member(0, "outputs")
	switch {
	case openAI(doc):
		return OpenAI
	case tensors(doc, outputs):
		return OpenInference
	case doc.member(0, "predictions") >= 0, outputs >= 0:
		return TFServing
	}
	return JSON
}

// failure tells whether a document is the error of a protocol: a member error,
// a text or an object with a message, and no prediction beside it.
func failure(doc *document) (message string, failed bool) {
	e := doc.member(0, "error")
	if e < 0 || doc.isKind(e, kindNull) {
		return "", false
	}
	for _, name := range []string{"outputs", "predictions", "choices", "output", "data"} {
		if doc.element(doc.member(0, name), 0) >= 0 {
			return "", false
		}
	}
	text := doc.string(e)
	if doc.isKind(e, kindObject) {
		text = doc.string(doc.member(e, "message"))
	}
	if text == "" {
		text = "error"
	}
	return short(text), true
}

func (p *Prediction) readJSON(doc *document, paths []Pattern) error {
	if len(paths) == 0 {
		p.add(output{doc: doc, all: true})
		return nil
	}
	found := false
	seen := map[string]bool{} // a place may be one of several patterns
	for _, pattern := range paths {
		for path, i := range doc.places(pattern) {
			found = true
			if len(paths) > 1 {
				name := path.String()
				if seen[name] {
					continue
				}
				seen[name] = true
			}
			p.add(output{path: slices.Clone(path), doc: doc, node: i})
		}
	}
	if !found {
		return unreadable(ReasonProtocol, "%s: is not in the answer", paths[0])
	}
	return nil
}

// readTFServing reads the answers of predict, in rows and in columns, of
// classify and of regress.
func (p *Prediction) readTFServing(doc *document) error {
	found := false
	for _, name := range []string{"predictions", "outputs", "results", "result"} {
		if i := doc.member(0, name); i >= 0 {
			found = true
			p.add(output{path: routing.Path{{Name: name}}, doc: doc, node: i})
		}
	}
	if !found {
		return unreadable(ReasonProtocol, "neither predictions nor outputs in the answer")
	}
	return nil
}

// add keeps an output. One that is null is as good as absent.
func (p *Prediction) add(o output) {
	if o.doc.nodes[o.node].kind != kindNull {
		p.outputs = append(p.outputs, o)
	}
}

// Leaf is one scalar of a prediction.
type Leaf struct {
	Path   routing.Path
	Number float64 // of a number; 1 or 0 of a boolean
	Text   string  // of a string
	Kind   string  // number | string | boolean | null
}

// Leaves goes over the scalars of a prediction in the order of the answer.
func (p *Prediction) Leaves() iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		for i := range p.outputs {
			w := walk{doc: p.outputs[i].doc, path: slices.Clone(p.outputs[i].path)}
			done := w.leaves(p.outputs[i].node, p.outputs[i].shape, func(j int) bool {
				n := w.doc.nodes[j]
				return yield(Leaf{Path: slices.Clone(w.path), Number: n.num, Text: w.doc.string(j), Kind: n.kind.String()})
			})
			if !done {
				return
			}
		}
	}
}

// Number returns the prediction when it is one number and nothing else.
func (p *Prediction) Number() (float64, bool) {
	if leaf, ok := p.only(); ok && leaf.Kind == kindNumber.String() {
		return leaf.Number, true
	}
	return 0, false
}

// Label returns the prediction when it is one text and nothing else.
func (p *Prediction) Label() (string, bool) {
	if leaf, ok := p.only(); ok && leaf.Kind == kindString.String() {
		return leaf.Text, true
	}
	return "", false
}

func (p *Prediction) only() (only Leaf, ok bool) {
	for leaf := range p.Leaves() {
		if ok {
			return Leaf{}, false
		}
		only, ok = leaf, true
	}
	return only, ok
}

// walk goes through a document and knows where it is.
type walk struct {
	doc  *document
	path routing.Path
}

// leaves calls visit for each scalar at and below i, until it returns false.
func (w *walk) leaves(i int, declared []int, visit func(int) bool) bool {
	if w.doc.nodes[i].kind.scalar() {
		return visit(i)
	}
	depth := len(w.path)
	defer func() { w.path = w.path[:depth] }()
	if t, ok := w.doc.tensor(i, declared); ok {
		n := 0
		for j := range t.leaves() {
			w.path = t.place(w.path[:depth], n)
			if n++; !visit(j) {
				return false
			}
		}
		return true
	}
	n := 0
	for j := range w.doc.kids(i) {
		segment := routing.Segment{Index: n}
		if n++; w.doc.nodes[i].kind == kindObject {
			segment = routing.Segment{Name: w.doc.text(j)}
			j++
		}
		w.path = append(w.path[:depth], segment)
		if !w.leaves(j, nil, visit) {
			return false
		}
	}
	return true
}
