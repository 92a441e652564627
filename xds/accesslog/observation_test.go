package accesslog

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

var began = time.Date(2026, 3, 29, 1, 59, 59, 0, time.UTC)

// entry is a request that was answered with 200 after 30 ms.
func entry() *accesslogv3.HTTPAccessLogEntry {
	return &accesslogv3.HTTPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			UpstreamCluster:          "churn/v2",
			RouteName:                "churn/key",
			StartTime:                timestamppb.New(began),
			TimeToLastUpstreamTxByte: durationpb.New(12 * time.Millisecond),
			TimeToLastUpstreamRxByte: durationpb.New(42 * time.Millisecond),
			AccessLogType:            accesslogv3.AccessLogType_DownstreamEnd,
		},
		Request:  &accesslogv3.HTTPRequestProperties{RequestId: "r-1"},
		Response: &accesslogv3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(200)},
	}
}

func seen() compare.Observation {
	return compare.Observation{
		Node: "one", Model: "churn", Version: "v2", RequestID: "r-1", Start: began,
		Code: 200, GRPC: -1, Class: compare.ClassSuccess, Duration: 30 * time.Millisecond,
		Drawn: true,
	}
}

func TestObservation(t *testing.T) {
	h := NewHasher([]byte("secret"))
	type edit = func(*accesslogv3.HTTPAccessLogEntry)
	type expect = func(*compare.Observation)
	code := func(n uint32) edit {
		return func(e *accesslogv3.HTTPAccessLogEntry) { e.Response.ResponseCode = wrapperspb.UInt32(n) }
	}
	flags := func(f *accesslogv3.ResponseFlags) edit {
		return func(e *accesslogv3.HTTPAccessLogEntry) { e.CommonProperties.ResponseFlags = f }
	}
	is := func(c compare.Class, status int, d time.Duration) expect {
		return func(o *compare.Observation) { o.Class, o.Code, o.Duration = c, status, d }
	}
	const none = time.Duration(-1)
	for _, tt := range []struct {
		name string
		edit []edit
		want expect // nil: no observation
		why  drop
	}{
		{name: "answered", want: func(*compare.Observation) {}},
		{name: "its own error", edit: []edit{code(500)}, want: is(compare.ClassError, 500, 30*time.Millisecond)},
		{name: "its refusal", edit: []edit{code(422)}, want: is(compare.ClassClientError, 422, 30*time.Millisecond)},
		{
			name: "no endpoint",
			edit: []edit{code(503), flags(&accesslogv3.ResponseFlags{NoHealthyUpstream: true}), func(e *accesslogv3.HTTPAccessLogEntry) {
				e.CommonProperties.TimeToLastUpstreamRxByte = nil
			}},
			want: is(compare.ClassError, 503, none),
		},
		{
			name: "timeout", edit: []edit{code(504), flags(&accesslogv3.ResponseFlags{UpstreamRequestTimeout: true})},
			want: is(compare.ClassError, 504, none),
		},
		{
			name: "broke off in mid-answer", edit: []edit{flags(&accesslogv3.ResponseFlags{UpstreamConnectionTermination: true})},
			want: is(compare.ClassError, 200, none),
		},
		{
			name: "client gone in mid-upload", edit: []edit{code(0), flags(&accesslogv3.ResponseFlags{DownstreamConnectionTermination: true})},
			want: is(compare.ClassAborted, 0, none),
		},
		{
			name: "client gone in mid-answer", edit: []edit{flags(&accesslogv3.ResponseFlags{DownstreamRemoteReset: true})},
			want: is(compare.ClassAborted, 200, none),
		},
		{
			name: "nothing moved any more", edit: []edit{flags(&accesslogv3.ResponseFlags{StreamIdleTimeout: true})},
			want: is(compare.ClassAborted, 200, none),
		},
		{
			name: "client gone after the version failed", edit: []edit{code(500), flags(&accesslogv3.ResponseFlags{DownstreamConnectionTermination: true})},
			want: is(compare.ClassError, 500, 30*time.Millisecond),
		},
		{
			name: "key",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.CommonProperties.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
					routing.MetadataNamespace: {Fields: map[string]*structpb.Value{routing.MetadataKey: structpb.NewStringValue("alice")}},
				}}
			}},
			want: func(o *compare.Observation) { o.User, o.HasUser = h.User("alice"), true },
		},
		{
			name: "gRPC failure in the trailer",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.Response.ResponseTrailers = map[string]string{"grpc-status": "13"}
			}},
			want: func(o *compare.Observation) { o.GRPC, o.Class = 13, compare.ClassError },
		},
		{
			name: "gRPC refusal in the header",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.Response.ResponseHeaders = map[string]string{"grpc-status": "3"}
			}},
			want: func(o *compare.Observation) { o.GRPC, o.Class = 3, compare.ClassClientError },
		},
		{
			name: "gRPC fine",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.Response.ResponseTrailers = map[string]string{"grpc-status": "0"}
			}},
			want: func(o *compare.Observation) { o.GRPC = 0 },
		},
		{
			name: "cluster not chosen",
			edit: []edit{code(503), func(e *accesslogv3.HTTPAccessLogEntry) {
				e.CommonProperties.UpstreamCluster = ""
				e.CommonProperties.TimeToLastUpstreamRxByte = nil
				e.Request.RequestHeaders = map[string]string{routing.HeaderVersion: "v1"}
			}},
			want: func(o *compare.Observation) {
				o.Version, o.Code, o.Class, o.Duration = "v1", 503, compare.ClassError, none
			},
		},
		{
			name: "answered before the request ended",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.CommonProperties.TimeToLastUpstreamTxByte = durationpb.New(time.Second)
			}},
			want: func(o *compare.Observation) { o.Duration = none }, why: badDuration,
		},
		{
			name: "negative duration",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.CommonProperties.TimeToLastUpstreamTxByte = durationpb.New(-time.Second)
			}},
			want: func(o *compare.Observation) { o.Duration = none }, why: badDuration,
		},
		{
			name: "invalid duration",
			edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
				e.CommonProperties.TimeToLastUpstreamRxByte = &durationpb.Duration{Seconds: 1 << 60}
			}},
			want: func(o *compare.Observation) { o.Duration = none }, why: badDuration,
		},
		{name: "no start", edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) { e.CommonProperties.StartTime = nil }}, why: dropNoTime},
		{name: "no route", edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
			e.CommonProperties.UpstreamCluster, e.CommonProperties.RouteName = "", ""
		}}, why: dropForeign},
		{name: "one attempt of several", edit: []edit{func(e *accesslogv3.HTTPAccessLogEntry) {
			e.CommonProperties.AccessLogType = accesslogv3.AccessLogType_UpstreamEnd
		}}, why: dropPartial},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := entry()
			for _, change := range tt.edit {
				change(e)
			}
			got, why := observation(e, "one", h)
			if why != tt.why {
				t.Errorf("dropped for %q, want %q", why, tt.why)
			}
			var want compare.Observation
			if tt.want != nil {
				want = seen()
				tt.want(&want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("observation (-want +got):\n%s", diff)
			}
		})
	}
	if got, why := observation(nil, "one", h); why != dropForeign {
		t.Errorf("an empty entry: %q, %+v", why, got)
	}
}

