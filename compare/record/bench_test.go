package record

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkPairs stores pairs as fast as the disk takes them, each with what was
// served of its request ("joined") or without.
func BenchmarkPairs(b *testing.B) {
	for _, withServed := range []bool{false, true} {
		b.Run(fmt.Sprintf("served=%t", withServed), func(b *testing.B) {
			s := openStore(b, file(b), Options{MaxAge: -1, MaxBytes: -1})
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				add(b, s, n, withServed)
				n++
			}
			flush(b, s)
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "pairs/s")
			b.ReportMetric(float64(s.Status().Bytes)/float64(n), "bytes/pair")
		})
	}
}

// add waits where the queue is full.
func add(b testing.TB, s *Store, n int, withServed bool) {
	id := fmt.Sprintf("4f1c%08x-9f1b-4d2a-8c3e-%012d", n*2654435761, n)
	t := at(float64(n) / 1000)
	p := pairOf(id, t, float64(n%1000)/2000)
	p.Features = raw(map[string]any{"age": n % 90, "tenure": n % 12, "plan": "gold"})
	for s.Status().Queued > 8000 {
		flush(b, s)
	}
	if !s.AddPair(p) {
		b.Fatal("dropped")
	}
	if withServed && !s.AddServed(served(id, t, uint64(n%5000)+1)) {
		b.Fatal("dropped")
	}
}

// BenchmarkAddPair is what the one who adds a pair waits.
func BenchmarkAddPair(b *testing.B) {
	s := openStore(b, file(b), Options{MaxAge: -1, MaxBytes: -1, Queue: 1000})
	p := pairOf("4f1c0000-9f1b-4d2a-8c3e-000000000000", at(1), 0.3)
	b.ReportAllocs()
	for b.Loop() {
		s.AddPair(p)
	}
}

// BenchmarkOutcomes tells outcomes of requests that were served, 500 at once.
func BenchmarkOutcomes(b *testing.B) {
	s := openStore(b, file(b), Options{MaxAge: -1, MaxBytes: -1})
	n := 0
	for b.Loop() {
		b.StopTimer()
		outcomes := make([]Outcome, 500)
		for i := range outcomes {
			id := fmt.Sprintf("4f1c%08x-%012d", n*2654435761, n)
			s.AddServed(served(id, at(float64(n)), 0))
			outcomes[i] = label(id, at(float64(n)+60), float64(n%2))
			n++
		}
		flush(b, s)
		b.StartTimer()
		if intake, err := s.AddOutcomes(context.Background(), outcomes); err != nil || intake.Stored != len(outcomes) {
			b.Fatal(intake, err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "outcomes/s")
}

// BenchmarkMillion stores a million pairs, reads them in every order, and tells
// how much memory that took and how long a person waits for the ten largest.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		million(b, 1_000_000)
	}
}

// million stores n pairs and reads them. It returns the memory in the middle
// and at the end, in bytes.
func million(b testing.TB, n int) (half, end uint64) {
	s := openStore(b, file(b), Options{MaxAge: -1, MaxBytes: -1})
	begin := time.Now()
	for i := range n {
		add(b, s, i, false)
		if i == n/2 {
			flush(b, s)
			half = resident()
		}
	}
	flush(b, s)
	stored := time.Since(begin)
	begin = time.Now()
	top := collect(b, s.Pairs(context.Background(), Query{Model: "churn", Sort: SortLargest, Limit: 10}))
	largest := time.Since(begin)
	begin = time.Now()
	read := 0
	for _, err := range s.Pairs(context.Background(), Query{Model: "churn"}) {
		if err != nil {
			b.Fatal(err)
		}
		read++
	}
	all := time.Since(begin)
	end = resident()
	if read != n || len(top) != 10 {
		b.Fatalf("%d of %d pairs read, %d of 10", read, n, len(top))
	}
	if r, ok := b.(interface{ ReportMetric(float64, string) }); ok {
		r.ReportMetric(float64(n)/stored.Seconds(), "pairs/s")
		r.ReportMetric(float64(n)/all.Seconds(), "read/s")
		r.ReportMetric(largest.Seconds()*1000, "ms/top10")
		r.ReportMetric(float64(half)/1e6, "MB-half")
		r.ReportMetric(float64(end)/1e6, "MB-end")
		r.ReportMetric(float64(s.Status().Bytes)/1e6, "MB-file")
	}
	closeStore(b, s)
	return half, end
}
