package accesslog

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// drop is why an entry is no observation.
type drop string

const (
	kept         drop = ""
	dropPartial  drop = "partial"  // not the end of a request
	dropForeign  drop = "foreign"  // no version of a model was to answer
	dropNoTime   drop = "no_time"  // without a valid start
	badDuration  drop = "duration" // kept, but its duration makes no sense
	dropNoSender drop = "no_node"  // the stream did not say whose it is
)

// observation reads an entry. With badDuration the observation counts, without
// its duration.
func observation(e *accesslogv3.HTTPAccessLogEntry, node string, h *Hasher) (compare.Observation, drop) {
	common := e.GetCommonProperties()
	switch t := common.GetAccessLogType(); t {
	case accesslogv3.AccessLogType_NotSet, accesslogv3.AccessLogType_DownstreamEnd:
	default:
		return compare.Observation{}, dropPartial
	}
	model, version, ok := served(e)
	if !ok {
		return compare.Observation{}, dropForeign
	}
	if common.GetStartTime() == nil || common.GetStartTime().CheckValid() != nil {
		return compare.Observation{}, dropNoTime
	}
	o := compare.Observation{
		Node:      node,
		Model:     model,
		Version:   version,
		RequestID: e.GetRequest().GetRequestId(),
		Start:     common.GetStartTime().AsTime(),
		Code:      int(e.GetResponse().GetResponseCode().GetValue()),
		GRPC:      grpcStatus(e.GetResponse()),
		Duration:  -1,
		Drawn:     xds.LoggedReason(e).Drawn(),
		Mirrored:  xds.LoggedMirror(e),
		Copied:    xds.LoggedCopied(e),
	}
	if key := xds.LoggedKey(e); key != "" {
		o.User, o.HasUser = h.User(key), true
	}
	o.Class = class(o.Code, o.GRPC, common.GetResponseFlags())
	if o.Mirrored && common.GetResponseFlags().GetUpstreamOverflow() {
		o.Class = compare.ClassAborted // by the breaker of copies
	}
	if !answered(e, o.Class) {
		return o, kept
	}
	d, ok := duration(common)
	if !ok {
		return o, badDuration
	}
	o.Duration = d
	return o, kept
}

// served returns whose request it was. The cluster tells, and when Envoy came
// to choose none, the route and the header that it sets.
func served(e *accesslogv3.HTTPAccessLogEntry) (model, version string, ok bool) {
	common := e.GetCommonProperties()
	if model, version, ok = routing.ParseClusterName(common.GetUpstreamCluster()); ok && model != "" && version != "" {
		return model, version, true
	}
	model, _, ok = xds.ParseRouteName(common.GetRouteName())
	version = e.GetRequest().GetRequestHeaders()[routing.HeaderVersion]
	return model, version, ok && model != "" && version != ""
}

// class says what an outcome counts as. A client that goes away in mid-request,
// or reads no further, says nothing about the version; one that goes away after the version had
// failed does not undo that.
func class(code, grpc int, f *accesslogv3.ResponseFlags) compare.Class {
	gone := code == 0 || f.GetDownstreamConnectionTermination() || f.GetDownstreamRemoteReset() || f.GetDownstreamProtocolError() ||
		f.GetStreamIdleTimeout() // whoever fell silent
	switch {
	case code >= 500:
		return compare.ClassError
	case gone && !f.GetUpstreamRequestTimeout() && !broken(f):
		return compare.ClassAborted
	case broken(f):
		return compare.ClassError
	case code >= 400:
		return compare.ClassClientError
	case grpc > 0:
		return grpcClass(grpc)
	}
	return compare.ClassSuccess
}

// broken tells whether the version's side failed. An answer that breaks off
// keeps its status 200: only the flags tell.
func broken(f *accesslogv3.ResponseFlags) bool {
	return f.GetNoHealthyUpstream() || f.GetUpstreamRequestTimeout() || f.GetUpstreamRemoteReset() ||
		f.GetUpstreamConnectionFailure() || f.GetUpstreamConnectionTermination() || f.GetUpstreamOverflow() ||
		f.GetUpstreamProtocolError() || f.GetUpstreamMaxStreamDurationReached() || f.GetNoClusterFound() ||
		f.GetDnsResolutionFailure() || f.GetDurationTimeout()
}

// grpcClass goes by the HTTP status that google.rpc.Code gives for each.
func grpcClass(status int) compare.Class {
	switch status {
	case 1: // cancelled by the client
		return compare.ClassAborted
	case 3, 5, 6, 7, 8, 9, 10, 11, 16:
		return compare.ClassClientError
	}
	return compare.ClassError
}

// grpcStatus returns -1 for answers that are not gRPC. A failure at once comes
// as a header, others as a trailer.
func grpcStatus(r *accesslogv3.HTTPResponseProperties) int {
	text, ok := r.GetResponseTrailers()["grpc-status"]
	if !ok {
		text, ok = r.GetResponseHeaders()["grpc-status"]
	}
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 0 {
		return -1
	}
	return n
}

// answered tells whether the version itself gave an answer, to its end.
func answered(e *accesslogv3.HTTPAccessLogEntry, c compare.Class) bool {
	common := e.GetCommonProperties()
	return c != compare.ClassAborted && !broken(common.GetResponseFlags()) && common.GetTimeToLastUpstreamRxByte() != nil
}

// duration is the time from the last byte to the version to the last byte
// back. A version may answer before it has read the whole request: then there
// is no such time.
func duration(c *accesslogv3.AccessLogCommon) (time.Duration, bool) {
	sent, ok1 := valid(c.GetTimeToLastUpstreamTxByte())
	back, ok2 := valid(c.GetTimeToLastUpstreamRxByte())
	return back - sent, ok1 && ok2 && back >= sent
}

func valid(d *durationpb.Duration) (time.Duration, bool) {
	if d == nil || d.CheckValid() != nil || d.AsDuration() < 0 {
		return 0, false
	}
	return d.AsDuration(), true
}

// Hasher turns users' keys into numbers that only the holder of the secret can
// reproduce. The same secret gives the same numbers for ever, so that an
// outcome which is told a month later finds its user. It is for concurrent use.
type Hasher struct{ secret []byte }

// NewHasher returns a Hasher; the secret should have 32 random bytes.
func NewHasher(secret []byte) *Hasher { return &Hasher{secret: append([]byte(nil), secret...)} }

// User returns the first 64 bits of HMAC-SHA256 over the key.
func (h *Hasher) User(key string) uint64 {
	mac := hmac.New(sha256.New, h.secret)
	_, _ = mac.Write([]byte(key))
	var sum [sha256.Size]byte
	return binary.BigEndian.Uint64(mac.Sum(sum[:0]))
}
