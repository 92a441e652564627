package record

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func rowCounts(t testing.TB, s *Store) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, table := range []string{"pairs", "served", "shadows", "outcomes", "joined"} {
		var n int
		if err := s.readers.QueryRowContext(context.Background(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table] = n
	}
	return counts
}

// What is older than MaxAge goes, with all that belongs to it, and the rest stays.
func TestExpireByAge(t *testing.T) {
	path := file(t)
	s := openStore(t, path, unlimited)
	now := time.Now()
	const old, young = 3*expireChunk + 10, 40
	var outcomes []Outcome
	for i := range old + young {
		when := now.Add(-time.Minute)
		if i < old {
			when = now.Add(-2 * time.Hour)
		}
		s.AddPair(pairOf(fmt.Sprint(i), when, 0))
		s.AddServed(served(fmt.Sprint(i), when, 0))
		outcomes = append(outcomes, label(fmt.Sprint(i), when.Add(time.Second), 1), label(fmt.Sprint("nothing", i), when, 1))
	}
	tellOutcomes(t, s, outcomes...)
	closeStore(t, s)

	o := unlimited
	o.MaxAge = time.Hour
	s = openStore(t, path, o)
	waitFor(t, func() bool { s.AddPair(pairOf("new", now, 0)); flush(t, s); return s.Status().Expired >= 2*old })
	waitFor(t, func() bool { return s.Status().WaitingOutcome == young })
	counts := rowCounts(t, s)
	delete(counts, "pairs") // more were added
	if diff := cmp.Diff(map[string]int{"served": young, "shadows": young, "outcomes": 2 * young, "joined": 2 * young}, counts); diff != "" {
		t.Error(diff)
	}
	if n := s.Status().Expired; n != 2*old {
		t.Errorf("%d expired, want %d", n, 2*old)
	}
	// What waits in memory is what waits in the file.
	closeStore(t, s)
	s = openStore(t, path, o)
	if n := s.Status().WaitingOutcome; n != young {
		t.Errorf("%d outcomes wait, want %d", n, young)
	}
}

// The file keeps to its size while more and more comes, and the newest stay.
func TestExpireBySize(t *testing.T) {
	path := file(t)
	o := Options{MaxAge: -1, MaxBytes: 1 << 20}
	s := openStore(t, path, o)
	const n = 3500
	for i := range n {
		add(t, s, i, true)
	}
	flush(t, s)
	waitFor(t, func() bool { return s.Status().Bytes <= o.MaxBytes })
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > o.MaxBytes*3/2 {
		t.Errorf("the file has %d bytes, %d are allowed", info.Size(), o.MaxBytes)
	}
	status := s.Status()
	if status.DroppedPairs+status.DroppedServed > 0 || status.Expired == 0 {
		t.Errorf("%+v", status)
	}
	pairs := collect(t, s.Pairs(t.Context(), Query{Model: "churn"}))
	if len(pairs) < 500 || len(pairs) == n || !strings.HasSuffix(pairs[0].RequestID, fmt.Sprintf("%012d", n-1)) {
		t.Fatalf("%d pairs are left", len(pairs))
	}
	for i, p := range pairs { // without a hole
		if !strings.HasSuffix(p.RequestID, fmt.Sprintf("%012d", n-1-i)) {
			t.Fatalf("pair %d is %s", i, p.RequestID)
		}
	}
	// A file whose size was lowered gives its room back.
	closeStore(t, s)
	o.MaxBytes = 128 << 10
	s = openStore(t, path, o)
	waitFor(t, func() bool {
		info, err := os.Stat(path)
		s.AddPair(pairOf("more", at(1), 0))
		return err == nil && s.Status().Bytes <= o.MaxBytes && info.Size() < 1<<20+1<<19
	})
}

// Readers go over all of it, a judge follows what is joined, and the writer
// writes on.
func TestConcurrentReaders(t *testing.T) {
	s := openStore(t, file(t), Options{MaxAge: -1, MaxBytes: 1 << 20})
	const n = 1000
	var group sync.WaitGroup
	stop := make(chan struct{})
	for _, sort := range []Sort{SortNewest, SortLargest} { // each more than two pages
		group.Go(func() {
			for {
				for _, err := range s.Pairs(t.Context(), Query{Model: "churn", Sort: sort, Limit: 1200}) {
					if err != nil {
						t.Error(err)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	told := map[string]int{}
	group.Go(func() {
		var cursor Cursor
		for len(told) < 2*n/20 {
			for j, err := range s.Joined(t.Context(), "churn", cursor) {
				if err != nil {
					t.Error(err)
					return
				}
				told[fmt.Sprint(j.RequestID, j.Shadow)]++
				cursor = j.Cursor
			}
			select {
			case <-t.Context().Done():
				return
			default:
			}
		}
	})
	for i := range n {
		id := fmt.Sprint("r", i)
		add(t, s, i, false)
		if i%20 == 0 {
			s.AddServed(served(id, at(float64(i)), 0))
			tellOutcomes(t, s, label(id, at(float64(i)), 1))
		}
	}
	flush(t, s)
	close(stop)
	group.Wait()
	for id, times := range told {
		if times != 1 {
			t.Errorf("%s was told %d times", id, times)
		}
	}
	if status := s.Status(); status.DroppedPairs > 0 || status.Err != nil {
		t.Errorf("%+v", status)
	}
}

// The memory does not grow with what is stored. The whole of it, with a million,
// is BenchmarkMillion.
func TestMemoryIsFlat(t *testing.T) {
	half, end := million(t, 6000)
	if end > half+24<<20 {
		t.Errorf("%d bytes of memory after half of the pairs, %d in the end", half, end)
	}
}

// resident is the memory that the process takes, SQLite's too, which is not on
// Go's heap. Where the system does not tell it is the heap.
func resident() uint64 {
	runtime.GC()
	text, err := os.ReadFile("/proc/self/statm")
	if fields := strings.Fields(string(text)); err == nil && len(fields) > 1 {
		if pages, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			return pages * uint64(os.Getpagesize())
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
