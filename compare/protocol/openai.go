package protocol

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/headgate/headgate/routing"
)

// openAI tells whether a document is an answer of OpenAI's API.
func openAI(doc *document) bool {
	switch doc.string(doc.member(0, "object")) {
	case "chat.completion", "chat.completion.chunk", "text_completion", "response":
		return true
	case "list":
		return embeddings(doc, doc.member(0, "data"))
	}
	choice := doc.element(doc.member(0, "choices"), 0)
	return doc.isKind(doc.member(choice, "message"), kindObject) || doc.isKind(doc.member(choice, "text"), kindString)
}

func embeddings(doc *document, data int) bool {
	return doc.member(doc.element(data, 0), "embedding") >= 0
}

// choice is one of the texts of an answer, in the form in which they are
// compared. Ids, times, log probabilities, reasoning and annotations are not.
type choice struct {
	index        int
	Message      *chatMessage `json:"message,omitempty"` // of chat
	Text         *string      `json:"text,omitempty"`    // of a completion
	FinishReason string       `json:"finish_reason,omitempty"`
}

type chatMessage struct {
	Content   string `json:"content"` // null and "" are the same
	Refusal   string `json:"refusal,omitempty"`
	ToolCalls []call `json:"tool_calls,omitempty"`
}

type call struct {
	Function function `json:"function"`
}

type function struct {
	Name      string `json:"name"`
	Arguments any    `json:"arguments"`
}

func newCall(name, arguments string) call {
	f := function{Name: name, Arguments: arguments}
	// Arguments are JSON in a string: what it says counts, not its spaces.
	if json.Valid([]byte(arguments)) {
		f.Arguments = json.RawMessage(arguments)
	}
	return call{f}
}

func (p *Prediction) readOpenAI(doc *document, limits Limits) error {
	if doc.string(doc.member(0, "object")) == "response" {
		return p.readResponse(doc, limits)
	}
	if data := doc.member(0, "data"); embeddings(doc, data) {
		return p.readEmbeddings(doc, data, limits)
	}
	list := doc.member(0, "choices")
	if !doc.isKind(list, kindArray) {
		return unreadable(ReasonProtocol, "neither choices nor embeddings in the answer")
	}
	var choices []choice
	for i := range doc.kids(list) {
		choices = append(choices, readChoice(doc, i, len(choices)))
	}
	p.LLM = newLLM(choices)
	p.LLM.readUsage(doc, doc.member(0, "usage"))
	p.LLM.Model = doc.string(doc.member(0, "model"))
	return p.addChoices(choices, limits)
}

func readChoice(doc *document, i, position int) choice {
	c := choice{index: position, FinishReason: doc.string(doc.member(i, "finish_reason"))}
	if index, ok := doc.number(doc.member(i, "index")); ok {
		c.index = clampIndex(index)
	}
	m := doc.member(i, "message")
	if m < 0 { // a piece of a stream by itself
		m = doc.member(i, "delta")
	}
	if doc.isKind(m, kindObject) {
		c.Message = readMessage(doc, m)
	} else {
		text := doc.string(doc.member(i, "text"))
		c.Text = &text
	}
	return c
}

func readMessage(doc *document, i int) *chatMessage {
	m := &chatMessage{Content: readContent(doc, doc.member(i, "content")), Refusal: doc.string(doc.member(i, "refusal"))}
	if calls := doc.member(i, "tool_calls"); doc.isKind(calls, kindArray) {
		for c := range doc.kids(calls) {
			m.ToolCalls = append(m.ToolCalls, readFunction(doc, doc.member(c, "function")))
		}
	}
	if legacy := doc.member(i, "function_call"); doc.isKind(legacy, kindObject) {
		m.ToolCalls = append(m.ToolCalls, readFunction(doc, legacy))
	}
	return m
}

func readFunction(doc *document, i int) call {
	return newCall(doc.string(doc.member(i, "name")), doc.string(doc.member(i, "arguments")))
}

// readContent returns a message's content: a text, or the texts of its parts.
func readContent(doc *document, i int) string {
	if !doc.isKind(i, kindArray) {
		return doc.string(i)
	}
	var b strings.Builder
	for part := range doc.kids(i) {
		b.WriteString(doc.string(doc.member(part, "text")))
	}
	return b.String()
}

func clampIndex(f float64) int {
	if f >= 0 && f <= maxBytes {
		return int(f)
	}
	return 0
}

// addChoices makes the choices the outputs of the prediction.
func (p *Prediction) addChoices(choices []choice, limits Limits) error {
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(a.index, b.index) })
	return p.addDocument(routing.Path{{Name: "choices"}}, choices, limits)
}

func (p *Prediction) addDocument(path routing.Path, content any, limits Limits) error {
	text, err := json.Marshal(content)
	if err != nil {
		return unreadable(ReasonMalformed, "put together: %v", err)
	}
	// The answer was within the limits; the same in other words may need a bit
	// more.
	limits.Values, limits.Depth = 2*limits.Values+64, limits.Depth+8
	doc, err := parseAll(text, limits)
	if err != nil {
		return unreadable(ReasonTooLarge, "put together: %v", err)
	}
	p.add(output{path: path, doc: doc})
	return nil
}

