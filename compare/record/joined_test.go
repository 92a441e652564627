package record

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// served is a request with a primary answer of v1, and one of a shadow v2.
func served(id string, t time.Time, user uint64) *Served {
	return &Served{Model: "churn", RequestID: id, Time: t, User: user, HasUser: user != 0, Drawn: true,
		Answers: []Answer{{Version: "v1", Prediction: raw(0.25)}, {Version: "v2", Shadow: true, Prediction: raw(0.75)}}}
}

func label(id string, t time.Time, v float64) Outcome {
	return Outcome{Model: "churn", RequestID: id, Time: t, Name: "churned", Value: Number(v)}
}

func byUser(user uint64, t time.Time, v float64) Outcome {
	return Outcome{Model: "churn", User: user, Time: t, Name: "churned", Value: Number(v)}
}

func tellOutcomes(t testing.TB, s *Store, outcomes ...Outcome) Intake {
	t.Helper()
	intake, err := s.AddOutcomes(context.Background(), outcomes)
	if err != nil {
		t.Fatal(err)
	}
	return intake
}

// lines shows what was joined, in order.
func lines(joined []Joined) []string {
	all := []string{}
	for _, j := range joined {
		role := "primary"
		if j.Shadow {
			role = "shadow"
		}
		all = append(all, fmt.Sprintf("%s %s %s %s: %s=%s nth %d", j.RequestID, role, j.Version, j.Prediction, j.Name, j.Value, j.Nth))
	}
	return all
}

func wantJoined(t testing.TB, s *Store, after Cursor, want ...string) Cursor {
	t.Helper()
	joined := collect(t, s.Joined(context.Background(), "churn", after))
	if diff := cmp.Diff(append([]string{}, want...), lines(joined)); diff != "" {
		t.Helper()
		t.Error(diff)
	}
	for _, j := range joined {
		if j.Cursor <= after {
			t.Errorf("cursor %d after %d", j.Cursor, after)
		}
		after = j.Cursor
	}
	return after
}

func TestJoinWhicheverIsFirst(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			path := file(t)
			s := openStore(t, path, unlimited)
			again := func() {
				if restart {
					closeStore(t, s)
					s = openStore(t, path, unlimited)
				}
			}
			s.AddServed(served("a", at(0), 0))
			again()
			if got := tellOutcomes(t, s, label("a", at(60), 1), label("b", at(60), 0)); got != (Intake{Stored: 2, Waiting: 1}) {
				t.Errorf("intake %+v", got)
			}
			again()
			cursor := wantJoined(t, s, 0, "a primary v1 0.25: churned=1 nth 0", "a shadow v2 0.75: churned=1 nth 0")
			s.AddServed(served("b", at(0), 0))
			flush(t, s)
			again()
			cursor = wantJoined(t, s, cursor, "b primary v1 0.25: churned=0 nth 0", "b shadow v2 0.75: churned=0 nth 0")
			if n := s.Status().WaitingOutcome; n != 0 {
				t.Errorf("%d outcomes wait", n)
			}
			again()
			wantJoined(t, s, cursor)
			if newest, err := s.Newest(t.Context(), "churn"); err != nil || newest != cursor {
				t.Errorf("newest %d, %v; want %d", newest, err, cursor)
			}
		})
	}
}

func TestJoinedHasEverything(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	s.AddServed(served("a", at(0), 1<<63+5))
	tellOutcomes(t, s, Outcome{Model: "churn", User: 1<<63 + 5, Time: at(7), Name: "segment", Value: Label("gold")})
	want := Joined{Model: "churn", RequestID: "a", Time: at(0), User: 1<<63 + 5, HasUser: true, Drawn: true, Version: "v1",
		Prediction: json.RawMessage("0.25"), Name: "segment", Value: Label("gold"), At: at(7)}
	shadow := want
	shadow.Version, shadow.Shadow, shadow.Prediction = "v2", true, json.RawMessage("0.75")
	got := collect(t, s.Joined(t.Context(), "churn", 0))
	for i := range got {
		got[i].Cursor = 0
	}
	if diff := cmp.Diff([]Joined{want, shadow}, got); diff != "" {
		t.Error(diff)
	}
}

func TestIdempotent(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	s.AddServed(served("a", at(0), 7))
	all := []Outcome{label("a", at(60), 1), byUser(7, at(60), 1), label("later", at(60), 1), byUser(8, at(60), 1)}
	if got, want := tellOutcomes(t, s, append(all, all...)...), (Intake{Stored: 4, Repeated: 4, Waiting: 2}); got != want {
		t.Errorf("intake %+v, want %+v", got, want)
	}
	if got, want := tellOutcomes(t, s, all...), (Intake{Repeated: 4}); got != want {
		t.Errorf("again %+v, want %+v", got, want)
	}
	wantJoined(t, s, 0,
		"a primary v1 0.25: churned=1 nth 0", "a shadow v2 0.75: churned=1 nth 0",
		"a primary v1 0.25: churned=1 nth 1", "a shadow v2 0.75: churned=1 nth 1")
	// The same by name, time or model is another one.
	other := all[0]
	other.Name = "spent"
	if got, want := tellOutcomes(t, s, other, label("a", at(61), 1)), (Intake{Stored: 2}); got != want {
		t.Errorf("others %+v, want %+v", got, want)
	}
}

