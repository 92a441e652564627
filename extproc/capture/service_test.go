package capture_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/compare/pair"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc/capture"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// envoyOf is a client that sends what an Envoy could.
func envoyOf(t testing.TB, addr string) extprocv3.ExternalProcessorClient {
	t.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return extprocv3.NewExternalProcessorClient(c)
}

// sides are what routes say of the two sides, with bodies of at most 64 KiB.
func sides(side string, change ...string) metadata.MD {
	md := metadata.Pairs(routing.HeaderModel, "churn", routing.HeaderSide, side, routing.HeaderMaxBody, "65536")
	if side == xds.SideCopy {
		md.Set(routing.HeaderVersion, "v2")
	} else {
		md.Set(routing.HeaderCopies, "1")
	}
	for i := 0; i < len(change); i += 2 {
		md.Set(change[i], change[i+1])
	}
	return md
}

func headers(pairs ...string) *extprocv3.HttpHeaders {
	h := &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{}}
	for i := 0; i < len(pairs); i += 2 {
		h.Headers.Headers = append(h.Headers.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return h
}

func asked(key string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: headers(routing.HeaderDraw, key, routing.HeaderPair, key, "x-request-id", key),
	}}
}

func askedBody(b []byte) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: b}}}
}

func answered(cluster string) *extprocv3.ProcessingRequest {
	fields := map[string]*structpb.Value{xds.AttributeDetails: structpb.NewStringValue(xds.DetailsUpstream)}
	if cluster != "" {
		fields[xds.AttributeCluster] = structpb.NewStringValue(cluster)
	}
	return &extprocv3.ProcessingRequest{
		Request:    &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: headers(":status", "200")},
		Attributes: map[string]*structpb.Struct{"envoy.filters.http.ext_proc": {Fields: fields}},
	}
}

func answeredBody(b []byte, end bool) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: b, EndOfStream: end},
	}}
}

