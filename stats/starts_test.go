package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)

func TestStartsIsTheWeightedSum(t *testing.T) {
	r := NewRate(0.01, Above)
	s := NewStarts(r.Bets(), noon, 5*time.Minute)
	if got := s.LogE(); !near(got, 0, 1e-15) {
		t.Errorf("log capital of nothing: %v", got)
	}
	counts := [][2]uint64{{1000, 12}, {500, 2}, {800, 30}}
	for i, c := range counts {
		if i > 0 && !s.Begin(noon.Add(time.Duration(i)*5*time.Minute)) {
			t.Fatalf("start %d did not begin", i)
		}
		r.Add(s.Now, c[0], c[1])
	}
	want := 1.0 / 4 // what waits for start 4 and later
	for j := range counts {
		logs := make([]float64, r.Bets())
		for _, c := range counts[j:] {
			r.Add(logs, c[0], c[1])
		}
		want += StartWeight(j+1) * math.Exp(LogMix(logs))
	}
	if got := s.LogE(); !near(got, math.Log(want), 1e-12) {
		t.Errorf("log capital %v, want %v", got, math.Log(want))
	}
}

func TestStartsBeginWhenDue(t *testing.T) {
	s := NewStarts(1, noon, 5*time.Minute)
	for _, c := range []struct {
		at    time.Duration
		begun bool
	}{
		{0, false}, {299 * time.Second, false}, {300 * time.Second, true}, {301 * time.Second, false},
		{time.Hour, true},
		{time.Hour + time.Minute, false},
		{-23 * time.Hour, true}, // the clock went back a day
		{-23*time.Hour + time.Minute, false},
	} {
		if got := s.Begin(noon.Add(c.at)); got != c.begun {
			t.Errorf("at %v: begun %v, want %v", c.at, got, c.begun)
		}
	}
}

func TestStartsReachedIsLogEOverThreshold(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	r := NewRate(0.02, Above)
	for range 60 {
		s := NewStarts(r.Bets(), noon, time.Minute)
		for i := range rng.IntN(90) {
			n := rng.Uint64N(200)
			r.Add(s.Now, n, rng.Uint64N(n/20+1))
			s.Begin(noon.Add(time.Duration(i) * time.Minute))
			at := rng.Float64()*8 - 4
			if got, want := s.Reached(at), s.LogE() >= at; got != want {
				t.Fatalf("Reached(%v) = %v at log capital %v", at, got, s.LogE())
			}
		}
	}
}

// TestStartsExpectNoGain measures the mean capital, and how often it was ever
// above 1/alpha, of tests at the limit with many starts, halvings and all.
func TestStartsExpectNoGain(t *testing.T) {
	const runs, looks, alpha = 200, 110, 0.05
	rng := rand.New(rand.NewPCG(6, 1))
	r := NewRate(0.3, Above)
	sum, square, wrong := 0.0, 0.0, 0
	for range runs {
		s := NewStarts(r.Bets(), noon, time.Minute)
		ever := false
		for i := range looks {
			n, x := uint64(2), uint64(0)
			for range n {
				if rng.Float64() < 0.3 {
					x++
				}
			}
			r.Add(s.Now, n, x)
			ever = ever || s.Reached(Threshold(alpha))
			s.Begin(noon.Add(time.Duration(i+1) * time.Minute))
		}
		if s.Every == time.Minute {
			t.Fatalf("%d starts: nothing was halved", s.Count)
		}
		e := math.Exp(s.LogE())
		sum, square = sum+e, square+e*e
		if ever {
			wrong++
		}
	}
	mean := sum / runs
	sd := math.Sqrt((square/runs - mean*mean) / runs)
	if mean > 1+4*sd {
		t.Errorf("mean capital %v ± %v: must be at most 1", mean, sd)
	}
	if part := float64(wrong) / runs; part > alpha {
		t.Errorf("wrong in %v of the runs, promised %v", part, alpha)
	} else {
		t.Logf("mean capital %.3f ± %.3f, wrong in %v of the runs", mean, sd, part)
	}
}

func TestStartsHalveKeepsTheCapital(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	r := NewRate(0.02, Above)
	s := NewStarts(r.Bets(), noon, time.Minute)
	for i := 1; len(s.Alive) < maxStarts; i++ {
		n := 20 + rng.Uint64N(30)
		r.Add(s.Now, n, rng.Uint64N(n/15+1))
		s.Begin(noon.Add(time.Duration(i) * time.Minute))
	}
	before := s.LogE()
	s.halve()
	if got := s.LogE(); !near(got, before, 1e-9) {
		t.Errorf("log capital %v, was %v", got, before)
	}
	if len(s.Alive) != maxStarts/2 || s.Every != 2*time.Minute {
		t.Errorf("%d starts every %v", len(s.Alive), s.Every)
	}
}

