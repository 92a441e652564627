package extproc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/routing"
)

// script is a stream on which Envoy's messages are known beforehand.
type script struct {
	grpc.ServerStream
	grpcContext func() context.Context
	in          []*extprocv3.ProcessingRequest
	out         []*extprocv3.ProcessingResponse
}

func (s *script) Context() context.Context { return s.grpcContext() }

func (s *script) RecvMsg(m any) error {
	if len(s.in) == 0 {
		return io.EOF
	}
	proto.Reset(m.(proto.Message))
	proto.Merge(m.(proto.Message), s.in[0])
	s.in = s.in[1:]
	return nil
}

func (s *script) SendMsg(m any) error {
	s.out = append(s.out, proto.Clone(m.(proto.Message)).(*extprocv3.ProcessingResponse))
	return nil
}

func (s *script) Recv() (*extprocv3.ProcessingRequest, error) { panic("not used") }
func (s *script) Send(*extprocv3.ProcessingResponse) error    { panic("not used") }

// run plays messages to a service and returns its answers.
func run(t testing.TB, s *Service, model string, in ...*extprocv3.ProcessingRequest) []*extprocv3.ProcessingResponse {
	t.Helper()
	ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs(routing.HeaderModel, model))
	stream := &script{grpcContext: func() context.Context { return ctx }, in: in}
	if err := s.Process(stream); err != nil {
		t.Fatal(err)
	}
	return stream.out
}

// headers is the first message; pairs are names and values.
func headers(mode filterv3.ProcessingMode_BodySendMode, end bool, pairs ...string) *extprocv3.ProcessingRequest {
	var list []*corev3.HeaderValue
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return &extprocv3.ProcessingRequest{
		Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{
			Headers: &corev3.HeaderMap{Headers: list}, EndOfStream: end,
		}},
		ProtocolConfig: &extprocv3.ProtocolConfiguration{RequestBodyMode: mode},
	}
}

func body(s string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(s), EndOfStream: true},
	}}
}

func common(version string, reason routing.Reason) *extprocv3.CommonResponse {
	option := func(k, v string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: k, RawValue: []byte(v)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	return &extprocv3.CommonResponse{
		ClearRouteCache: true,
		HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{
			option(routing.HeaderDecision, version), option(routing.HeaderReason, string(reason)),
		}},
	}
}

// toHeaders and toBody are answers; common is nil for an empty one.
func toHeaders(c *extprocv3.CommonResponse, key string) *extprocv3.ProcessingResponse {
	if c == nil {
		c = &extprocv3.CommonResponse{}
	}
	return withMetadata(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: c},
	}}, c, key)
}

func toBody(c *extprocv3.CommonResponse, key string) *extprocv3.ProcessingResponse {
	if c == nil {
		c = &extprocv3.CommonResponse{}
	}
	return withMetadata(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestBody{
		RequestBody: &extprocv3.BodyResponse{Response: c},
	}}, c, key)
}

// withMetadata adds what the access log gets: the reason of every decision, and
// what was hashed for it.
func withMetadata(r *extprocv3.ProcessingResponse, c *extprocv3.CommonResponse, key string) *extprocv3.ProcessingResponse {
	for _, h := range c.GetHeaderMutation().GetSetHeaders() {
		if h.Header.Key != routing.HeaderReason {
			continue
		}
		fields := map[string]any{"reason": string(h.Header.RawValue)}
		if key != "" {
			fields["key"] = key
		}
		r.DynamicMetadata, _ = structpb.NewStruct(map[string]any{"headgate": fields})
	}
	return r
}

func newService(models ...*routing.ModelPlan) *Service {
	s := New(slog.New(slog.DiscardHandler))
	s.Publish(&routing.Plan{Config: &routing.Config{}, Models: models})
	return s
}

func modelPlan(name string, key routing.Key, share routing.Share, overrides ...routing.Override) *routing.ModelPlan {
	return &routing.ModelPlan{
		Model: &routing.Model{
			Name: name, Key: key, Overrides: overrides, Decide: routing.DecideExtProc,
			Versions: []*routing.Version{{Name: "v1"}, {Name: "v2"}},
		},
		Stable: "v1",
		Split: routing.Split{Salt: name + "-r1", Ranges: []routing.Range{
			{Version: "v2", Weight: share}, {Version: "v1", Weight: routing.Whole - share},
		}},
	}
}

