package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/simulate"
	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

func recordingOf(t *testing.T, path string) (simulate.Header, []*simulate.Interval) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := simulate.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []*simulate.Interval
	for {
		i, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header, all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
	}
}

// TestRecorder gives a recorder batches of a second each: of 25 s in a step,
// then of the next step, in which the rollout goes back.
func TestRecorder(t *testing.T) {
	steps := []routing.Step{{Kind: routing.StepTraffic, Share: 1000, For: time.Minute}, {Kind: routing.StepTraffic, Share: 10000}}
	r := newRecorder(t.TempDir(), func(string) []routing.Step { return steps }, slog.New(slog.DiscardHandler))
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	policy := &routing.Policy{}
	batch := func(second, step int, share routing.Share) {
		b := compare.Batch{To: began.Add(time.Duration(second) * time.Second)}
		b.Candidate.Requests, b.Candidate.Drawn, b.Candidate.Errors = 10, 10, 1
		b.Candidate.Latency.Add(0.02, 10)
		b.Stable.Requests, b.Stable.Drawn = 90, 90
		b.Candidate.Answers, b.Stable.Answers = 10, 90
		if second <= 0 { // before the first answer
			b = compare.Batch{To: b.To}
		}
		r.record(compare.Recorded{
			Trial: &routing.Trial{Model: "churn", Rollout: 3, Step: step, Share: share, Stable: "v1", Candidate: "v2", Since: began, Policy: policy},
			Keyed: second > 0, Batch: &b, Gap: second == 12,
		})
	}
	for second := -3; second <= 25; second++ {
		batch(second, 0, 1000)
	}
	batch(26, 1, 10000)
	back := &rollout.Record{Model: "churn", Rollout: 3, Kind: rollout.KindRolledBack, Actor: "judge", Reason: "too many errors", Time: began.Add(-time.Hour)} // the clock was set
	r.did(back)
	r.did(back) // nothing was counted in between: the deed is not lost
	r.flush()

	header, intervals := recordingOf(t, filepath.Join(r.dir, "churn-3.jsonl"))
	if header.Model != "churn" || header.Rollout != 3 || !header.Keyed || len(header.Steps) != 2 {
		t.Errorf("header %+v", header)
	}
	var got []string
	var candidates uint64
	for _, i := range intervals {
		candidates += i.Batch.Candidate.Requests
		got = append(got, fmt.Sprintf("step %d %s: %d of %d, gap %t, did %d, to %ds", i.Step, i.Share,
			i.Batch.Candidate.Errors, i.Batch.Candidate.Requests, i.Gap, len(i.Did), int(i.Batch.To.Sub(began).Seconds())))
	}
	want := []string{
		"step 0 10%: 11 of 110, gap false, did 0, to 11s",
		"step 0 10%: 11 of 110, gap true, did 0, to 22s",
		"step 0 10%: 3 of 30, gap false, did 0, to 25s",
		"step 1 100%: 1 of 10, gap false, did 1, to 26s",
		"step 1 100%: 0 of 0, gap false, did 1, to 26s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if candidates != 260 {
		t.Errorf("%d requests are recorded, 260 were given", candidates)
	}
}

// TestDeedBeforeTheFirstAnswer is told with the first interval.
func TestDeedBeforeTheFirstAnswer(t *testing.T) {
	r := newRecorder(t.TempDir(), func(string) []routing.Step { return make([]routing.Step, 1) }, slog.New(slog.DiscardHandler))
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	trial := &routing.Trial{Model: "churn", Rollout: 1}
	r.record(compare.Recorded{Trial: trial, Batch: &compare.Batch{To: time.Unix(1, 0)}})
	r.did(&rollout.Record{Model: "churn", Rollout: 1, Kind: rollout.KindPaused, Time: time.Unix(1, 0)})
	r.flush()
	r.record(compare.Recorded{Trial: trial, Batch: &compare.Batch{To: time.Unix(2, 0), Candidate: compare.Arm{Answers: 1}}})
	r.flush()
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: %v %v", files, err)
	}
	if _, all := recordingOf(t, files[0]); len(all) != 1 || len(all[0].Did) != 1 || all[0].Did[0].Kind != rollout.KindPaused {
		t.Errorf("%+v", all)
	}
}

// TestTornRecording goes on with a recording of which a line was torn, and with
// one of which that was the first.
func TestTornRecording(t *testing.T) {
	for _, intervals := range []int{0, 1} {
		r := newRecorder(t.TempDir(), func(string) []routing.Step { return make([]routing.Step, 1) }, slog.New(slog.DiscardHandler))
		if err := os.MkdirAll(r.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write := func(second int64) {
			b := compare.Batch{To: time.Unix(second, 0), Candidate: compare.Arm{Answers: 1}}
			r.record(compare.Recorded{Trial: &routing.Trial{Model: "churn", Rollout: 1}, Batch: &b})
			r.flush()
		}
		for i := range intervals {
			write(int64(i) + 1)
		}
		path := r.path("churn", 1)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"to":"` + strings.Repeat("x", 10_000)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		write(9)
		if _, all := recordingOf(t, path); len(all) != intervals+1 || all[intervals].Batch.To.Unix() != 9 {
			t.Errorf("after a torn line behind %d whole intervals: %d are read", intervals, len(all))
		}
	}
}

// TestRecorderDoesNotWait fills the queue, with nobody who writes.
func TestRecorderDoesNotWait(t *testing.T) {
	r := newRecorder(t.TempDir(), func(string) []routing.Step { return nil }, slog.New(slog.DiscardHandler))
	for i := range recordQueue + 10 {
		b := compare.Batch{To: time.Unix(int64(i), 0)}
		b.Candidate.Answers = 1
		r.record(compare.Recorded{Trial: &routing.Trial{Model: "churn", Rollout: i}, Batch: &b})
	}
	if n := r.dropped.Load(); n != 9 { // the last one is still open
		t.Errorf("%d dropped, want 9", n)
	}
}

// TestOldRecordingsGo has more bytes than may stay.
func TestOldRecordingsGo(t *testing.T) {
	r := newRecorder(t.TempDir(), nil, slog.New(slog.DiscardHandler))
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"old-1.jsonl", "middle-1.jsonl", "new-1.jsonl"} {
		path := filepath.Join(r.dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, recordBytes/2-10); err != nil { // sparse
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-3) * time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	r.tidy()
	left, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(left) != 2 || filepath.Base(left[0]) != "middle-1.jsonl" {
		t.Errorf("left: %v %v", left, err)
	}
}
