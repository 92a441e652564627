package protocol_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

var update = flag.Bool("update", false, "write the golden files anew and remove those without a sample")

func reader(t testing.TB, o protocol.Options) *protocol.Reader {
	t.Helper()
	r, err := protocol.NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t testing.TB, p protocol.Protocol, body string) *protocol.Prediction {
	t.Helper()
	got, err := reader(t, protocol.Options{Protocol: p}).Read(&protocol.Answer{Body: []byte(body)})
	if err != nil {
		t.Fatalf("read %.200s: %v", body, err)
	}
	return got
}

// leaves shows the scalars of a prediction, one a line.
func leaves(p *protocol.Prediction) []string {
	lines := []string{}
	for leaf := range p.Leaves() {
		value := leaf.Kind
		switch leaf.Kind {
		case "number":
			value = fmt.Sprint(leaf.Number)
		case "string":
			value = fmt.Sprintf("%q", leaf.Text)
		case "boolean":
			value = fmt.Sprint(leaf.Number == 1)
		}
		lines = append(lines, leaf.Path.String()+" = "+value)
	}
	return lines
}

// TestSamples reads answers of public servers without being told their
// protocol, and compares what was read with testdata/read.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("testdata/samples/*-*")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	used := map[string]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var shown struct {
				Error    string            `json:"error,omitempty"`
				Protocol protocol.Protocol `json:"protocol,omitempty"`
				Failure  string            `json:"failure,omitempty"`
				LLM      *protocol.LLM     `json:"llm,omitempty"`
				Leaves   []string          `json:"leaves,omitempty"`
			}
			p, err := reader(t, protocol.Options{}).Read(&protocol.Answer{Body: body})
			if err != nil {
				shown.Error = err.Error()
			} else {
				shown.Protocol, shown.Failure, shown.LLM, shown.Leaves = p.Protocol, p.Failure, p.LLM, leaves(p)
			}
			golden := filepath.Join("testdata/read", filepath.Base(file)+".golden")
			used[golden] = true
			compareGolden(t, golden, shown)
		})
	}
	goldens, err := filepath.Glob("testdata/read/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range goldens {
		if used[golden] {
			continue
		}
		t.Errorf("%s: no sample has this golden file", golden)
		if *update {
			os.Remove(golden)
		}
	}
}

func compareGolden(t *testing.T, golden string, shown any) {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(shown); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}

func paths(t testing.TB, texts ...string) (paths []protocol.Pattern) {
	t.Helper()
	for _, text := range texts {
		paths = append(paths, pattern(t, text))
	}
	return paths
}

func reason(err error) protocol.Reason {
	var u *protocol.UnreadableError
	if errors.As(err, &u) {
		return u.Reason
	}
	return ""
}

