package protocol

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
)

// stream puts the events of a streamed answer together into the answer that the
// server would have given without a stream.
type stream struct {
	llm      LLM
	choices  map[int]*pieces
	response *document // the last whole answer that the responses API told
	failure  string
	document *document // the event at hand
}

// pieces are what was told of one choice.
type pieces struct {
	text, refusal strings.Builder
	completion    bool // not chat
	calls         map[int]*callPieces
	finish        string
}

type callPieces struct{ name, arguments strings.Builder }

// readStream reads an answer of server-sent events: fields data and event, any
// kind of line end, comments between (WHATWG HTML, section 9.2).
func (p *Prediction) readStream(body []byte, limits Limits) error {
	s := stream{choices: map[int]*pieces{}, llm: LLM{PromptTokens: -1, CompletionTokens: -1}}
	budget := limits
	for data := range events(body) {
		s.llm.Events++
		if string(bytes.TrimSpace(data)) == "[DONE]" {
			s.llm.Done = true
			continue
		}
		doc, err := parseAll(data, budget)
		if err != nil {
			if errors.Is(err, errValues) || errors.Is(err, errDepth) {
				return parseError(err, limits)
			}
			s.llm.Broken++
			continue
		}
		budget.Values -= len(doc.nodes)
		s.event(doc)
	}
	return s.finish(p, limits)
}

// events goes over the data of the events of a stream.
func events(body []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		var data []byte
		has, own := false, false
		for len(body) > 0 {
			var line []byte
			line, body = cutLine(body)
			if len(line) == 0 {
				if has && !yield(data) {
					return
				}
				data, has, own = nil, false, false
				continue
			}
			value, ok := bytes.CutPrefix(line, []byte("data"))
			if !ok || len(value) > 0 && value[0] != ':' {
				continue // event, id, retry, a comment
			}
			value = bytes.TrimPrefix(bytes.TrimPrefix(value, []byte(":")), []byte(" "))
			switch {
			case !has:
				data, has = value, true
				continue
			case !own: // data is a part of body, which is not ours
				data, own = slices.Clone(data), true
			}
			data = append(append(data, '\n'), value...)
		}
		if has { // the last event lacks its empty line
			yield(data)
		}
	}
}

func cutLine(body []byte) (line, rest []byte) {
	end := bytes.IndexAny(body, "\r\n")
	if end < 0 {
		return body, nil
	}
	line, rest = body[:end], body[end+1:]
	if body[end] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return line, rest
}

// event takes one event in.
func (s *stream) event(doc *document) {
	s.document = doc
	if message, failed := failure(doc); failed {
		s.failure = message
		return
	}
	kind := doc.string(doc.member(0, "type"))
	if whole := doc.member(0, "response"); doc.isKind(whole, kindObject) {
		if kind == "response.completed" || kind == "response.incomplete" || kind == "response.failed" {
			s.response, s.llm.Done = doc, true
		}
		return
	}
	if strings.HasSuffix(kind, ".delta") {
		s.llm.Pieces++
		return
	}
	s.llm.Model = cmp.Or(s.llm.Model, doc.string(doc.member(0, "model")))
	s.llm.readUsage(doc, doc.member(0, "usage"))
	list := doc.member(0, "choices")
	if !doc.isKind(list, kindArray) {
		return
	}
	brought := false
	for i := range doc.kids(list) {
		brought = s.choice(i) || brought
	}
	if brought {
		s.llm.Pieces++
	}
}

// choice takes one choice of an event in, and tells whether it brought
// something.
func (s *stream) choice(i int) (brought bool) {
	doc := s.document
	index, _ := doc.number(doc.member(i, "index"))
	p := s.choices[clampIndex(index)]
	if p == nil {
		p = &pieces{calls: map[int]*callPieces{}}
		s.choices[clampIndex(index)] = p
	}
	p.finish = cmp.Or(doc.string(doc.member(i, "finish_reason")), p.finish)
	if text := doc.member(i, "text"); text >= 0 {
		p.completion = true
		n, _ := p.text.WriteString(doc.string(text))
		return n > 0
	}
	delta := doc.member(i, "delta")
	if delta < 0 { // some servers end with the whole message
		delta = doc.member(i, "message")
	}
	n, _ := p.text.WriteString(readContent(doc, doc.member(delta, "content")))
	m, _ := p.refusal.WriteString(doc.string(doc.member(delta, "refusal")))
	brought = n+m > 0
	if calls := doc.member(delta, "tool_calls"); doc.isKind(calls, kindArray) {
		position := 0
		for c := range doc.kids(calls) {
			at := position
			if index, ok := doc.number(doc.member(c, "index")); ok {
				at = clampIndex(index)
			}
			position++
			p.call(doc, at, doc.member(c, "function"))
			brought = true
		}
	}
	if legacy := doc.member(delta, "function_call"); doc.isKind(legacy, kindObject) {
		p.call(doc, 0, legacy)
		brought = true
	}
	return brought
}

func (p *pieces) call(doc *document, at, function int) {
	c := p.calls[at]
	if c == nil {
		c = &callPieces{}
		p.calls[at] = c
	}
	// Some servers tell the whole name with every piece.
	if name := doc.string(doc.member(function, "name")); name != c.name.String() {
		c.name.WriteString(name)
	}
	c.arguments.WriteString(doc.string(doc.member(function, "arguments")))
}

// finish makes a prediction of what the events told.
func (s *stream) finish(p *Prediction, limits Limits) error {
	if s.failure != "" {
		p.Failure = s.failure
		return nil
	}
	if s.llm.Events == s.llm.Broken {
		return unreadable(ReasonMalformed, "no event of the stream is JSON")
	}
	told := s.llm
	if s.response != nil {
		whole := s.response.cut(s.response.member(0, "response"))
		if err := p.readOpenAI(whole, limits); err != nil {
			return err
		}
	} else {
		choices := s.whole()
		p.LLM = newLLM(choices)
		p.LLM.Model, p.LLM.PromptTokens, p.LLM.CompletionTokens = told.Model, told.PromptTokens, told.CompletionTokens
		if err := p.addChoices(choices, limits); err != nil {
			return err
		}
	}
	l := p.LLM
	if l == nil {
		return unreadable(ReasonProtocol, "a stream that has no text")
	}
	l.Streamed, l.Events, l.Pieces, l.Broken, l.Done = true, told.Events, told.Pieces, told.Broken, told.Done
	if !l.Done && slices.Contains(l.FinishReasons, "") {
		l.Truncated = true
	}
	return nil
}

// whole returns the choices, put together.
func (s *stream) whole() []choice {
	var choices []choice
	for _, index := range slices.Sorted(maps.Keys(s.choices)) {
		p := s.choices[index]
		c := choice{index: index, FinishReason: p.finish}
		if p.completion {
			text := p.text.String()
			c.Text = &text
		} else {
			c.Message = &chatMessage{Content: p.text.String(), Refusal: p.refusal.String()}
			for _, at := range slices.Sorted(maps.Keys(p.calls)) {
				c.Message.ToolCalls = append(c.Message.ToolCalls, newCall(p.calls[at].name.String(), p.calls[at].arguments.String()))
			}
		}
		choices = append(choices, c)
	}
	return choices
}

// cut returns the value at i as a document of its own.
func (d *document) cut(i int) *document {
	nodes := slices.Clone(d.nodes[i:d.nodes[i].next])
	for j := range nodes {
		nodes[j].next -= uint32(i)
	}
	return &document{src: d.src, nodes: nodes}
}
