package extproc

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/routing"
)

func path(t testing.TB, s string) routing.Path {
	t.Helper()
	p, err := routing.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type found struct {
	Value     string
	OK, Valid bool
}

func look(t testing.TB, body, at string) found {
	t.Helper()
	v, ok, valid := lookup([]byte(body), path(t, at))
	return found{v, ok, valid}
}

func TestLookup(t *testing.T) {
	value := func(s string) found { return found{s, true, true} }
	absent, invalid := found{Valid: true}, found{}
	deep := strings.Repeat("[", maxDepth-1) + "7" + strings.Repeat("]", maxDepth-1)
	tests := []struct {
		body, path string
		want       found
	}{
		{`{"id":"a"}`, "$.id", value("a")},
		{" {\r\n\t\"id\" : \"a\" } \n", "$.id", value("a")},
		{`{"id":""}`, "$.id", value("")},
		{`{"id":7}`, "$.id", value("7")},
		{`{"id":-0.50e+10}`, "$.id", value("-0.50e+10")},
		{`{"id":12345678901234567890}`, "$.id", value("12345678901234567890")},
		{`{"id":true,"x":false}`, "$.x", value("false")},
		{`{"id":null}`, "$.id", absent},
		{`{"id":{}}`, "$.id", absent},
		{`{"id":[]}`, "$.id", absent},
		{`{"id":["a"]}`, "$.id", absent},
		{`{}`, "$.id", absent},
		{`[]`, "$.id", absent},
		{`7`, "$.id", absent},
		{`{"a":{"b":[{"c":"x"},{"c":"y"}]}}`, "$.a.b[1].c", value("y")},
		{`{"a":{"b":[{"c":"x"},{"c":"y"}]}}`, "$.a.b[2].c", absent},
		{`{"a":{"b":[]}}`, "$.a.b[0]", absent},
		{`[["x"],["y","z"]]`, "$[1][1]", value("z")},
		{`{"0":"x"}`, "$[0]", absent},
		{`["x"]`, `$["0"]`, absent},
		{`{"a.b":"x","a":{"b":"y"}}`, `$["a.b"]`, value("x")},
		{`{"a.b":"x","a":{"b":"y"}}`, "$.a.b", value("y")},
		{`{"*":"x","a?":"y","#":"z"}`, `$["*"]`, value("x")},
		{`{"@this":"x"}`, `$["@this"]`, value("x")},
		// Of several, the last.
		{`{"id":"a","id":"b"}`, "$.id", value("b")},
		{`{"id":"a","id":null}`, "$.id", absent},
		{`{"u":{"id":"a"},"u":{"x":"b"}}`, "$.u.id", absent},
		{`{"id":"a","\u0069d":"b"}`, "$.id", value("b")},
		{`{"id":"a","i\u0064":"b","x\u0064":"c","\u0069\u0064\u0064":"d"}`, "$.id", value("b")},
		{`{"\ud83d\ude00":"a"}`, `$["😀"]`, value("a")},
		// Escapes.
		{`{"id":"a\n\u00e9\"\\\/"}`, "$.id", value("a\né\"\\/")},
		{`{"id":"\ud83d\ude00"}`, "$.id", value("😀")},
		{`{"id":"\ud83d"}`, "$.id", value("\uFFFD")},
		{`{"id":"é"}`, "$.id", value("é")},
		// What Python writes.
		{`{"x":NaN,"y":[Infinity,-Infinity],"id":"a"}`, "$.id", value("a")},
		{`{"id":NaN}`, "$.id", absent},
		{`{"id":-Infinity}`, "$.id", absent},
		// Not JSON.
		{``, "$.id", invalid},
		{` `, "$.id", invalid},
		{`{"id":"a"`, "$.id", invalid},
		{`{"id":"a"}}`, "$.id", invalid},
		{`{"id":"a"} {}`, "$.id", invalid},
		{`{"id":"a",}`, "$.id", invalid},
		{`{"id":"a" "b":1}`, "$.id", invalid},
		{`{"id" "a"}`, "$.id", invalid},
		{`{id:"a"}`, "$.id", invalid},
		{`{'id':'a'}`, "$.id", invalid},
		{`{"id":"a","x":[1,]}`, "$.id", invalid},
		{`{"id":"a","x":[1}`, "$.id", invalid},
		{`{"id":"a","x":[1 2]}`, "$.id", invalid},
		{`{"id":"a","x":01}`, "$.id", invalid},
		{`{"id":"a","x":1.}`, "$.id", invalid},
		{`{"id":"a","x":.5}`, "$.id", invalid},
		{`{"id":"a","x":+1}`, "$.id", invalid},
		{`{"id":"a","x":1e}`, "$.id", invalid},
		{`{"id":"a","x":-}`, "$.id", invalid},
		{`{"id":"a","x":tru}`, "$.id", invalid},
		{`{"id":"a","x":nan}`, "$.id", invalid},
		{"{\"id\":\"a\",\"x\":\"\n\"}", "$.id", invalid},
		{`{"id":"a","x":"\x"}`, "$.id", invalid},
		{`{"id":"a","x":"\u12"}`, "$.id", invalid},
		{`{"id":"a","x":"\`, "$.id", invalid},
		{`{"id":"a","x":"\u1`, "$.id", invalid},
		{"{\"id\":\"a\",\"x\":\"\xff\"}", "$.id", invalid},
		{"\xef\xbb\xbf{\"id\":\"a\"}", "$.id", invalid},
		{"{\x00\"id\":\"a\"}", "$.id", invalid},
		{"{\"id\":\"a\"}\x00", "$.id", invalid},
		{`id=a&x=b`, "$.id", invalid},
		{"\x00\x00\x00\x00\x05\x0a\x03abc", "$.id", invalid},
		// Depth.
		{`{"x":` + deep + `,"id":"a"}`, "$.id", value("a")},
		{`{"x":[` + deep + `],"id":"a"}`, "$.id", invalid},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, look(t, test.body, test.path)); diff != "" {
			t.Errorf("%.60s at %s: %s", test.body, test.path, diff)
		}
	}
}

// Bodies made to be slow are read in time that grows with their size and not
// faster, and with no memory.
func TestLookupIsBounded(t *testing.T) {
	const size = 1 << 20
	repeat := func(s string) string { return strings.Repeat(s, size/len(s)) }
	bodies := map[string]string{
		"open arrays":   repeat("["),
		"open objects":  repeat(`{"a":`),
		"nested":        strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"members":       `{` + repeat(`"a":1,`) + `"a":{"a":2}}`,
		"same member":   `{` + repeat(`"a":{"a":1},`) + `"a":{"a":2}}`,
		"escaped names": `{` + repeat(`"\u0061":1,`) + `"a":{"a":2}}`,
		"one string":    `"` + repeat("x") + `"`,
		"escapes":       `"` + repeat(`\\`) + `"`,
		"one number":    repeat("1"),
		"spaces":        repeat(" "),
		"elements":      `[` + repeat("1,") + `1]`,
		"quotes":        repeat(`"`),
	}
	at := path(t, "$.a.a")
	for name, body := range bodies {
		start := time.Now()
		lookup([]byte(body), at)
		if took := time.Since(start); took > 10*time.Second { // quadratic takes minutes
			t.Errorf("%s: %s", name, took)
		}
	}
	body := []byte(`{"x":[1,2,{"y":"z"}],"a":{"a":"user"}}`)
	if n := testing.AllocsPerRun(100, func() { lookup(body, at) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzLookup compares with encoding/json.
func FuzzLookup(f *testing.F) {
	for _, s := range []string{
		`{"a":{"a":"x"}}`, `{"a":{"a":1e5}}`, `{"a":{"a":[1,true,null,{"b":"\u00e9"}]}}`, `{"a":1,"a":{"a":"\n"}}`,
		`[{}]`, `{"a":{"a":"x"}} `, `"\ud800"`, `-0`, `{"\u0061":{"a":false}}`, `{"a":{"a":NaN}}`,
	} {
		f.Add([]byte(s))
	}
	at := routing.Path{{Name: "a"}, {Name: "a"}}
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.Contains(body, []byte("NaN")) || bytes.Contains(body, []byte("Infinity")) || len(body) > 8000 {
			return // ours to take
		}
		value, ok, valid := lookup(body, at)
		want := reference(body)
		if diff := cmp.Diff(want, found{value, ok, valid}); diff != "" {
			t.Errorf("%q: %s", body, diff)
		}
	})
}

// reference finds $.a.a as encoding/json reads the document.
func reference(body []byte) found {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var doc any
	if !bytes.Equal(bytes.ToValidUTF8(body, nil), body) || d.Decode(&doc) != nil {
		return found{}
	}
	if _, err := d.Token(); err != io.EOF {
		return found{}
	}
	for range 2 {
		m, _ := doc.(map[string]any)
		doc = m["a"]
	}
	switch v := doc.(type) {
	case string:
		return found{v, true, true}
	case json.Number:
		return found{v.String(), true, true}
	case bool:
		text, _ := json.Marshal(v)
		return found{string(text), true, true}
	}
	return found{Valid: true}
}

func BenchmarkLookup(b *testing.B) {
	at := routing.Path{{Name: "user"}, {Name: "id"}}
	for _, body := range []struct {
		name string
		json []byte
	}{
		{"features", []byte(`{"features":[` + strings.Repeat("0.123456,", 100_000) + `1],"user":{"id":"u-1"}}`)},
		{"text", []byte(`{"text":"` + strings.Repeat("lorem ipsum ", 80_000) + `","user":{"id":"u-1"}}`)},
		{"small", []byte(`{"features":[1,2,3,4,5,6],"user":{"id":"u-1"}}`)},
	} {
		b.Run(body.name, func(b *testing.B) {
			b.SetBytes(int64(len(body.json)))
			b.ReportAllocs()
			for b.Loop() {
				if _, ok, _ := lookup(body.json, at); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}
