// Package extproc answers Envoy's question which version a request gets, where
// Envoy cannot answer it by itself: keys and overrides in a JSON body, and
// models that ask for it with `decide: ext_proc`.
//
// # What is promised
//
// The answer is [routing.Decide]'s, for the plan that was published last. It
// is a request header, [routing.HeaderDecision], and an order to look for the
// route again; the route table does the rest. Who cannot be decided on gets no
// header, and the route table's last route sends them to the version with the
// larger weight. A panic in a decision is that request's alone.
//
// One stream is one request. It ends with the answer: the service never waits
// for the model behind Envoy, so a slow model holds no streams.
//
// # What the route has to say
//
// The name of the model comes as initial metadata of the stream,
// [routing.HeaderModel], from the route's ExtProcPerRoute. The filter sends
// request headers, and a body only as BUFFERED; all other modes are NONE or
// SKIP. protocol_config in the first message tells which of the two. A body
// that is there and does not come, is encoded (gzip), or is not JSON, leaves a
// key in it unknown: the request is undecided. A JSON body without the key, and
// a request without a body, have no key, and the file says what happens.
//
// When the answer does not depend on the body it is given on the headers.
//
// # Envoy surprises
//
// A header mutation that Envoy refuses costs the client a 500, in spite of
// failure_mode_allow: a value with a control character, more headers than
// max_headers_count, more bytes than max_request_headers_kb. The service
// therefore measures the request's headers and leaves the request undecided
// when there is no room for its own. It has to see all headers for that:
// forward_rules must not be set. What somebody else's server could do on the
// same socket is bounded by mutation_rules, disable_immediate_response and the
// gRPC service's max_receive_message_length.
//
// The number of healthy hosts that Envoy shows drops when an active check fails,
// but its workers learn of it only with the next merged update, up to a second
// later: the service's cluster needs update_merge_window 0, or users go on
// waiting for a frozen service. What Envoy lets pass undecided is counted in
// ext_proc's failure_mode_allowed, with message_timeouts (frozen),
// streams_failed (gone), spurious_msgs_received (wrong) beside it; once the
// checks have failed, in the cluster's upstream_cx_none_healthy.
//
// A route that buffers answers 413 to a body beyond its buffer limit, whatever
// the service says: it must ask for a content-length below it.
//
// A route cache is cleared only by an answer that mutates a header.
//
// After the answer to a BUFFERED body Envoy keeps the stream open until the
// model has answered, unless the service ends it.
//
// An answer that ends the stream on the headers of a BUFFERED request lets the
// body pass without being buffered.
package extproc
