package compare_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/compare"
)

// onlyCounts compares tallies without their sketches.
var onlyCounts = cmpopts.IgnoreTypes(compare.Sketch{})

func answered(version string, start time.Time, code int, class compare.Class) compare.Observation {
	return compare.Observation{
		Node: "edge-1", Model: "churn", Version: version,
		Start: start, Code: code, Class: class, Duration: 12 * time.Millisecond,
	}
}

func TestLedgerCounts(t *testing.T) {
	l := compare.NewLedger(compare.Limits{})
	now := time.Now()
	l.Observe(answered("v1", now, 200, compare.ClassSuccess))
	l.Observe(answered("v1", now, 301, compare.ClassSuccess))
	l.Observe(answered("v2", now, 503, compare.ClassError))
	l.Observe(answered("v2", now, 422, compare.ClassClientError))
	lost := answered("v2", now, 0, compare.ClassAborted)
	lost.Duration = -1
	l.Observe(lost)
	l.Observe(answered("v2", now, 200, "fine"))
	l.Observe(answered("", now, 200, compare.ClassSuccess))

	got := l.Totals("churn")
	want := []compare.VersionTotal{
		{Model: "churn", Version: "v1", Tally: compare.Tally{
			Requests: 2, Success: 2, Status: [6]uint64{0, 0, 1, 1, 0, 0}}},
		{Model: "churn", Version: "v2", Tally: compare.Tally{
			Requests: 3, Errors: 1, ClientErrors: 1, Aborted: 1, Status: [6]uint64{1, 0, 0, 0, 1, 1}}},
	}
	if diff := cmp.Diff(want, got, onlyCounts); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if n := got[1].Tally.Latency.Count(); n != 2 {
		t.Errorf("latency of v2 has %d requests, want the 2 that were answered", n)
	}
	if faults := l.Faults(); faults != (compare.Faults{Malformed: 2}) {
		t.Errorf("faults: %+v", faults)
	}
	if other := l.Totals("fraud"); len(other) != 0 {
		t.Errorf("totals of a model without requests: %+v", other)
	}
}

func TestLateEntriesBelongToTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := compare.NewLedger(compare.Limits{Keep: time.Minute})
		began := time.Now().Add(10 * time.Second) // the window in which it begins is never complete
		time.Sleep(10 * time.Second)
		first := began.Add(3 * time.Second)
		time.Sleep(35 * time.Second)
		l.Observe(answered("v1", time.Now(), 200, compare.ClassSuccess))
		l.Observe(answered("v1", first, 200, compare.ClassSuccess)) // told 32 s late
		time.Sleep(10 * time.Second)

		var got []string
		for _, w := range l.Windows("churn", "v1", began, time.Now()) {
			got = append(got, fmt.Sprintf("%d %v %t", w.Tally.Requests, w.Start.Sub(began), w.Complete))
		}
		want := []string{"1 0s true", "0 10s true", "0 20s true", "1 30s true", "0 40s false"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("windows (-want +got):\n%s", diff)
		}

		time.Sleep(time.Minute)
		l.Observe(answered("v1", first, 200, compare.ClassSuccess))                     // out of reach
		l.Observe(answered("v1", time.Now().Add(time.Hour), 200, compare.ClassSuccess)) // a clock jumped
		l.Observe(answered("v1", time.Time{}, 200, compare.ClassSuccess))               // no time at all
		if got, want := l.Faults(), (compare.Faults{Early: 1, Late: 2}); got != want {
			t.Errorf("faults %+v, want %+v", got, want)
		}
		if got := l.Totals("churn")[0].Tally.Requests; got != 5 {
			t.Errorf("total has %d requests, want all 5", got)
		}
		if all := l.Since("churn", "v1", began, time.Now()); all.Complete || all.Tally.Requests != 0 {
			t.Errorf("the last minute, which reaches further back than the windows: %+v", all)
		}
	})
}

func TestGapMakesWindowsIncomplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := compare.NewLedger(compare.Limits{})
		time.Sleep(10 * time.Second) // the window in which it begins is never complete
		began := time.Now()
		at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
		complete := func() (got []bool) {
			for _, w := range l.Windows("churn", "v1", began, time.Now()) {
				got = append(got, w.Complete)
			}
			return got
		}
		time.Sleep(60 * time.Second)
		l.Gap("edge-1", at(18), at(22))
		if diff := cmp.Diff([]bool{true, false, false, true, true, true}, complete()); diff != "" {
			t.Errorf("after a gap from 18 to 22 s (-want +got):\n%s", diff)
		}
		l.Gap("edge-2", at(45), time.Time{})
		time.Sleep(10 * time.Second)
		if diff := cmp.Diff([]bool{true, false, false, true, false, false, false}, complete()); diff != "" {
			t.Errorf("with a gap open since 45 s (-want +got):\n%s", diff)
		}
		l.Gap("edge-2", at(46), at(51))
		if diff := cmp.Diff([]bool{true, false, false, true, false, false, true}, complete()); diff != "" {
			t.Errorf("when it ended at 51 s (-want +got):\n%s", diff)
		}
		if got, want := l.GapTotals(), (compare.GapTotals{Gaps: 2, Lost: 10 * time.Second}); got != want {
			t.Errorf("gap totals %+v, want %+v", got, want)
		}
		want := []compare.Gap{{Node: "edge-2", From: at(45), To: at(51)}, {Node: "edge-1", From: at(18), To: at(22)}}
		if diff := cmp.Diff(want, l.Gaps()); diff != "" {
			t.Errorf("gaps (-want +got):\n%s", diff)
		}
		l.Gap("edge-3", time.Time{}, time.Now())
		if all := l.Since("churn", "v1", began, time.Now()); all.Complete {
			t.Error("complete, with a gap since nobody knows when")
		}
	})
}

func TestLedgersMergeToTheUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := compare.NewLedger(compare.Limits{})
		parts := []*compare.Ledger{compare.NewLedger(compare.Limits{}), compare.NewLedger(compare.Limits{})}
		now := time.Now()
		from := now.Add(-30 * time.Minute)
		for range rapid.IntRange(0, 200).Draw(t, "requests") {
			o := answered("v1", from.Add(time.Duration(rapid.IntRange(0, 1799).Draw(t, "second"))*time.Second),
				rapid.IntRange(0, 599).Draw(t, "code"), rapid.SampledFrom(compare.Classes()).Draw(t, "class"))
			o.Duration = time.Duration(rapid.Int64Range(-1, int64(time.Minute)).Draw(t, "duration"))
			whole.Observe(o)
			parts[rapid.IntRange(0, 1).Draw(t, "ledger")].Observe(o)
		}
		want := whole.Windows("churn", "v1", from, now)
		a, b := parts[0].Windows("churn", "v1", from, now), parts[1].Windows("churn", "v1", from, now)
		for i := range want {
			a[i].Tally.Merge(&b[i].Tally)
			if diff := cmp.Diff(want[i], a[i], onlyCounts); diff != "" {
				t.Fatalf("window %d (-want +got):\n%s", i, diff)
			}
			sameSketch(t, &a[i].Tally.Latency, &want[i].Tally.Latency)
		}
	})
}

func TestLedgerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := compare.NewLedger(compare.Limits{Windows: 64, Series: 8})
		for range 100 {
			for v := range 10 {
				l.Observe(answered("v"+strconv.Itoa(v), time.Now(), 200, compare.ClassSuccess))
			}
			time.Sleep(10 * time.Second)
		}
		kept := 0
		for _, total := range l.AllTotals() {
			if total.Tally.Requests != 100 {
				t.Errorf("%s: %d requests in all, want 100", total.Version, total.Tally.Requests)
			}
			for _, w := range l.Windows("churn", total.Version, time.Now().Add(-time.Hour), time.Now()) {
				if w.Tally.Requests > 0 {
					kept++
				}
			}
		}
		if kept > 64 || kept < 48 {
			t.Errorf("%d windows are kept, want the newest 48 to 64", kept)
		}
		if reach := l.Reach(); time.Since(reach) > 90*time.Second {
			t.Errorf("claims to reach back to %v ago", time.Since(reach))
		}
		if got := l.Faults().Overflow; got != 200 {
			t.Errorf("%d observations of versions beyond the limit, want 200", got)
		}
	})
}

func TestRetain(t *testing.T) {
	l := compare.NewLedger(compare.Limits{Series: 1})
	l.Observe(answered("v1", time.Now(), 200, compare.ClassSuccess))
	l.Retain(func(_, version string) bool { return version == "v2" })
	l.Observe(answered("v2", time.Now(), 200, compare.ClassSuccess))
	got := l.AllTotals()
	if len(got) != 1 || got[0].Version != "v2" {
		t.Errorf("totals after v1 was let go: %+v", got)
	}
}

func TestLedgerIsSafeForConcurrentUse(t *testing.T) {
	l := compare.NewLedger(compare.Limits{Window: time.Millisecond, Keep: 20 * time.Millisecond, Windows: 50})
	const streams, each = 4, 2000
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			for n := range each {
				l.Observe(answered("v"+strconv.Itoa(n%7), time.Now(), 200, compare.ClassSuccess))
				if n%100 == 0 {
					l.Gap("edge-"+strconv.Itoa(i), time.Now().Add(-time.Millisecond), time.Now())
					l.Windows("churn", "v1", time.Now().Add(-time.Second), time.Now())
					l.AllTotals()
				}
			}
		})
	}
	wg.Wait()
	var sum uint64
	for _, total := range l.AllTotals() {
		sum += total.Tally.Requests
	}
	if sum != streams*each {
		t.Errorf("%d requests counted, want %d", sum, streams*each)
	}
}

func BenchmarkObserve(b *testing.B) {
	l := compare.NewLedger(compare.Limits{})
	o := answered("v1", time.Now(), 200, compare.ClassSuccess)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Observe(o)
		}
	})
}

func TestClockThatGoesBackBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := compare.NewLedger(compare.Limits{})
		l.Turn(time.Now().Add(time.Hour)) // the clock was an hour ahead
		l.Observe(answered("v1", time.Now(), 200, compare.ClassSuccess))
		if faults := l.Faults(); faults != (compare.Faults{}) {
			t.Errorf("the present is refused: %+v", faults)
		}
		time.Sleep(20 * time.Second)
		windows := l.Windows("churn", "v1", time.Now().Add(-30*time.Second), time.Now())
		var got []bool
		for _, w := range windows {
			got = append(got, w.Complete)
		}
		if diff := cmp.Diff([]bool{false, false, true}, got); diff != "" {
			t.Errorf("complete (-want +got):\n%s", diff)
		}
		if windows[1].Tally.Requests != 1 {
			t.Errorf("the request after the jump is in no window: %+v", windows)
		}
	})
}
