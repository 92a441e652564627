package extproc

import (
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/routing"
)

// exchange is what one stream works with. It is used again for later streams.
type exchange struct {
	in      extprocv3.ProcessingRequest
	model   *model // nil: the route named none that is in the plan
	request request
	out     *answer
}

func newExchange() *exchange { return &exchange{out: newAnswer()} }

func (x *exchange) reset() {
	x.in.Reset()
	x.model = nil
	x.request.reset()
	x.out.reset()
}

// decide asks routing.Decide. The answer counts unless the request wants its
// body first. A key in a body that cannot be read is unknown and not absent,
// so what is said of requests without a key does not apply.
func (x *exchange) decide() routing.Decision {
	x.request.paths = x.model.paths
	d := routing.Decide(x.model.plan, &x.request)
	if !x.request.illegible() || x.model.plan.Model.Key.Source != routing.SourceBody {
		return d
	}
	switch d.Reason {
	case routing.ReasonCookie, routing.ReasonDraw, routing.ReasonCurrent:
		return routing.Decision{
			Version: x.model.plan.Split.Heaviest(), Reason: routing.ReasonUndecided, Bucket: -1,
		}
	}
	return d
}
