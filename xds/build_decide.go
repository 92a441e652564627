package xds

import (
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/headgate/headgate/routing"
)

// asks tells whether there is anything to decide that the ext_proc service is
// needed for. While one version serves everyone, only overrides are.
func (c *routeCompiler) asks() bool {
	m := c.plan.Model
	needed, _ := m.NeedsExtProc()
	if !needed || len(c.plan.Split.Ranges) > 1 {
		return needed
	}
	if m.Decide == routing.DecideExtProc {
		return len(m.Overrides) > 0
	}
	for i := range m.Overrides {
		if m.Overrides[i].Condition.Source == routing.SourceBody {
			return true
		}
	}
	return false
}

// decided adds the routes that a request takes once the service has decided:
// it then looks for a route a second time, and its first match was another.
func (c *routeCompiler) decided() {
	for _, v := range c.plan.Uses() {
		decision := exactly(routing.HeaderDecision, v.Name)
		if (len(c.plan.Mirrors) > 0 || c.plan.Capture != nil) && len(c.plan.Model.Overrides) > 0 {
			pinned := exactly(routing.HeaderReason, string(routing.ReasonOverride))
			c.out = append(c.out, c.named(c.toVersion(routeDecided, v.Name, decision, pinned)))
		}
		if c.plan.Model.Key.Absent == routing.AbsentCookie && len(c.plan.Split.Ranges) > 1 {
			drawn := exactly(routing.HeaderReason, string(routing.ReasonDraw))
			r := c.toVersion(routeDecided, v.Name, decision, drawn)
			r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, c.setCookie(drawnByService))
			c.add(r, false)
		}
		c.add(c.toVersion(routeDecided, v.Name, decision), false)
	}
}

func exactly(header, value string) *routev3.HeaderMatcher {
	return matchString(header, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}})
}

// decideFilter asks headgate which version a request gets. It fails open: what
// is not decided in time takes the route that it is on.
// maxAnswer is the longest answer of the ext_proc service, in bytes. With a
// longer one the request goes on undecided. Were it taken, and the headers in
// it too many or too long, the client would get 500 in spite of
// failure_mode_allow.
const maxAnswer = 16 << 10

func decideFilter(o Options) *extprocv3.ExternalProcessor {
	service := grpcService(ClusterExtProc)
	service.GetEnvoyGrpc().MaxReceiveMessageLength = wrapperspb.UInt32(maxAnswer)
	return &extprocv3.ExternalProcessor{
		StatPrefix:       "decide",
		GrpcService:      service,
		ProcessingMode:   decideMode(false),
		FailureModeAllow: true,
		MessageTimeout:   durationpb.New(o.DecideTimeout),
		MutationRules: &mutationv3.HeaderMutationRules{
			DisallowAll:     yes(),
			AllowExpression: &matcherv3.RegexMatcher{Regex: routing.HeaderPrefix + ".*"},
		},
		DisableImmediateResponse: true,
		MetadataOptions: &extprocv3.MetadataOptions{
			ReceivingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{
				Untyped: []string{routing.MetadataNamespace},
			},
		},
	}
}

func decideMode(body bool) *extprocv3.ProcessingMode {
	m := &extprocv3.ProcessingMode{
		RequestHeaderMode:   extprocv3.ProcessingMode_SEND,
		ResponseHeaderMode:  extprocv3.ProcessingMode_SKIP,
		RequestTrailerMode:  extprocv3.ProcessingMode_SKIP,
		ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
	}
	if body {
		// Whole: a decision needs all of it, and BUFFERED_PARTIAL hangs.
		m.RequestBodyMode = extprocv3.ProcessingMode_BUFFERED
	}
	return m
}

// decideOnRoute tells the service which model the request is for.
func decideOnRoute(model string, body bool) *anypb.Any {
	return config(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
		Overrides: &extprocv3.ExtProcOverrides{
			ProcessingMode:      decideMode(body),
			GrpcInitialMetadata: []*corev3.HeaderValue{{Key: routing.HeaderModel, Value: model}},
		},
	}})
}