// What the name of the route, and what the service said beside it, tell.
func TestHowItWasChosen(t *testing.T) {
	h := NewHasher([]byte("secret"))
	type result struct{ Drawn, Mirrored, Copied bool }
	for _, tt := range []struct {
		route, reason string
		want          result
	}{
		{"churn/key", "", result{Drawn: true}},
		{"churn/cookie", "", result{Drawn: true}},
		{"churn/draw", "", result{Drawn: true}},
		{"churn/only", "", result{}},
		{"churn/current", "", result{}},
		{"churn/override/0", "", result{}},
		{"churn/undecided", "", result{}},
		{"churn/undecided/undecided", "", result{}},
		{"churn/undecided/override/1", "", result{}},
		{"churn/undecided/only", "", result{}},
		{"churn/undecided/key", "", result{Drawn: true}}, // by Envoy itself
		{"churn/decided", "key", result{Drawn: true}},
		{"churn/decided", "cookie", result{Drawn: true}},
		{"churn/decided", "draw", result{Drawn: true}},
		{"churn/decided", "override", result{}},
		{"churn/decided", "current", result{}},
		{"churn/decided", "", result{}},
		{"churn/key", "override", result{Drawn: true}}, // the service's answer was not followed
		{"churn/copied/key", "", result{Drawn: true, Copied: true}},
		{"churn/copied/only", "", result{Copied: true}},
		{"churn/copied/decided", "draw", result{Drawn: true, Copied: true}},
		{"churn/copied/undecided/key", "", result{Drawn: true, Copied: true}},
		{"churn/copied/undecided/undecided", "", result{Copied: true}},
		{"churn/mirror", "", result{Mirrored: true}},
		{"mirror/key", "", result{Drawn: true}},
	} {
		e := entry()
		e.CommonProperties.RouteName = tt.route
		e.CommonProperties.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			routing.MetadataNamespace: {Fields: map[string]*structpb.Value{routing.MetadataReason: structpb.NewStringValue(tt.reason)}},
		}}
		o, _ := observation(e, "one", h)
		if got := (result{o.Drawn, o.Mirrored, o.Copied}); got != tt.want {
			t.Errorf("%s %q: %+v, want %+v", tt.route, tt.reason, got, tt.want)
		}
	}
	e := entry()
	e.CommonProperties.RouteName = "churn/mirror"
	e.CommonProperties.ResponseFlags = &accesslogv3.ResponseFlags{UpstreamOverflow: true}
	e.Response.ResponseCode = wrapperspb.UInt32(503)
	if o, _ := observation(e, "one", h); o.Class != compare.ClassAborted || o.Duration != -1 {
		t.Errorf("a copy that was dropped: %+v", o)
	}
	e.CommonProperties.RouteName = "churn/key"
	if o, _ := observation(e, "one", h); o.Class != compare.ClassError {
		t.Errorf("a user's request that was refused: %+v", o)
	}
}

// The numbers are stored: they must never change. This one is what openssl
// says: printf alice | openssl dgst -sha256 -hmac secret
func TestHasherIsStable(t *testing.T) {
	if got, want := NewHasher([]byte("secret")).User("alice"), uint64(0x4360c67bc8102511); got != want {
		t.Errorf("User(alice) = %#x, want %#x", got, want)
	}
	if NewHasher([]byte("secret")).User("alice") == NewHasher([]byte("other")).User("alice") {
		t.Error("the secret does not matter")
	}
}

func BenchmarkObservation(b *testing.B) {
	h, e := NewHasher([]byte("secret")), entry()
	e.CommonProperties.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		routing.MetadataNamespace: {Fields: map[string]*structpb.Value{routing.MetadataKey: structpb.NewStringValue("alice")}},
	}}
	b.ReportAllocs()
	for b.Loop() {
		observation(e, "one", h)
	}
}
