package capture

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/compare/pair"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// stream is what is known of one request on one side.
type stream struct {
	service *Service
	model   string
	version string // of a copy; else the cluster tells
	primary bool
	copies  int // versions that may get a copy of a user's request
	most    int // bytes kept of each body
	held    int64

	key      string // of the pair
	began    time.Time
	answered bool // the headers of the answer came
	skipped  int  // bytes of the request beyond the limit
	user     string
	exchange pair.Exchange // of a copy only the answer
}

// progress is what a message means for a stream.
type progress int

const (
	goOn     progress = iota
	ended             // nothing else matters
	full              // there is no room
	nonsense          // it cannot be
)

// open reads what the route says of a stream.
func (s *Service) open(ctx context.Context) (*stream, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	one := func(name string) string {
		if v := md.Get(name); len(v) == 1 {
			return v[0]
		}
		return ""
	}
	side := one(routing.HeaderSide)
	t := &stream{
		service: s, primary: side == xds.SidePrimary,
		model: one(routing.HeaderModel), version: one(routing.HeaderVersion),
	}
	most, err := strconv.Atoi(one(routing.HeaderMaxBody))
	if err != nil || most <= 0 || t.model == "" {
		return nil, false
	}
	t.most = min(most, s.options.MaxBody)
	if t.primary {
		t.copies, err = strconv.Atoi(one(routing.HeaderCopies))
		return t, err == nil
	}
	return t, side == xds.SideCopy && t.version != ""
}

// take takes one message.
func (t *stream) take(in *extprocv3.ProcessingRequest, now time.Time) progress {
	switch m := in.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return t.requestHeaders(m.RequestHeaders, now)
	case *extprocv3.ProcessingRequest_RequestBody:
		if t.began.IsZero() {
			return nonsense
		}
		return t.requestBody(m.RequestBody)
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		if t.began.IsZero() || t.answered {
			return nonsense
		}
		return t.responseHeaders(in, m.ResponseHeaders, now)
	case *extprocv3.ProcessingRequest_ResponseBody:
		if !t.answered {
			return nonsense
		}
		return t.responseBody(m.ResponseBody, now)
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		if !t.answered {
			return nonsense
		}
		t.exchange.Primary.Duration = now.Sub(t.began)
		return ended
	default:
		return goOn
	}
}

func (t *stream) requestHeaders(h *extprocv3.HttpHeaders, now time.Time) progress {
	if !t.began.IsZero() {
		return nonsense
	}
	t.began, t.exchange.Start = now, now
	x := &t.exchange
	for _, v := range h.GetHeaders().GetHeaders() {
		switch v.GetKey() {
		case routing.HeaderDraw:
			if t.primary {
				t.key = value(v)
			}
		case routing.HeaderPair:
			if !t.primary {
				t.key = value(v)
			}
		case "x-request-id":
			x.RequestID = value(v)
		case ":method":
			x.Method = value(v)
		case "content-type":
			x.Request.Type = value(v)
		case "content-encoding":
			x.Request.Encoding = value(v)
		}
	}
	if t.key == "" {
		return nonsense
	}
	t.service.begin(t, now)
	return goOn
}

// maxSkipped is how much of a request is passed over, in bytes, for the sake of
// its answer. Routes that capture take no request that is so long; but a GET with
// a chunked body looks like one without any.
const maxSkipped = 4 << 20

func (t *stream) requestBody(b *extprocv3.HttpBody) progress {
	r := &t.exchange.Request
	if r.Truncated {
		if t.skipped += len(b.GetBody()); t.skipped > maxSkipped {
			return full
		}
		return goOn
	}
	return t.keep(r, b.GetBody())
}

func (t *stream) responseHeaders(in *extprocv3.ProcessingRequest, h *extprocv3.HttpHeaders, now time.Time) progress {
	t.answered = true
	a := &t.exchange.Primary
	for _, v := range h.GetHeaders().GetHeaders() {
		switch v.GetKey() {
		case ":status":
			a.Status, _ = strconv.Atoi(value(v))
		case "content-type":
			a.Type = value(v)
		case "content-encoding":
			a.Encoding = value(v)
		}
	}
	t.attributes(in)
	if a.Version = t.version; a.Version == "" {
		return nonsense
	}
	a.Duration = now.Sub(t.began)
	if h.GetEndOfStream() {
		return ended
	}
	return goOn
}

// attributes reads what Envoy says about a request besides its headers.
func (t *stream) attributes(in *extprocv3.ProcessingRequest) {
	var fields map[string]*structpb.Value
	for _, namespace := range in.GetAttributes() {
		fields = namespace.GetFields()
	}
	text := func(name string) string { return fields[name].GetStringValue() }
	told := in.GetMetadataContext().GetFilterMetadata()[routing.MetadataNamespace].GetFields()
	x := &t.exchange
	if d := text(xds.AttributeDetails); d != xds.DetailsUpstream {
		x.Primary.Fault, x.Primary.Detail = pair.FaultSilent, d
	}
	if !t.primary {
		return
	}
	if model, version, ok := routing.ParseClusterName(text(xds.AttributeCluster)); ok && model == t.model {
		t.version = version
	}
	if at, err := time.Parse(time.RFC3339Nano, text(xds.AttributeStart)); err == nil {
		x.Start = at
	}
	x.Drawn = xds.ReasonOf(text(xds.AttributeRoute), told[routing.MetadataReason].GetStringValue()).Drawn()
	if t.user = text(xds.AttributeKey); t.user == "" {
		t.user = told[routing.MetadataKey].GetStringValue()
	}
}

func (t *stream) responseBody(b *extprocv3.HttpBody, now time.Time) progress {
	a := &t.exchange.Primary
	a.Duration = now.Sub(t.began)
	if a.FirstByte == 0 && len(b.GetBody()) > 0 {
		a.FirstByte = a.Duration
	}
	p := t.keep(&a.Content, b.GetBody())
	if p == goOn && (b.GetEndOfStream() || a.Truncated) {
		return ended
	}
	return p
}

// keep appends to a body what there is room for.
func (t *stream) keep(c *pair.Content, part []byte) progress {
	if room := t.most - len(c.Body); len(part) > room {
		part, c.Truncated = bytes.Clone(part[:room]), true
		t.service.totals.truncated.Add(1)
	}
	if len(part) == 0 {
		return goOn
	}
	if c.Body == nil { // the part belongs to a message of its own
		if !t.reserve(cap(part)) {
			return full
		}
		c.Body = part
		return goOn
	}
	if need := len(c.Body) + len(part); need > cap(c.Body) {
		wider := max(need, min(2*cap(c.Body), t.most))
		if !t.reserve(wider - cap(c.Body)) {
			return full
		}
		c.Body = append(make([]byte, 0, wider), c.Body...)
	}
	c.Body = append(c.Body, part...)
	return goOn
}

func (t *stream) reserve(n int) bool {
	if !t.service.memory.reserve(int64(n)) {
		return false
	}
	t.held += int64(n)
	return true
}

// value returns what Envoy sent: raw bytes, or text from an Envoy whose
// send_header_raw_value is off.
func value(h *corev3.HeaderValue) string {
	if raw := h.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return h.GetValue()
}

// refused tells whether Envoy's breaker for copies left a request out.
func refused(a *pair.Answer) bool {
	return a.Fault == pair.FaultSilent && strings.Contains(a.Detail, "overflow")
}
