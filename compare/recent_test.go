package compare

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLately moves the clock through a minute and beyond.
func TestLately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(Limits{})
		observe := func(start time.Time, class Class) {
			l.Observe(Observation{Model: "m", Version: "v", Start: start, Code: 200, Class: class, Duration: time.Millisecond})
		}
		check := func(what string, from time.Time, want Counts) {
			t.Helper()
			if diff := cmp.Diff(want, l.Lately("m", "v", from)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		check("unknown", time.Time{}, Counts{})
		time.Sleep(100 * time.Millisecond)
		before := time.Now()
		observe(before, ClassError)
		time.Sleep(Tick)
		change := time.Now() // in the middle of a tick
		observe(change.Add(-time.Millisecond), ClassError)
		check("nothing that began before is counted", change, Counts{})
		time.Sleep(Tick)
		for _, c := range Classes() {
			observe(time.Now(), c)
		}
		check("what began after", change, Counts{Requests: 4, Errors: 1, ClientErrors: 1, Aborted: 1})
		check("all", before.Add(-Tick), Counts{Requests: 6, Errors: 3, ClientErrors: 1, Aborted: 1})

		time.Sleep(Recently)
		check("the first ones are a minute old", before.Add(-Tick), Counts{Requests: 4, Errors: 1, ClientErrors: 1, Aborted: 1})
		observe(time.Now().Add(-2*Recently), ClassSuccess)
		observe(time.Now().Add(10*time.Second), ClassSuccess)
		check("too old and too new ones", before.Add(-Tick), Counts{Requests: 4, Errors: 1, ClientErrors: 1, Aborted: 1})
		time.Sleep(2 * Recently)
		check("all is old", time.Time{}, Counts{})
		observe(time.Now(), ClassSuccess)
		check("places are taken again", time.Time{}, Counts{Requests: 1})
	})
}
