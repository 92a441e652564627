package compare_test

import (
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// world is synthetic traffic on a trial: what each second brings.
type world struct {
	perSecond float64 // of both versions
	share     func(at time.Duration) routing.Share
	rate      float64                                     // at which requests fail on stable
	harm      func(at time.Duration) float64              // factor on the candidate
	load      func(at time.Duration) (rate, errs float64) // factors on both: bursts, a day's rhythm
	users     *crowd                                      // nil: each request is drawn
	latency   bool
}

// crowd is users who come with Zipf's frequencies, some of whom fail often.
type crowd struct {
	pick  func() uint64
	fails []float64
	side  []uint16 // bucket of each
}

// newCrowd is n users of whom one in a hundred fails often; where nobody does,
// all come equally often.
func newCrowd(r *rand.Rand, n int, often float64) *crowd {
	pick := rand.NewZipf(r, 1.2, 2, uint64(n-1)).Uint64
	if often == 0 {
		pick = func() uint64 { return r.Uint64N(uint64(n)) }
	}
	c := &crowd{pick: pick, fails: make([]float64, n), side: make([]uint16, n)}
	for i := range n {
		c.side[i] = uint16(r.IntN(int(routing.Whole)))
		if r.Float64() < 0.01 {
			c.fails[i] = often
		}
	}
	return c
}

// outcome is how a simulated trial ended.
type outcome struct {
	broken time.Duration // 0: never
	metric string
	tenth  time.Duration // when the candidate had given ten errors
	bad    uint64        // errors of the candidate
	safe   bool          // ever, of all gates at once
}

// play looks at a trial after every second.
func (w *world) play(r *rand.Rand, t routing.Trial, length time.Duration) outcome {
	t.Since, t.Share = began, w.share(0)
	trial := compare.NewTrial(t, w.users != nil)
	sets := map[uint64]bool{}
	epoch := 0
	var o outcome
	var b compare.Batch
	for at := time.Second; at <= length; at += time.Second {
		if s := w.share(at); s != t.Share {
			t.Share, t.Step = s, t.Step+1
			trial.Watch(t)
		}
		if n, _ := trial.Epoch(); n != epoch {
			epoch = n
			clear(sets)
		}
		b = compare.Batch{To: began.Add(at)}
		w.second(r, at, t.Share, &b, sets)
		if o.bad += b.Candidate.Errors; o.bad >= 10 && o.tenth == 0 {
			o.tenth = at
		}
		trial.Add(&b)
		j := trial.Verdicts(began.Add(at))
		o.safe = o.safe || j.Safe() && len(t.Policy.Gates) > 0
		for i := range j.Findings {
			if j.Findings[i].Verdict == routing.VerdictBreach {
				o.broken, o.metric = at, j.Findings[i].Metric
				return o
			}
		}
	}
	return o
}

func (w *world) second(r *rand.Rand, at time.Duration, share routing.Share, b *compare.Batch, sets map[uint64]bool) {
	rate, errs := 1.0, 1.0
	if w.load != nil {
		rate, errs = w.load(at)
	}
	if w.users != nil || w.perSecond < 50 {
		for range poisson(r, w.perSecond*rate) {
			w.request(r, at, share, errs, b, sets)
		}
		return
	}
	p := float64(share) / float64(routing.Whole)
	w.many(r, &b.Candidate, w.perSecond*rate*p, w.rate*errs*w.harm(at))
	w.many(r, &b.Stable, w.perSecond*rate*(1-p), w.rate*errs)
}

func (w *world) many(r *rand.Rand, a *compare.Arm, n, p float64) {
	p = min(p, 1)
	bad := poisson(r, n*p)
	a.Requests = bad + poisson(r, n*(1-p))
	a.Drawn, a.Errors, a.DrawnErrors = a.Requests, bad, bad
	for range min(a.Requests, compare.LastOutcomes) {
		a.Last = append(a.Last, compare.Outcome{Bad: r.Float64() < p})
	}
	if w.latency {
		for range a.Requests {
			a.Latency.Add(0.1*math.Exp(0.5*r.NormFloat64()), 1)
		}
	}
}

func (w *world) request(r *rand.Rand, at time.Duration, share routing.Share, errs float64, b *compare.Batch, sets map[uint64]bool) {
	bucket, p, user := uint16(r.IntN(int(routing.Whole))), w.rate, uint64(0)
	if w.users != nil {
		user = w.users.pick()
		bucket = w.users.side[user]
		p += w.users.fails[user]
		user++
	}
	a := &b.Stable
	p *= errs
	if bucket < uint16(share) {
		a = &b.Candidate
		p *= w.harm(at)
	}
	bad := r.Float64() < p
	a.Requests++
	a.Drawn++
	a.Last = append(a.Last, compare.Outcome{User: user, Bad: bad})
	if len(a.Last) > compare.LastOutcomes {
		a.Last = a.Last[1:]
	}
	if !bad {
		return
	}
	a.Errors++
	a.DrawnErrors++
	if user == 0 || !sets[user] {
		a.FirstErrors++
		if user > 0 {
			sets[user] = true
		}
	}
}

func poisson(r *rand.Rand, mean float64) uint64 {
	if mean > 30 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p := uint64(0), math.Exp(-mean)
	for u, sum := r.Float64(), p; u > sum && n < 1000; sum += p {
		n++
		p *= mean / float64(n)
	}
	return n
}

func always(s routing.Share) func(time.Duration) routing.Share {
	return func(time.Duration) routing.Share { return s }
}

func fine(time.Duration) float64 { return 1 }

// bursts are ten seconds in every ten minutes in which both versions fail.
func bursts(at time.Duration) (rate, errs float64) {
	if at%(10*time.Minute) < 10*time.Second {
		return 1, 60
	}
	return 1, 1
}

// outage is half of all requests that fail from the half hour on.
func outage(at time.Duration) (rate, errs float64) {
	if at > 30*time.Minute {
		return 1, 100
	}
	return 1, 1
}

// rhythm is a day in an hour, with more errors where there is more load.
func rhythm(at time.Duration) (rate, errs float64) {
	s := math.Sin(2 * math.Pi * at.Hours())
	return 1 + 0.8*s, 1 + 0.5*s
}

func steps(at time.Duration) routing.Share {
	return []routing.Share{500, 1000, 2500, 5000, 9000}[min(int(at/(12*time.Minute)), 4)]
}

var runs = flag.Int("runs", 1, "times as many simulated runs")

func TestHealthyIsNotRolledBack(t *testing.T) {
	gates := []routing.Gate{errorRate(0.01), errorIncrease(0.005), errorRatio(1.5)}
	latencies := []routing.Gate{
		latencyMax("latency_p99", 0.33), latencyRatio("latency_p99", 1.01), latencyRatio("latency_p50", 1.01),
		latencyMore("latency_p90", 0.001), latencyMax("latency_mean", 0.114), latencyRatio("latency_mean", 1.01),
	}
	for _, c := range []struct {
		name  string
		runs  int
		world func(*rand.Rand) world
	}{
		{"half a request a second", 40, func(*rand.Rand) world { return world{perSecond: 0.5, rate: 0.005, share: always(1000)} }},
		{"2", 40, func(*rand.Rand) world { return world{perSecond: 2, rate: 0.005, share: always(5000)} }},
		{"20", 25, func(*rand.Rand) world { return world{perSecond: 20, rate: 0.005, share: always(1000)} }},
		{"200", 25, func(*rand.Rand) world { return world{perSecond: 200, rate: 0.005, share: always(1000)} }},
		{"2000", 10, func(*rand.Rand) world { return world{perSecond: 2000, rate: 0.005, share: always(1000)} }},
		{"bursts", 25, func(*rand.Rand) world { return world{perSecond: 200, rate: 0.005, share: always(1000), load: bursts} }},
		{"bursts, most on the candidate", 25, func(*rand.Rand) world { return world{perSecond: 20, rate: 0.005, share: always(9000), load: bursts} }},
		{"bursts, few on the candidate", 25, func(*rand.Rand) world { return world{perSecond: 60, rate: 0.005, share: always(200), load: bursts} }},
		{"both fail from the half hour on", 20, func(*rand.Rand) world {
			return world{perSecond: 20, rate: 0.005, share: always(1000), load: outage}
		}},
		{"both fail, most on the candidate", 20, func(*rand.Rand) world {
			return world{perSecond: 20, rate: 0.005, share: always(9000), load: outage}
		}},
		{"users, both fail", 20, func(r *rand.Rand) world {
			return world{perSecond: 20, rate: 0.005, share: always(5000), users: newCrowd(r, 2000, 0.3), load: outage}
		}},
		{"at the limit", 25, func(*rand.Rand) world { return world{perSecond: 100, rate: 0.01, share: always(2500)} }},
		{"latencies", 4, func(*rand.Rand) world {
			return world{perSecond: 60, rate: 0.005, share: steps, load: rhythm, latency: true}
		}},
		{"rhythm", 25, func(*rand.Rand) world { return world{perSecond: 200, rate: 0.004, share: always(1000), load: rhythm} }},
		{"steps", 25, func(*rand.Rand) world { return world{perSecond: 200, rate: 0.005, share: steps} }},
		{"users", 20, func(r *rand.Rand) world {
			return world{perSecond: 20, rate: 0.001, share: always(1000), users: newCrowd(r, 2000, 0.3)}
		}},
		{"users in steps, with bursts", 20, func(r *rand.Rand) world {
			return world{perSecond: 20, rate: 0.001, share: steps, users: newCrowd(r, 2000, 0.3), load: bursts}
		}},
		{"a user who always fails", 20, func(r *rand.Rand) world {
			return world{perSecond: 10, rate: 0.001, share: always(5000), users: newCrowd(r, 50, 1)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			wrong := 0
			c.runs = max(3, c.runs**runs/simulated)
			for seed := range c.runs {
				r := rand.New(rand.NewPCG(uint64(seed), 4))
				w := c.world(r)
				w.harm = fine
				gates := gates
				if w.latency {
					gates = latencies
				}
				if o := w.play(r, trialOf(10, gates...), time.Hour); o.broken > 0 {
					wrong++
					t.Logf("seed %d: %s after %s", seed, o.metric, o.broken)
				}
			}
			t.Logf("%d of %d, %s a run", wrong, c.runs, time.Since(began)/time.Duration(c.runs))
			if float64(wrong) > 0.05*float64(c.runs) {
				t.Errorf("%d of %d healthy candidates were rolled back", wrong, c.runs)
			}
		})
	}
}

func TestHarmIsFound(t *testing.T) {
	gates := []routing.Gate{errorRate(0.01), errorIncrease(0.005)}
	times := func(f float64) func(time.Duration) float64 { return func(time.Duration) float64 { return f } }
	late := func(at time.Duration) float64 {
		if at > 3*time.Hour {
			return 10
		}
		return 1
	}
	for _, c := range []struct {
		name   string
		runs   int
		world  func(*rand.Rand) world
		length time.Duration
		within time.Duration // from the beginning, in 99 %
	}{
		{"x4 at 2 candidate requests a second, 10 %", 40, func(*rand.Rand) world {
			return world{perSecond: 20, rate: 0.005, share: always(1000), harm: times(4)}
		}, time.Hour, time.Hour},
		{"x4 at 2 candidate requests a second, 50 %", 40, func(*rand.Rand) world {
			return world{perSecond: 4, rate: 0.005, share: always(5000), harm: times(4)}
		}, time.Hour, time.Hour},
		{"x4 at 10 candidate requests a second, 90 %", 20, func(*rand.Rand) world {
			return world{perSecond: 11, rate: 0.005, share: always(9000), harm: times(4)}
		}, time.Hour, time.Hour},
		{"x4 at 2 candidate requests a second, users", 20, func(r *rand.Rand) world {
			return world{perSecond: 20, rate: 0.005, share: always(1000), users: newCrowd(r, 50000, 0), harm: times(4)}
		}, time.Hour, time.Hour},
		{"x10 after three hours at 2 candidate requests a second", 20, func(*rand.Rand) world {
			return world{perSecond: 20, rate: 0.002, share: always(1000), harm: late}
		}, 4 * time.Hour, 3*time.Hour + 45*time.Minute},
		{"x10 after three hours at 20 candidate requests a second", 20, func(*rand.Rand) world {
			return world{perSecond: 200, rate: 0.002, share: always(1000), harm: late}
		}, 4 * time.Hour, 3*time.Hour + 5*time.Minute},
		{"x10 after three hours of users", 20, func(r *rand.Rand) world {
			return world{perSecond: 20, rate: 0.002, share: always(1000), users: newCrowd(r, 50000, 0), harm: late}
		}, 4 * time.Hour, 3*time.Hour + 45*time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			var found []time.Duration
			c.runs = max(3, c.runs**runs/simulated)
			for seed := range c.runs {
				r := rand.New(rand.NewPCG(uint64(seed), 9))
				w := c.world(r)
				if o := w.play(r, trialOf(10, gates...), c.length); o.broken > 0 && o.broken <= c.within {
					found = append(found, o.broken)
				}
			}
			slices.Sort(found)
			if float64(len(found)) < 0.99*float64(c.runs) {
				t.Errorf("found in %d of %d", len(found), c.runs)
			}
			if len(found) > 0 {
				t.Logf("found in %d of %d, median %s, last %s", len(found), c.runs, found[len(found)/2], found[len(found)-1])
			}
		})
	}
}

func TestFailureOfEverything(t *testing.T) {
	for _, c := range []struct {
		name      string
		perSecond float64
		share     routing.Share
		users     int
		more      time.Duration // after the look at the tenth bad answer
	}{
		{"100 a second, 10 %", 100, 1000, 0, 0}, {"20 a second, 50 %", 20, 5000, 0, 0}, {"2 a second, 10 %", 2, 1000, 0, 0},
		{"11 a second, 90 %", 11, 9000, 0, 8 * time.Second},
		{"11 a second, 100 %", 11, 10000, 0, 0},
		{"100 a second, 10 %, users", 100, 1000, 5000, 0}, {"20 a second, 50 %, users", 20, 5000, 5000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range 20 {
				r := rand.New(rand.NewPCG(uint64(seed), 2))
				w := world{perSecond: c.perSecond, rate: 0.001, share: always(c.share), harm: func(time.Duration) float64 { return 1000 }}
				if c.users > 0 {
					w.users = newCrowd(r, c.users, 0.001)
				}
				o := w.play(r, trialOf(10, errorRate(0.01), errorIncrease(0.005)), 10*time.Minute)
				if o.broken == 0 || o.tenth > 0 && o.broken > o.tenth+c.more {
					t.Errorf("seed %d: %s after %s and %d bad answers, the tenth came after %s", seed, o.metric, o.broken, o.bad, o.tenth)
				}
			}
		})
	}
}

// A candidate that breaks a gate, by whatever little, is called safe in at most
// the promised part of all steps, however often one looks.
func TestBadIsNotPromoted(t *testing.T) {
	for _, c := range []struct {
		name string
		gate routing.Gate
		harm float64
	}{
		{"at the limit", errorRate(0.01), 2}, {"at the margin in points", errorIncrease(0.005), 2},
		{"at the ratio", errorRatio(1.5), 1.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, wrong := max(5, 60**runs/simulated), 0
			for seed := range n {
				r := rand.New(rand.NewPCG(uint64(seed), 6))
				w := world{perSecond: 200, rate: 0.005, share: always(2500), harm: func(time.Duration) float64 { return c.harm }}
				if w.play(r, trialOf(10, c.gate), 20*time.Minute).safe {
					wrong++
				}
			}
			t.Logf("%d of %d", wrong, n)
			// Three standard deviations above what is promised.
			if m := 0.05 * float64(n); float64(wrong) > m+3*math.Sqrt(0.95*m) {
				t.Errorf("%d of %d bad candidates were called safe", wrong, n)
			}
		})
	}
}
