package protocol_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare/protocol"
)

// compressed returns n bytes of a body, compressed.
func compressed(t testing.TB, with func(io.Writer) io.WriteCloser, body string, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := with(&b)
	for ; n > 0; n -= len(body) {
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

func zlibbed(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }

func deflated(w io.Writer) io.WriteCloser {
	f, err := flate.NewWriter(w, 6)
	if err != nil {
		panic(err)
	}
	return f
}

// TestHostileAnswers reads what a broken or hostile server may send. The bound
// on time is far above what any takes on a busy machine, and below what a bomb
// without a bound would.
func TestHostileAnswers(t *testing.T) {
	keys := "{" + strings.Repeat(`"k":1,`, 1_000_000) + `"k":1}`
	// Members of one gzip stream add up: this is 1 GiB of spaces.
	bomb := bytes.Repeat(compressed(t, gzipped, strings.Repeat(" ", 1<<20), 1), 1<<10)
	big := protocol.Limits{Bytes: 8 << 20}
	for _, tc := range []struct {
		name   string
		answer protocol.Answer
		limits protocol.Limits
		want   string
	}{
		{"no body", protocol.Answer{}, protocol.Limits{}, "empty: there is no body"},
		{"only space", protocol.Answer{Body: []byte(" \n")}, protocol.Limits{}, "empty: there is no body"},
		{"gzip bomb", protocol.Answer{Body: bomb, ContentEncoding: "gzip"}, protocol.Limits{}, "too_large: more than 1048576 bytes"},
		{"gzip bomb without a header", protocol.Answer{Body: bomb}, protocol.Limits{}, "too_large: more than 1048576 bytes"},
		{"gzip in gzip", protocol.Answer{Body: compressed(t, gzipped, string(bomb), 1), ContentEncoding: "gzip, gzip"}, big, "too_large: more than 8388608 bytes"},
		{"compressed nine times", protocol.Answer{Body: bomb[:40], ContentEncoding: strings.Repeat("gzip,", 9)}, protocol.Limits{}, "encoding: compressed 10 times"},
		{"brotli", protocol.Answer{Body: []byte("x"), ContentEncoding: "br"}, protocol.Limits{}, `encoding: "br" is not gzip, deflate or identity`},
		{"no gzip", protocol.Answer{Body: []byte("{}"), ContentEncoding: "gzip"}, protocol.Limits{}, "encoding: gzip: unexpected EOF"},
		{"gzip, cut", protocol.Answer{Body: bomb[:40], ContentEncoding: "gzip"}, big, "encoding: gzip: unexpected EOF"},
		{"gzip, cut by us", protocol.Answer{Body: bomb[:40], ContentEncoding: "gzip", Truncated: true}, big, "truncated: only the beginning is there"},
		{"a million keys", protocol.Answer{Body: []byte(keys)}, protocol.Limits{}, "too_large: more than 1048576 bytes"},
		{"a million keys, large bodies allowed", protocol.Answer{Body: []byte(keys)}, big, "too_large: more than 262144 values"},
		{"depth 10,000", protocol.Answer{Body: []byte(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000))}, protocol.Limits{}, "too_large: nested deeper than 128"},
		{"depth 10,000, objects", protocol.Answer{Body: []byte(strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000))}, protocol.Limits{}, "too_large: nested deeper than 128"},
		{"depth a million, allowed", protocol.Answer{Body: []byte(strings.Repeat("[", 1_000_000))}, protocol.Limits{Depth: math.MaxInt}, "too_large: nested deeper than 10000"},
		{"bad UTF-8", protocol.Answer{Body: []byte("{\"a\":\"\xff\xfe\"}")}, protocol.Limits{}, "malformed: not UTF-8"},
		{"UTF-16", protocol.Answer{Body: []byte("\xff\xfe{\x00}\x00")}, protocol.Limits{}, "malformed: not JSON"},
		{"cut in a string", protocol.Answer{Body: []byte(`{"a":"b`)}, protocol.Limits{}, "truncated: only the beginning is there"},
		{"cut in an escape", protocol.Answer{Body: []byte(`{"a":"\u00`)}, protocol.Limits{}, "truncated: only the beginning is there"},
		{"cut in a word", protocol.Answer{Body: []byte(`[1,tru`)}, protocol.Limits{}, "truncated: only the beginning is there"},
		{"cut in a number", protocol.Answer{Body: []byte(`[-`)}, protocol.Limits{}, "truncated: only the beginning is there"},
		{"cut by us where JSON may end", protocol.Answer{Body: []byte(`[1,2]`), Truncated: true}, protocol.Limits{}, "truncated: only the beginning is there"},
		{"two documents", protocol.Answer{Body: []byte(`{}{}`)}, protocol.Limits{}, "malformed: something stands behind the JSON document"},
		{"HTML", protocol.Answer{Body: []byte(`<html>`)}, protocol.Limits{}, "malformed: not JSON"},
		{"a leading zero", protocol.Answer{Body: []byte(`[010]`)}, protocol.Limits{}, "malformed: not JSON"},
		{"a comma too many", protocol.Answer{Body: []byte(`[1,]`)}, protocol.Limits{}, "malformed: not JSON"},
		{"a control character", protocol.Answer{Body: []byte("[\"\n\"]")}, protocol.Limits{}, "malformed: not JSON"},
		{"a stream of nothing", protocol.Answer{Body: []byte("data: x\n\ndata: [DON\n\n"), ContentType: "text/event-stream"}, protocol.Limits{}, "malformed: no event of the stream is JSON"},
		{"a stream cut by us", protocol.Answer{Body: []byte("data: {}\n\n"), Truncated: true}, protocol.Limits{}, "truncated: only the beginning is there"},
		{"a stream of deep events", protocol.Answer{Body: []byte("data: " + strings.Repeat("[", 200) + "\n\n")}, protocol.Limits{}, "too_large: nested deeper than 128"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := reader(t, protocol.Options{Limits: tc.limits})
			began := time.Now()
			used := allocated(func() {
				_, err := r.Read(&tc.answer)
				if err == nil || err.Error() != tc.want || reason(err) == "" {
					t.Errorf("%v, want %s", err, tc.want)
				}
			})
			// What is allowed is taken, more than once while it grows.
			allowed := uint64(16 << 20)
			if tc.limits.Bytes > 0 {
				allowed = 10 * uint64(tc.limits.Bytes)
			}
			if used > allowed {
				t.Errorf("%d MiB were allocated", used>>20)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLargestAnswers reads, compares and checks large answers in the forms that
// cost most.
func TestLargestAnswers(t *testing.T) {
	const size = 1 << 18
	fill := func(open, unit, end string) string {
		return open + strings.Repeat(unit+",", (size-len(open)-len(end))/(len(unit)+1)-1) + unit + end
	}
	deep := strings.Repeat("[", 100)
	members := &strings.Builder{}
	for i := 0; members.Len() < size-100; i++ {
		fmt.Fprintf(members, `"%d":1,`, i*7919%100_003)
	}
	schema, err := protocol.CompileSchema([]byte(`{"uniqueItems": true, "additionalProperties": {"multipleOf": 0.1}}`))
	if err != nil {
		t.Fatal(err)
	}
	k, err := protocol.NewChecker([]protocol.Requirement{{Finite: true, SumsToOne: 0.1, NotEmpty: true, Labels: []string{"x"}, Schema: schema}})
	if err != nil {
		t.Fatal(err)
	}
	rules := []protocol.Rule{{Path: pattern(t, "$[*][*].x"), TopK: 3}, {Path: pattern(t, "$.predictions"), As: protocol.AsVector}}
	for name, body := range map[string]string{
		"numbers":       fill(`{"predictions":[`, "0.1234", "]}"),
		"texts":         fill("[", `"\u00e9\ud800"`, "]"),
		"members":       "{" + members.String() + `"k":1}`,
		"same member":   fill("{", `"a":1`, "}"),
		"empty lists":   fill("[", "[]", "]"),
		"ragged, deep":  deep + fill("[", "1", ",[]]") + strings.Repeat("]", 100),
		"one number":    "[" + strings.Repeat("7", size) + "]",
		"small number":  `{"a":1e-99999999}`,
		"choices":       fill(`{"choices":[`, `{"text":"a"}`, "]}"),
		"parts":         fill(`{"object":"response","output":[`, `{"type":"message","content":"a"}`, "]}"),
		"events":        strings.Repeat("data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", size/50),
		"lines":         strings.Repeat("data:1\n", size/7),
		"outputs":       fill(`{"outputs":[`, `{"name":"a","datatype":"FP32","shape":[1],"data":[1]}`, "]}"),
		"huge shape":    tensorAnswer("FP32", "[4294967295,4294967295,4294967295]", "[1]"),
		"binary header": `{"outputs":[{"name":"a","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":1e18}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(t, protocol.Options{})
			began := time.Now()
			p, err := r.Read(&protocol.Answer{Body: []byte(body)})
			if err == nil {
				comparer(t, rules...).Compare(p, p)
				k.Check(p)
			} else if reason(err) == "" {
				t.Errorf("%v: not an UnreadableError", err)
			}
			if took := time.Since(began); took > 60*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// binaryAnswer is an answer with binary tensors.
func binaryAnswer(tensors ...any) []byte {
	var outputs []string
	var data []byte
	for i := 0; i < len(tensors); i += 2 {
		raw, err := binary.Append(nil, binary.LittleEndian, tensors[i+1])
		if err != nil {
			panic(err)
		}
		outputs = append(outputs, fmt.Sprintf(`{"name":"%d","datatype":%q,"shape":[%d],"parameters":{"binary_data_size":%d}}`, i/2, tensors[i], 2, len(raw)))
		data = append(data, raw...)
	}
	return append([]byte(`{"outputs":[`+strings.Join(outputs, ",")+`]}`), data...)
}

func TestBinaryTensors(t *testing.T) {
	body := binaryAnswer(
		"BOOL", []byte{0, 1}, "UINT8", []uint8{0, 255}, "INT8", []int8{-128, 127}, "UINT16", []uint16{0, 65535}, "INT16", []int16{-32768, 1},
		"UINT32", []uint32{0, 1<<32 - 1}, "INT32", []int32{-1 << 31, 1}, "UINT64", []uint64{0, 1<<64 - 1}, "INT64", []int64{-1 << 63, 9007199254740993},
		"FP32", []float32{0.5, -2}, "FP64", []float64{0.1, math.Inf(1)}, "FP16", []uint16{0x3555, 0xfc00}, "BF16", []uint16{0x3f80, 0x0001},
		"BYTES", []byte("\x01\x00\x00\x00a\x03\x00\x00\x00\"\xffc"),
	)
	p := read(t, protocol.Auto, string(body))
	want := []string{
		"$.outputs.0[0] = false", "$.outputs.0[1] = true", "$.outputs.1[0] = 0", "$.outputs.1[1] = 255", "$.outputs.2[0] = -128", "$.outputs.2[1] = 127",
		"$.outputs.3[0] = 0", "$.outputs.3[1] = 65535", "$.outputs.4[0] = -32768", "$.outputs.4[1] = 1",
		"$.outputs.5[0] = 0", "$.outputs.5[1] = 4.294967295e+09", "$.outputs.6[0] = -2.147483648e+09", "$.outputs.6[1] = 1",
		"$.outputs.7[0] = 0", "$.outputs.7[1] = 1.8446744073709552e+19", "$.outputs.8[0] = -9.223372036854776e+18", "$.outputs.8[1] = 9.007199254740992e+15",
		"$.outputs.9[0] = 0.5", "$.outputs.9[1] = -2", "$.outputs.10[0] = 0.1", "$.outputs.10[1] = +Inf",
		"$.outputs.11[0] = 0.333251953125", "$.outputs.11[1] = -Inf", "$.outputs.12[0] = 1", "$.outputs.12[1] = 9.183549615799121e-41",
		`$.outputs.13[0] = "a"`, `$.outputs.13[1] = "\"\xffc"`,
	}
	if diff := cmp.Diff(want, leaves(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	inJSON := read(t, protocol.Auto, `{"outputs":[{"name":"0","datatype":"INT64","shape":[2],"data":[1,9007199254740992]}]}`)
	inBytes := read(t, protocol.Auto, string(binaryAnswer("INT64", []int64{1, 9007199254740993})))
	got := summary(comparer(t).Compare(inJSON, inBytes))
	if diff := cmp.Diff([]string{"difference 1", "$.outputs.0[1] value 9007199254740992 9007199254740993", "no tolerance: $.outputs.0[1]"}, got); diff != "" {
		t.Errorf("beyond what a float64 holds (-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct {
		body []byte
		want protocol.Reason
	}{
		"cut":             {body[:len(body)-1], protocol.ReasonTruncated},
		"too long":        {append(bytes.Clone(body), 0), protocol.ReasonMalformed},
		"unknown type":    {binaryAnswer("FP8", []byte{1}), protocol.ReasonProtocol},
		"half an element": {binaryAnswer("FP32", []byte{1, 2, 3}), protocol.ReasonMalformed},
		"cut length":      {binaryAnswer("BYTES", []byte{1, 0, 0}), protocol.ReasonMalformed},
		"cut text":        {binaryAnswer("BYTES", []byte{9, 0, 0, 0, 'a'}), protocol.ReasonMalformed},
	} {
		if _, err := reader(t, protocol.Options{}).Read(&protocol.Answer{Body: tc.body}); reason(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

func TestCompressedAnswers(t *testing.T) {
	const body = "\ufeff{\"p\":0.5}"
	for _, tc := range []struct {
		encoding string
		body     []byte
	}{
		{"", []byte(body)}, {"identity", []byte(body)}, {"gzip", compressed(t, gzipped, body, 1)}, {"", compressed(t, gzipped, body, 1)},
		{"X-GZIP", compressed(t, gzipped, body, 1)}, {"deflate", compressed(t, zlibbed, body, 1)}, {"deflate", compressed(t, deflated, body, 1)},
		{"deflate, gzip", compressed(t, gzipped, string(compressed(t, zlibbed, body, 1)), 1)},
	} {
		p, err := reader(t, protocol.Options{Paths: paths(t, "$.p")}).Read(&protocol.Answer{Body: tc.body, ContentEncoding: tc.encoding})
		if err != nil {
			t.Errorf("%q: %v", tc.encoding, err)
			continue
		}
		if f, ok := p.Number(); !ok || f != 0.5 {
			t.Errorf("%q: %v %t", tc.encoding, f, ok)
		}
	}
}

// FuzzAnswers reads two answers in every protocol, compares them both ways and
// with themselves, and checks them.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		`{"p":0.5,"q":[[1,2],[3]]}`, tensorAnswer("FP32", "[1,2]", "[1,NaN]"), `{"predictions":[{"a":1e999}]}`, `{"outputs":{"a":[1]}}`,
		`{"choices":[{"index":1,"message":{"content":"a","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}],"usage":{"completion_tokens":3}}`,
		"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n", `{"data":[{"embedding":"AACAPw=="}]}`,
		"[[],[]]", `{"predictions":[[[]],[[]]],"p":[[],[]]}`, string(binaryAnswer("INT64", []int64{1, 2}, "BYTES", []byte{1, 0, 0, 0, 'a'})), `{"object":"response","output":[{"type":"function_call"}]}`,
	} {
		f.Add([]byte(s), []byte(s), "$.p")
		f.Add([]byte(s), []byte(`{"error":"x"}`), "$.predictions[*]")
	}
	f.Fuzz(func(t *testing.T, a, b []byte, place string) {
		rule := protocol.Rule{MaxVariation: 0.1, TopK: 2, NaNEqual: true}
		if p, err := protocol.ParsePattern(place); err == nil {
			rule.Path = p
		}
		c := comparer(t, rule, protocol.Rule{NaNEqual: true})
		schema, err := protocol.CompileSchema([]byte(`{"type":"object","required":["p"]}`))
		if err != nil {
			t.Fatal(err)
		}
		k, err := protocol.NewChecker([]protocol.Requirement{{Path: rule.Path, Finite: true, SumsToOne: 0.1, Shape: []int{2}, Labels: []string{"a"}, NotEmpty: true, Complete: true, Present: true, Schema: schema}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range protocol.Protocols() {
			r := reader(t, protocol.Options{Protocol: name})
			p, errP := r.Read(&protocol.Answer{Body: a})
			q, errQ := r.Read(&protocol.Answer{Body: b})
			if errP != nil && reason(errP) == "" || errQ != nil && reason(errQ) == "" {
				t.Fatalf("%v, %v: not an UnreadableError", errP, errQ)
			}
			if errP != nil {
				continue
			}
			k.Check(p)
			if d := c.Compare(p, p); d.Comparable && (!d.Agree || d.Difference != 0) {
				t.Fatalf("%s against itself: %q", a, summary(d))
			}
			if errQ != nil {
				continue
			}
			there, back := c.Compare(p, q), c.Compare(q, p)
			if there.Agree != back.Agree || there.Difference != back.Difference || math.IsNaN(there.Difference) {
				t.Fatalf("there %q, back %q", summary(there), summary(back))
			}
			if _, err := there.MarshalJSON(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"$", "$.a[*].b", `$["a[*]"][0]`, "$.*.*", "$[*", `$["\"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := protocol.ParsePattern(s)
		if err != nil {
			return
		}
		again, err := protocol.ParsePattern(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q: %q, then %q, %v", s, p, again, err)
		}
	})
}
