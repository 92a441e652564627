package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/headgate/headgate/routing/rollout"
)

const (
	// maxStreams bounds how many event streams are open at once.
	maxStreams = 64
	// heartbeat is how often a stream shows that it lives. Proxies close what
	// is silent for half a minute or more.
	heartbeat = 10 * time.Second
	// retryAfter is when a browser connects again, in milliseconds.
	retryAfter = 1000
)

func (a *api) addEvents(s *Server) {
	s.Handle(Route{
		Method: http.MethodGet, Path: "/v1/events", Role: RoleViewer,
		Summary: "Server-sent events: record, a Record of the journal with its seq as id, and status, " +
			"the Status of a model that has changed. With Last-Event-ID (or after), the records that were missed come first.",
		Params: []Param{
			{Name: "Last-Event-ID", In: "header", Doc: "The seq of the last record that is known.", Type: int64(0)},
			{Name: "after", In: "query", Doc: "The same, for clients that cannot set headers.", Type: int64(0)},
			{Name: "model", In: "query", Doc: "Only records of this model.", Type: ""},
		},
		Media: "text/event-stream", Handler: a.events,
	})
}

func (a *api) events(w http.ResponseWriter, r *http.Request) error {
	after, replay, err := lastEvent(r)
	if err != nil {
		return err
	}
	select {
	case a.streams <- struct{}{}:
		defer func() { <-a.streams }()
	default:
		return Problemf(http.StatusServiceUnavailable, "%d event streams are open already", maxStreams)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// Before the replay, so that nothing is written between the two.
	live := a.Controller.Subscribe(ctx)
	w.Header().Set("Content-Type", "text/event-stream")
	s := &stream{w: w, control: http.NewResponseController(w), model: r.URL.Query().Get("model"), last: after}
	if err := s.write("retry: " + strconv.Itoa(retryAfter) + "\n\n"); err != nil {
		return nil
	}
	if replay && a.Journal != nil {
		if err := a.Journal.Replay(ctx, s.record); err != nil {
			return nil // the client comes back with the last id that it has seen
		}
	}
	s.follow(ctx, live, a.closing)
	return nil
}

// lastEvent returns the last record that the client knows, and whether it named
// one.
func lastEvent(r *http.Request) (seq int64, named bool, err error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text == "" {
		return 0, false, nil
	}
	seq, err = strconv.ParseInt(text, 10, 64)
	if err != nil || seq < 0 {
		return 0, false, Problemf(http.StatusBadRequest, "last event %q: must be the seq of a record", text)
	}
	return seq, true, nil
}

// stream is one client's event stream.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	model   string // empty: all
	last    int64  // seq of the last record that the client has
}

// follow sends records until the client goes, the server ends, or the records
// end because the client was too slow. A client that comes back misses none.
func (s *stream) follow(ctx context.Context, live <-chan rollout.Update, closing <-chan struct{}) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-closing:
			return
		case <-beat.C:
			err = s.write(": alive\n\n")
		case update, ok := <-live:
			if !ok || update.Lost {
				return
			}
			err = s.update(update)
		}
		if err != nil {
			return
		}
	}
}

// update writes what has happened, and where the model is now.
func (s *stream) update(u rollout.Update) error {
	if s.model != "" && u.Status.Model != s.model {
		return nil
	}
	if u.Record != nil {
		if err := s.record(*u.Record); err != nil {
			return err
		}
	}
	data, err := json.Marshal(filled(u.Status))
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return s.write(fmt.Sprintf("event: status\ndata: %s\n\n", data))
}

// record writes a record that the client does not have yet.
func (s *stream) record(r rollout.Record) error {
	if r.Seq <= s.last || s.model != "" && r.Model != s.model {
		return nil
	}
	s.last = r.Seq
	data, err := json.Marshal(recordOf(r))
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	return s.write(fmt.Sprintf("id: %d\nevent: record\ndata: %s\n\n", r.Seq, data))
}

// write sends text at once. A client that does not take it for as long as a
// whole answer may last is gone.
func (s *stream) write(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
