package compare_test

import (
	"math"
	"testing"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

func TestChances(t *testing.T) {
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-3*want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	// Sums of exact fractions: of binomial coefficients, and C(20,10)/C(30,10), 1/C(6,3).
	near("tail", compare.BinomialTail(20, 10, 0.05), 1.13407e-8)
	near("tail", compare.BinomialTail(5, 3, 0.5), 0.5)
	near("fisher", compare.Fisher(10, 20, 0, 10), 0.0061493)
	near("fisher", compare.Fisher(3, 3, 0, 3), 0.05)
	near("fisher", compare.Fisher(0, 3, 2, 3), 1)
}

// The expected number of times that a candidate which errs at the allowed rate
// ever reaches the limit is at most the level.
func TestGrossFailureIsWithinItsBudget(t *testing.T) {
	for _, level := range []float64{0.005, 0.0025, 1e-5} {
		for _, p := range []float64{0.01, 0.05, 0.1} {
			sum, n := 0.0, uint64(1)
			for n < 1e15 {
				c := compare.GrossLimit(n, p, level)
				// How far the limit stays.
				to := n
				for step := uint64(1 << 50); step > 0; step /= 2 {
					if compare.GrossLimit(to+step, p, level) == c {
						to += step
					}
				}
				if c > 20 {
					break
				}
				sum += float64(to-n+1) * compare.BinomialTail(20, c, math.Max(p, 0.05))
				n = to + 1
			}
			if sum > level {
				t.Errorf("rate %v: %v, want at most %v", p, sum, level)
			}
		}
	}
	if got := compare.GrossLimit(30_000, 0.01, 0.005); got != 10 {
		t.Errorf("limit %d after 30,000 answers", got)
	}
}

func outcomes(users []uint64, bad ...int) []compare.Outcome {
	var all []compare.Outcome
	for i, b := range bad {
		o := compare.Outcome{Bad: b == 1}
		if users != nil {
			o.User = users[i%len(users)]
		}
		all = append(all, o)
	}
	return all
}

func ones(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = 1
	}
	return all
}

func TestGrossFailure(t *testing.T) {
	good := func(n int) []int { return make([]int, n) }
	for _, c := range []struct {
		name              string
		share             routing.Share
		keyed             bool
		candidate, stable []compare.Outcome
		want              bool
	}{
		{"ten of ten", 10, false, outcomes(nil, ones(10)...), outcomes(nil, good(20)...), true},
		{"nine of nine", 10, false, outcomes(nil, ones(9)...), outcomes(nil, good(20)...), false},
		{"ten of twenty", 10, false, outcomes(nil, append(good(10), ones(10)...)...), outcomes(nil, good(20)...), true},
		{"stable fails too", 10, false, outcomes(nil, ones(20)...), outcomes(nil, append(good(17), ones(3)...)...), false},
		{"stable silent", 10, false, outcomes(nil, ones(20)...), nil, true},
		{"stable silent for ten answers", 10, false, outcomes(nil, ones(10)...), nil, false},
		{"stable silent, and seldom asked", 90, false, outcomes(nil, ones(20)...), nil, false},
		{"no stable", 100, false, outcomes(nil, ones(10)...), nil, true},
		{"no stable, ten of twenty", 100, false, outcomes(nil, append(ones(10), good(10)...)...), nil, false},
		{"one user of several", 50, true, append(outcomes([]uint64{1, 2, 3, 4, 5, 6}, good(6)...), outcomes([]uint64{9}, ones(14)...)...), outcomes(nil, good(20)...), false},
		{"one user alone", 50, true, outcomes([]uint64{9}, ones(10)...), outcomes(nil, good(20)...), true},
		{"three users", 50, true, outcomes([]uint64{7, 8, 9}, ones(10)...), outcomes(nil, good(20)...), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			trial := compare.NewTrial(trialOf(c.share), c.keyed)
			b := batchAt(time.Second, compare.Arm{}, compare.Arm{})
			fill := func(a *compare.Arm, last []compare.Outcome) {
				a.Last = last
				for _, o := range last {
					a.Answers++
					if o.Bad {
						a.BadAnswers++
					}
				}
			}
			fill(&b.Candidate, c.candidate)
			fill(&b.Stable, c.stable)
			trial.Add(b)
			f := trial.Look(began).Findings[0]
			if got := f.Verdict == routing.VerdictBreach; got != c.want || !f.HardRule || f.Required() {
				t.Errorf("%+v", f)
			}
		})
	}
}

// A failure that both share reaches and leaves the busier version's last
// answers earlier.
func TestSharedFailureIsNotGross(t *testing.T) {
	trial := compare.NewTrial(trialOf(5), false)
	for i := range 100 {
		fails := i >= 40 && i < 55
		b := batchAt(time.Duration(i)*time.Second, compare.Arm{Answers: 1}, compare.Arm{Answers: 19})
		b.Candidate.Last = outcomes(nil, 0)
		b.Stable.Last = outcomes(nil, make([]int, 19)...)
		if fails {
			b.Candidate.Last, b.Candidate.BadAnswers = outcomes(nil, 1), 1
			b.Stable.Last, b.Stable.BadAnswers = outcomes(nil, ones(19)...), 19
		}
		trial.Add(b)
		if f := trial.Look(began).Findings[0]; f.Verdict == routing.VerdictBreach {
			t.Fatalf("after %d s: %s", i, f.Text)
		}
	}
}

func TestExcessErrors(t *testing.T) {
	tr := trialOf(50)
	tr.Policy.MaxExcess = 30
	trial := compare.NewTrial(tr, false)
	find := func() routing.Finding { return trial.Look(began).Findings[1] }
	if f := find(); f.Metric != compare.MetricExcessErrors || f.Reason != routing.ReasonNoTraffic {
		t.Errorf("%+v", f)
	}
	trial.Add(batchAt(time.Second, arm(1000, 34), arm(1000, 5)))
	if f := find(); f.Verdict != routing.VerdictWaiting || *f.Estimate != 29 {
		t.Errorf("%+v", f)
	}
	trial.Add(batchAt(time.Second, arm(100, 2), arm(100, 0)))
	if f := find(); f.Verdict != routing.VerdictBreach {
		t.Errorf("%+v", f)
	} else if want := "excess_errors about 31 more errors in 1,100 requests than v1's rate explains, limit 30: broken"; f.Text != want {
		t.Errorf("%s, want %s", f.Text, want)
	}
}