// A correction replaces the value for those who have not been told yet.
func TestCorrections(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	s.AddServed(&Served{Model: "churn", RequestID: "a", Time: at(0), Answers: []Answer{{Version: "v1", Prediction: raw(0.25)}}})
	tellOutcomes(t, s, label("a", at(60), 1), label("b", at(60), 1))
	cursor := wantJoined(t, s, 0, "a primary v1 0.25: churned=1 nth 0")
	corrected := []Outcome{label("a", at(60), 0), label("b", at(60), 0)}
	corrected[1].Value = Label("none")
	if got, want := tellOutcomes(t, s, corrected...), (Intake{Corrected: 2}); got != want {
		t.Errorf("intake %+v, want %+v", got, want)
	}
	s.AddServed(&Served{Model: "churn", RequestID: "b", Time: at(0), Answers: []Answer{{Version: "v1"}}})
	flush(t, s)
	wantJoined(t, s, cursor, "b primary v1 : churned=none nth 0")
	wantJoined(t, s, 0, "a primary v1 0.25: churned=0 nth 0", "b primary v1 : churned=none nth 0")
}

// By key an outcome belongs to the user's newest request before it, within the
// horizon.
func TestJoinByUser(t *testing.T) {
	o := unlimited
	o.Horizon = func(string) time.Duration { return 100 * time.Second }
	s := openStore(t, file(t), o)
	one := func(id string, sec float64, user uint64) *Served {
		r := served(id, at(sec), user)
		r.Answers = r.Answers[:1]
		return r
	}
	for _, r := range []*Served{one("a", 0, 7), one("b", 50, 7), one("c", 60, 8), one("d", 90, 7)} {
		s.AddServed(r)
	}
	got := tellOutcomes(t, s, byUser(7, at(70), 1), byUser(8, at(60), 2), byUser(8, at(59), 3), byUser(7, at(190), 4), byUser(7, at(190.1), 5), byUser(9, at(5), 6))
	if want := (Intake{Stored: 6, Waiting: 3}); got != want {
		t.Errorf("intake %+v, want %+v", got, want)
	}
	cursor := wantJoined(t, s, 0, "b primary v1 0.25: churned=1 nth 0", "c primary v1 0.25: churned=2 nth 0", "d primary v1 0.25: churned=4 nth 0")
	// Two that come late, in one batch and the wrong order: the newest counts.
	s.AddServed(one("e", 3, 9))
	s.AddServed(one("f", 4, 9))
	s.AddServed(one("g", 5.5, 9))
	flush(t, s)
	cursor = wantJoined(t, s, cursor, "f primary v1 0.25: churned=6 nth 0")
	// By request id the horizon holds too.
	tellOutcomes(t, s, label("a", at(100), 7), label("b", at(151), 8))
	wantJoined(t, s, cursor, "a primary v1 0.25: churned=7 nth 0")
}

// Answers come one by one: each is joined once, with all that is known.
func TestAnswersOneByOne(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	part := func(a Answer) *Served {
		return &Served{Model: "churn", RequestID: "a", Time: at(0), User: 7, HasUser: true, Answers: []Answer{a}}
	}
	shadow := part(Answer{Version: "v2", Shadow: true, Prediction: raw(2)})
	shadow.HasUser = false // a shadow's side does not know
	primary := part(Answer{Version: "v1", Prediction: raw(1)})
	s.AddServed(shadow)
	tellOutcomes(t, s, label("a", at(1), 1))
	cursor := wantJoined(t, s, 0, "a shadow v2 2: churned=1 nth 0")
	s.AddServed(primary)
	flush(t, s)
	cursor = wantJoined(t, s, cursor, "a primary v1 1: churned=1 nth 0")
	s.AddServed(part(Answer{Version: "v3", Shadow: true, Prediction: raw(3)}))
	tellOutcomes(t, s, byUser(7, at(2), 0))
	cursor = wantJoined(t, s, cursor, "a shadow v3 3: churned=1 nth 0",
		"a primary v1 1: churned=0 nth 1", "a shadow v2 2: churned=0 nth 1", "a shadow v3 3: churned=0 nth 1")
	// The same again, and others under the same id, change nothing.
	for _, again := range []*Served{primary, shadow, part(Answer{Version: "v9", Prediction: raw(9)}), part(Answer{Version: "v2", Shadow: true, Prediction: raw(9)})} {
		s.AddServed(again)
	}
	flush(t, s)
	wantJoined(t, s, cursor)
	if got := s.Status(); got.Repeated != 4 || got.Served != 1 || got.Joined != 6 {
		t.Errorf("%+v", got)
	}
}

