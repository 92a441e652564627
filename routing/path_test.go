package routing

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePath(t *testing.T) {
	type result struct {
		Path Path
		Err  string
	}
	member := func(names ...string) (p Path) {
		for _, n := range names {
			p = append(p, Segment{Name: n})
		}
		return p
	}
	for text, want := range map[string]result{
		"$.id":                    {Path: member("id")},
		"$.user.id":               {Path: member("user", "id")},
		"$.x-y_Z9":                {Path: member("x-y_Z9")},
		"$.é":                     {Path: member("é")},
		`$["user"].id`:            {Path: member("user", "id")},
		`$["a.b"]["c d"]`:         {Path: member("a.b", "c d")},
		`$["]"]`:                  {Path: member("]")},
		`$["\"\\\u00e9\n"]`:       {Path: member("\"\\é\n")},
		`$["*"]`:                  {Path: member("*")},
		"$[0]":                    {Path: Path{{Index: 0}}},
		"$[12].a[3]":              {Path: Path{{Index: 12}, {Name: "a"}, {Index: 3}}},
		"$.inputs[0].data":        {Path: Path{{Name: "inputs"}, {Index: 0}, {Name: "data"}}},
		"":                        {Err: "must begin with $, like $.user.id"},
		"user.id":                 {Err: "must begin with $, like $.user.id"},
		"$":                       {Err: "must name a member, like $.user.id"},
		"$.":                      {Err: `"" is not a member name; write ["..."] for names with other characters`},
		"$..id":                   {Err: `"" is not a member name; write ["..."] for names with other characters`},
		"$.id.":                   {Err: `"" is not a member name; write ["..."] for names with other characters`},
		"$.*":                     {Err: `"*" is not a member name; write ["..."] for names with other characters`},
		"$.a b":                   {Err: `"a b" is not a member name; write ["..."] for names with other characters`},
		"$.a]":                    {Err: `"a]" is not a member name; write ["..."] for names with other characters`},
		"$id":                     {Err: `"id": must be .name or [index]`},
		"$[0]x":                   {Err: `"x": must be .name or [index]`},
		"$ .id":                   {Err: `" .id": must be .name or [index]`},
		"$[]":                     {Err: "[]: an index must be a number in brackets"},
		"$[-1]":                   {Err: "[-1]: an index must be a number in brackets"},
		"$[1":                     {Err: "[1: an index must be a number in brackets"},
		"$['a']":                  {Err: "['a']: an index must be a number in brackets"},
		"$[99999999999999999999]": {Err: "[99999999999999999999]: index is too large"},
		`$["a`:                    {Err: `["a: a name in brackets must end with "]`},
		`$["a"`:                   {Err: `["a": a name in brackets must end with "]`},
		`$["a"x]`:                 {Err: `["a"x]: a name in brackets must end with "]`},
		`$["\q"]`:                 {Err: `["\q"]: a name in brackets must end with "]`},
		`$[""]`:                   {Err: `"" is not a member name`},
	} {
		var got result
		path, err := ParsePath(text)
		if got.Path = path; err != nil {
			got.Err = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// A path that can be read is written so that it reads the same.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"$.a", "$.a.b[0]", `$["a b"]`, `$["\xff\u2028"]`, "$[007]", "$.\u00e9\x80", `$["\U0001F600"].x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		written := p.String()
		back, err := ParsePath(written)
		if err != nil {
			t.Fatalf("%q is written %q: %v", s, written, err)
		}
		if diff := cmp.Diff(p, back); diff != "" {
			t.Fatalf("%q is written %q: %s", s, written, diff)
		}
	})
}
