// Package gate is headgate as the demo sees it: a program that is started with
// two folders, and its admin API.
package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/headgate/headgate/routing/rollout"
)

// requestTimeout bounds one request to the admin API, which is on this machine.
const requestTimeout = 5 * time.Second

// Client speaks to headgate's admin API.
type Client struct {
	URL string // http://127.0.0.1:9900
}

// Ready returns nil when headgate says that it is ready, or why it is not.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/readyz", nil)
	return err
}

// Status returns where a model is.
func (c *Client) Status(ctx context.Context, model string) (rollout.Status, error) {
	var s rollout.Status
	body, err := c.do(ctx, http.MethodGet, "/v1/models/"+model, nil)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("status of %s: %w", model, err)
	}
	return s, nil
}

// Do asks for an action on a model.
func (c *Client) Do(ctx context.Context, model string, action rollout.Action, reason string) error {
	body, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPost, "/v1/models/"+model+"/"+string(action), body)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}