func TestCursorAcrossPagesAndModels(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	const n = joinedPage + 100
	var outcomes []Outcome
	for i := range n {
		for _, model := range []string{"churn", "other"} {
			r := served(fmt.Sprint(i), at(float64(i)), 0)
			r.Model, r.Answers = model, r.Answers[:1]
			s.AddServed(r)
			o := label(r.RequestID, at(float64(i)), float64(i))
			o.Model = model
			outcomes = append(outcomes, o)
		}
	}
	tellOutcomes(t, s, outcomes...)
	seen := 0
	var cursor Cursor
	for seen < n { // a judge that is stopped after every 77
		for j, err := range s.Joined(t.Context(), "churn", cursor) {
			if err != nil {
				t.Fatal(err)
			}
			if j.Value.Number != float64(seen) || j.Model != "churn" {
				t.Fatalf("%+v is number %d", j, seen)
			}
			cursor = j.Cursor
			if seen++; seen%77 == 0 {
				break
			}
		}
	}
	wantJoined(t, s, cursor)
}

func TestWrongOutcomes(t *testing.T) {
	s := openStore(t, file(t), unlimited)
	right := label("a", at(1), 1)
	for want, change := range map[string]func(*Outcome){
		`[1].model: "": must not be empty`:                                func(o *Outcome) { o.Model = "" },
		`[1].name: "": must not be empty`:                                 func(o *Outcome) { o.Name = "" },
		`[1].value: NaN: must be finite`:                                  func(o *Outcome) { o.Value = Number(nan()) },
		`[1].time: must be given`:                                         func(o *Outcome) { o.Time = time.Time{} },
		`[1].time: 2999-01-01T00:00:00Z: must not be in the future`:       func(o *Outcome) { o.Time = time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC) },
		`[1].value: "xxxxxxxxxxxxxxxxxxxx"…: must have at most 512 bytes`: func(o *Outcome) { o.Value = Label(strings.Repeat("x", 600)) },
	} {
		wrong := right
		change(&wrong)
		if _, err := s.AddOutcomes(t.Context(), []Outcome{right, wrong}); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if n := s.Status().Outcomes; n != 0 {
		t.Errorf("%d outcomes of refused requests were kept", n)
	}
	o := unlimited
	o.MaxAge = time.Hour
	s = openStore(t, file(t), o)
	if got, want := tellOutcomes(t, s, label("a", at(0), 1)), (Intake{TooOld: 1}); got != want {
		t.Errorf("intake %+v, want %+v", got, want)
	}
}

func nan() float64 { var zero float64; return zero / zero }

func TestValues(t *testing.T) {
	for in, want := range map[string]Value{
		"0.5": Number(0.5), "true": Number(1), "false": Number(0), `"gold"`: Label("gold"), `"1"`: Label("1"), "-3": Number(-3),
	} {
		var got Value
		if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"null", "[1]", "{}"} {
		if err := json.Unmarshal([]byte(in), new(Value)); err == nil {
			t.Errorf("%s: no error", in)
		}
	}
	if got := string(raw([]Value{Number(1), Label("a")})); got != `[1,"a"]` {
		t.Errorf("as JSON %s", got)
	}
}

// A power cut may take back what was joined last, and a damaged file is moved
// away. Whoever has counted what was in it must not mistake what comes then for
// it.
func TestCursorsAreNeverUsedTwice(t *testing.T) {
	path := file(t)
	s := openStore(t, path, unlimited)
	s.AddServed(served("a", at(0), 0))
	closeStore(t, s)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path, unlimited)
	tellOutcomes(t, s, label("a", at(1), 1))
	counted, err := s.Newest(t.Context(), "churn")
	if err != nil || counted == 0 {
		t.Fatal(counted, err)
	}
	if _, err := s.readers.ExecContext(t.Context(), "DELETE FROM joined"); err == nil {
		t.Error("a reader may write")
	}
	closeStore(t, s)
	for name, restore := range map[string]func() error{
		"as it was before": func() error { return os.WriteFile(path, before, 0o600) },
		"empty":            func() error { return os.Remove(path) },
	} {
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, path, unlimited)
		s.AddServed(served("a", at(0), 0))
		tellOutcomes(t, s, label("a", at(2), 1))
		if next := collect(t, s.Joined(t.Context(), "churn", counted)); len(next) != 2 {
			t.Errorf("%s: %d are new after cursor %d, want 2", name, len(next), counted)
		}
		closeStore(t, s)
	}
}
