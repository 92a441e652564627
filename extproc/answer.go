package extproc

import (
	"strconv"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/routing"
)

// answer is a response to Envoy with everything that it can be made of, so
// that an answer allocates nothing.
type answer struct {
	response extprocv3.ProcessingResponse
	common   extprocv3.CommonResponse
	mutation extprocv3.HeaderMutation
	version  corev3.HeaderValue // routing.HeaderDecision
	reason   corev3.HeaderValue // routing.HeaderReason
	metadata structpb.Struct    // routing.MetadataNamespace
	key      structpb.Value_StringValue
	why      structpb.Value_StringValue
	told     map[string]*structpb.Value // the fields of the namespace
	keyField structpb.Value

	toHeaders  extprocv3.ProcessingResponse_RequestHeaders
	toBody     extprocv3.ProcessingResponse_RequestBody
	toTrailers extprocv3.ProcessingResponse_RequestTrailers
}

func newAnswer() *answer {
	a := &answer{}
	a.version.Key, a.reason.Key = routing.HeaderDecision, routing.HeaderReason
	a.mutation.SetHeaders = []*corev3.HeaderValueOption{overwrite(&a.version), overwrite(&a.reason)}
	a.keyField.Kind = &a.key
	a.told = map[string]*structpb.Value{routing.MetadataReason: {Kind: &a.why}}
	a.metadata.Fields = map[string]*structpb.Value{
		routing.MetadataNamespace: structpb.NewStructValue(&structpb.Struct{Fields: a.told}),
	}
	a.toHeaders.RequestHeaders = &extprocv3.HeadersResponse{Response: &a.common}
	a.toBody.RequestBody = &extprocv3.BodyResponse{Response: &a.common}
	a.toTrailers.RequestTrailers = &extprocv3.TrailersResponse{}
	return a
}

func overwrite(h *corev3.HeaderValue) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       h,
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// reset lets go of the request's memory.
func (a *answer) reset() {
	a.response.Response, a.response.DynamicMetadata = nil, nil
	a.common.HeaderMutation, a.common.ClearRouteCache = nil, false
	a.key.StringValue, a.why.StringValue = "", ""
	delete(a.told, routing.MetadataKey)
}

// undecided answers that the request goes on as it is.
func (a *answer) undecided(in *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	a.reset()
	return a.to(in)
}

// decided answers that the request goes to the version of d, and why, in
// headers for the route table and in metadata for the access log. A key is told
// beside it when one was hashed.
func (a *answer) decided(in *extprocv3.ProcessingRequest, v *version, raw []byte, d *routing.Decision) *extprocv3.ProcessingResponse {
	a.version.RawValue, a.reason.RawValue = v.raw, raw
	a.common.HeaderMutation, a.common.ClearRouteCache = &a.mutation, true
	a.why.StringValue = string(d.Reason)
	if d.Key != "" {
		a.key.StringValue = loggedKey(d.Key)
		a.told[routing.MetadataKey] = &a.keyField
	} else {
		delete(a.told, routing.MetadataKey)
	}
	a.response.DynamicMetadata = &a.metadata
	return a.to(in)
}

// to answers a message with the one that Envoy waits for. One of another kind
// would be spurious to Envoy, which then gives up on the stream.
func (a *answer) to(in *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	switch in.Request.(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		a.response.Response = &a.toHeaders
	case *extprocv3.ProcessingRequest_RequestBody:
		a.response.Response = &a.toBody
	case *extprocv3.ProcessingRequest_RequestTrailers:
		a.response.Response = &a.toTrailers
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		a.response.Response = &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}}
	case *extprocv3.ProcessingRequest_ResponseBody:
		a.response.Response = &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{}}
	case *extprocv3.ProcessingRequest_ResponseTrailers:
		a.response.Response = &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}
	}
	return &a.response
}

// maxKey is the longest key in bytes that is told as it is.
const maxKey = 256

// loggedKey returns a key as the access log gets it: as it is or, when it is
// long or not UTF-8, "xxh64:" and its hash in hex.
func loggedKey(key string) string {
	if len(key) <= maxKey && utf8.ValidString(key) {
		return key
	}
	return "xxh64:" + strconv.FormatUint(xxhash.Sum64String(key), 16)
}