func TestStartsAreBounded(t *testing.T) {
	r := NewShare(Margin{}, Above)
	s := NewStarts(r.Bets(), noon, time.Second)
	for i := range 20000 {
		if i%50 == 0 {
			r.Add(s.Now, 0.1, 100, uint64(i/50%2), 1)
		}
		s.Begin(noon.Add(time.Duration(i) * time.Second))
	}
	if len(s.Alive) > maxStarts || cap(s.Alive) > 2*maxStarts {
		t.Errorf("%d starts kept, room for %d", len(s.Alive), cap(s.Alive))
	}
	if got := s.LogE(); math.IsNaN(got) || math.IsInf(got, 0) {
		t.Errorf("log capital %v", got)
	}
}

func TestStartsGoOnAfterJSON(t *testing.T) {
	r := NewRate(0.01, Above)
	s := NewStarts(r.Bets(), noon, 5*time.Minute)
	step := func(s *Starts, i int) {
		r.Add(s.Now, 100, uint64(i%4))
		s.Begin(noon.Add(time.Duration(i) * 2 * time.Minute))
	}
	for i := range 100 {
		step(s, i)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var read Starts
	if err := json.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	if err := read.Check(r.Bets()); err != nil {
		t.Fatal(err)
	}
	for i := 100; i < 300; i++ {
		step(s, i)
		step(&read, i)
	}
	if diff := cmp.Diff(s, &read); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
}

func TestStartsCheck(t *testing.T) {
	good := func() *Starts {
		s := NewStarts(2, noon, time.Minute)
		s.Begin(noon.Add(time.Minute))
		return s
	}
	if err := good().Check(2); err != nil {
		t.Errorf("a good state: %v", err)
	}
	for _, c := range []struct {
		want   string
		change func(s *Starts)
	}{
		{"now: 3 bets: must be 2", func(s *Starts) { s.Now = make([]float64, 3) }},
		{"alive: 65 starts: must be at most 64", func(s *Starts) { s.Alive = make([]Start, 65) }},
		{"count: 0: must be at least 1 and the number alive", func(s *Starts) { s.Count = 0 }},
		{"count: 1: must be at least 1 and the number alive", func(s *Starts) { s.Count = 1 }},
		{"every: must be more than 0", func(s *Starts) { s.Every = 0 }},
		{"alive[1]: 0 bets: must be 2", func(s *Starts) { s.Alive[1].From = nil }},
	} {
		s := good()
		c.change(s)
		if err := s.Check(2); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// TestStartsFindLateHarmSooner has three clean hours and then four times as many
// errors as allowed.
func TestStartsFindLateHarmSooner(t *testing.T) {
	const limit, perMinute = 0.01, 120
	at := Threshold(0.01)
	sooner := 0
	minutes := [2]int{}
	for run := range 40 {
		rng := rand.New(rand.NewPCG(8, uint64(run)))
		r := NewRate(limit, Above)
		s := NewStarts(r.Bets(), noon, 5*time.Minute)
		var found [2]int
		for minute := 1; found[0] == 0 || found[1] == 0; minute++ {
			p := limit / 3
			if minute > 180 {
				p = 4 * limit
			}
			var x uint64
			for range perMinute {
				if rng.Float64() < p {
					x++
				}
			}
			r.Add(s.Now, perMinute, x)
			if found[0] == 0 && s.Reached(at) {
				found[0] = minute
			}
			if found[1] == 0 && Reached(s.Now, at) {
				found[1] = minute
			}
			s.Begin(noon.Add(time.Duration(minute) * time.Minute))
		}
		minutes[0] += found[0] - 180
		minutes[1] += found[1] - 180
		if found[0] < found[1] {
			sooner++
		}
	}
	t.Logf("harm of four times the limit after three clean hours: %.1f minutes with fresh starts, %.1f without",
		float64(minutes[0])/40, float64(minutes[1])/40)
	if sooner < 38 || minutes[0]*3 > minutes[1] {
		t.Errorf("sooner in %d of 40 runs; %d minutes in all with fresh starts, %d without", sooner, minutes[0], minutes[1])
	}
}
