package xds

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/headgate/headgate/routing"
)

// How the times of a model become Envoy's. None counts to the end of an
// answer.
func TestTimeouts(t *testing.T) {
	retries := func(per time.Duration) *routev3.RetryPolicy {
		p := tries(&routing.Model{Retry: routing.Retry{Attempts: 2, On: []string{"5xx"}}})
		if p.GetRetryOn() != "5xx" || p.GetNumRetries().GetValue() != 2 {
			t.Errorf("retries: %v", p)
		}
		p.PerTryTimeout = durationpb.New(per)
		return p
	}
	once := func(per time.Duration) *routev3.RetryPolicy {
		return &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(0), PerTryTimeout: durationpb.New(per)}
	}
	for name, tt := range map[string]struct {
		model routing.Model
		want  *routev3.RouteAction
	}{
		"none":    {routing.Model{}, &routev3.RouteAction{}},
		"one try": {routing.Model{Timeout: time.Minute}, &routev3.RouteAction{RetryPolicy: once(time.Minute)}},
		"several tries": {
			routing.Model{Timeout: time.Minute, Retry: routing.Retry{Attempts: 2, On: []string{"5xx"}}},
			&routev3.RouteAction{RetryPolicy: retries(time.Minute)},
		},
		"shorter tries": {
			routing.Model{Timeout: time.Minute, Retry: routing.Retry{Attempts: 2, On: []string{"5xx"}, PerTry: time.Second}},
			&routev3.RouteAction{RetryPolicy: retries(time.Second)},
		},
		"longer than the listener waits": {
			routing.Model{Timeout: time.Hour},
			&routev3.RouteAction{RetryPolicy: once(time.Hour), IdleTimeout: durationpb.New(61 * time.Minute)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := routeCompiler{plan: &routing.ModelPlan{Model: &tt.model}, options: Options{}.withDefaults(), base: &routev3.RouteMatch{}}
			_, got := c.route("x")
			tt.want.Timeout = durationpb.New(0)
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