// play sends messages, leaves the stream at that or waits for its end.
func play(t testing.TB, e extprocv3.ExternalProcessorClient, md metadata.MD, leave bool, messages ...*extprocv3.ProcessingRequest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), 20*time.Second)
	t.Cleanup(cancel)
	s, err := e.Process(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := s.Send(m); err != nil && !errors.Is(err, io.EOF) { // the service may have ended it
			t.Fatal(err)
		}
	}
	if leave {
		cancel()
		return
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

// Streams that tell too little, or things in no order, are ended at once and
// counted.
func TestNonsense(t *testing.T) {
	primary, copied := sides(xds.SidePrimary), sides(xds.SideCopy)
	for name, tt := range map[string]struct {
		route    metadata.MD
		messages []*extprocv3.ProcessingRequest
	}{
		"another side":         {sides("third"), nil},
		"no model":             {sides(xds.SidePrimary, routing.HeaderModel, ""), nil},
		"no limit":             {sides(xds.SidePrimary, routing.HeaderMaxBody, ""), nil},
		"a negative limit":     {sides(xds.SidePrimary, routing.HeaderMaxBody, "-1"), nil},
		"no copies":            {sides(xds.SidePrimary, routing.HeaderCopies, "x"), nil},
		"a copy to nobody":     {sides(xds.SideCopy, routing.HeaderVersion, ""), nil},
		"no id":                {primary, []*extprocv3.ProcessingRequest{asked("")}},
		"a copy without id":    {copied, []*extprocv3.ProcessingRequest{asked("")}},
		"a body first":         {primary, []*extprocv3.ProcessingRequest{askedBody([]byte("x"))}},
		"an answer first":      {primary, []*extprocv3.ProcessingRequest{answered("churn/v1")}},
		"an answer's body":     {primary, []*extprocv3.ProcessingRequest{asked("k"), answeredBody([]byte("x"), true)}},
		"headers twice":        {primary, []*extprocv3.ProcessingRequest{asked("k"), asked("k")}},
		"two answers":          {copied, []*extprocv3.ProcessingRequest{asked("k"), answered(""), answered("")}},
		"no version":           {primary, []*extprocv3.ProcessingRequest{asked("k"), answered("")}},
		"another model's":      {primary, []*extprocv3.ProcessingRequest{asked("k"), answered("fraud/v1")}},
		"a version of nothing": {primary, []*extprocv3.ProcessingRequest{asked("k"), answered("churn")}},
	} {
		t.Run(name, func(t *testing.T) {
			sink := &kept{}
			service, addr := captured(t, capture.Options{Sink: sink, Join: pair.Options{Grace: time.Millisecond, Wait: time.Millisecond}})
			play(t, envoyOf(t, addr), tt.route, false, tt.messages...)
			settled(t, service)
			if c := service.Counters(); c.Undecodable != 1 || c.Exchanges != 0 || len(sink.exchanges) != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// A request whose client went away is neither an exchange nor a pair.
func TestAborted(t *testing.T) {
	sink := &kept{}
	service, addr := captured(t, capture.Options{Sink: sink})
	e := envoyOf(t, addr)
	play(t, e, sides(xds.SideCopy), false, asked("k"), answered(""), answeredBody([]byte("b"), true))
	play(t, e, sides(xds.SidePrimary), true, asked("k"), answered("churn/v1"), answeredBody([]byte("b"), false))
	settled(t, service)
	if c := service.Counters(); c.Aborted != 1 || c.Exchanges != 0 || c.Join.Pairs != 0 || c.Join.Orphan != 1 || len(sink.pairs) != 0 {
		t.Errorf("%+v", c)
	}
}

// stuck is a Sink that does not come back until it is let go.
type stuck struct{ end chan struct{} }

func (s stuck) Exchange(*pair.Exchange) { <-s.end }
func (s stuck) Pair(*pair.Pair)         { <-s.end }

// Whatever Envoys send, and however slow the sink is, no more is held than the
// options allow, and all of it is given back.
func TestMemoryIsBounded(t *testing.T) {
	const memory, join = 1 << 20, 512 << 10
	end := make(chan struct{})
	service, addr := captured(t, capture.Options{
		Sink: stuck{end}, Memory: memory, Queue: 8, Streams: 40,
		Join: pair.Options{Bytes: join, Grace: 50 * time.Millisecond, Wait: 50 * time.Millisecond},
	})
	body := []byte(strings.Repeat("x", 40<<10))
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c := service.Counters(); c.Memory > memory || c.Join.Bytes > join || c.Active > 41 {
				t.Errorf("held: %+v", c)
				return
			}
		}
	})
	var envoys sync.WaitGroup
	for i := range 60 {
		envoys.Go(func() {
			e := envoyOf(t, addr)
			for n := range 10 {
				key := string(rune('a'+i)) + string(rune('a'+n))
				play(t, e, sides(xds.SidePrimary), n%3 == 0, asked(key), askedBody(body), askedBody(body), askedBody(body), answered("churn/v1"), answeredBody(body, false), answeredBody(body, true))
				play(t, e, sides(xds.SideCopy), n%4 == 0, asked(key), answered(""), answeredBody(body, false), answeredBody(body, true))
			}
		})
	}
	envoys.Wait()
	close(stop)
	watch.Wait()
	close(end)
	settled(t, service)
	if c := service.Counters(); c.Dropped == 0 || c.Truncated == 0 || c.Exchanges == 0 {
		t.Errorf("%+v: nothing was too much", c)
	}
}

// Only as many streams are open as may be; more are ended at once.
func TestStreamsAreBounded(t *testing.T) {
	service, addr := captured(t, capture.Options{Sink: &kept{}, Streams: 2})
	e := envoyOf(t, addr)
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), sides(xds.SideCopy)))
	defer cancel()
	for range 2 {
		if s, err := e.Process(ctx); err != nil || s.Send(asked("k")) != nil {
			t.Fatal(err)
		}
	}
	envoytest.Eventually(t, 10*time.Second, "two streams", func() bool { return service.Counters().Active == 2 })
	play(t, e, sides(xds.SideCopy), false, asked("k"))
	if c := service.Counters(); c.Dropped != 1 || c.Streams != 3 {
		t.Errorf("%+v", c)
	}
}
