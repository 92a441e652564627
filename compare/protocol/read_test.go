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
	"github.com/headgate/headgate/routing"
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

func paths(t testing.TB, texts ...string) (paths []routing.Path) {
	t.Helper()
	for _, text := range texts {
		path, err := routing.ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func reason(err error) protocol.Reason {
	var u *protocol.Unreadable
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
