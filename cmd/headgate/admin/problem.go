package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Problem is the one form of an error (RFC 9457). It is an error that a handler
// can return.
type Problem struct { //nolint:errname // RFC 9457 calls it a problem
	Type   string   `json:"type" doc:"about:blank, or a name of the rule that was broken"`
	Title  string   `json:"title" doc:"the status in words"`
	Status int      `json:"status" doc:"the HTTP status"`
	Detail string   `json:"detail" doc:"what is wrong with this request"`
	List   []string `json:"problems,omitempty" doc:"each thing that is wrong, when there are several"`
}

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// Problemf returns a problem with an HTTP status and a detail.
func Problemf(status int, format string, args ...any) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// asProblem gives any error the one form. The words of an unexpected error stay
// in the log.
func asProblem(err error) (p *Problem, expected bool) {
	if errors.As(err, &p) {
		return p, true
	}
	return Problemf(http.StatusInternalServerError, "internal error, see the log of headgate"), false
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	// The client has gone when this fails.
	_ = json.NewEncoder(w).Encode(p)
}

// WriteJSON answers with status 200 and v.
func WriteJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the client has gone when this fails
	return nil
}
