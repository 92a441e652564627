package compare

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/headgate/headgate/stats"
)

// The whole numbers of a past give the capital that stats.Starts keeps as logs,
// through changes of the share, halvings and restarts.
func TestPastIsStarts(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		at := time.Unix(0, 0).UTC()
		b := shareBet{stats.NewShare(stats.Margin{Points: 0.005}, stats.Above)}
		p := newPast(0.1, at)
		s := stats.NewStarts(b.Bets(), at, freshEvery)
		w := 0.1
		for i := range 600 {
			at = at.Add(time.Minute)
			p.begin(b, at)
			s.Begin(at.Add(-time.Minute)) // a past's batch that ends when a start is due is before it
			if i%150 == 149 {
				w += 0.2
				p.turn(w)
			}
			c := counts{n: 3 + r.Uint64N(10), c: r.Uint64N(2) * r.Uint64N(2), m: 3 + r.Uint64N(50), s: r.Uint64N(3)}
			if seed%2 == 1 && i > 400 {
				c.c += 2
			}
			p.add(&c)
			b.Add(s.Now, w, c.n+c.m, c.c, c.s)
			if i%97 == 0 {
				text, err := p.MarshalText()
				if err != nil {
					t.Fatal(err)
				}
				p = new(past)
				if err := p.UnmarshalText(text); err != nil {
					t.Fatal(err)
				}
			}
			p.stale = true
			if got, want := p.logE(b), s.LogE(); math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
				t.Fatalf("seed %d, minute %d: %v, want %v", seed, i, got, want)
			}
		}
	}
}

// A value that is not computed anew is never one that could have reached a
// threshold.
func TestPastValueIsKeptOnlyWhereItFell(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := limitBet{stats.NewRate(0.01, stats.Above)}
	p := newPast(0.1, time.Unix(0, 0))
	for range 5000 {
		c := counts{n: 20, c: r.Uint64N(30) / 29}
		p.add(&c)
		kept := p.logE(b)
		p.stale = true
		if now := p.logE(b); now > kept+1e-9 || kept > warm && kept != now {
			t.Fatalf("kept %v, now %v", kept, now)
		}
	}
}

func FuzzPast(f *testing.F) {
	p := newPast(0.1, time.Unix(1, 0))
	p.add(&counts{n: 5, c: 1, m: 40, s: 2})
	good, _ := p.MarshalText()
	f.Add(string(good))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		var p past
		if p.UnmarshalText([]byte(text)) != nil {
			return
		}
		b := limitBet{stats.NewRate(0.01, stats.Above)}
		p.add(&counts{n: 5, c: 1})
		p.logE(b)
		p.best(b)
	})
}
