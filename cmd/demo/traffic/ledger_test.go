package traffic

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var zero = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// at returns an answer that was sent some milliseconds after zero and took
// one.
func at(ms int, user, version string, right bool) Result {
	return Result{
		At: zero.Add(time.Duration(ms) * time.Millisecond), Took: time.Millisecond,
		User: user, Version: version, Right: right,
	}
}

func TestLedgerCounts(t *testing.T) {
	l := NewLedger("v1", "v2")
	l.Begin("all on v1", zero)
	l.Record(at(0, "ann", "v1", true))
	l.Record(at(100, "bob", "v1", false))
	l.Record(at(1000, "ann", "v2", true))
	l.Record(at(1200, "cid", "v2", true))
	l.Begin("50%", zero.Add(time.Second)) // it is told late
	failed := at(1400, "bob", "v1", false)
	failed.Failure = "HTTP 500"
	l.Record(failed)
	failed.Version, failed.Failure = "", "EOF"
	l.Record(failed)
	l.Record(at(1500, "bob", "v3", true))
	l.End(zero.Add(2 * time.Second))
	l.Record(at(2500, "bob", "v1", true))

	want := Account{
		Sent: 8, Failed: 3,
		Failures:  map[string]int{"HTTP 500": 1, "EOF": 1, "answered by an unknown version": 1},
		PerSecond: 3.0, // six were over after the first second
		Versions: []Version{
			{
				Name: "v1", Answered: 3, Failed: 1, Right: 2, Users: 1, PerSecond: 0.5, Share: 1.0 / 3, P50: time.Millisecond, P99: time.Millisecond,
				FirstBad: zero.Add(1401 * time.Millisecond), LastSent: zero.Add(2500 * time.Millisecond),
			},
			{
				Name: "v2", Answered: 2, Right: 2, Users: 2, PerSecond: 1, Share: 2.0 / 3, P50: time.Millisecond, P99: time.Millisecond,
				LastSent: zero.Add(1200 * time.Millisecond),
			},
		},
	}
	got := l.Account(zero.Add(3*time.Second), 2*time.Second)
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
	stages := []Stage{
		{Name: "all on v1", Began: zero, Ended: zero.Add(time.Second), Requests: 2, Answered: map[string]int{"v1": 2}},
		{Name: "50%", Began: zero.Add(time.Second), Ended: zero.Add(2 * time.Second), Requests: 5, Failed: 3, Answered: map[string]int{"v2": 2}},
	}
	if diff := cmp.Diff(stages, l.Stages()); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if first, ok := l.First("v2"); !ok || !first.Equal(zero.Add(1001*time.Millisecond)) {
		t.Errorf("first answer of v2: %v %v", first, ok)
	}
	if _, ok := l.First("v3"); ok {
		t.Error("v3 never answered, but has a first answer")
	}
}

func TestLedgerKnowsWhoWentBack(t *testing.T) {
	for _, tc := range []struct {
		name     string
		versions []string // of one user's answers
		want     int
	}{
		{"stays", []string{"v1", "v1", "v1"}, 0},
		{"forward", []string{"v1", "v2", "v2"}, 0},
		{"new user on the new version", []string{"v2"}, 0},
		{"back", []string{"v1", "v2", "v1"}, 1},
		{"back at once", []string{"v2", "v1"}, 1},
		{"to and fro", []string{"v1", "v2", "v1", "v2", "v1"}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := NewLedger("v1", "v2")
			for i, v := range tc.versions {
				l.Record(at(i, "ann", v, true))
				l.Record(at(i, "bob", "v1", true)) // another user is another matter
			}
			if got := l.Account(zero, time.Second).Backwards; got != tc.want {
				t.Errorf("%d times backwards, want %d", got, tc.want)
			}
		})
	}
}

func TestLedgerKnowsBadAnswers(t *testing.T) {
	l := NewLedger("v1", "v2")
	l.Patience(250 * time.Millisecond)
	slow, patient, failed := at(100, "ann", "v2", true), at(0, "ann", "v2", true), at(400, "bob", "v2", false)
	slow.Took, patient.Took = 251*time.Millisecond, 250*time.Millisecond
	failed.Took, failed.Failure = time.Second, "HTTP 500"
	quick := at(200, "cid", "v2", false)
	quick.Failure = "HTTP 500" // sent later than the slow one, answered sooner
	for _, r := range []Result{patient, quick, slow, failed, at(300, "ann", "v2", true), at(900, "ann", "v1", true)} {
		l.Record(r)
	}
	v1, v2 := l.Account(zero, time.Second).Versions[0], l.Account(zero, time.Second).Versions[1]
	if v2.Slow != 1 || v2.Failed != 2 || v2.Answered != 3 || v1.Slow+v1.Failed != 0 {
		t.Errorf("v2: %d slow, %d failed, %d answered, want 1, 2, 3; v1: %d bad, want 0", v2.Slow, v2.Failed, v2.Answered, v1.Slow+v1.Failed)
	}
	if first := v2.FirstBad.Sub(zero); first != 201*time.Millisecond || !v1.FirstBad.IsZero() {
		t.Errorf("first bad answer after %s, want 201ms; of v1 %s, want none", first, v1.FirstBad)
	}
	if last := v2.LastSent.Sub(zero); last != 400*time.Millisecond {
		t.Errorf("last request after %s, want 400ms", last)
	}
}

func TestFailuresMoveNobody(t *testing.T) {
	l := NewLedger("v1", "v2")
	l.Record(at(0, "ann", "v2", true))
	failed := at(1, "ann", "v1", false)
	failed.Failure = "HTTP 500"
	l.Record(failed)
	a := l.Account(zero, time.Second)
	if a.Backwards != 0 || a.Versions[1].Users != 1 {
		t.Errorf("backwards %d, users of v2 %d, want 0 and 1", a.Backwards, a.Versions[1].Users)
	}
}

func TestAccuracy(t *testing.T) {
	if _, ok := (Version{}).Accuracy(); ok {
		t.Error("a version that never answered has an accuracy")
	}
	if got, ok := (Version{Answered: 8, Right: 6}).Accuracy(); !ok || got != 0.75 {
		t.Errorf("accuracy %v %v, want 0.75", got, ok)
	}
}

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 0.995: 100, 1: 100} {
		if got := quantile(hundred, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}