var (
	headerKey = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
	bodyKey   = routing.Key{
		Source: routing.SourceBody, Name: "$.id", Path: routing.Path{{Name: "id"}}, Absent: routing.AbsentCookie,
	}
)

const (
	none     = filterv3.ProcessingMode_NONE
	whole    = filterv3.ProcessingMode_BUFFERED
	streamed = filterv3.ProcessingMode_STREAMED
)

func TestProcess(t *testing.T) {
	canary := routing.Override{Version: "v2", Condition: routing.Condition{
		Source: routing.SourceHeader, Name: "canary", Op: routing.OpEquals, Value: "true",
	}}
	acme := routing.Override{Version: "v2", Condition: routing.Condition{
		Source: routing.SourceBody, Path: routing.Path{{Name: "tenant"}}, Op: routing.OpEquals, Value: "acme",
	}}
	list := func(p ...*routing.ModelPlan) []*routing.ModelPlan { return p }
	type (
		in  = []*extprocv3.ProcessingRequest
		out = []*extprocv3.ProcessingResponse
	)
	long := strings.Repeat("k", 300)
	tests := []struct {
		name   string
		models []*routing.ModelPlan
		in     in
		want   out
	}{
		{"header key", list(modelPlan("m", headerKey, 10_000)),
			in{headers(none, false, "x-user-id", "u")},
			out{toHeaders(common("v2", "key"), "u")}},
		{"header key, a body is sent all the same", list(modelPlan("m", headerKey, 10_000)),
			in{headers(whole, false, "x-user-id", "u"), body("{}")},
			out{toHeaders(common("v2", "key"), "u")}},
		{"no key, cookie", list(modelPlan("m", headerKey, 10_000)),
			in{headers(none, true, "cookie", "a=b; hg=c", "x-headgate-draw", "d")},
			out{toHeaders(common("v2", "cookie"), "c")}},
		{"no key, draw", list(modelPlan("m", headerKey, 10_000)),
			in{headers(none, true, "x-headgate-draw", "d")},
			out{toHeaders(common("v2", "draw"), "d")}},
		{"no key, nothing", list(modelPlan("m", headerKey, 10_000)),
			in{headers(none, true)},
			out{toHeaders(nil, "")}},
		{"a long key is logged as its hash", list(modelPlan("m", headerKey, 10_000)),
			in{headers(none, true, "x-user-id", long)},
			out{toHeaders(common("v2", "key"), "xxh64:b4c0ea84f9be5723")}},
		{"a key that is not UTF-8 too", list(modelPlan("m", headerKey, 10_000)),
			in{headers(none, true, "x-user-id", "\xff")},
			out{toHeaders(common("v2", "key"), "xxh64:95634172a60b7544")}},
		{"body key", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(whole, false), body(`{"id":"u"}`)},
			out{toHeaders(nil, ""), toBody(common("v2", "key"), "u")}},
		{"body key, not there", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(whole, false, "cookie", "hg=c"), body(`{}`)},
			out{toHeaders(nil, ""), toBody(common("v2", "cookie"), "c")}},
		{"body key, not JSON", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(whole, false, "cookie", "hg=c"), body(`{`)},
			out{toHeaders(nil, ""), toBody(nil, "")}},
		{"body key, no body", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(whole, true, "cookie", "hg=c")},
			out{toHeaders(common("v2", "cookie"), "c")}},
		{"body key, the body does not come", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(none, false, "cookie", "hg=c")},
			out{toHeaders(nil, "")}},
		{"body key, the body comes in parts", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(streamed, false, "cookie", "hg=c")},
			out{toHeaders(nil, "")}},
		{"body key, gzip", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(whole, false, "cookie", "hg=c", "content-encoding", "gzip")},
			out{toHeaders(nil, "")}},
		{"body key, gRPC", list(modelPlan("m", bodyKey, 10_000)),
			in{headers(whole, false, "content-type", "application/grpc")},
			out{toHeaders(nil, "")}},
		{"body without headers", list(modelPlan("m", bodyKey, 10_000)),
			in{body(`{"id":"u"}`)},
			out{toBody(nil, "")}},
		{"a header override before the body", list(modelPlan("m", bodyKey, 0, canary, acme)),
			in{headers(whole, false, "canary", "true")},
			out{toHeaders(common("v2", "override"), "")}},
		{"a header override behind one on the body", list(modelPlan("m", headerKey, 0, acme, canary)),
			in{headers(whole, false, "canary", "true"), body("{}")},
			out{toHeaders(nil, ""), toBody(common("v2", "override"), "")}},
		{"a body override", list(modelPlan("m", headerKey, 0, acme)),
			in{headers(whole, false, "x-user-id", "u"), body(`{"tenant":"acme"}`)},
			out{toHeaders(nil, ""), toBody(common("v2", "override"), "")}},
		{"a body override that nobody can read, and a key", list(modelPlan("m", headerKey, 0, acme)),
			in{headers(none, false, "x-user-id", "u")},
			out{toHeaders(common("v1", "key"), "u")}},
		{"no such model", list(modelPlan("n", headerKey, 0)),
			in{headers(none, true, "x-user-id", "u")},
			out{toHeaders(nil, "")}},
		{"no plan", nil,
			in{headers(none, true, "x-user-id", "u")},
			out{toHeaders(nil, "")}},
		{"messages that nobody asked for", list(modelPlan("m", headerKey, 0)),
			in{{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{}}}},
			out{{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newService(test.models...)
			for range 3 { // what one stream leaves behind must not show in the next
				got := run(t, s, "m", test.in...)
				if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// 10,000 users get what Decide says, by a header and by the body.
func TestUsersGetWhatDecideSays(t *testing.T) {
	byHeader, byBody := modelPlan("header", headerKey, 2500), modelPlan("body", bodyKey, 2500)
	s := newService(byBody, byHeader)
	version := func(c *extprocv3.CommonResponse) string {
		return string(c.GetHeaderMutation().GetSetHeaders()[0].GetHeader().GetRawValue())
	}
	for i := range 10_000 {
		user := fmt.Sprint("user", i)
		want := [2]string{
			byHeader.Split.Version(routing.Bucket(byHeader.Split.Salt, user)),
			byBody.Split.Version(routing.Bucket(byBody.Split.Salt, user)),
		}
		answer := run(t, s, "header", headers(none, false, "x-user-id", user))[0]
		got := [2]string{version(answer.GetRequestHeaders().GetResponse())}
		answer = run(t, s, "body", headers(whole, false), body(`{"id":"`+user+`"}`))[1]
		got[1] = version(answer.GetRequestBody().GetResponse())
		if got != want {
			t.Fatalf("%s: got %v, want %v", user, got, want)
		}
	}
}

func TestCounters(t *testing.T) {
	boom := routing.Override{Version: "v2", Condition: routing.Condition{
		Source: routing.SourceHeader, Name: "boom", Op: routing.OpRegex, // no expression: matching panics
	}}
	a := modelPlan("a", headerKey, 10_000, boom)
	s := newService(a, modelPlan("b", bodyKey, 0))
	run(t, s, "a", headers(none, true, "x-user-id", "u"))
	run(t, s, "a", headers(none, true, "x-user-id", "u"))
	run(t, s, "a", headers(none, true, "x-user-id", "u", "boom", "1"))
	run(t, s, "b", headers(whole, false), body("{"))
	run(t, s, "c", headers(none, true))
	run(t, s, "a", headers(none, true, "x-user-id", strings.Repeat("u", 60<<10)))
	// Counters go on when a weight moves, and a neighbour comes.
	s.Publish(&routing.Plan{Models: []*routing.ModelPlan{modelPlan("a", headerKey, 5000), modelPlan("b", bodyKey, 0)}})
	s.Publish(&routing.Plan{Models: []*routing.ModelPlan{a, modelPlan("b", bodyKey, 0), modelPlan("c", headerKey, 0)}})
	run(t, s, "a", headers(none, true, "x-user-id", "u"))
	want := Counters{
		Decisions: []DecisionCount{
			{"a", "v2", routing.ReasonKey, 3},
			{"b", "v1", routing.ReasonUndecided, 1},
		},
		Streams: 7, UnknownModel: 1, Unreadable: 1, Withheld: 1, Panics: 1,
	}
	if diff := cmp.Diff(want, s.Counters()); diff != "" {
		t.Error(diff)
	}
	if got := s.Counters().Undecided(); got != 4 {
		t.Errorf("%d undecided, want 4", got)
	}
}

// Plans come while streams decide. Run with -race.
func TestPublishWhileServing(t *testing.T) {
	s := newService()
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					run(t, s, "m7", headers(none, true, "x-user-id", "u"))
					s.Counters()
				}
			}
		})
	}
	for i := range 300 {
		var plans []*routing.ModelPlan
		for j := range 5 + i%3 {
			plans = append(plans, modelPlan(fmt.Sprintf("m%d", j+i%4), headerKey, routing.Share(i)))
		}
		s.Publish(&routing.Plan{Models: plans})
		runtime.Gosched()
	}
	close(stop)
	workers.Wait()
}

