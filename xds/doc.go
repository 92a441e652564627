// Package xds compiles plans into Envoy resources and brings them to Envoys.
//
// # Build
//
// [Builder.Build] is pure: equal plans give equal resources, byte for byte, on
// every replica and after every restart. It promises that whatever leaves it
// passes Envoy's own validation rules, names no cluster that it does not
// carry, and claims no domain twice.
//
// # What package extproc needs to know
//
// The filter "headgate.decide" stands in every listener, disabled. Routes of
// models for which [routing.Model.NeedsExtProc] holds enable it. A stream is
// one request:
//
//  1. The gRPC initial metadata [routing.HeaderModel] ("x-headgate-model")
//     names the model, once. It comes from the route and never from a client.
//  2. The first message is RequestHeaders. Its protocol_config says
//     request_body_mode BUFFERED when the body will follow: the model reads
//     the body and content-length is between 1 and Options.MaxBody. Answer
//     with an empty HeadersResponse, then RequestBody comes with the whole
//     body. With any other mode the headers are all there will be; without
//     end_of_stream there is a body that nobody will see, so a key in it is
//     unknown, not absent.
//  3. The answer that decides (HeadersResponse or BodyResponse) sets
//     clear_route_cache and the headers [routing.HeaderDecision] (the
//     version) and [routing.HeaderReason] (the [routing.Reason]), each as
//     raw_value with OVERWRITE_IF_EXISTS_OR_ADD, and puts the reason, and what
//     was hashed if anything was, into dynamic_metadata:
//     [routing.MetadataNamespace] {[routing.MetadataReason]: reason,
//     [routing.MetadataKey]: key}. With reason "draw" of a model that says
//     `absent: cookie` the route answers with our cookie, whose value is that
//     key.
//  4. No decision (an empty answer, an error, no answer within
//     Options.DecideTimeout): the route that matched first serves: the same
//     split where Envoy can read the key by itself, else the version with the
//     larger weight.
//
// Only headers that begin with "x-headgate-" may be changed; anything else is
// refused by Envoy and counted in rejected_header_mutations. Envoy counts what
// was let through undecided in http.127_0_0_1_8080.ext_proc.decide.failure_mode_allowed
// and message_timeouts, for a listener on 127.0.0.1:8080.
//
// # What the access log holds
//
// A key of up to 48 ASCII characters that is a whole header, and a fresh draw, are the
// request header [routing.HeaderKey]: the model sees them there, too, and knows
// nothing more by it. All others are in common_properties.metadata,
// filter_metadata "headgate", field "key", which reaches no model: see
// [LoggedKey]. The version is the request header
// [routing.HeaderVersion]; the model, and the version again, are in
// upstream_cluster; how the version was chosen is in route_name, see
// [ParseRouteName], or for what the ext_proc service decided in the metadata
// beside the key; [LoggedReason] reads both.
//
// # Copies of requests
//
// A model with mirrors has each route three times: for requests with a body of
// known length up to Options.MirrorBody, for GET and HEAD without a body (those
// two are called "churn/copied/…" and make copies), and for all others. Of a
// model that is not [routing.Model.Repeatable] only GET and HEAD are copied, and
// never what an override sent to its version. Whether a request is copied is
// drawn by Envoy's one random number for each request, against the runtime key
// "headgate-mirror.churn/v2.0.0", in hundredths of a percent; the split is by
// hash and has no part in it. Two mirrors with 10 % each get the same requests.
//
// A copy has the path, the host, the body, the x-request-id and the headers of
// its request, but for authorization, proxy-authorization, cookie, x-api-key and
// all of ours. What was hashed for its request stands in its log entry and does
// not reach the version. It says [routing.HeaderShadow] "true", and its
// [routing.HeaderVersion] is the version that it is sent to. It goes to the
// cluster "churn/v2.0.0/mirror", whose endpoint is the internal listener of the
// same name; from there the route "churn/mirror" leads to the cluster
// "churn/v2.0.0", with the model's tries and timeouts.
//
// With a [routing.Capture] both listeners send what they see of the captured
// requests to the cluster "headgate_capture", by an ext_proc filter that waits
// for nothing. Each captured request has [routing.HeaderPair], an id of Envoy's
// that its copies carry, and only copies with it are captured. Without a capture
// in the plan a model's routes and listeners are as if there were none.
//
// Copies of one version that are under way at a time are bounded by
// Options.MirrorRequests. What is too much is answered in Envoy by 503 and the
// flag UO, which the access log tells: package accesslog calls it aborted. Not
// logged is a copy beyond twice that many, which happens when the version's
// hosts do not accept connections.
package xds
