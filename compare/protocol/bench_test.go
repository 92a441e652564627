package protocol_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/headgate/headgate/compare/protocol"
)

// BenchmarkPair reads and compares typical pairs of answers.
func BenchmarkPair(b *testing.B) {
	chat, err := os.ReadFile("testdata/samples/response-e03d543f31.json")
	if err != nil {
		b.Fatal(err)
	}
	stream, err := os.ReadFile("testdata/samples/stream-6cb7202385.sse.txt")
	if err != nil {
		b.Fatal(err)
	}
	embedding := &strings.Builder{}
	for i := range 1536 {
		fmt.Fprintf(embedding, ",%.8f", float64(i%17)/17-0.5)
	}
	for _, tc := range []struct {
		name string
		body string
		o    protocol.Options
	}{
		{"json", `{"request_id":"7c5d","prediction":{"score":0.8231,"label":"churn"},"model_version":"v1.0.0"}`, protocol.Options{Protocol: protocol.JSON, Paths: paths(b, "$.prediction")}},
		{"openinference", `{"model_name":"iris","model_version":"v1","id":"4e546709-0887-490a-abd6-00cbc4c26cf4","parameters":{},"outputs":[{"name":"predict","shape":[1,1],"datatype":"INT64","parameters":{"content_type":"np"},"data":[2]},{"name":"predict_proba","shape":[1,3],"datatype":"FP64","parameters":{"content_type":"np"},"data":[0.01,0.02,0.97]}]}`, protocol.Options{}},
		{"tfserving of 32 rows", `{"predictions":[` + strings.Repeat("[0.1,0.2,0.7],", 31) + `[0.3,0.3,0.4]]}`, protocol.Options{}},
		{"chat of 2 kB", string(chat), protocol.Options{}},
		{"stream of 28 events", string(stream), protocol.Options{}},
		{"embedding of 1536", `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1` + embedding.String() + `]}]}`, protocol.Options{}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			r := reader(b, tc.o)
			c := comparer(b, protocol.Rule{Path: pattern(b, "$.outputs.predict_proba"), MaxVariation: 0.1})
			answer := &protocol.Answer{Status: 200, ContentType: "application/json", Body: []byte(tc.body)}
			b.SetBytes(int64(2 * len(tc.body)))
			b.ReportAllocs()
			for b.Loop() {
				if d := protocol.Pair(r, c, answer, answer); !d.Agree {
					b.Fatal(d)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}

// BenchmarkLargest compares answers of the largest size that is read.
func BenchmarkLargest(b *testing.B) {
	members := &strings.Builder{}
	for i := 0; members.Len() < 1<<20-200; i++ {
		fmt.Fprintf(members, `"%d":1,`, i*7919%100_003)
	}
	r, c := reader(b, protocol.Options{}), comparer(b)
	answer := &protocol.Answer{Body: []byte("{" + members.String() + `"k":1}`)}
	for b.Loop() {
		if d := protocol.Pair(r, c, answer, answer); !d.Agree {
			b.Fatal(d)
		}
	}
}
