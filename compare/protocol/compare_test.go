package protocol_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

func pattern(t testing.TB, s string) protocol.Pattern {
	t.Helper()
	p, err := protocol.ParsePattern(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return p
}

func comparer(t testing.TB, rules ...protocol.Rule) *protocol.Comparer {
	t.Helper()
	c, err := protocol.NewComparer(rules)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// summary shows a result in one line for each difference.
func summary(d *protocol.Diff) []string {
	if !d.Comparable {
		return []string{"not comparable: " + d.Reason}
	}
	lines := []string{fmt.Sprintf("difference %.4g", d.Difference)}
	for _, one := range d.Differences {
		lines = append(lines, fmt.Sprintf("%s %s %s %s", one.Path, one.Kind, orNone(one.Stable), orNone(one.Shadow)))
	}
	for _, path := range d.WithoutTolerance {
		lines = append(lines, "no tolerance: "+path)
	}
	return lines
}

func orNone(v json.RawMessage) string {
	if v == nil {
		return "none"
	}
	return string(v)
}

// tensorAnswer is an Open Inference answer with one output.
func tensorAnswer(datatype, shape, data string) string {
	return fmt.Sprintf(`{"model_name":"m","outputs":[{"name":"y","datatype":%q,"shape":%s,"data":%s}]}`, datatype, shape, data)
}

func TestCompareByDefault(t *testing.T) {
	for _, tc := range []struct {
		name           string
		stable, shadow string
		want           []string
	}{
		{"order of members, 1 and 1.0", `{"a":1,"b":"x"}`, `{"b":"x","a":1.0}`, []string{"difference 0"}},
		{"within 0.1", `{"p":0.3}`, `{"p":0.4}`, []string{"difference 0.1"}},
		{"beyond 0.1", `{"p":0.3}`, `{"p":0.41}`, []string{"difference 0.11", "$.p value 0.3 0.41"}},
		{"classes 0 and 1", `{"p":0}`, `{"p":1}`, []string{"difference 1", "$.p value 0 1"}},
		{"not in [0, 1]", `{"p":120.5}`, `{"p":120.6}`, []string{"difference 0.1", "$.p value 120.5 120.6", "no tolerance: $.p"}},
		{"the same, not in [0, 1]", `{"p":120.5}`, `{"p":1.205e2}`, []string{"difference 0"}},
		{"one of them not in [0, 1]", `{"p":0.99}`, `{"p":1.01}`, []string{"difference 0.02", "$.p value 0.99 1.01", "no tolerance: $.p"}},
		{"integers that float64 cannot tell apart", `{"p":9007199254740992}`, `{"p":9007199254740993}`, []string{"difference 1", "$.p value 9007199254740992 9007199254740993", "no tolerance: $.p"}},
		{"labels", `{"p":"cat"}`, `{"p":"dog"}`, []string{"difference 1", `$.p label "cat" "dog"`}},
		{"labels in other letters", `{"p":"a\u00e9"}`, `{"p":"aé"}`, []string{"difference 0"}},
		{"booleans", `{"p":true}`, `{"p":false}`, []string{"difference 1", "$.p label true false"}},
		{"type", `{"p":1}`, `{"p":"1"}`, []string{"difference 1", `$.p type_change 1 "1"`}},
		{"boolean and number", `{"p":1}`, `{"p":true}`, []string{"difference 1", `$.p type_change 1 true`}},
		{"number and list", `{"p":0.5}`, `{"p":[0.5]}`, []string{"difference 1", `$.p type_change 0.5 [0.5]`}},
		{"missing and extra", `{"p":1,"q":{"r":[1,2]}}`, `{"p":1,"s":2}`, []string{"difference 1", `$.q missing {"r":[1,2]} none`, `$.s extra none 2`}},
		{"null is absent", `{"p":1,"q":null,"parameters":{}}`, `{"p":1}`, []string{"difference 0"}},
		{"empty lists", `{"p":[[],[]],"q":[]}`, `{"p":[[],[]],"q":[[]]}`, []string{"difference 0"}},
		{"empty lists of other shapes", `{"p":[[],[]]}`, `{"p":[]}`, []string{"difference 1", "$.p shape [2,0] [0]"}},
		{"null on both sides", `{"p":null,"q":1}`, `{"p":null,"q":1}`, []string{"difference 0"}},
		{"null, in step", `{"p":null,"q":1}`, `{"p":2,"q":null}`, []string{"difference 1", "$.p extra none 2", "$.q missing 1 none"}},
		{"escaped names", `{"caf\u00e9":1,"a":2}`, `{"café":1,"a":3}`, []string{"difference 1", "$.a value 2 3", "no tolerance: $.a"}},
		{"null and a value", `{"p":null}`, `{"p":1}`, []string{"difference 1", "$.p extra none 1"}},
		{"ids, versions, times", `{"id":"1","model_version":"a","created":1,"p":1}`, `{"id":"2","model_version":"b","created":2,"p":1}`, []string{"difference 0"}},
		{"ids further down are values", `{"p":{"id":"1"}}`, `{"p":{"id":"2"}}`, []string{"difference 1", `$.p.id label "1" "2"`}},
		{"shape of ones", `{"predictions":[[0.7]]}`, `{"predictions":[0.7]}`, []string{"difference 0"}},
		{"batch of rows of one", `{"predictions":[[0.7],[0.8]]}`, `{"predictions":[0.7,0.6]}`, []string{"difference 0.2", "$.predictions[1] value 0.8 0.6"}},
		{"length", `{"predictions":[1,2,3]}`, `{"predictions":[1,2]}`, []string{"difference 1", "$.predictions shape [3] [2]"}},
		{"transposed", `{"predictions":[[1,2,3],[4,5,6]]}`, `{"predictions":[[1,2],[3,4],[5,6]]}`, []string{"difference 1", "$.predictions shape [2,3] [3,2]"}},
		{"rows of objects", `{"predictions":[{"p":0.1},{"p":0.9}]}`, `{"predictions":[{"p":0.1}]}`, []string{"difference 1", `$.predictions[1] missing {"p":0.9} none`}},
		{"labels with scores", `{"result":[[["a",0.7],["b",0.3]]]}`, `{"result":[[["a",0.7],["c",0.3]]]}`, []string{"difference 1", `$.result[1][0] label "b" "c"`}},
		{"NaN is not NaN", `{"p":NaN}`, `{"p":NaN}`, []string{"difference 1.798e+308", `$.p value "NaN" "NaN"`}},
		{"infinite", `{"p":Infinity}`, `{"p":1e999}`, []string{"difference 0"}},
		{"infinite and not", `{"p":-Infinity}`, `{"p":1}`, []string{"difference 1.798e+308", `$.p value "-Inf" 1`}},
		{"tensor shapes of ones", tensorAnswer("FP32", "[1,1]", "[0.7]"), tensorAnswer("FP64", "[1]", "[[0.70000001]]"), []string{"difference 1e-08"}},
		{"nested and flat", tensorAnswer("FP32", "[2,2]", "[[1,2],[3,4]]"), tensorAnswer("FP32", "[2,2]", "[1,2,3,4]"), []string{"difference 0"}},
		{"tensors of different shape", tensorAnswer("FP32", "[2,2]", "[1,2,3,4]"), tensorAnswer("FP32", "[4]", "[1,2,3,4]"), []string{"difference 1", "$.outputs.y shape [2,2] [4]"}},
		{"datatype", tensorAnswer("INT64", "[1]", "[1]"), tensorAnswer("BYTES", "[1]", `["1"]`), []string{"difference 1", `$.outputs.y[0] type_change 1 "1"`}},
		{"NaN of protobuf", tensorAnswer("FP32", "[1]", "[0.5]"), tensorAnswer("FP32", "[1]", `["NaN"]`), []string{"difference 1.798e+308", `$.outputs.y[0] value 0.5 "NaN"`}},
		{"outputs in another order, one more",
			`{"outputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]},{"name":"b","datatype":"FP32","shape":[1],"data":[2]}]}`,
			`{"id":"7","parameters":{},"outputs":[{"name":"c","datatype":"FP32","shape":[1],"data":[3]},{"name":"b","datatype":"FP32","shape":[1],"data":[2],"parameters":null},{"name":"a","datatype":"FP32","shape":[1],"data":[1]}]}`,
			[]string{"difference 1", `$.outputs.c extra none [3]`}},
		{"words", `{"choices":[{"message":{"content":"Hello  there\n"},"finish_reason":"stop"}]}`, `{"choices":[{"message":{"content":"Hello there"},"finish_reason":"stop"}]}`, []string{"difference 0"}},
		{"other words, other end", `{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}`, `{"choices":[{"message":{"content":"Goodbye"},"finish_reason":"length"}]}`,
			[]string{"difference 1", `$.choices[0].message.content text "Hello" "Goodbye"`, `$.choices[0].finish_reason label "stop" "length"`}},
		{"an error on one side", `{"predictions":[1]}`, `{"error":"no"}`, []string{"difference 1", `status status 200 "error: no"`}},
		{"null at the place", `{"predictions":null}`, `{"predictions":[1]}`, []string{"difference 1", `$.predictions extra none [1]`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := comparer(t).Compare(read(t, protocol.Auto, tc.stable), read(t, protocol.Auto, tc.shadow))
			if diff := cmp.Diff(tc.want, summary(d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if d.Agree != (len(d.Differences) == 0) {
				t.Errorf("agree %t with %d differences", d.Agree, len(d.Differences))
			}
			itself := comparer(t, protocol.Rule{NaNEqual: true})
			for _, answer := range []string{tc.stable, tc.shadow} {
				if d := itself.Compare(read(t, protocol.Auto, answer), read(t, protocol.Auto, answer)); d.Comparable && !d.Agree || d.Difference != 0 {
					t.Errorf("an answer against itself: %q", summary(d))
				}
			}
		})
	}
}

func within(absolute, relative float64) *protocol.Tolerance {
	return &protocol.Tolerance{Absolute: absolute, Relative: relative}
}

func TestCompareByRules(t *testing.T) {
	type rule = protocol.Rule
	at := func(s string) protocol.Pattern { return pattern(t, s) }
	for _, tc := range []struct {
		name           string
		rules          []protocol.Rule
		stable, shadow string
		want           []string
	}{
		{"absolute", []rule{{Path: at("$.p"), Tolerance: within(5, 0)}}, `{"p":120}`, `{"p":125}`, []string{"difference 5"}},
		{"absolute, beyond", []rule{{Path: at("$.p"), Tolerance: within(5, 0)}}, `{"p":120}`, `{"p":125.01}`, []string{"difference 5.01", "$.p value 120 125.01"}},
		{"relative to stable", []rule{{Path: at("$.p"), Tolerance: within(0, 0.1)}}, `{"p":-100}`, `{"p":-110}`, []string{"difference 10"}},
		{"relative, beyond", []rule{{Path: at("$.p"), Tolerance: within(0, 0.1)}}, `{"p":100}`, `{"p":111}`, []string{"difference 11", "$.p value 100 111"}},
		{"relative to zero", []rule{{Path: at("$.p"), Tolerance: within(0, 0.1)}}, `{"p":0}`, `{"p":1e-9}`, []string{"difference 1e-09", "$.p value 0 1e-9"}},
		{"either is enough", []rule{{Path: at("$.p"), Tolerance: within(0.5, 0.1)}}, `{"p":1}`, `{"p":1.5}`, []string{"difference 0.5"}},
		{"exactly", []rule{{Path: at("$.p"), Tolerance: within(0, 0)}}, `{"p":0.5}`, `{"p":0.5000001}`, []string{"difference 1e-07", "$.p value 0.5 0.5000001"}},
		{"the longer pattern", []rule{{Path: at("$.p[1]"), Tolerance: within(10, 0)}, {Path: at("$.p"), Tolerance: within(1, 0)}}, `{"p":[5,5,5]}`, `{"p":[5,15,6.5]}`,
			[]string{"difference 10", "$.p[2] value 5 6.5"}},
		{"no element", []rule{{Path: at("$.p[*][*]"), TopK: 1}}, `{"p":[[],[]]}`, `{"p":[[],[]]}`, []string{"difference 0"}},
		{"every element", []rule{{Path: at("$.rows[*].score"), Tolerance: within(10, 0)}}, `{"rows":[{"score":5,"other":5},{"score":6}]}`, `{"rows":[{"score":9,"other":9},{"score":7}]}`,
			[]string{"difference 4", "$.rows[0].other value 5 9", "no tolerance: $.rows[0].other"}},
		{"threshold", []rule{{Path: at("$.p"), Thresholds: []float64{0.5}}}, `{"p":0.1}`, `{"p":0.49}`, []string{"difference 0.39"}},
		{"threshold crossed", []rule{{Path: at("$.p"), Thresholds: []float64{0.5}}}, `{"p":0.49}`, `{"p":0.5}`, []string{"difference 0.01", "$.p threshold 0.49 0.5"}},
		{"threshold and tolerance", []rule{{Path: at("$.p"), Thresholds: []float64{0.5}, Tolerance: within(0.2, 0)}}, `{"p":0.1}`, `{"p":0.49}`, []string{"difference 0.39", "$.p value 0.1 0.49"}},
		{"NaN when asked", []rule{{NaNEqual: true}}, `{"p":[NaN,0.5]}`, `{"p":[NaN,0.5]}`, []string{"difference 0"}},
		{"ignored", []rule{{Path: at("$.q"), As: protocol.AsIgnore}}, `{"p":1,"q":{"r":1}}`, `{"p":1,"q":7}`, []string{"difference 0"}},
		{"all ignored but one", []rule{{As: protocol.AsIgnore}, {Path: at("$.q.r"), As: protocol.AsLabel}}, `{"p":1,"q":{"r":1,"s":1}}`, `{"p":2,"t":1,"q":{"r":2}}`, []string{"difference 1", "$.q.r label 1 2"}},
		{"numbers that are labels", []rule{{Path: at("$.p"), As: protocol.AsLabel}}, `{"p":[7,8.0]}`, `{"p":[7.0,9]}`, []string{"difference 1", "$.p[1] label 8.0 9"}},
		{"text", []rule{{Path: at("$.p"), As: protocol.AsText}}, `{"p":"cafe\u0301  au lait"}`, `{"p":" café au\tlait"}`, []string{"difference 0"}},
		{"text in other case", []rule{{Path: at("$.p"), As: protocol.AsText}}, `{"p":"Straße"}`, `{"p":"STRASSE"}`, []string{"difference 1", `$.p text "Straße" "STRASSE"`}},
		{"text folded", []rule{{Path: at("$.p"), As: protocol.AsText, Fold: true}}, `{"p":"Straße"}`, `{"p":"STRASSE"}`, []string{"difference 0"}},
		{"variation", []rule{{Path: at("$.predictions"), As: protocol.AsVector}}, `{"predictions":[[0.5,0.3,0.2],[0.5,0.3,0.2]]}`, `{"predictions":[[0.45,0.35,0.2],[0.3,0.3,0.4]]}`,
			[]string{"difference 0.2", "$.predictions[1] distribution [0.5,0.3,0.2] [0.3,0.3,0.4]"}},
		{"variation over rows", []rule{{Path: at("$.predictions[*]"), MaxVariation: 0.3}}, `{"predictions":[[0.5,0.3,0.2],[0.5,0.3,0.2]]}`, `{"predictions":[[0.45,0.35,0.2],[0.3,0.3,0.4]]}`, []string{"difference 0.2"}},
		{"one row", []rule{{Path: at("$.predictions"), As: protocol.AsVector}}, `{"predictions":[[0.9,0.1]]}`, `{"predictions":[0.5,0.5]}`, []string{"difference 0.4", "$.predictions distribution [0.9,0.1] [0.5,0.5]"}},
		{"classes by name", []rule{{Path: at("$.predictions"), As: protocol.AsVector}}, `{"predictions":[{"cat":0.9,"dog":0.1}]}`, `{"predictions":[{"dog":0.3,"cat":0.6,"cow":0.1}]}`,
			[]string{"difference 0.3", "$.predictions[0] distribution [0.9,0,0.1] [0.6,0.1,0.3]"}},
		{"top 1", []rule{{Path: at("$.p"), TopK: 1}}, `{"p":[0.6,0.3,0.1]}`, `{"p":[0.35,0.36,0.29]}`, []string{"difference 1", "$.p top_k [0.6,0.3,0.1] [0.35,0.36,0.29]"}},
		{"top 2 in any order", []rule{{Path: at("$.p"), TopK: 2}}, `{"p":[0.6,0.3,0.1]}`, `{"p":[0.35,0.36,0.29]}`, []string{"difference 0.25"}},
		{"top 1 with a tie", []rule{{Path: at("$.p"), TopK: 1}}, `{"p":[0.4,0.4,0.2]}`, `{"p":[0.3,0.5,0.2]}`, []string{"difference 0.1"}},
		{"cosine", []rule{{Path: at("$.p"), MaxCosine: 0.01}}, `{"p":[1,0]}`, `{"p":[200,1]}`, []string{"difference 1.25e-05"}},
		{"cosine, beyond", []rule{{Path: at("$.p"), MaxCosine: 0.01}}, `{"p":[1,0]}`, `{"p":[0,1]}`, []string{"difference 1", "$.p cosine [1,0] [0,1]"}},
		{"a vector with NaN", []rule{{Path: at("$.p"), As: protocol.AsVector}}, `{"p":[1,0]}`, `{"p":[NaN,1]}`, []string{"difference 1.798e+308", `$.p distribution [1,0] ["NaN",1]`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := comparer(t, tc.rules...).Compare(read(t, protocol.Auto, tc.stable), read(t, protocol.Auto, tc.shadow))
			if diff := cmp.Diff(tc.want, summary(d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	at := pattern(t, "$.p")
	for _, tc := range []struct {
		rule protocol.Rule
		want string
	}{
		{protocol.Rule{Path: at, As: "words"}, `$.p: as: "words": must be number, label, vector, text or ignore`},
		{protocol.Rule{Path: at, Tolerance: within(-1, 0)}, "$.p: tolerance: must not be negative"},
		{protocol.Rule{Path: at, Tolerance: within(0, math.NaN())}, "$.p: tolerance: must not be negative"},
		{protocol.Rule{Path: at, Thresholds: []float64{math.Inf(1)}}, "$.p: threshold: must be finite"},
		{protocol.Rule{Path: at, TopK: -1}, "$.p: vector: limits must not be negative"},
		{protocol.Rule{Path: at, TopK: 1, As: protocol.AsLabel}, "$.p: limits of vectors: must not be given for label"},
	} {
		if _, err := protocol.NewComparer([]protocol.Rule{tc.rule}); err == nil || err.Error() != tc.want {
			t.Errorf("%+v: %v, want %s", tc.rule, err, tc.want)
		}
	}
}

func TestCompareStatus(t *testing.T) {
	answer := func(status int, body string) *protocol.Answer {
		return &protocol.Answer{Status: status, Body: []byte(body)}
	}
	for _, tc := range []struct {
		name           string
		stable, shadow *protocol.Answer
		want           []string
	}{
		{"200 and 503", answer(200, `{"p":1}`), answer(503, "upstream gone"), []string{"difference 1", "status status 200 503"}},
		{"200 and 201", answer(200, `{"p":0.1}`), answer(201, `{"p":0.9}`), []string{"difference 1", "status status 200 201", "$.p value 0.1 0.9"}},
		{"200 and unknown", answer(200, `{"p":1}`), answer(0, `{"p":1}`), []string{"difference 0"}},
		{"422 twice", answer(422, `{"detail":"a"}`), answer(422, `{"detail":"b"}`), []string{"difference 0"}},
		{"400 and 422", answer(400, ""), answer(422, ""), []string{"difference 1", "status status 400 422"}},
		{"503 twice", answer(503, ""), answer(503, ""), []string{"not comparable: both answers are errors: status 503"}},
		{"not JSON", answer(200, "{"), answer(200, "<html>"), []string{"not comparable: stable: truncated: only the beginning is there; shadow: malformed: not JSON"}},
		{"one not JSON", answer(200, "1"), answer(200, "<html>"), []string{"not comparable: shadow: malformed: not JSON"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := protocol.Pair(reader(t, protocol.Options{}), comparer(t), tc.stable, tc.shadow)
			if diff := cmp.Diff(tc.want, summary(d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStreamedAndWholeAnswersAgree(t *testing.T) {
	whole := `{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,` +
		`"tool_calls":[{"id":"x","type":"function","function":{"name":"add","arguments":"{ \"a\": 1.0, \"b\": [2] }"}}]},"finish_reason":"tool_calls"}]}`
	stream := strings.Join([]string{
		`: a comment`,
		`data: {"id":"2","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"y","function":{"name":"add","arguments":""}}]}}]}`, "",
		`data: {"id":"2","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"b\":[2],"}}]}}]}`, "",
		"event: message", "id: 7",
		`data: {"id":"2","choices":[{"index":0,`, `data: "delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"a\":1}"}}]}}]}`, "",
		`data:{"id":"2","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`, "", "data: [DONE]", "",
	}, "\r\n")
	p, q := read(t, protocol.OpenAI, whole), read(t, protocol.OpenAI, stream)
	if d := comparer(t).Compare(p, q); !d.Agree {
		t.Errorf("%q", summary(d))
	}
	want := &protocol.LLM{FinishReasons: []string{"tool_calls"}, ToolCalls: []string{"add"},
		PromptTokens: -1, CompletionTokens: -1, Streamed: true, Events: 5, Pieces: 3, Done: true}
	if diff := cmp.Diff(want, q.LLM); diff != "" {
		t.Errorf("of the stream (-want +got):\n%s", diff)
	}
	cut := read(t, protocol.OpenAI, stream[:strings.Index(stream, `data:{"id"`)])
	if d := comparer(t).Compare(p, cut); d.Agree || !cut.LLM.Truncated {
		t.Errorf("a stream without an end: %q, %+v", summary(d), cut.LLM)
	}
}

func TestDiffAsJSON(t *testing.T) {
	d := comparer(t).Compare(read(t, protocol.JSON, `{"p":0.1,"q":1}`), read(t, protocol.JSON, `{"p":0.9}`))
	got, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"agree":false,"comparable":true,"difference":1,"differences":[` +
		`{"path":"$.p","kind":"value","stable":0.1,"shadow":0.9},{"path":"$.q","kind":"missing","stable":1,"shadow":null}]}`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	many := strings.Repeat("1,", 300) + "1"
	d = comparer(t).Compare(read(t, protocol.JSON, "["+many+"]"), read(t, protocol.JSON, "["+strings.ReplaceAll(many, "1", "7")+"]"))
	if len(d.Differences) != 100 || d.More != 201 || d.Difference != 6 || len(d.WithoutTolerance) != 10 {
		t.Errorf("%d differences, %d more, %v, %d without tolerance", len(d.Differences), d.More, d.Difference, len(d.WithoutTolerance))
	}
}

// TestSkewIsFound compares recorded answers of two versions of a model, of
// which one learnt a feature in other units.
func TestSkewIsFound(t *testing.T) {
	var answers []*protocol.Prediction
	for _, version := range []string{"v1", "v2"} {
		text, err := os.ReadFile("testdata/samples/recorded-mlserver-" + version + ".json")
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, read(t, protocol.OpenInference, string(text)))
	}
	c := comparer(t, protocol.Rule{Path: pattern(t, "$.outputs.predict"), As: protocol.AsLabel},
		protocol.Rule{Path: pattern(t, "$.outputs.predict_proba"), TopK: 1})
	want := []string{
		"difference 1", "$.outputs.predict_proba[1] top_k [5.580142800680905e-05,0.08005999667602316,0.91988420189597] [0.9999999999221176,7.788246105441716e-11,2.5006706643695923e-28]",
		"$.outputs.predict[1] label 2 0",
	}
	if diff := cmp.Diff(want, summary(c.Compare(answers[0], answers[1]))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
