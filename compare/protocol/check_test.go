package protocol_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

func TestCheck(t *testing.T) {
	type requirement = protocol.Requirement
	at := func(s string) protocol.Pattern { return pattern(t, s) }
	number := func(f float64) *float64 { return &f }
	schema := func(s string) *protocol.Schema {
		compiled, err := protocol.CompileSchema([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return compiled
	}
	chat := func(finish, message string) string {
		return fmt.Sprintf(`{"object":"chat.completion","choices":[{"message":%s,"finish_reason":%q}]}`, message, finish)
	}
	for _, tc := range []struct {
		name   string
		answer string
		r      protocol.Requirement
		want   []string
	}{
		{"finite", `{"predictions":[1,NaN,Infinity,1e999]}`, requirement{Finite: true},
			[]string{`nan $.predictions[1] "NaN" `, `infinite $.predictions[2] "+Inf" `, `infinite $.predictions[3] "+Inf" `}},
		{"range", `{"predictions":[0,1,-0.1,1.1,NaN]}`, requirement{Min: number(0), Max: number(1)},
			[]string{"range $.predictions[2] -0.1 must be at least 0", "range $.predictions[3] 1.1 must be at most 1", `nan $.predictions[4] "NaN" `}},
		{"range elsewhere", `{"predictions":[{"a":5,"b":5}]}`, requirement{Path: at("$.predictions[*].a"), Max: number(1)}, []string{"range $.predictions[0].a 5 must be at most 1"}},
		{"labels", `{"predictions":["cat","cow",1.0,2,true]}`, requirement{Labels: []string{"cat", "1", "true"}},
			[]string{`labels $.predictions[1] "cow" not one of cat, 1, true`, `labels $.predictions[3] 2 not one of cat, 1, true`}},
		{"shape", tensorAnswer("FP32", "[1,2]", "[1,2]"), requirement{Path: at("$.outputs.y"), Shape: []int{-1, 3}}, []string{`shape $.outputs.y [1,2] [1,2] is not [-1,3]`}},
		{"shape kept", tensorAnswer("FP32", "[1,2]", "[1,2]"), requirement{Path: at("$.outputs.y"), Shape: []int{1, 2}}, nil},
		{"shape that lies", tensorAnswer("FP32", "[5]", "[1,2]"), requirement{Path: at("$.outputs.y"), Shape: []int{-1}}, []string{`shape $.outputs.y [1,2] shape [5] with 2 elements`}},
		{"shape of no array", `{"predictions":[[1,2],[3]]}`, requirement{Path: at("$.predictions"), Shape: []int{-1, 2}}, []string{`shape $.predictions [[1,2],[3]] not an array with shape [-1,2]`}},
		{"shape of rows", `{"predictions":[{"v":[1,2]},{"v":[1]}]}`, requirement{Path: at("$.predictions[*].v"), Shape: []int{2}}, []string{`shape $.predictions[1].v [1] [1] is not [2]`}},
		{"sums", `{"predictions":[[0.5,0.5],[0.5,0.6]]}`, requirement{SumsToOne: 0.01}, []string{`sums_to_one $.predictions[1] [[0.5,0.5],[0.5,0.6]] the sum is 1.1, not 1 within 0.01`}},
		{"sums of names", `{"predictions":[{"a":0.5,"b":0.4}]}`, requirement{SumsToOne: 0.01}, []string{`sums_to_one $.predictions[0] {"a":0.5,"b":0.4} the sum is 0.9, not 1 within 0.01`}},
		{"sums to NaN", `{"predictions":[NaN,1]}`, requirement{SumsToOne: 0.01}, []string{`sums_to_one $.predictions ["NaN",1] the sum is NaN, not 1 within 0.01`}},
		{"empty", `{"a":" ","b":"x"}`, requirement{NotEmpty: true}, []string{`empty $.a " " `}},
		{"empty answer", chat("stop", `{"content":null}`), requirement{NotEmpty: true}, []string{`empty $  neither text nor a tool call`}},
		{"a call alone", chat("tool_calls", `{"content":"","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}`), requirement{NotEmpty: true}, nil},
		{"truncated", chat("length", `{"content":"a"}`), requirement{Complete: true}, []string{`truncated $  finish reasons ["length"]`}},
		{"complete", chat("stop", `{"content":"a"}`), requirement{Complete: true}, nil},
		{"present", `{"predictions":[1]}`, requirement{Path: at("$.predictions[*].score"), Present: true}, []string{`present $  $.predictions[*].score is not in the answer`}},
		{"present indeed", `{"predictions":[1]}`, requirement{Path: at("$.predictions[0]"), Present: true}, nil},
		{"not there, not asked", `{"predictions":[1]}`, requirement{Path: at("$.predictions[*].score"), Finite: true}, nil},
		{"schema", `{"score":"high","id":1}`, requirement{Schema: schema(`{"properties":{"score":{"type":"number"}}}`)}, []string{`schema $ {"score":"high","id":1} at /score: got string, want number`}},
		{"schema at a place", `{"predictions":[{"v":3},{"v":5}]}`, requirement{Path: at("$.predictions[*].v"), Schema: schema(`{"maximum":4}`)}, []string{`schema $.predictions[1].v 5 at /: maximum: got 5, want 4`}},
		{"schema of NaN", `{"v":NaN}`, requirement{Schema: schema(`{}`)}, []string{`schema $ {"v":"NaN"} NaN and the infinities are not JSON`}},
		{"schema of a number with a vast exponent", `{"v":1e-99999999,"w":1e308}`, requirement{Schema: schema(`{"properties":{"v":{"multipleOf":1}}}`)}, nil},
		{"a failure is not invalid", `{"error":"x"}`, requirement{Present: true, Path: at("$.predictions")}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := protocol.NewChecker([]protocol.Requirement{tc.r})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range k.Check(read(t, protocol.Auto, tc.answer)) {
				got = append(got, fmt.Sprintf("%s %s %s %s", v.Rule, v.Path, v.Value, v.Detail))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSchemasThatCannotBe(t *testing.T) {
	for schema, want := range map[string]string{
		`{`:                            "read JSON Schema: unexpected EOF",
		`{"type":"numbr"}`:             "",
		`{"$ref":"http://127.0.0.1/"}`: "",
		`{"$ref":"file:///etc/hosts"}`: "",
	} {
		if _, err := protocol.CompileSchema([]byte(schema)); err == nil || want != "" && err.Error() != want {
			t.Errorf("%s: %v", schema, err)
		}
	}
}
