// Package capture takes what Envoy captures of requests and answers, and gives
// it on as exchanges and pairs (see package compare/pair).
//
// # What is promised
//
// Nothing that happens here can reach a user: the filter waits for no answer,
// Envoy's cluster for this service bounds what it holds for it, and what is too
// much is not captured. What the service itself holds is bounded by [Options],
// whatever Envoys, clients and models send: the bodies of open streams and of
// what waits for the [Sink] by Memory, of what waits for its other half by Join.
// What is left out is counted in [Counters].
//
// A body is kept as it was sent, compressed or not, up to the route's limit; of
// a longer one the beginning is kept, marked as truncated. A stream is ended with
// the last part of its answer or at the limit: Envoy would else keep it until its
// deferred close, and a stream that is kept is one of the 128 that its breaker
// allows.
//
// Model, side, version and limits come from the route, in the stream's initial
// metadata, and the version of a user's request from the name of the cluster.
// What belongs together is known by an id that Envoy draws for each request,
// [routing.HeaderDraw]; its copies carry it as [routing.HeaderPair]. Clients can
// set neither, and their request ids are only told.
//
// # Envoy surprises
//
// The last part of a body is a message of its own, empty and with end_of_stream;
// after a body with trailers there is none, so the filter has to send trailers.
// An answer without a body has end_of_stream in its headers.
//
// Attributes are CEL expressions, evaluated with the headers of the answer:
// request.headers has what the route added. One without a value is left out.
//
// A client that goes away, a version that breaks its answer off, and the end of
// a connection to Envoy all look alike, a stream that ends too early. For a user's
// request it is taken for the client's doing and nothing comes of it; for a copy,
// which no client waits for, it is the version's. It is told deferred_close_timeout
// later.
//
// Answers that Envoy gives by itself pass the filter as well; only
// response.code_details tells them apart.
package capture
