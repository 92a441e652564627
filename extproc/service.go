package extproc

import (
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/routing"
)

// Service is the ext_proc server. Its methods may be called at any time, from
// any goroutine.
type Service struct {
	extprocv3.UnimplementedExternalProcessorServer
	log    *slog.Logger
	health *health.Server
	models index
	totals totals
	pool   sync.Pool // of *exchange

	captures extprocv3.ExternalProcessorServer
}

// New returns a service that has no plan yet: it leaves every request
// undecided.
func New(log *slog.Logger) *Service {
	s := &Service{log: log, health: health.NewServer()}
	s.pool.New = func() any { return newExchange() }
	return s
}

// Register makes g serve the service, and the gRPC health service by which
// Envoy finds out that the process is frozen, unless g has one already.
func (s *Service) Register(g *grpc.Server) {
	extprocv3.RegisterExternalProcessorServer(g, s)
	if _, has := g.GetServiceInfo()[healthv1.Health_ServiceDesc.ServiceName]; !has {
		healthv1.RegisterHealthServer(g, s.health)
	}
}

// PassCaptures makes c serve the streams of routes that capture: a gRPC server
// has but one ext_proc service. It is called before Register.
func (s *Service) PassCaptures(c extprocv3.ExternalProcessorServer) { s.captures = c }

// ServerOptions returns the options with which a gRPC server answers streams
// of one short message at the least cost.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		// A stream that begins takes a goroutine whose stack has grown already.
		// More streams than workers get goroutines of their own.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxRecvMsgSize(maxMessage),
		// What is captured is megabytes and must be here within a second of its
		// end. Windows that adapt begin with 64 KiB and have no bound of ours.
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
	}
}

// How much an Envoy may send, in bytes, before it is read.
const (
	streamWindow     = 256 << 10
	connectionWindow = 8 << 20
)

const streamWorkers = 64

// maxMessage is the largest message in bytes: a body as large as a route may
// buffer, with its headers.
const maxMessage = 16 << 20

// Publish makes plan what streams that begin from now on decide by. Its cost
// is a comparison of pointers for models that did not change.
func (s *Service) Publish(plan *routing.Plan) { s.models.publish(plan) }

// Shutdown tells Envoy's health checks that no more streams should come.
func (s *Service) Shutdown() { s.health.Shutdown() }

// Process serves one stream, which is one request.
func (s *Service) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	if s.captures != nil && len(metadata.ValueFromIncomingContext(stream.Context(), routing.HeaderSide)) > 0 {
		return s.captures.Process(stream)
	}
	s.totals.streams.Add(1)
	s.totals.active.Add(1)
	defer s.totals.active.Add(-1)
	x := s.pool.Get().(*exchange)
	defer func() {
		x.reset()
		s.pool.Put(x)
	}()
	x.model = s.modelOf(stream)
	for {
		if err := stream.RecvMsg(&x.in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		out, done := s.handle(x)
		if err := stream.SendMsg(out); err != nil || done {
			return err
		}
	}
}

// modelOf returns the model that the route named, or nil.
func (s *Service) modelOf(stream grpc.ServerStream) *model {
	if names := metadata.ValueFromIncomingContext(stream.Context(), routing.HeaderModel); len(names) == 1 {
		if m := s.models.model(names[0]); m != nil {
			return m
		}
	}
	s.totals.unknownModel.Add(1)
	return nil
}

// handle answers the message in x.in. done says that nothing else of this
// request matters.
func (s *Service) handle(x *exchange) (out *extprocv3.ProcessingResponse, done bool) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(x, p)
			out, done = x.out.undecided(&x.in), true
		}
	}()
	switch in := x.in.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		x.request.headersArrived(in.RequestHeaders, buffered(&x.in))
	case *extprocv3.ProcessingRequest_RequestBody:
		x.request.bodyArrived(in.RequestBody)
	default:
		s.totals.unexpected.Add(1)
		return x.out.undecided(&x.in), false
	}
	if x.model == nil {
		return x.out.undecided(&x.in), true
	}
	d := x.decide()
	if x.request.wantsBody() {
		return x.out.undecided(&x.in), false
	}
	if x.request.unreadable {
		s.totals.unreadable.Add(1)
	}
	return s.answer(x, d), true
}

// buffered tells whether the route sends the body whole.
func buffered(in *extprocv3.ProcessingRequest) bool {
	return in.GetProtocolConfig().GetRequestBodyMode() == filterv3.ProcessingMode_BUFFERED
}

// answer counts a decision and returns it as Envoy's answer.
func (s *Service) answer(x *exchange, d routing.Decision) *extprocv3.ProcessingResponse {
	v := x.model.version(d.Version)
	switch {
	case v == nil:
		s.totals.unknownModel.Add(1)
		return x.out.undecided(&x.in)
	case !x.request.room():
		s.totals.withheld.Add(1)
		return x.out.undecided(&x.in)
	}
	reason := reasonIndex(d.Reason)
	v.count[reason].Add(1)
	if d.Reason == routing.ReasonUndecided {
		return x.out.undecided(&x.in)
	}
	return x.out.decided(&x.in, v, rawReasons[reason], &d)
}

// panicked logs the first panic and then every one whose number is a power of
// two: a rule that panics does so on every request.
func (s *Service) panicked(x *exchange, cause any) {
	n := s.totals.panics.Add(1)
	if bits.OnesCount64(n) != 1 {
		return
	}
	name := ""
	if x.model != nil {
		name = x.model.plan.Model.Name
	}
	s.log.Error("decision panicked; the request is undecided",
		"model", name, "panics", n, "cause", cause, "stack", string(debug.Stack()))
}

// totals are the counters that belong to no model.
type totals struct {
	streams, unknownModel, unexpected, unreadable, panics, withheld atomic.Uint64
	active                                                          atomic.Int64
}
