package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// everShown is the part of runs in which a test has ever shown its claim.
func everShown(runs int, seed uint64, run func(rng *rand.Rand) bool) float64 {
	shown := 0
	for i := range runs {
		if run(rand.New(rand.NewPCG(seed, uint64(i)))) {
			shown++
		}
	}
	return float64(shown) / float64(runs)
}

// traffic is how stable's rate and the candidate's share go over time, which
// runs from 0 to 1.
type traffic struct {
	name string
	rate func(rng *rand.Rand, at, last float64) float64
	w    func(at float64) float64
}

func constant(v float64) func(float64) float64 { return func(float64) float64 { return v } }

var traffics = []traffic{
	{"steady", func(*rand.Rand, float64, float64) float64 { return 0.05 }, constant(0.1)},
	{"bursts", func(rng *rand.Rand, _, last float64) float64 {
		if rng.Float64() < 0.005 {
			return []float64{0.01, 0.6}[rng.IntN(2)]
		}
		return max(last, 0.01)
	}, constant(0.25)},
	{"a day's rhythm", func(_ *rand.Rand, at, _ float64) float64 {
		return 0.1 + 0.09*math.Sin(2*math.Pi*at)
	}, constant(0.5)},
	{"shares that change", func(*rand.Rand, float64, float64) float64 { return 0.05 }, func(at float64) float64 {
		return []float64{0.01, 0.1, 0.5, 0.9, 0.25}[int(at*5)]
	}},
	{"rhythm and shares together", func(_ *rand.Rand, at, _ float64) float64 {
		return 0.1 + 0.09*math.Sin(2*math.Pi*at)
	}, func(at float64) float64 { return 0.01 + 0.98*math.Floor(at*20)/20 }},
}

// TestShareKeepsItsPromise has candidates that are exactly at their margin, and
// looks after every unit.
func TestShareKeepsItsPromise(t *testing.T) {
	const runs, units, alpha = 60, 2000, 0.1
	chance := 3 * math.Sqrt(alpha*(1-alpha)/runs)
	sum, cells := 0.0, 0.0
	for i, tr := range traffics {
		for _, m := range []Margin{{}, {Points: 0.01}, {Ratio: 1.5}} {
			for _, side := range []Side{Above, Below} {
				s := NewShare(m, side)
				logs := make([]float64, s.Bets())
				got := everShown(runs, uint64(i), func(rng *rand.Rand) bool {
					clear(logs)
					rate := 0.0
					for n := range units {
						at := float64(n) / units
						rate = tr.rate(rng, at, rate)
						w, p := tr.w(at), rate
						mine := rng.Float64() < w
						if mine {
							p = m.ratio()*rate + m.Points
						}
						var c, st uint64
						if rng.Float64() < p {
							if mine {
								c = 1
							} else {
								st = 1
							}
						}
						if s.Add(logs, w, 1, c, st); Reached(logs, Threshold(alpha)) {
							return true
						}
					}
					return false
				})
				t.Logf("%s, margin %+v, side %v: shown in %.3f of the runs", tr.name, m, side, got)
				sum, cells = sum+got, cells+1
				if got > alpha+chance {
					t.Errorf("%s, margin %+v, side %v: wrong in %v of the runs, promised %v", tr.name, m, side, got, alpha)
				}
			}
		}
	}
	if part := sum / cells; part > alpha || part < alpha/10 {
		t.Errorf("wrong in %v of all runs, promised %v", part, alpha)
	}
}

// TestRateKeepsItsPromiseInBursts has a rate that stays at or below the limit
// and jumps beneath it.
func TestRateKeepsItsPromiseInBursts(t *testing.T) {
	const runs, requests, alpha, limit = 300, 3000, 0.1, 0.05
	r := NewRate(limit, Above)
	logs := make([]float64, r.Bets())
	got := everShown(runs, 20, func(rng *rand.Rand) bool {
		clear(logs)
		p := limit
		for range requests {
			if rng.Float64() < 0.01 {
				p = []float64{0.001, limit}[rng.IntN(2)]
			}
			var x uint64
			if rng.Float64() < p {
				x = 1
			}
			if r.Add(logs, 1, x); Reached(logs, Threshold(alpha)) {
				return true
			}
		}
		return false
	})
	t.Logf("shown in %.3f of the runs", got)
	if got > alpha {
		t.Errorf("wrong in %v of the runs, promised %v", got, alpha)
	}
}

// TestUsersCountedOnce has two equal versions and users of whom few make most
// requests and 1 % fail in 30 % of theirs. Which users a version has is drawn;
// the requests of a user are not: counting requests is wrong far more often than
// promised, counting each user's first error is not.
func TestUsersCountedOnce(t *testing.T) {
	const runs, users, requests, alpha, w = 200, 4000, 12000, 0.05, 0.25
	s := NewShare(Margin{}, Above)
	byRequest, byUser := make([]float64, s.Bets()), make([]float64, s.Bets())
	wrongRequests := 0
	got := everShown(runs, 30, func(rng *rand.Rand) bool {
		clear(byRequest)
		clear(byUser)
		zipf := rand.NewZipf(rng, 1.1, 5, users-1)
		side, failing, erred := make([]bool, users), make([]bool, users), make([]bool, users)
		for u := range users {
			side[u], failing[u] = rng.Float64() < w, rng.Float64() < 0.01
		}
		requestsWrong, usersWrong := false, false
		for range requests {
			u, p := zipf.Uint64(), 0.005
			if failing[u] {
				p = 0.3
			}
			if rng.Float64() >= p {
				continue
			}
			var c, st uint64 = 0, 1
			if side[u] {
				c, st = 1, 0
			}
			s.Add(byRequest, w, 1, c, st)
			requestsWrong = requestsWrong || Reached(byRequest, Threshold(alpha))
			if !erred[u] {
				erred[u] = true
				s.Add(byUser, w, 1, c, st)
				usersWrong = usersWrong || Reached(byUser, Threshold(alpha))
			}
		}
		if requestsWrong {
			wrongRequests++
		}
		return usersWrong
	})
	perRequest := float64(wrongRequests) / runs
	t.Logf("wrong in %.3f of the runs counting users, in %.3f counting requests", got, perRequest)
	if got > alpha {
		t.Errorf("counting users: wrong in %v of the runs, promised %v", got, alpha)
	}
	if perRequest < 2*alpha {
		t.Errorf("counting requests: wrong in only %v of the runs: this traffic shows nothing", perRequest)
	}
}