// TestStreams compares what is read of recorded streams with what another
// program read of them.
func TestStreams(t *testing.T) {
	type expected struct {
		Events int    `json:"events"`
		Done   bool   `json:"done"`
		Model  string `json:"model"`
		Usage  struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
		} `json:"usage"`
		Choices map[string]struct {
			Content   string `json:"content"`
			Finish    string `json:"finish_reason"`
			ToolCalls map[string]struct {
				Name string `json:"name"`
			} `json:"tool_calls"`
		} `json:"choices"`
	}
	text, err := os.ReadFile("testdata/samples/streams.json")
	if err != nil {
		t.Fatal(err)
	}
	var streams map[string]expected
	if err := json.Unmarshal(text, &streams); err != nil || len(streams) != 3 {
		t.Fatal(len(streams), err)
	}
	for file, want := range streams {
		body, err := os.ReadFile(filepath.Join("testdata/samples", file))
		if err != nil {
			t.Fatal(err)
		}
		p := read(t, protocol.OpenAI, string(body))
		got := expected{Events: p.LLM.Events, Done: p.LLM.Done, Model: p.LLM.Model, Choices: want.Choices}
		got.Usage.Prompt, got.Usage.Completion = p.LLM.PromptTokens, p.LLM.CompletionTokens
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		choice := want.Choices["0"]
		if content := strings.Split(leaves(p)[0], " = ")[1]; content != fmt.Sprintf("%q", choice.Content) {
			t.Errorf("%s: %s, want %q", file, content, choice.Content)
		}
		if p.LLM.FinishReasons[0] != choice.Finish || len(p.LLM.ToolCalls) != len(choice.ToolCalls) {
			t.Errorf("%s: %+v, want %+v", file, p.LLM, choice)
		}
		if len(choice.ToolCalls) > 0 && p.LLM.ToolCalls[0] != choice.ToolCalls["0"].Name {
			t.Errorf("%s: calls %q", file, p.LLM.ToolCalls)
		}
	}
}

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		o      protocol.Options
		answer protocol.Answer
		want   []string
	}{
		{"a number", protocol.Options{Paths: paths(t, "$.prediction")}, body(`{"prediction":0.5,"predictions":[1]}`), []string{"json", "$.prediction = 0.5"}},
		{"two places, one not there", protocol.Options{Protocol: protocol.JSON, Paths: paths(t, "$.a", "$.b[1].c")}, body(`{"b":[0,{"c":"x"}]}`), []string{"json", `$.b[1].c = "x"`}},
		{"no place", protocol.Options{Protocol: protocol.JSON, Paths: paths(t, "$.a")}, body(`{"error":"x"}`), []string{"protocol: $.a: is not in the answer"}},
		{"every element", protocol.Options{Paths: paths(t, "$.predictions[*].score")}, body(`{"predictions":[{"score":1,"id":7},{"id":8},{"score":2}]}`),
			[]string{"json", "$.predictions[0].score = 1", "$.predictions[2].score = 2"}},
		{"every member, and one of them", protocol.Options{Paths: paths(t, "$.p.*", "$.p.a")}, body(`{"p":{"b":1,"a":2,"c":null}}`), []string{"json", "$.p.a = 2", "$.p.b = 1"}},
		{"every member of a number", protocol.Options{Protocol: protocol.JSON, Paths: paths(t, "$.p[*]")}, body(`{"p":1}`), []string{"protocol: $.p[*]: is not in the answer"}},
		{"a place that is not there means another protocol", protocol.Options{Paths: paths(t, "$.a")}, body(`{"predictions":[1]}`), []string{"tfserving", "$.predictions[0] = 1"}},
		{"a scalar", protocol.Options{}, body(` -0.25e1 `), []string{"json", "$ = -2.5"}},
		{"columns", protocol.Options{}, body(`{"outputs":{"classes":[1,2],"scores":[[0.1],[0.2]]}}`),
			[]string{"tfserving", "$.outputs.classes[0] = 1", "$.outputs.classes[1] = 2", "$.outputs.scores[0] = 0.1", "$.outputs.scores[1] = 0.2"}},
		{"one column", protocol.Options{}, body(`{"outputs":[[1,2]]}`), []string{"tfserving", "$.outputs[0] = 1", "$.outputs[1] = 2"}},
		{"regression", protocol.Options{Protocol: protocol.TFServing}, body(`{"results":[0.5]}`), []string{"tfserving", "$.results[0] = 0.5"}},
		{"tfserving without", protocol.Options{Protocol: protocol.TFServing}, body(`{"p":1}`), []string{"protocol: neither predictions nor outputs in the answer"}},
		{"batch", protocol.Options{}, body(tensorAnswer("FP32", "[2,1,2]", "[1,2,3,4]")),
			[]string{"openinference", "$.outputs.y[0][0] = 1", "$.outputs.y[0][1] = 2", "$.outputs.y[1][0] = 3", "$.outputs.y[1][1] = 4"}},
		{"gRPC in JSON", protocol.Options{}, body(`{"outputs":[{"name":"y","datatype":"INT64","shape":["2"],"contents":{"int64Contents":["1","9007199254740993"]}}]}`),
			[]string{"openinference", "$.outputs.y[0] = 1", "$.outputs.y[1] = 9.007199254740992e+15"}},
		{"texts stay texts", protocol.Options{}, body(tensorAnswer("BYTES", "[1]", `["1"]`)), []string{"openinference", `$.outputs.y[0] = "1"`}},
		{"no outputs", protocol.Options{Protocol: protocol.OpenInference}, body(`{"outputs":{}}`), []string{"protocol: no list of outputs in the answer"}},
		{"no data", protocol.Options{}, body(`{"outputs":[{"name":"y","datatype":"FP32"}]}`), []string{`protocol: output "y" has no data`}},
		{"completion", protocol.Options{}, body(`{"object":"text_completion","choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]}`),
			[]string{"openai", `$.choices[0].text = "a"`, `$.choices[1].text = "b"`}},
		{"parts of content", protocol.Options{}, body(`{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"refusal":null}}]}`),
			[]string{"openai", `$.choices[0].message.content = "ab"`}},
		{"function of old", protocol.Options{}, body(`{"choices":[{"message":{"content":null,"function_call":{"name":"f","arguments":"not JSON"}}}]}`),
			[]string{"openai", `$.choices[0].message.content = ""`, `$.choices[0].message.tool_calls[0].function.name = "f"`, `$.choices[0].message.tool_calls[0].function.arguments = "not JSON"`}},
		{"embeddings", protocol.Options{}, body(`{"object":"list","data":[{"index":1,"embedding":[0.5,-1]},{"index":0,"embedding":"AAAAPwAAgL8="}]}`),
			[]string{"openai", "$.data[1].embedding[0] = 0.5", "$.data[1].embedding[1] = -1", "$.data[0].embedding[0] = 0.5", "$.data[0].embedding[1] = -1"}},
		{"openai without", protocol.Options{Protocol: protocol.OpenAI}, body(`{"p":1}`), []string{"protocol: neither choices nor embeddings in the answer"}},
		{"an error in a stream", protocol.Options{}, body("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n"), []string{"openai", "failure: overloaded"}},
		{"a redirect", protocol.Options{}, protocol.Answer{Status: 302}, []string{"json", "failure: status 302"}},
		{"an error with a body", protocol.Options{Protocol: protocol.OpenAI}, protocol.Answer{Status: 429, Body: []byte("<html>")}, []string{"openai", "failure: status 429"}},
		{"the last of two members", protocol.Options{Paths: paths(t, "$.p")}, body(`{"p":1,"p":2}`), []string{"json", "$.p = 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := reader(t, tc.o).Read(&tc.answer)
			var got []string
			switch {
			case err != nil:
				got = []string{err.Error()}
			case p.Failure != "":
				got = []string{string(p.Protocol), "failure: " + p.Failure}
			default:
				got = append([]string{string(p.Protocol)}, leaves(p)...)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func body(s string) protocol.Answer { return protocol.Answer{Body: []byte(s)} }

func TestSinglePredictions(t *testing.T) {
	for answer, want := range map[string]string{
		`{"predictions":[[0.5]]}`: "0.5 true,  false", `{"predictions":["cat"]}`: "0 false, cat true", `{"predictions":[1,2]}`: "0 false,  false",
		`{"predictions":[true]}`: "0 false,  false", `{"predictions":[]}`: "0 false,  false",
	} {
		p := read(t, protocol.Auto, answer)
		number, isNumber := p.Number()
		label, isLabel := p.Label()
		if got := fmt.Sprintf("%v %t, %s %t", number, isNumber, label, isLabel); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for s, want := range map[string]string{
		"$": "$", "$.a": "$.a", `$["a"].b`: "$.a.b", "$.a[*].b": "$.a[*].b", "$.*[0]": "$[*][0]", `$["a.*[*]"][*]`: `$["a.*[*]"][*]`,
		"a": "must begin with $, like $.predictions[*].score", "$.": `"" is not a member name; write ["..."] for names with other characters`,
		"$[*": "[*: an index must be a number in brackets", "$.*a": `"*a" is not a member name; write ["..."] for names with other characters`,
	} {
		p, err := protocol.ParsePattern(s)
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
	var p protocol.Pattern
	if err := p.UnmarshalText([]byte("x")); err == nil || err.Error() != "x: must begin with $, like $.predictions[*].score" {
		t.Error(err)
	}
}
