package protocol

import (
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits bound what is read of one answer. A zero takes the default.
type Limits struct {
	Bytes  int // of a body, after it was inflated; 1 MiB
	Values int // names of members among them; 262,144. Each takes 32 bytes while the prediction lives
	Depth  int // of nesting; 128
}

const maxBytes = 1 << 30 // positions in a body are 32 bits

func (l Limits) withDefaults() Limits {
	return Limits{
		Bytes:  min(cmp.Or(l.Bytes, 1<<20), maxBytes),
		Values: cmp.Or(l.Values, 1<<18),
		Depth:  min(cmp.Or(l.Depth, 128), 10_000),
	}
}

// Answer is what a server sent. The body is not changed, and kept by the
// prediction that is read from it.
type Answer struct {
	Status          int    // of HTTP; 0: not known, taken for 200
	ContentType     string // the header; may be empty
	ContentEncoding string // the header; empty: the body tells
	Body            []byte
	Truncated       bool // the body is only the beginning of what was sent
}

// Reason is why an answer cannot be read.
type Reason string

// The reasons.
const (
	ReasonEmpty     Reason = "empty"     // no body
	ReasonTruncated Reason = "truncated" // only the beginning is there
	ReasonTooLarge  Reason = "too_large" // beyond Limits
	ReasonEncoding  Reason = "encoding"  // compressed in an unknown way, or broken
	ReasonMalformed Reason = "malformed" // not JSON, not UTF-8, or a broken stream
	ReasonProtocol  Reason = "protocol"  // JSON, but no answer of the protocol
)

// UnreadableError is the error of an answer that cannot be read.
type UnreadableError struct {
	Reason Reason
	Detail string // in words; may quote names of the answer, no values
}

// Error implements error.
func (u *UnreadableError) Error() string { return string(u.Reason) + ": " + u.Detail }

func unreadable(r Reason, format string, args ...any) error {
	return &UnreadableError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// content returns the body as it was before it was compressed.
func (a *Answer) content(limits Limits) ([]byte, error) {
	body := a.Body
	if len(body) > limits.Bytes {
		return nil, tooLarge(limits)
	}
	encodings := strings.Split(a.ContentEncoding, ",")
	if strings.TrimSpace(a.ContentEncoding) == "" && bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		encodings = []string{"gzip"}
	}
	if len(encodings) > 2 {
		return nil, unreadable(ReasonEncoding, "compressed %d times", len(encodings))
	}
	for i := len(encodings) - 1; i >= 0; i-- {
		var err error
		if body, err = inflate(strings.ToLower(strings.TrimSpace(encodings[i])), body, limits); err != nil {
			return nil, err
		}
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, unreadable(ReasonEmpty, "there is no body")
	}
	return body, nil
}

func tooLarge(limits Limits) error {
	return unreadable(ReasonTooLarge, "more than %d bytes", limits.Bytes)
}

func truncated() error { return unreadable(ReasonTruncated, "only the beginning is there") }

func inflate(encoding string, body []byte, limits Limits) ([]byte, error) {
	var r io.Reader
	var err error
	switch encoding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		// Meant is zlib, but some servers send the bare stream.
		if r, err = zlib.NewReader(bytes.NewReader(body)); errors.Is(err, zlib.ErrHeader) {
			r, err = flate.NewReader(bytes.NewReader(body)), nil
		}
	default:
		return nil, unreadable(ReasonEncoding, "%.20q is not gzip, deflate or identity", encoding)
	}
	if err != nil {
		return nil, unreadable(ReasonEncoding, "%s: %v", encoding, err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, io.LimitReader(r, int64(limits.Bytes)+1)); err != nil {
		return nil, unreadable(ReasonEncoding, "%s: %v", encoding, err)
	}
	if out.Len() > limits.Bytes {
		return nil, tooLarge(limits)
	}
	return out.Bytes(), nil
}

// parseError says in a reader's words why a document could not be parsed.
func parseError(err error, limits Limits) error {
	switch {
	case errors.Is(err, errEnd):
		return truncated()
	case errors.Is(err, errDepth):
		return unreadable(ReasonTooLarge, "nested deeper than %d", limits.Depth)
	case errors.Is(err, errValues):
		return unreadable(ReasonTooLarge, "more than %d values", limits.Values)
	default:
		return unreadable(ReasonMalformed, "%v", err)
	}
}
