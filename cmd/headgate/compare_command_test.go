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
		{"compare {dir}/a {dir}/a", outcome{0, "agree; difference 0\n", ""}},
		{"compare {dir}/a {dir}/a -o json", outcome{0, "{\n  \"agree\": true,\n  \"comparable\": true,\n  \"difference\": 0,\n  \"differences\": []\n}\n", ""}},
		{"compare {dir}/a {dir}/b", outcome{1, "disagree in 3 places; difference 1\n" +
			"  $.outputs.y[0]: value: 0.7 | 0.3\n  $.outputs.y[1]: value: 0.2 | 0.5\n  $.outputs.price[0]: value: 100.0 | 101\n",
			"headgate: $.outputs.price[0]: compared exactly, for want of a tolerance: --tolerance '$.outputs.price[0]=1%'\n"}},
		{"compare {dir}/a {dir}/b --tolerance $.outputs.price=1% --total-variation $.outputs.y=0.4", outcome{0, "agree; difference 1\n", ""}},
		{"compare {dir}/a {dir}/b --tolerance 2 --top-k $.outputs.y=1", outcome{1, "disagree in 1 place; difference 1\n  $.outputs.y: top_k: [0.7,0.2,0.1] | [0.3,0.5,0.2]\n", ""}},
		{"compare {dir}/a {dir}/b --ignore $.outputs.y --threshold 50", outcome{0, "agree; difference 1\n", ""}},
		{"compare {dir}/nan {dir}/nan --protocol json --prediction $.prediction -o json", outcome{1,
			"{\n  \"agree\": false,\n  \"comparable\": true,\n  \"difference\": 1.7976931348623157e+308,\n  \"differences\": [\n    {\n      \"path\": \"$.prediction\",\n" +
				"      \"kind\": \"value\",\n      \"stable\": \"NaN\",\n      \"shadow\": \"NaN\"\n    }\n  ]\n}\n", ""}},
		{"compare {dir}/nan {dir}/nan --nan-equal", outcome{0, "agree; difference 0\n", ""}},
		{"compare {dir}/a {dir}/html", outcome{1, "not comparable: shadow: malformed: not JSON\n", ""}},
		{"compare {dir}/a {dir}/html -o json", outcome{1,
			"{\n  \"agree\": false,\n  \"comparable\": false,\n  \"reason\": \"shadow: malformed: not JSON\",\n  \"difference\": null,\n  \"differences\": []\n}\n", ""}},
		{"compare {dir}/a", outcome{2, "", "headgate: B: must be given\n"}},
		{"compare {dir}/a {dir}/none", outcome{2, "", "headgate: open {dir}/none: no such file or directory\n"}},
		{"compare {dir}/a {dir}/b --protocol grpc", outcome{2, "", "headgate: --protocol: \"grpc\": must be one of [auto json openinference tfserving openai]\n"}},
		{"compare {dir}/a {dir}/b --tolerance x", outcome{2, "", "headgate: --tolerance x: \"x\": must be a number\n"}},
		{"compare {dir}/a {dir}/b --tolerance $.a", outcome{2, "", "headgate: --tolerance $.a: must be PATH=VALUE or VALUE\n"}},
		{"compare {dir}/a {dir}/b --top-k 0.5", outcome{2, "", "headgate: --top-k 0.5: \"0.5\": must be a whole number from 1 on\n"}},
		{"compare {dir}/a {dir}/b --ignore a", outcome{2, "", "headgate: --ignore a: must begin with $, like $.predictions[*].score\n"}},
		{"compare {dir}/a {dir}/b --prediction a", outcome{2, "", "headgate: --prediction a: must begin with $, like $.user.id\n"}},
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
