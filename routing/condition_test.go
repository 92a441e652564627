package routing

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestConditionHolds(t *testing.T) {
	header := func(op Op, value string) Condition {
		return Condition{Source: SourceHeader, Name: "a", Op: op, Value: value}
	}
	regex := func(source Source, expression string) Condition {
		return Condition{Source: source, Name: "a", Op: OpRegex, Regex: regexp.MustCompile(`^(?:` + expression + `)$`)}
	}
	in := func(values ...string) Condition {
		return Condition{Source: SourceHeader, Name: "a", Op: OpIn, Values: values}
	}
	present := func(source Source) Condition { return Condition{Source: source, Name: "a", Op: OpPresent} }
	inBody := Condition{Source: SourceBody, Path: mustPath(t, "$.u.a"), Op: OpEquals, Value: "x"}
	tests := []struct {
		name      string
		condition Condition
		request   request
		want      bool
	}{
		{"equals", header(OpEquals, "x"), with("a", "x"), true},
		{"equals another", header(OpEquals, "x"), with("a", "X"), false},
		{"equals, absent", header(OpEquals, "x"), with("b", "x"), false},
		{"equals nothing, absent", header(OpEquals, ""), with(), false},
		{"equals nothing, empty", header(OpEquals, ""), with("a", ""), false},
		{"prefix", header(OpPrefix, "x"), with("a", "xy"), true},
		{"prefix of nothing", header(OpPrefix, ""), with("a", ""), false},
		{"no prefix", header(OpPrefix, "y"), with("a", "xy"), false},
		{"suffix", header(OpSuffix, "y"), with("a", "xy"), true},
		{"no suffix", header(OpSuffix, "x"), with("a", "xy"), false},
		{"contains", header(OpContains, "y"), with("a", "xyz"), true},
		{"contains not", header(OpContains, "xz"), with("a", "xyz"), false},
		{"in", in("x", "y"), with("a", "y"), true},
		{"in, not", in("x", "y"), with("a", "x,y"), false},
		{"in nothing", in(), with("a", "x"), false},
		{"in, empty", in("", "y"), with("a", ""), false},
		{"regex", regex(SourceHeader, "x|y+"), with("a", "yy"), true},
		{"regex, a part only", regex(SourceHeader, "x|y+"), with("a", "yyz"), false},
		{"regex that fits nothing", regex(SourceHeader, ".*"), with("a", ""), false},
		{"present", present(SourceHeader), with("a", "x"), true},
		{"present, empty", present(SourceHeader), with("a", ""), false},
		{"present, absent", present(SourceHeader), with(), false},
		{"no operator", header("", "x"), with("a", "x"), false},
		{"no source", Condition{Name: "a", Op: OpPresent}, with("b", "x"), false},
		{"repeated, the first", header(OpEquals, "x"), with("a", "x", "a", "y"), true},
		{"repeated, the second", header(OpEquals, "y"), with("a", "x", "a", "y"), true},
		{"repeated, neither", header(OpEquals, "x,y"), with("a", "x", "a", "y"), false},
		{"pseudo-header", Condition{Source: SourceHeader, Name: ":method", Op: OpEquals, Value: "PUT"}, with(":method", "PUT"), true},
		{"cookie", present(SourceCookie), with("cookie", "b=1; a=x"), true},
		{"cookie, empty", present(SourceCookie), with("cookie", "b=1; a="), false},
		{"cookie, another's end", present(SourceCookie), with("cookie", "ba=1"), false},
		{"cookie in the second header", present(SourceCookie), with("cookie", "b=1", "cookie", "a=1"), true},
		{"query", regex(SourceQuery, "1"), with(":path", "/p?b=2&a=1"), true},
		{"query, not decoded", regex(SourceQuery, "%31"), with(":path", "/p?a=%31"), true},
		{"query, none", present(SourceQuery), with(":path", "/a=1"), false},
		{"body", inBody, withBody("$.u.a", "x"), true},
		{"body, elsewhere", inBody, withBody("$.a", "x"), false},
		{"body, absent", inBody, with("a", "x"), false},
	}
	for _, test := range tests {
		if got := test.condition.Holds(test.request); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestLastOfSeveral(t *testing.T) {
	cookies := map[string]string{}
	for _, header := range []string{
		"", "uid=1", "uid=1; uid=2", "uid=1; uid=", "uid=; uid=2;", "uid=1;uid=2", "a=b;  \tuid=2", " uid=1", "xuid=1; uid =2",
		"uid=a=b; x=y", "uid", "UID=1", `uid="q;r"`,
	} {
		cookies[header] = lastCookie(header, "uid")
	}
	wantCookies := map[string]string{
		"": "", "uid=1": "1", "uid=1; uid=2": "2", "uid=1; uid=": "1", "uid=; uid=2;": "2", "uid=1;uid=2": "2",
		"a=b;  \tuid=2": "2", " uid=1": "", "xuid=1; uid =2": "", "uid=a=b; x=y": "a=b", "uid": "", "UID=1": "",
		`uid="q;r"`: `"q`,
	}
	if diff := cmp.Diff(wantCookies, cookies); diff != "" {
		t.Error(diff)
	}
	parameters := map[string]string{}
	for _, path := range []string{
		"", "/", "/?uid=1", "/p?uid=1&uid=2", "/?uid=1&uid=", "/?xuid=1", "/?a?uid=1", "/?a=b?&uid=1", "/uid=1", "/?uid", "/?uid=a=b",
		"/?&uid=1&", "?uid=1", "/?uid=1;x", "/? uid=1",
	} {
		parameters[path] = lastParameter(path, "uid")
	}
	wantParameters := map[string]string{
		"": "", "/": "", "/?uid=1": "1", "/p?uid=1&uid=2": "2", "/?uid=1&uid=": "1", "/?xuid=1": "", "/?a?uid=1": "",
		"/?a=b?&uid=1": "1", "/uid=1": "", "/?uid": "", "/?uid=a=b": "a=b", "/?&uid=1&": "1", "?uid=1": "1", "/?uid=1;x": "1;x",
		"/? uid=1": "",
	}
	if diff := cmp.Diff(wantParameters, parameters); diff != "" {
		t.Error(diff)
	}
}

// The loops equal the patterns that Envoy runs.
func TestLastOfSeveralEqualsThePatterns(t *testing.T) {
	cookie := regexp.MustCompile(`^(?:.*;\s*)?uid=([^;]+).*$`)
	parameter := regexp.MustCompile(`^[^?]*\?(?:.*&)?uid=([^&]+).*$`)
	capture := func(r *regexp.Regexp, s string) string {
		if m := r.FindStringSubmatch(s); m != nil {
			return m[1]
		}
		return ""
	}
	rapid.Check(t, func(t *rapid.T) {
		s := values().Filter(oneLine).Draw(t, "value")
		if got, want := lastCookie(s, "uid"), capture(cookie, s); got != want {
			t.Fatalf("cookie %q, want %q", got, want)
		}
		if got, want := lastParameter(s, "uid"), capture(parameter, s); got != want {
			t.Fatalf("parameter %q, want %q", got, want)
		}
	})
}

// oneLine tells whether a header may hold s. The patterns' dots match no line
// feed, and a header never has one.
func oneLine(s string) bool {
	return !regexp.MustCompile(`[\n\r]`).MatchString(s)
}
