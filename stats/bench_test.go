package stats

import (
	"fmt"
	"testing"
	"time"
)

// noAllocations fails a benchmark whose function allocates.
func noAllocations(b *testing.B, f func()) {
	b.Helper()
	f()
	if n := testing.AllocsPerRun(100, f); n > 0 {
		b.Fatalf("%v allocations", n)
	}
	for b.Loop() {
		f()
	}
}

func BenchmarkRateAdd(b *testing.B) {
	r := NewRate(0.01, Above)
	logs := make([]float64, r.Bets())
	noAllocations(b, func() { r.Add(logs, 100, 1) })
}

func BenchmarkShareAdd(b *testing.B) {
	s := NewShare(Margin{Points: 0.005}, Above)
	logs := make([]float64, s.Bets())
	noAllocations(b, func() { s.Add(logs, 0.1, 100, 1, 1) })
}

func BenchmarkLogMix(b *testing.B) {
	logs := []float64{0.1, 0.3, 0.7, 1, 2, 1.5, -1, -3}
	noAllocations(b, func() { LogMix(logs) })
}

func BenchmarkReached(b *testing.B) {
	logs := []float64{0.1, 0.3, 0.7, 1, 2, 1.5, -1, -3}
	noAllocations(b, func() { Reached(logs, 5) })
}

func BenchmarkStartsLogE(b *testing.B) {
	r := NewRate(0.01, Above)
	s := NewStarts(r.Bets(), noon, time.Minute)
	for i := range 63 {
		r.Add(s.Now, 100, uint64(i%2))
		s.Begin(noon.Add(time.Duration(i+1) * time.Minute))
	}
	noAllocations(b, func() { s.LogE() })
}

func BenchmarkRateInterval(b *testing.B) {
	noAllocations(b, func() { RateInterval(100000, 700, 0.01, 0.05) })
}

func BenchmarkShareInterval(b *testing.B) {
	for b.Loop() {
		ShareInterval(0.1, 100000, 70, 600, false, 0.01, 0.05)
	}
}

func BenchmarkShareIntervalRatio(b *testing.B) {
	for b.Loop() {
		ShareInterval(0.1, 100000, 70, 600, true, 0.01, 0.05)
	}
}

func BenchmarkHistogramAdd(b *testing.B) {
	h := histogram(lognormals(1, 10000, -2, 1)...)
	v := 0.1
	noAllocations(b, func() { h.Add(v, 1) })
}

func BenchmarkQuantileInterval(b *testing.B) {
	h := histogram(lognormals(1, 10000, -2, 1)...)
	noAllocations(b, func() { QuantileInterval(h, 0.99, 0.01, 0.05) })
}

func BenchmarkMeanInterval(b *testing.B) {
	h := histogram(lognormals(1, 10000, -2, 1)...)
	noAllocations(b, func() { MeanInterval(h, 2, 0.01, 0.05) })
}

// BenchmarkPower measures how many units of both versions it takes until half of
// 200 runs have shown what is so, for the table in the README: breaches at 1 %,
// safe at 5 %.
func BenchmarkPower(b *testing.B) {
	for _, ps := range []float64{0.001, 0.01, 0.05} {
		for _, w := range []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.99} {
			for _, c := range comparisons(ps) {
				claim := map[Side]string{Above: "breach", Below: "safe"}[c.side]
				name := fmt.Sprintf("stable=%v/candidate=%v/w=%v/points=%v,ratio=%v/%s", ps, c.pc, w, c.margin.Points, c.margin.ratio(), claim)
				b.Run(name, func(b *testing.B) {
					s := NewShare(c.margin, c.side)
					var needed float64
					var found []float64
					for b.Loop() {
						needed, found = s.hits(200, level(c.side), w, c.pc, ps)
					}
					b.ReportMetric(found[100], "units-median")
					b.ReportMetric(found[180], "units-90%")
					b.ReportMetric(needed, "units-needed")
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// BenchmarkPowerOfRates measures the same for requests of one version against a
// limit of 1 %.
func BenchmarkPowerOfRates(b *testing.B) {
	for _, p := range []float64{0, 0.001, 0.0025, 0.005, 0.0075, 0.015, 0.02, 0.04, 0.1, 0.5} {
		side, claim := Above, "breach"
		if p < 0.01 {
			side, claim = Below, "safe"
		}
		b.Run(fmt.Sprintf("rate=%v/%s", p, claim), func(b *testing.B) {
			r := NewRate(0.01, side)
			var needed float64
			var found []float64
			for b.Loop() {
				needed, found = r.hits(1000, level(side), p)
			}
			b.ReportMetric(found[500], "requests-median")
			b.ReportMetric(found[900], "requests-90%")
			b.ReportMetric(needed, "requests-needed")
			b.ReportMetric(0, "ns/op")
		})
	}
}
