package stats

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// maxStarts is how many starts are kept at once.
const maxStarts = 64

// Starts is a test that begins anew again and again, for harm that comes late: a
// test that has lost its capital on three clean hours would take as long again
// to win it back.
//
// Formula: E = sum_j w_j E_j, where E_j is the capital of the bets since start j
// and w_j = 1/(j(j+1)); capital that waits for its start is kept as it is. When
// there is no room for another start, each second one hands its capital to the
// one after it, and the starts are half as frequent from then on. Starts whose
// capital is below 1e-9 of the whole are given up.
//
// Assumption: that of the bets. E is a mixture of e-processes that begin late
// and of gamblers who move to another table, so it is an e-process itself
// (Shin, Ramdas and Rinaldo, "E-detectors", 2024, treat the sum without
// weights).
//
// The fields are its whole state, for JSON. Add to Now with [Rate.Add] or
// [Share.Add].
type Starts struct {
	Now   []float64     `json:"now"`   // log capital of each bet since the beginning
	Alive []Start       `json:"alive"` // oldest first
	Count int           `json:"count"` // starts so far
	Every time.Duration `json:"every"` // between two starts, at least
	Next  time.Time     `json:"next"`  // when the next is due
}

// Start is one beginning.
type Start struct {
	From   []float64 `json:"from"`   // Now when it began
	Weight float64   `json:"weight"` // log of the capital it began with
}

// NewStarts begins the first at the time at, and the others every so often.
func NewStarts(bets int, at time.Time, every time.Duration) *Starts {
	s := &Starts{Now: make([]float64, bets), Every: max(every, time.Nanosecond)}
	s.begin(at)
	return s
}

// Begin begins another start if one is due at the time at, and tells whether it
// did. A clock that went back by more than the time between two starts counts
// as one that is due.
func (s *Starts) Begin(at time.Time) bool {
	if at.Before(s.Next) && s.Next.Sub(at) <= s.Every {
		return false
	}
	s.forget()
	if len(s.Alive) >= maxStarts {
		s.halve()
	}
	s.begin(at)
	return true
}

func (s *Starts) begin(at time.Time) {
	s.Count++
	from := append(make([]float64, 0, len(s.Now)), s.Now...)
	s.Alive = append(s.Alive, Start{From: from, Weight: math.Log(StartWeight(s.Count))})
	s.Next = at.Add(s.Every)
}

// forget gives up the starts that have next to nothing left.
func (s *Starts) forget() {
	least := s.LogE() + math.Log(1e-9)
	kept := s.Alive[:0]
	for _, a := range s.Alive {
		if s.capital(&a) >= least {
			kept = append(kept, a)
		}
	}
	clear(s.Alive[len(kept):])
	s.Alive = kept
}

// halve moves the capital of each second start to the one after it.
func (s *Starts) halve() {
	kept := s.Alive[:0]
	for i := 0; i+1 < len(s.Alive); i += 2 {
		older, newer := s.Alive[i], s.Alive[i+1]
		own := s.mix(newer.From)
		newer.Weight = logAdd(newer.Weight+own, s.capital(&older)) - own
		kept = append(kept, newer)
	}
	clear(s.Alive[len(kept):])
	s.Alive = kept
	s.Every *= 2
}

// LogE is the log of the capital of all starts and of what waits. It can only
// rise when something was added that a bet wins on.
func (s *Starts) LogE() float64 {
	waits := s.waits()
	each := -math.Log(float64(max(len(s.Now), 1)))
	top := waits
	for i := range s.Alive {
		a := &s.Alive[i]
		for k, now := range s.Now {
			top = max(top, a.Weight+each+now-a.From[k])
		}
	}
	sum := math.Exp(waits - top)
	for i := range s.Alive {
		a := &s.Alive[i]
		less := a.Weight + each - top
		for k, now := range s.Now {
			if d := less + now - a.From[k]; d > -40 {
				sum += math.Exp(d)
			}
		}
	}
	return top + math.Log(sum)
}

// waits is the log of the capital that waits for its start.
func (s *Starts) waits() float64 { return -math.Log(float64(max(s.Count, 0)) + 1) }

// Reached tells whether LogE is at least at. It is cheap while no bet is near.
func (s *Starts) Reached(at float64) bool {
	near := at - math.Log(float64(len(s.Alive))+1)
	if s.waits() >= near {
		return s.LogE() >= at
	}
	for i := range s.Alive {
		a := &s.Alive[i]
		for k, now := range s.Now {
			if a.Weight+now-a.From[k] >= near {
				return s.LogE() >= at
			}
		}
	}
	return false
}

// capital is the log of what a start has.
func (s *Starts) capital(a *Start) float64 { return a.Weight + s.mix(a.From) }

// mix is the log capital of the bets since from.
func (s *Starts) mix(from []float64) float64 {
	var diff [maxBets]float64
	logs := diff[:0]
	for k, now := range s.Now {
		logs = append(logs, now-from[k])
	}
	return LogMix(logs)
}

// Check tells what is wrong with a state that was read back: it must be of a
// test with that many bets.
func (s *Starts) Check(bets int) error {
	switch {
	case len(s.Now) != bets:
		return fmt.Errorf("now: %d bets: must be %d", len(s.Now), bets)
	case len(s.Alive) > maxStarts:
		return fmt.Errorf("alive: %d starts: must be at most %d", len(s.Alive), maxStarts)
	case s.Count < 1 || s.Count < len(s.Alive):
		return fmt.Errorf("count: %d: must be at least 1 and the number alive", s.Count)
	case s.Every <= 0:
		return errors.New("every: must be more than 0")
	}
	for i, a := range s.Alive {
		if len(a.From) != bets {
			return fmt.Errorf("alive[%d]: %d bets: must be %d", i, len(a.From), bets)
		}
	}
	return nil
}

// logAdd is log(exp(a) + exp(b)).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if d := b - a; d > -40 {
		return a + math.Log1p(math.Exp(d))
	}
	return a
}
