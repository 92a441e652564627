package extproc_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
)

// childSocket makes this test binary an ext_proc server of its own, which can
// be killed and frozen.
const childSocket = "HEADGATE_TEST_EXTPROC_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(childSocket); socket != "" {
		beChild(socket)
	}
	os.Exit(m.Run())
}

func beChild(socket string) {
	service := extproc.New(slog.New(slog.DiscardHandler))
	service.Publish(planOf(churn(3000, bodyKey)))
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	g := grpc.NewServer(extproc.ServerOptions()...)
	service.Register(g)
	go func() { // ends with the test, however that ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	panic(g.Serve(l))
}

// startChild runs an ext_proc server in a process of its own.
func startChild(t *testing.T, socket string) *os.Process {
	t.Helper()
	_ = os.Remove(socket)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childSocket+"="+socket)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	envoytest.Eventually(t, 10*time.Second, "the server's socket", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return cmd.Process
}

// hardLimit is far beyond what a request may take when nobody decides. The
// medians are logged: on a busy machine they say more than a limit could.
const hardLimit = 2 * time.Second

// undecidedUsers asks as a user who belongs to v2, n times, and fails the test
// for every answer that is not v1's. It returns the median time.
func undecidedUsers(t *testing.T, p *proxy, user string, n int) time.Duration {
	t.Helper()
	times := make([]time.Duration, 0, n)
	for range n {
		got, took := p.ask(t, "POST", "/", fmt.Sprintf(`{"user":{"id":%q}}`, user), header("x-user-id", user))
		if (got != reply{200, "v1"}) {
			t.Fatalf("got %+v, want v1's answer", got)
		}
		if took > hardLimit {
			t.Fatalf("an answer took %s", took)
		}
		times = append(times, took)
	}
	slices.Sort(times)
	return times[n/2]
}

func (p *proxy) breakerOpen() bool {
	return p.Stats("cluster.decide.membership_healthy")["cluster.decide.membership_healthy"] == 0
}

// A server that is absent, killed, or frozen costs nobody their answer.
func TestFaultServerGone(t *testing.T) {
	socket := socketPath(t)
	user := candidateUser(t, churn(3000, nil))
	p := startProxyWith(t, socket, impatient)
	t.Logf("absent: median %s", undecidedUsers(t, p, user, 20))

	child := startChild(t, socket)
	t.Logf("appears: decides after %s", awaitDecisions(t, p, user))

	load := envoytest.StartLoad(t, envoytest.LoadOptions{
		URL: p.url, Rate: 200, Body: fmt.Appendf(nil, `{"user":{"id":%q}}`, user),
	})
	kill(t, child, syscall.SIGSTOP)
	frozen := time.Now()
	envoytest.Eventually(t, 5*time.Second, "the breaker", p.breakerOpen)
	t.Logf("frozen: breaker opens after %s", time.Since(frozen))
	timeouts := p.counted("message_timeouts")
	t.Logf("frozen and known: median %s", undecidedUsers(t, p, user, 20))
	if timeouts == 0 || p.counted("failure_mode_allowed") < timeouts {
		t.Errorf("the counters say nothing of it: %v", p.Stats("http.churn.ext_proc"))
	}
	kill(t, child, syscall.SIGCONT)
	within(t, "recovery after a freeze", 2*time.Second, awaitDecisions(t, p, user))

	kill(t, child, syscall.SIGKILL)
	envoytest.Eventually(t, 5*time.Second, "the breaker", p.breakerOpen)
	t.Logf("killed: median %s", undecidedUsers(t, p, user, 20))
	startChild(t, socket)
	within(t, "recovery after a kill", 2*time.Second, awaitDecisions(t, p, user))

	report := load.Stop()
	if report.Failed != 0 {
		t.Error(report)
	}
	for _, r := range report.Results {
		if r.Duration > hardLimit {
			t.Errorf("an answer took %s", r.Duration)
		}
	}
	t.Logf("under load: %d requests, versions %v, p50 %s, p99 %s, longest %s",
		len(report.Results), report.Versions, report.Percentile(0.5), report.Percentile(0.99), report.Percentile(1))
}

func within(t *testing.T, what string, limit, took time.Duration) {
	t.Helper()
	t.Logf("%s: %s", what, took)
	if took > limit {
		t.Errorf("%s took %s, want at most %s", what, took, limit)
	}
}

func kill(t *testing.T, p *os.Process, sig syscall.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if sig == syscall.SIGKILL {
		_, _ = p.Wait()
	}
}

// rogue is a server that does what ours never would.
type rogue struct {
	extprocv3.UnimplementedExternalProcessorServer
	behave atomic.Pointer[func(extprocv3.ExternalProcessor_ProcessServer) error]
}

func (r *rogue) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return (*r.behave.Load())(stream)
}

