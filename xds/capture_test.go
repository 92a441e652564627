package xds_test

import (
	"testing"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// A share that moves is a runtime value; what is kept, and what copies carry,
// stands in routes and listeners.
func TestCaptureSharesLeaveTheRest(t *testing.T) {
	plan := func(c routing.Capture, credentials bool) *routing.Plan {
		p := mirrored(goldenModel("churn", func(m *routing.Model) { m.Repeatable = true }), "v1.0.0")
		p.Capture, p.Mirrors[0].Credentials = &c, credentials
		return planOf(p)
	}
	first := plan(routing.Capture{Share: 500}, false)
	for _, tt := range []struct {
		name             string
		next             func() *routing.Plan
		routes, internal bool // change
	}{
		{"another share", func() *routing.Plan { return plan(routing.Capture{Share: 1}, false) }, false, false},
		{"another limit", func() *routing.Plan { return plan(routing.Capture{Share: 500, MaxBody: 1}, false) }, true, true},
		{"credentials", func() *routing.Plan { return plan(routing.Capture{Share: 500}, true) }, true, false},
		{"nothing captured", func() *routing.Plan {
			p := plan(routing.Capture{}, false)
			p.Models[0].Capture = nil
			return p
		}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := xds.NewBuilder(xds.Options{})
			same := *first.Models[0].Model
			before := first
			before.Models[0].Model = &same
			old := snapshot(t, b, before).Models[0]
			after := tt.next()
			after.Models[0].Model = &same
			got := snapshot(t, b, after).Models[0]
			if routes := got.RouteVersion != old.RouteVersion; routes != tt.routes {
				t.Errorf("routes changed: %t", routes)
			}
			if internal := got.Internal[0].Version != old.Internal[0].Version; internal != tt.internal {
				t.Errorf("the listener for copies changed: %t", internal)
			}
			fresh := snapshot(t, xds.NewBuilder(xds.Options{}), after).Models[0]
			if fresh.RouteVersion != got.RouteVersion || len(fresh.Weights) != len(got.Weights) {
				t.Error("a builder that remembers nothing makes something else")
			}
			if want := captureShare(after.Models[0]); got.Weights["headgate-capture.churn"] != want {
				t.Errorf("share %d, want %d", got.Weights["headgate-capture.churn"], want)
			}
		})
	}
}

func captureShare(p *routing.ModelPlan) uint32 {
	if p.Capture == nil {
		return 0
	}
	return uint32(p.Capture.Share)
}

func TestCaptureIsChecked(t *testing.T) {
	p := goldenModel("churn", func(*routing.Model) {})
	p.Capture = &routing.Capture{Share: routing.Whole + 1}
	if _, err := xds.NewBuilder(xds.Options{}).Build(planOf(p)); err == nil {
		t.Error("more than all requests cannot be captured")
	}
}