// readResponse reads an answer of the responses API: one choice, in the member
// output.
func (p *Prediction) readResponse(doc *document, limits Limits) error {
	m := &chatMessage{}
	var content strings.Builder
	if list := doc.member(0, "output"); doc.isKind(list, kindArray) {
		for i := range doc.kids(list) {
			switch doc.string(doc.member(i, "type")) {
			case "message":
				content.WriteString(readContent(doc, doc.member(i, "content")))
			case "function_call":
				m.ToolCalls = append(m.ToolCalls, readFunction(doc, i))
			}
		}
	}
	m.Content = content.String()
	c := choice{Message: m, FinishReason: doc.string(doc.member(doc.member(0, "incomplete_details"), "reason"))}
	switch {
	case c.FinishReason == "max_output_tokens":
		c.FinishReason = FinishLength
	case c.FinishReason != "":
	case len(m.ToolCalls) > 0:
		c.FinishReason = FinishToolCalls
	case doc.string(doc.member(0, "status")) == "completed":
		c.FinishReason = FinishStop
	}
	p.LLM = newLLM([]choice{c})
	p.LLM.readUsage(doc, doc.member(0, "usage"))
	p.LLM.Model = doc.string(doc.member(0, "model"))
	return p.addDocument(routing.Path{{Name: "output"}}, c, limits)
}

// readEmbeddings reads vectors of numbers, and those in base64 of 32 bit
// little-endian floats.
func (p *Prediction) readEmbeddings(doc *document, data int, limits Limits) error {
	position := 0
	for i := range doc.kids(data) {
		index := position
		if n, ok := doc.number(doc.member(i, "index")); ok {
			index = clampIndex(n)
		}
		position++
		o := output{path: routing.Path{{Name: "data"}, {Index: index}, {Name: "embedding"}}, doc: doc, node: doc.member(i, "embedding")}
		if o.node < 0 {
			return unreadable(ReasonProtocol, "%s: is not in the answer", o.path)
		}
		if doc.isKind(o.node, kindString) {
			raw, err := base64.StdEncoding.DecodeString(doc.text(o.node))
			if err != nil {
				return unreadable(ReasonMalformed, "%s: not base64", o.path)
			}
			if o.doc, err = decodeTensor("FP32", raw, limits); err != nil {
				return err
			}
			o.node = 0
		}
		p.add(o)
	}
	return nil
}

// LLM is what an answer of a language model tells besides its text.
type LLM struct {
	Model         string   `json:"model,omitempty"`      // as the answer names it
	FinishReasons []string `json:"finish_reasons"`       // one for each choice: stop, length, tool_calls, content_filter…; empty when there was none
	ToolCalls     []string `json:"tool_calls,omitempty"` // names of the functions to call, of all choices
	Empty         bool     `json:"empty"`                // some choice has neither text nor a tool call nor a refusal
	Truncated     bool     `json:"truncated"`            // some choice ended at the limit of tokens, or the stream without an end
	// Tokens as the server counts them; -1: not told.
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	Streamed         bool  `json:"streamed"`
	Events           int   `json:"events"` // of the stream, [DONE] among them; comments not
	Pieces           int   `json:"pieces"` // events that brought text or a part of a tool call: about one token each
	Broken           int   `json:"broken"` // events that are not JSON
	Done             bool  `json:"done"`   // the stream told its end
}

// The finish reasons that are told apart.
const (
	FinishStop      = "stop"
	FinishLength    = "length"
	FinishToolCalls = "tool_calls"
)

// Tokens returns how many tokens were answered: as the server counts them, or
// the pieces of the stream, which is not exact; -1 when neither is known. With
// the time from the first byte of the answer to the last it gives tokens per
// second.
func (l *LLM) Tokens() (n int64, exact bool) {
	switch {
	case l.CompletionTokens >= 0:
		return l.CompletionTokens, true
	case l.Streamed:
		return int64(l.Pieces), false
	}
	return -1, false
}

func newLLM(choices []choice) *LLM {
	l := &LLM{PromptTokens: -1, CompletionTokens: -1, Empty: len(choices) == 0}
	for i := range choices {
		c := &choices[i]
		l.FinishReasons = append(l.FinishReasons, c.FinishReason)
		l.Truncated = l.Truncated || c.FinishReason == FinishLength
		text := ""
		if c.Text != nil {
			text = *c.Text
		}
		if m := c.Message; m != nil {
			text += m.Content + m.Refusal
			for _, t := range m.ToolCalls {
				l.ToolCalls = append(l.ToolCalls, t.Function.Name)
			}
			if len(m.ToolCalls) > 0 {
				continue
			}
		}
		l.Empty = l.Empty || strings.TrimSpace(text) == ""
	}
	return l
}

func (l *LLM) readUsage(doc *document, i int) {
	for _, u := range []struct {
		to    *int64
		names [2]string
	}{
		{&l.PromptTokens, [2]string{"prompt_tokens", "input_tokens"}},
		{&l.CompletionTokens, [2]string{"completion_tokens", "output_tokens"}},
	} {
		for _, name := range u.names {
			if n, ok := doc.number(doc.member(i, name)); ok && n >= 0 && n < math.MaxInt32 {
				*u.to = int64(n)
			}
		}
	}
}
