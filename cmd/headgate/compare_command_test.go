package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareCommand(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a":    `{"id":"1","outputs":[{"name":"y","datatype":"FP64","shape":[1,3],"data":[0.7,0.2,0.1]},{"name":"price","datatype":"FP64","shape":[1],"data":[100.0]}]}`,
		"b":    `{"id":"2","outputs":[{"name":"price","datatype":"FP64","shape":[1,1],"data":[101]},{"name":"y","datatype":"FP64","shape":[3],"data":[0.3,0.5,0.2]}]}`,
		"nan":  `{"prediction":NaN}`,
		"html": `<html>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		line string
		want outcome
	}{
		{"compare {dir}/a {dir}/a", outcome{0, "agree; difference 0; as openinference: $.outputs.y, $.outputs.price\n", ""}},
		{"compare {dir}/a {dir}/a -o json", outcome{0, "{\n  \"protocol\": \"openinference\",\n  \"outputs\": [\n    \"$.outputs.y\",\n    \"$.outputs.price\"\n  ],\n  \"agree\": true,\n  \"comparable\": true,\n  \"difference\": 0,\n  \"differences\": []\n}\n", ""}},
		{"compare {dir}/a {dir}/b", outcome{1, "disagree in 3 places; difference 1; as openinference: $.outputs.y, $.outputs.price\n" +
			"  $.outputs.y[0]: value: 0.7 | 0.3\n  $.outputs.y[1]: value: 0.2 | 0.5\n  $.outputs.price[0]: value: 100.0 | 101\n",
			"headgate: $.outputs.price[0]: compared exactly, for want of a tolerance: --tolerance '$.outputs.price[0]=1%'\n"}},
		{"compare {dir}/a {dir}/b --tolerance $.outputs.price=1% --total-variation $.outputs.y=0.4", outcome{0, "agree; difference 1; as openinference: $.outputs.y, $.outputs.price\n", ""}},
		{"compare {dir}/a {dir}/b --tolerance 2 --top-k $.outputs.y=1", outcome{1, "disagree in 1 place; difference 1; as openinference: $.outputs.y, $.outputs.price\n  $.outputs.y: top_k: [0.7,0.2,0.1] | [0.3,0.5,0.2]\n", ""}},
		{"compare {dir}/a {dir}/b --ignore $.outputs.y --threshold 50", outcome{0, "agree; difference 1; as openinference: $.outputs.y, $.outputs.price\n", ""}},
		{"compare {dir}/nan {dir}/nan --protocol json --prediction $.prediction -o json", outcome{1,
			"{\n  \"protocol\": \"json\",\n  \"outputs\": [\n    \"$.prediction\"\n  ],\n  \"agree\": false,\n  \"comparable\": true,\n  \"difference\": 1.7976931348623157e+308,\n  \"differences\": [\n    {\n      \"path\": \"$.prediction\",\n" +
				"      \"kind\": \"value\",\n      \"stable\": \"NaN\",\n      \"shadow\": \"NaN\"\n    }\n  ]\n}\n", ""}},
		{"compare {dir}/nan {dir}/nan --nan-equal", outcome{0, "agree; difference 0; as json: all of it\n", ""}},
		{"compare {dir}/a {dir}/html", outcome{1, "not comparable: shadow: malformed: not JSON\n", ""}},
		{"compare {dir}/a {dir}/html -o json", outcome{1,
			"{\n  \"protocol\": \"openinference\",\n  \"outputs\": [\n    \"$.outputs.y\",\n    \"$.outputs.price\"\n  ],\n  \"agree\": false,\n  \"comparable\": false,\n  \"reason\": \"shadow: malformed: not JSON\",\n  \"difference\": null,\n  \"differences\": []\n}\n", ""}},
		{"compare {dir}/a", outcome{2, "", "headgate: B: must be given\n"}},
		{"compare {dir}/a {dir}/none", outcome{2, "", "headgate: open {dir}/none: no such file or directory\n"}},
		{"compare {dir}/a {dir}/b --protocol grpc", outcome{2, "", "headgate: --protocol: \"grpc\": must be one of [auto json openinference tfserving openai]\n"}},
		{"compare {dir}/a {dir}/b --tolerance x", outcome{2, "", "headgate: --tolerance x: \"x\": must be a number\n"}},
		{"compare {dir}/a {dir}/b --tolerance $.a", outcome{2, "", "headgate: --tolerance $.a: must be PATH=VALUE or VALUE\n"}},
		{"compare {dir}/a {dir}/b --top-k 0.5", outcome{2, "", "headgate: --top-k 0.5: \"0.5\": must be a whole number from 1 on\n"}},
		{"compare {dir}/a {dir}/b --ignore a", outcome{2, "", "headgate: --ignore a: must begin with $, like $.predictions[*].score\n"}},
		{"compare {dir}/a {dir}/b --prediction a", outcome{2, "", "headgate: --prediction a: must begin with $, like $.predictions[*].score\n"}},
	} {
		t.Run(tc.line, func(t *testing.T) {
			got := cli(t, words(tc.line, "{dir}", dir))
			tc.want.stderr = strings.ReplaceAll(tc.want.stderr, "{dir}", dir)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(outcome{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What was compared is said, and what was not.
func TestCompareSaysWhatWasCompared(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a":     `{"id":"1","model_version":"v1","predictions":[{"score":0.1},{"score":0.6}],"price":100,"note":null}`,
		"b":     `{"id":"2","model_version":"v2","predictions":[{"score":0.1},{"score":0.3}],"price":101,"extra":[1,2]}`,
		"a3":    `{"predictions":[{"score":0.1},{"score":0.6},{"score":9}]}`,
		"list":  `[1,2]`,
		"null":  `null`,
		"many":  `{"p":[1,2,3,4,5,6,7]}`,
		"error": `{"error":"no"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		score = "disagree in 1 place; difference 0.3; as tfserving: $.predictions\n  $.predictions[1].score: value: 0.6 | 0.3\n"
		aside = "headgate: $.price: not compared: is no output of tfserving; --protocol json compares it\n" +
			"headgate: $.extra: not compared: is no output of tfserving; --protocol json compares it\n"
	)
	for _, tc := range []struct {
		line string
		want outcome
	}{
		{"compare {dir}/a {dir}/b", outcome{1, score, aside}},
		{"compare {dir}/a {dir}/b --ignore $.predictions[1] --tolerance $.price=1%", outcome{0, "agree; difference 0; as tfserving: $.predictions\n", aside +
			"headgate: $.price: neither answer has it in what is compared; the flag has no effect\n"}},
		{"compare {dir}/a {dir}/b --protocol json --ignore $.predictions", outcome{1, "disagree in 2 places; difference 1; as json: all of it\n" +
			"  $.extra: only in shadow: [1,2]\n  $.price: value: 100 | 101\n",
			"headgate: $.price: compared exactly, for want of a tolerance: --tolerance '$.price=1%'\n"}},
		{"compare {dir}/a {dir}/b --prediction $.price", outcome{1, "disagree in 1 place; difference 1; as json: $.price\n  $.price: value: 100 | 101\n",
			"headgate: $.price: compared exactly, for want of a tolerance: --tolerance '$.price=1%'\n"}},
		{"compare {dir}/a3 {dir}/b --prediction $.predictions[*].score --prediction $.cost", outcome{1,
			"disagree in 2 places; difference 1; as json: $.predictions[0].score, $.predictions[1].score, $.predictions[2].score\n" +
				"  $.predictions[1].score: value: 0.6 | 0.3\n  $.predictions[2].score: only in stable: 9\n",
			"headgate: $.cost: neither answer has it in what is compared; the flag has no effect\n"}},
		{"compare {dir}/many {dir}/many --prediction $.p[*]", outcome{0, "agree; difference 0; as json: $.p[0], $.p[1], $.p[2], $.p[3], $.p[4], and 2 more\n", ""}},
		{"compare {dir}/null {dir}/list", outcome{1, "disagree in 1 place; difference 1; as json: all of it\n  $: only in shadow: [1,2]\n", ""}},
		{"compare {dir}/b {dir}/error --ignore $.x", outcome{1, "disagree in 1 place; difference 1; as tfserving and json: $.predictions\n" +
			"  status: status: 200 | \"error: no\"\n", aside}},
		{"compare {dir}/a {dir}/b --protocol tfserving --prediction $.price", outcome{2, "",
			"headgate: --prediction $.price: belongs to --protocol json; tfserving has its own outputs\n"}},
	} {
		t.Run(tc.line, func(t *testing.T) {
			got := cli(t, words(tc.line, "{dir}", dir))
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(outcome{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	got := cli(t, words("compare {dir}/a {dir}/error --ignore $.x -o json", "{dir}", dir)).stdout
	for _, want := range []string{`"protocol": "tfserving"`, `"shadow_protocol": "json"`, `"not_compared": [`, `"$.price"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if got := cli(t, words("compare {dir}/a {dir}/b --ignore $.x -o json", "{dir}", dir)).stdout; !strings.Contains(got, "\"unused_paths\": [\n    \"$.x\"\n  ]") {
		t.Errorf("no unused path in %s", got)
	}
}
