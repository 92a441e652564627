package compare_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// shadowOf is a trial of a candidate that gets copies and no user.
func shadowOf(percent routing.Share, gates ...routing.Gate) routing.Trial {
	t := trialOf(0, gates...)
	t.Shadow = percent * 100
	return t
}

func TestWhatCountsBesideAShadow(t *testing.T) {
	shadow := shadowOf(10, errorRate(0.01))
	mirrored := func(o *compare.Observation) { o.Mirrored, o.Drawn = true, false }
	copied := func(o *compare.Observation) { o.Copied = true }
	none := func(*compare.Observation) {}
	for _, c := range []struct {
		name    string
		version string
		change  func(*compare.Observation)
		want    seenBy
		stable  uint64 // of stable, compared
	}{
		{"copy to the candidate", "v2", mirrored, seenBy{1, 0, 1, 0}, 0},
		{"request of the candidate by an override", "v2", func(o *compare.Observation) { o.Drawn = false }, seenBy{}, 0},
		{"request of stable that may be copied", "v1", copied, seenBy{0, 0, 0, 1}, 1},
		{"request of stable that may not", "v1", none, seenBy{0, 0, 0, 1}, 0},
		{"copy to stable", "v1", mirrored, seenBy{}, 0},
		{"copy to another shadow", "v3", mirrored, seenBy{}, 0},
	} {
		j := compare.NewJudge(compare.JudgeOptions{})
		j.Watch(now(shadow), nil)
		o := seen(c.version, compare.ClassSuccess)
		c.change(&o)
		j.Observe(o)
		evidence := j.Look("churn", time.Now()).Evidence
		if diff := cmp.Diff(c.want, counted(t, evidence)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if got := strings.Contains(string(evidence), `"stable":{"requests":1,"errors":0,"client_errors":0,"drawn":1`); got != (c.stable > 0) {
			t.Errorf("%s: compared as stable's: %v\n%s", c.name, got, evidence)
		}
	}
}

// What began in the shadow step and is told in the step after it counts as it
// would have in the shadow step.
func TestLateAnswersOfAShadow(t *testing.T) {
	at, j := began, compare.NewJudge(compare.JudgeOptions{})
	j.SetClock(func() (time.Time, time.Duration) { return at, at.Sub(began) })
	tell := func(version string, mirrored bool, start time.Time) {
		j.Observe(compare.Observation{
			Node: "a", Model: "churn", Version: version, Start: start, Code: 200, GRPC: -1, Class: compare.ClassError,
			Duration: time.Millisecond, Mirrored: mirrored, Drawn: !mirrored, Copied: !mirrored,
		})
	}
	j.Watch(shadowOf(10, errorRate(0.01)), nil)
	at = began.Add(time.Minute)
	next := trialOf(10, errorRate(0.01))
	next.Step, next.Since = 2, at
	j.Watch(next, nil)
	at = at.Add(time.Second)
	tell("v2", true, began.Add(time.Second))  // of the shadow step
	tell("v2", false, began.Add(time.Second)) // an override's
	tell("v2", true, at)                      // of a standing shadow
	tell("v2", false, at)
	if got, want := counted(t, j.Look("churn", at).Evidence), (seenBy{1, 1, 1, 0}); got != want {
		t.Errorf("the present step counts %+v, want %+v", got, want)
	}
	if f := hard(j.Look("churn", at)); *f.Estimate != 2 {
		t.Errorf("%v answers are remembered, want the copy and the user's: %s", *f.Estimate, f.Text)
	}
}

// hard is the finding of gross failure.
func hard(j routing.Judgement) routing.Finding { return j.Findings[len(j.Findings)-1] }

// shadowed is synthetic traffic on stable, of which a shadow gets copies, as an
// access log tells it.
type shadowed struct {
	perSecond int
	percent   routing.Share
	rate      float64 // at which requests fail on both
	same      float64 // part of these failures that are the request's fault
	harm      float64 // at which the shadow fails besides
	dropped   float64 // part of the copies
	users     *crowd  // nil: without a key
}

// play looks every ten seconds, and returns when the shadow was found to be
// broken, and whether it was ever safe.
func (w *shadowed) play(r *rand.Rand, t routing.Trial, length time.Duration) (broken time.Duration, metric string, safe bool) {
	at, j := began, compare.NewJudge(compare.JudgeOptions{})
	j.SetClock(func() (time.Time, time.Duration) { return at, at.Sub(began) })
	j.Watch(t, nil)
	for at.Sub(began) < length {
		for i := range 10 * w.perSecond {
			w.request(r, j, began.Add(at.Sub(began)+time.Duration(i)*time.Second/time.Duration(w.perSecond)))
		}
		at = at.Add(10 * time.Second)
		judgement := j.Look("churn", at)
		safe = safe || judgement.Safe()
		for _, f := range judgement.Findings {
			if f.Verdict == routing.VerdictBreach {
				return at.Sub(began), f.Metric, safe
			}
		}
	}
	return 0, "", safe
}

func (w *shadowed) request(r *rand.Rand, j *compare.Judge, start time.Time) {
	rate := w.rate
	o := compare.Observation{
		Node: "a", Model: "churn", Version: "v1", Start: start, Code: 200, GRPC: -1, Class: compare.ClassSuccess,
		Duration: 10 * time.Millisecond, Drawn: true, Copied: true,
	}
	if w.users != nil {
		o.User, o.HasUser = w.users.pick(), true
		rate += w.users.fails[o.User]
	}
	fault := r.Float64() < rate*w.same
	fails := func(rate float64) compare.Class {
		if fault || r.Float64() < rate {
			return compare.ClassError
		}
		return compare.ClassSuccess
	}
	o.Class = fails(rate * (1 - w.same))
	j.Observe(o)
	if r.Float64() < float64(w.percent)/100 && r.Float64() >= w.dropped {
		o.Version, o.Mirrored, o.Drawn, o.Copied = "v2", true, false, false
		o.Class = fails(rate*(1-w.same) + w.harm)
		j.Observe(o)
	}
}

func TestHealthyShadowIsNotSentBack(t *testing.T) {
	gates := []routing.Gate{errorRate(0.03), errorIncrease(0), errorRatio(1.01)}
	heavy := func(r *rand.Rand) *crowd { return newCrowd(r, 300, 0.5) }
	for _, c := range []struct {
		percent routing.Share
		same    float64
		users   func(*rand.Rand) *crowd
	}{
		{100, 0, nil}, {100, 0.5, nil}, {10, 0, nil}, {10, 1, nil},
		{100, 0, heavy}, {10, 0, heavy}, {10, 1, heavy}, {1, 0, heavy},
	} {
		t.Run(fmt.Sprintf("%d%% same %v users %v", c.percent, c.same, c.users != nil), func(t *testing.T) {
			n, wrong := max(3, 8**runs/simulated), 0
			for seed := range n {
				r := rand.New(rand.NewPCG(uint64(seed), 11))
				w := shadowed{perSecond: 40, percent: c.percent, rate: 0.005, same: c.same}
				if c.users != nil {
					w.users = c.users(r)
				}
				if broken, metric, _ := w.play(r, shadowOf(c.percent, gates...), 20*time.Minute); broken > 0 {
					wrong++
					t.Logf("seed %d: %s after %s", seed, metric, broken)
				}
			}
			if float64(wrong) > 0.05*float64(n) {
				t.Errorf("%d of %d healthy shadows were sent back", wrong, n)
			}
		})
	}
}

func TestHarmOfAShadowIsFound(t *testing.T) {
	for _, c := range []struct {
		percent routing.Share
		harm    float64
		users   int
		within  time.Duration
	}{
		{100, 0.03, 0, 3 * time.Minute}, {10, 0.03, 0, 20 * time.Minute}, {10, 0.05, 3000, 20 * time.Minute},
		{10, 0.1, 1, 20 * time.Minute}, // one user, who says as much as many: requests are drawn
		{100, 1, 0, 10 * time.Second}, {10, 1, 3000, 10 * time.Second}, {1, 1, 0, 90 * time.Second},
	} {
		for seed := range max(2, 5/simulated) {
			r := rand.New(rand.NewPCG(uint64(seed), 12))
			w := shadowed{perSecond: 40, percent: c.percent, rate: 0.005, harm: c.harm}
			if c.users > 0 {
				w.users = newCrowd(r, c.users, 0)
			}
			broken, metric, _ := w.play(r, shadowOf(c.percent, errorRate(0.02), errorIncrease(0.005)), time.Hour)
			if broken == 0 || broken > c.within {
				t.Errorf("%d%%, %v more errors, seed %d: %s after %s, want within %s", c.percent, c.harm, seed, metric, broken, c.within)
			}
		}
	}
}

// A shadow at the margin of a gate is called safe in at most the promised part
// of all runs, also when copies are dropped, which leaves it with fewer errors.
func TestBadShadowIsNotSafe(t *testing.T) {
	for _, dropped := range []float64{0, 0.6} {
		n, wrong := max(5, 40**runs/simulated), 0
		for seed := range n {
			r := rand.New(rand.NewPCG(uint64(seed), 13))
			w := shadowed{perSecond: 40, percent: 50, rate: 0.01, harm: 0.01, dropped: dropped}
			if _, _, safe := w.play(r, shadowOf(50, errorIncrease(0.01)), 15*time.Minute); safe {
				wrong++
			}
		}
		t.Logf("%v dropped: %d of %d", dropped, wrong, n)
		if m := 0.05 * float64(n); float64(wrong) > m+3*math.Sqrt(0.95*m) {
			t.Errorf("%v of the copies dropped: %d of %d bad shadows were called safe", dropped, wrong, n)
		}
	}
}

func TestExcessIsOfUsers(t *testing.T) {
	tr := shadowOf(100, errorRate(0.5))
	tr.Policy.MaxExcess = 5
	trial := compare.NewTrial(tr, false)
	trial.Add(batchAt(time.Minute, arm(1000, 200), arm(1000, 1)))
	if f := hard(trial.Look(began)); f.Reason != routing.ReasonNotMeasurable {
		t.Errorf("%+v", f)
	}
	next := trialOf(50, errorRate(0.5))
	next.Step, next.Policy = 2, tr.Policy
	trial.Watch(next)
	trial.Add(batchAt(2*time.Minute, arm(1000, 3), arm(1000, 1)))
	if f := hard(trial.Look(began)); *f.Estimate != 2 || f.Verdict == routing.VerdictBreach {
		t.Errorf("%+v", f)
	}
}
