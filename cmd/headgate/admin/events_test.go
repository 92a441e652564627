package admin_test

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
	"github.com/headgate/headgate/routing/rollout"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// event is one server-sent event.
type event struct{ id, name, data string }

// listen opens an event stream and returns what comes.
func listen(t *testing.T, g *admintest.Gate, query, lastID string) <-chan event {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	events := make(chan event, 1000)
	began := make(chan bool, 1)
	go func() {
		defer close(events)
		var e event
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "retry":
				began <- true
			case "":
				if e.name != "" {
					events <- e
				}
				e = event{}
			}
		}
	}()
	<-began // subscribed
	return events
}

func next(t *testing.T, events <-chan event, name string) event {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended before %s", name)
			}
			if e.name == name {
				return e
			}
		case <-timeout:
			t.Fatalf("no %s came", name)
		}
	}
}

func TestEvents(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	events := listen(t, g, "", "")
	call(t, g, "POST", "/v1/models/churn/pause", `{"reason":"<script>\r\nevent: forged\r\n"}`)
	e := next(t, events, "record")
	var r admin.Record
	if err := json.Unmarshal([]byte(e.data), &r); err != nil {
		t.Fatal(err)
	}
	if r.Kind != rollout.KindPaused || e.id != strconv.FormatInt(r.Seq, 10) || r.Reason != "<script>\r\nevent: forged\r\n" {
		t.Errorf("%+v: %+v", e, r)
	}
	if strings.Contains(e.data, "<script>") {
		t.Errorf("not escaped: %s", e.data)
	}
	var s rollout.Status
	if err := json.Unmarshal([]byte(next(t, events, "status").data), &s); err != nil {
		t.Fatal(err)
	}
	if s.Model != "churn" || s.Phase != rollout.PhasePaused {
		t.Errorf("status: %+v", s)
	}
}

// TestEventsAfterAReconnect shows that a client which names the last record it
// has misses none and gets none twice, while records are written.
func TestEventsAfterAReconnect(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	const commands = 60
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range commands {
			action := []rollout.Action{rollout.ActionPause, rollout.ActionResume}[i%2]
			if _, err := g.Controller.Do(t.Context(), rollout.Command{Model: "churn", Action: action, Actor: "test"}); err != nil {
				t.Error(err)
			}
		}
	}()
	var got []int64
	last := "0"
	for range 10 { // the client leaves after a few records and comes back
		events := listen(t, g, "?model=churn", last)
		for range 5 {
			e := next(t, events, "record")
			last = e.id
			seq, err := strconv.ParseInt(e.id, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, seq)
		}
	}
	<-done
	var want []int64
	for _, r := range g.Journal.Records() {
		if r.Model == "churn" {
			want = append(want, r.Seq)
		}
	}
	for i, seq := range got {
		if seq != want[i] {
			t.Fatalf("record %d has seq %d, want %d\ngot  %v\nwant %v", i, seq, want[i], got, want)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	for range 64 {
		listen(t, g, "", "")
	}
	if p := call(t, g, "GET", "/v1/events", "").problem(t); p.Status != 503 {
		t.Errorf("one stream more: %+v", p)
	}
	for _, last := range []string{"x", "-1", "9999999999999999999999"} {
		if p := call(t, g, "GET", "/v1/events?after="+last, "").problem(t); p.Status != 400 {
			t.Errorf("after %s: %+v", last, p)
		}
	}
}

func TestEventsBeat(t *testing.T) {
	t.Parallel()
	g := admintest.Start(t, admintest.Options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	timeout := time.AfterFunc(15*time.Second, func() { resp.Body.Close() })
	defer timeout.Stop()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), ":") {
			return
		}
	}
	t.Error("no heartbeat within 15 s")
}