func headersAnswer(key, value string) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			ClearRouteCache: true,
			HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{{
				Header:       &corev3.HeaderValue{Key: key, RawValue: []byte(value)},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}}},
		}},
	}}
}

// A server that answers wrongly costs nobody their answer either.
func TestFaultServerWrong(t *testing.T) {
	type stream = extprocv3.ExternalProcessor_ProcessServer
	send := func(answers ...*extprocv3.ProcessingResponse) func(stream) error {
		return func(s stream) error {
			for _, a := range answers {
				if err := s.Send(a); err != nil {
					return err
				}
			}
			<-s.Context().Done()
			return nil
		}
	}
	good := headersAnswer("x-headgate-decision", "v2")
	tests := []struct {
		name    string
		behave  func(stream) error
		want    string
		counted string // by Envoy
	}{
		{"well", send(good), "v2", "stream_msgs_received"},
		{"never", send(), "v1", "message_timeouts"},
		{"with an error", func(stream) error { return io.ErrUnexpectedEOF }, "v1", "streams_failed"},
		{"with the end", func(stream) error { return nil }, "v1", "server_half_closed"},
		{"nothing", send(&extprocv3.ProcessingResponse{}), "v1", "spurious_msgs_received"},
		{"the wrong type", send(&extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{}},
		}), "v1", "spurious_msgs_received"},
		{"for the client", send(&extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
				Status: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden},
			}},
		}), "v1", "spurious_msgs_received"},
		{"twice", send(good, good), "v2", "stream_msgs_received"},
		{"twice, differently", send(good, headersAnswer("x-headgate-decision", "v1")), "v2", "stream_msgs_received"},
		{"with a huge header", send(headersAnswer("x-headgate-decision", strings.Repeat("v", 100<<10))), "v1", "streams_failed"},
		{"with a large header", send(headersAnswer("x-headgate-decision", strings.Repeat("v", 8<<10))), "v1", "stream_msgs_received"},
		{"with an unknown version", send(headersAnswer("x-headgate-decision", "v9")), "v1", "stream_msgs_received"},
		{"with a foreign header", send(headersAnswer("authorization", "root")), "v1", "rejected_header_mutations"},
	}
	socket := socketPath(t)
	server := &rogue{}
	g := grpc.NewServer()
	extprocv3.RegisterExternalProcessorServer(g, server)
	healthv1.RegisterHealthServer(g, health.NewServer())
	server.behave.Store(&tests[0].behave)
	serveOn(t, socket, g)
	// Long enough for the answers that must arrive, short for the one that
	// does not.
	p := startProxyWith(t, socket, func(config string) string {
		return strings.Replace(config, "message_timeout: 5s", "message_timeout: 0.3s", 1)
	})
	awaitDecisions(t, p, "u")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server.behave.Store(&test.behave)
			before := p.counted(test.counted)
			for range 3 {
				got, took := p.ask(t, "GET", "/", "", header("x-user-id", "u"))
				if want := (reply{200, test.want}); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if took > hardLimit {
					t.Errorf("the answer took %s", took)
				}
			}
			if p.counted(test.counted) == before {
				t.Errorf("%s did not move: %v", test.counted, p.Stats("http.churn.ext_proc"))
			}
		})
	}
}

// A decision that panics is undecided, and the next ones are as before.
func TestFaultPanic(t *testing.T) {
	socket := socketPath(t)
	model := churn(3000, func(m *routing.Model) {
		m.Overrides = []routing.Override{{
			// There is no expression: matching panics.
			Condition: routing.Condition{Source: routing.SourceHeader, Name: "boom", Op: routing.OpRegex},
			Version:   "v2",
		}}
	})
	service := serve(t, socket, model)
	p := startProxy(t, socket)
	user := candidateUser(t, model)
	awaitDecisions(t, p, user)
	before := service.Counters()
	for range 10 {
		got, _ := p.ask(t, "POST", "/", "{}", func(r *http.Request) {
			r.Header.Set("x-user-id", user)
			r.Header.Set("boom", "1")
		})
		if (got != reply{200, "v1"}) {
			t.Errorf("got %+v, want v1's answer", got)
		}
		if got, _ := p.ask(t, "POST", "/", "{}", header("x-user-id", user)); got != (reply{200, "v2"}) {
			t.Errorf("after a panic: got %+v, want v2's answer", got)
		}
	}
	after := service.Counters()
	if diff := cmp.Diff([2]uint64{10, 10}, [2]uint64{after.Panics - before.Panics, after.Undecided() - before.Undecided()}); diff != "" {
		t.Error(diff)
	}
	if p.counted("failure_mode_allowed") != 0 {
		t.Error("Envoy noticed the panics")
	}
}