// The decision, from Envoy's message to the answer, allocates nothing.
func TestDecisionAllocatesNothing(t *testing.T) {
	s, exchanges := decisions()
	for name, x := range exchanges {
		if n := testing.AllocsPerRun(100, func() { decideAgain(s, x) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

// decideAgain handles the messages of a stream once more.
func decideAgain(s *Service, x *messages) {
	x.exchange.request.reset()
	for _, in := range x.in {
		x.exchange.in.Request, x.exchange.in.ProtocolConfig = in.Request, in.ProtocolConfig
		s.handle(x.exchange)
	}
}

type messages struct {
	exchange *exchange
	in       []*extprocv3.ProcessingRequest
}

func decisions() (*Service, map[string]*messages) {
	s := newService(modelPlan("body", bodyKey, 3000), modelPlan("header", headerKey, 3000),
		modelPlan("query", routing.Key{Source: routing.SourceQuery, Name: "u", Absent: routing.AbsentCurrent}, 3000))
	usual := []string{
		":authority", "churn.example", ":path", "/predict?a=b&u=user-1", ":method", "POST", "content-type", "application/json",
		"user-agent", "python-requests/2.32", "accept", "*/*", "x-request-id", "0b5e8f7e-1f0e-4a52-9e0b-6a7f9a3c1d2e",
		"cookie", "session=x; hg=3", "x-forwarded-proto", "http",
	}
	of := func(model string, in ...*extprocv3.ProcessingRequest) *messages {
		x := newExchange()
		x.model = s.models.model(model)
		return &messages{x, in}
	}
	return s, map[string]*messages{
		"header": of("header", headers(none, true, append(usual, "x-user-id", "user-1")...)),
		"cookie": of("header", headers(none, true, usual...)),
		"query":  of("query", headers(none, true, usual...)),
		"body":   of("body", headers(whole, false, usual...), body(`{"x":[1,2,3],"id":"user-1"}`)),
	}
}

// BenchmarkDecide is everything but the stream: from Envoy's message to the
// answer.
func BenchmarkDecide(b *testing.B) {
	s, exchanges := decisions()
	for name, x := range exchanges {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decideAgain(s, x)
			}
		})
	}
}

// BenchmarkPublish is a weight that moves, among others that do not.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			plans := make([]*routing.ModelPlan, n)
			for i := range plans {
				plans[i] = modelPlan(fmt.Sprintf("m%05d", i), headerKey, 100)
			}
			s := newService(plans...)
			moved := [2]*routing.ModelPlan{plans[0], modelPlan("m00000", headerKey, 200)}
			next := append([]*routing.ModelPlan(nil), plans...)
			for i := 0; b.Loop(); i++ {
				next, plans = plans, next
				next[0] = moved[i%2]
				s.Publish(&routing.Plan{Models: next})
			}
		})
	}
}
