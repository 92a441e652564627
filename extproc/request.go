package extproc

import (
	"slices"
	"strings"
	"unsafe"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/headgate/headgate/routing"
)

// request is a [routing.Subject] over Envoy's messages. The strings that it
// returns share their memory and live as long as they do.
type request struct {
	headers []*corev3.HeaderValue
	body    []byte
	state   bodyState
	asked   bool // the decision asked for the body

	paths      []routing.Path // of the model
	fields     []field        // what is at each of paths
	unreadable bool           // the body was asked for, and is not JSON
}

// bodyState is what is known of a request's body.
type bodyState int

const (
	bodyNone   bodyState = iota // the request has none
	bodyComing                  // a later message brings it
	bodyHidden                  // there is one that nobody here will read
	bodyKnown
)

// field is a value in the body, looked up once.
type field struct {
	looked, ok bool
	value      string
}

func (r *request) reset() {
	clear(r.fields)
	*r = request{fields: r.fields[:0]}
}

// headersArrived takes the first message. buffered says that the route sends
// a body whole, in the second.
func (r *request) headersArrived(h *extprocv3.HttpHeaders, buffered bool) {
	r.headers = h.GetHeaders().GetHeaders()
	switch {
	case h.GetEndOfStream():
		r.state = bodyNone
	case buffered && r.json():
		r.state = bodyComing
	default:
		r.state = bodyHidden
	}
}

// bodyArrived takes the second message. Only a body that was announced as
// whole is read.
func (r *request) bodyArrived(b *extprocv3.HttpBody) {
	if r.state == bodyComing {
		r.body, r.state = b.GetBody(), bodyKnown
	} else {
		r.state = bodyHidden
	}
	r.asked = false
}

// wantsBody tells whether the decision depends on a body that is still coming.
func (r *request) wantsBody() bool { return r.asked && r.state == bodyComing }

// illegible tells whether the decision asked for a body that there is and
// could not be read, so that what it says is unknown and not absent.
func (r *request) illegible() bool {
	return r.asked && (r.state == bodyHidden || r.unreadable)
}

// json tells whether the headers allow the body to be JSON as it stands. Most
// clients that forget the content type send JSON all the same.
func (r *request) json() bool {
	if e, ok := r.Header("content-encoding", 0); ok && e != "" && !strings.EqualFold(e, "identity") {
		return false
	}
	t, _ := r.Header("content-type", 0)
	return !strings.HasPrefix(t, "application/grpc")
}

// Header implements [routing.Subject].
func (r *request) Header(name string, i int) (string, bool) {
	for _, h := range r.headers {
		if h.GetKey() != name {
			continue
		}
		if i == 0 {
			return headerValue(h), true
		}
		i--
	}
	return "", false
}

// headerValue returns what Envoy sent: raw bytes, or text from an Envoy whose
// send_header_raw_value is off.
func headerValue(h *corev3.HeaderValue) string {
	if raw := h.GetRawValue(); len(raw) > 0 {
		return text(raw)
	}
	return h.GetValue()
}

// Body implements [routing.Subject].
func (r *request) Body(path routing.Path) (string, bool) {
	r.asked = true
	if r.state != bodyKnown {
		return "", false
	}
	i := slices.IndexFunc(r.paths, func(p routing.Path) bool { return slices.Equal(p, path) })
	if i < 0 {
		return "", false
	}
	if len(r.fields) != len(r.paths) {
		r.fields = slices.Grow(r.fields[:0], len(r.paths))[:len(r.paths)]
		clear(r.fields)
	}
	f := &r.fields[i]
	if !f.looked {
		var valid bool
		f.value, f.ok, valid = lookup(r.body, path)
		f.looked = true
		r.unreadable = r.unreadable || !valid
	}
	return f.value, f.ok
}

// The most that Envoy takes of headers unless it is told otherwise
// (max_headers_count, max_request_headers_kb), and what an answer may add.
const (
	maxHeaders     = 100
	maxHeaderBytes = 60 << 10
	addedHeaders   = 2
	addedBytes     = 1 << 10
)

// room tells whether the answer's headers may be added. Beyond Envoy's limits
// it would answer the client with a 500.
func (r *request) room() bool {
	if len(r.headers)+addedHeaders > maxHeaders {
		return false
	}
	n := addedBytes
	for _, h := range r.headers {
		n += len(h.GetKey()) + len(h.GetRawValue()) + len(h.GetValue())
	}
	return n <= maxHeaderBytes
}

// text returns b as a string without a copy. b must not change any more.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
