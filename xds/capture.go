package xds

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/headgate/headgate/routing"
)

// Requests and answers are captured by an ext_proc filter in observability mode
// in both listeners, the user's and the one that takes the copies: it sends what
// it sees and waits for nothing. It must not stand among the filters of a
// cluster, where bodies of some megabytes end Envoy.

// What the capture service gets to know besides headers and bodies, as values of
// CEL expressions. They are evaluated with the headers of the answer: by then the
// route has added its own to those of the request.
const (
	AttributeCluster = "xds.cluster_name"                             // of the version
	AttributeRoute   = "xds.route_name"                               // see [ParseRouteName]
	AttributeDetails = "response.code_details"                        // see [DetailsUpstream]
	AttributeStart   = "request.time"                                 // the first byte of the request
	AttributeKey     = "request.headers['" + routing.HeaderKey + "']" // see [LoggedKey]
)

// DetailsUpstream are the details of an answer that the version gave. Others are
// Envoy's.
const DetailsUpstream = "via_upstream"

// The sides of a pair, as [routing.HeaderSide] tells them.
const (
	SidePrimary = "primary" // a user's request
	SideCopy    = "copy"
)

// captureKeys begin the runtime keys of the shares that are captured.
const captureKeys = "headgate-capture."

func captureKey(model string) string { return captureKeys + model }

// captureFilter sends nothing until a route says what, see captureOnRoute.
func captureFilter() *extprocv3.ExternalProcessor {
	return &extprocv3.ExternalProcessor{
		StatPrefix:  "capture",
		GrpcService: grpcService(ClusterCapture),
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode:   extprocv3.ProcessingMode_SKIP,
			ResponseHeaderMode:  extprocv3.ProcessingMode_SKIP,
			RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
			ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
		},
		FailureModeAllow:     true,
		ObservabilityMode:    true,
		DeferredCloseTimeout: durationpb.New(time.Second),
		ResponseAttributes:   []string{AttributeCluster, AttributeRoute, AttributeDetails, AttributeStart, AttributeKey},
		// Users' credentials never get there.
		ForwardRules: &extprocv3.HeaderForwardingRules{AllowedHeaders: &matcherv3.ListStringMatcher{Patterns: captureHeaders}},
		MetadataOptions: &extprocv3.MetadataOptions{
			ForwardingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{Untyped: []string{routing.MetadataNamespace}},
		},
	}
}

// captureHeaders are all that the capture service sees.
var captureHeaders = func() (patterns []*matcherv3.StringMatcher) {
	for _, name := range []string{
		routing.HeaderDraw, routing.HeaderPair, routing.HeaderKey,
		"x-request-id", ":method", ":status", "content-type", "content-encoding",
	} {
		patterns = append(patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}})
	}
	return patterns
}()

// captureOnRoute says whose answer is captured, and how much is kept of it. The
// body of a copy is that of the user's request, which is captured there.
func captureOnRoute(p *routing.ModelPlan, side string, more ...*corev3.HeaderValue) *anypb.Any {
	mode := &extprocv3.ProcessingMode{
		RequestHeaderMode:   extprocv3.ProcessingMode_SEND,
		ResponseHeaderMode:  extprocv3.ProcessingMode_SEND,
		ResponseBodyMode:    extprocv3.ProcessingMode_STREAMED,
		RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
		ResponseTrailerMode: extprocv3.ProcessingMode_SEND, // else nothing tells the end of a body with trailers
	}
	if side == SidePrimary {
		mode.RequestBodyMode = extprocv3.ProcessingMode_STREAMED
	}
	most := cmp.Or(p.Capture.MaxBody, 1<<20)
	return config(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
		Overrides: &extprocv3.ExtProcOverrides{
			ProcessingMode: mode,
			GrpcInitialMetadata: append([]*corev3.HeaderValue{
				{Key: routing.HeaderModel, Value: p.Model.Name},
				{Key: routing.HeaderSide, Value: side},
				{Key: routing.HeaderMaxBody, Value: strconv.FormatUint(uint64(most), 10)},
			}, more...),
		},
	}})
}

// captured are the routes, to be tried before all others, for the share of the
// requests that is captured: copied, which make copies too, and those of the
// requests that are served as r does and of which no copies are made. What has a
// long body, or one of unknown length, is not captured.
func (c *routeCompiler) captured(r *routev3.Route, copied []*routev3.Route) []*routev3.Route {
	if c.plan.Capture == nil {
		return nil
	}
	var routes []*routev3.Route
	for _, twin := range copied {
		routes = append(routes, proto.CloneOf(twin))
	}
	if len(copied) == 0 || !c.plan.Model.Repeatable {
		for _, conditions := range c.bounded(true) {
			twin := proto.CloneOf(r)
			twin.Match.Headers = append(twin.Match.Headers, conditions...)
			routes = append(routes, twin)
		}
	}
	for _, twin := range routes {
		twin.Match.RuntimeFraction = shareOf(captureKey(c.plan.Model.Name))
		// The draw is removed after the route's own headers are added, and copies
		// are made after that.
		twin.RequestHeadersToAdd = append(twin.RequestHeadersToAdd, set(routing.HeaderPair, "%REQ("+routing.HeaderDraw+")%"))
		copies := strconv.Itoa(len(twin.GetRoute().GetRequestMirrorPolicies()))
		enable(twin, filterCapture, captureOnRoute(c.plan, SidePrimary, &corev3.HeaderValue{Key: routing.HeaderCopies, Value: copies}))
	}
	return routes
}

// shareOf is a share that runtime tells; nothing by default.
func shareOf(key string) *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{
		DefaultValue: &typev3.FractionalPercent{Denominator: typev3.FractionalPercent_TEN_THOUSAND},
		RuntimeKey:   key,
	}
}

// mirrorRoutes are those of an internal listener: a copy is captured when the
// user's request is, which marks it.
func mirrorRoutes(p *routing.ModelPlan, v *routing.Version, o Options) []*routev3.Route {
	plain := mirrorRoute(p.Model, v, o)
	if p.Capture == nil {
		return []*routev3.Route{plain}
	}
	plain.RequestHeadersToRemove = append(plain.RequestHeadersToRemove, routing.HeaderPair)
	marked := proto.CloneOf(plain)
	marked.Match.Headers = []*routev3.HeaderMatcher{{
		Name:                 routing.HeaderPair,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	}}
	enable(marked, filterCapture, captureOnRoute(p, SideCopy, &corev3.HeaderValue{Key: routing.HeaderVersion, Value: v.Name}))
	return []*routev3.Route{marked, plain}
}

// ReasonOf returns how a version was chosen, by the name of the route and the
// reason in the request's metadata, which the ext_proc service tells. It is empty
// when neither tells.
func ReasonOf(route, told string) routing.Reason {
	_, why, _ := ParseRouteName(route)
	why = strings.TrimPrefix(why, routeCopied+"/")
	if why == routeDecided {
		return routing.Reason(told)
	}
	why, _, _ = strings.Cut(strings.TrimPrefix(why, routeUndecided+"/"), "/")
	return routing.Reason(why)
}
