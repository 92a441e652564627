package compare_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// request is one that the trials of this file see.
type request struct {
	at        time.Duration
	candidate bool
	errors    bool
	latency   float64
}

func requests(r *rand.Rand, n int, length time.Duration) []request {
	all := make([]request, n)
	for i := range all {
		all[i] = request{
			at: time.Duration(float64(length) * float64(i) / float64(n)), candidate: r.Float64() < 0.25,
			errors: r.Float64() < 0.01, latency: 0.1 * math.Exp(0.3*r.NormFloat64()),
		}
	}
	return all
}

// cut adds requests to a trial in batches that end where ends says, and at every
// full five minutes.
func cut(trial *compare.Trial, all []request, length time.Duration, next func(at time.Duration) time.Duration) {
	i := 0
	for at := time.Duration(0); at < length; {
		to := min(next(at), at.Truncate(5*time.Minute)+5*time.Minute)
		b := compare.Batch{To: began.Add(to)}
		for ; i < len(all) && all[i].at < to; i++ {
			a := &b.Stable
			if all[i].candidate {
				a = &b.Candidate
			}
			a.Requests++
			a.Drawn++
			if all[i].errors {
				a.Errors++
				a.DrawnErrors++
				a.FirstErrors++
			} else {
				a.Latency.Add(all[i].latency, 1)
			}
		}
		trial.Add(&b)
		at = to
	}
}

// slowOf is what is slow, in evidence.
var slowOf = regexp.MustCompile(`"slow":[0-9.]+,?`)

var manyGates = []routing.Gate{
	errorRate(0.015), errorIncrease(0.005), errorRatio(1.5), latencyMax("latency_p99", 0.3),
	latencyRatio("latency_p90", 1.2), latencyMore("latency_p50", 0.05), latencyMax("latency_mean", 0.2),
}

func TestEvidenceDoesNotDependOnBatches(t *testing.T) {
	const length = 3 * time.Hour
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 3))
		all := requests(r, 30_000, length)
		evidence := func(keyed bool, next func(time.Duration) time.Duration) string {
			trial := compare.NewTrial(trialOf(25, manyGates...), keyed)
			cut(trial, all, length, next)
			data, err := trial.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		keyed := seed%2 == 1
		want := evidence(keyed, func(at time.Duration) time.Duration { return at + 5*time.Minute })
		got := evidence(keyed, func(at time.Duration) time.Duration {
			return at + time.Duration(r.Int64N(int64(2*time.Minute))) + 1
		})
		if keyed {
			// What is slow is fixed when stable has enough answers, at the end of a batch.
			want, got = slowOf.ReplaceAllString(want, ""), slowOf.ReplaceAllString(got, "")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	const length = 5 * time.Hour
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 5))
		all := requests(r, 40_000, length)
		tr := trialOf(25, manyGates...)
		tr.Policy.MaxExcess = 100
		trial := compare.NewTrial(tr, seed%2 == 1)
		cut(trial, all, length, func(at time.Duration) time.Duration { return at + time.Minute })
		tr.Step, tr.Share = 2, 5000
		trial.Watch(tr)
		cut(trial, all[:5000], length/8, func(at time.Duration) time.Duration { return at + time.Minute })
		want := trial.Look(began.Add(length))
		data, err := trial.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again compare.Trial
		if err := again.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, again.Look(began.Add(length))); diff != "" {
			t.Errorf("seed %d: findings: %s", seed, diff)
		}
		if n, s := trial.Epoch(); n < 2 {
			t.Errorf("epoch %d %v", n, s)
		}
		second, err := again.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(data), string(second)); diff != "" {
			t.Errorf("seed %d: evidence: %s", seed, diff)
		}
		if len(data) > 30_000 {
			t.Errorf("seed %d: %d bytes", seed, len(data))
		}
		// Both go on alike.
		cut(trial, all, length, func(at time.Duration) time.Duration { return at + time.Minute })
		cut(&again, all, length, func(at time.Duration) time.Duration { return at + time.Minute })
		if diff := cmp.Diff(trial.Look(began), again.Look(began)); diff != "" {
			t.Errorf("seed %d: later findings: %s", seed, diff)
		}
	}
}

// A look that tells figures decides as one that does not.
func TestVerdictsAreThoseOfLook(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	all := requests(r, 20_000, 2*time.Hour)
	a, b := compare.NewTrial(trialOf(25, manyGates...), false), compare.NewTrial(trialOf(25, manyGates...), false)
	for i := 0; i < len(all); i += 100 {
		from := all[i].at
		part := make([]request, 100)
		copy(part, all[i:])
		one := func(at time.Duration) time.Duration { return from + time.Second }
		cut(a, part, time.Nanosecond, one)
		cut(b, part, time.Nanosecond, one)
		x, y := a.Look(began), b.Verdicts(began)
		for k := range x.Findings {
			if x.Findings[k].Verdict != y.Findings[k].Verdict || x.Findings[k].Reason != y.Findings[k].Reason {
				t.Fatalf("%+v and %+v", x.Findings[k], y.Findings[k])
			}
		}
	}
}

// Evidence of a metric that this headgate tests otherwise, or does not know, as
// after a downgrade, does no harm.
func TestEvidenceOfAnotherMetric(t *testing.T) {
	const length = time.Hour
	trial := compare.NewTrial(trialOf(25, manyGates...), true)
	cut(trial, requests(rand.New(rand.NewPCG(1, 8)), 10_000, length), length, func(at time.Duration) time.Duration { return at + time.Minute })
	good, err := trial.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"error_rate", "latency_p99", "latency_mean"} {
		for _, to := range []string{"error_rate", "latency_p99", "latency_mean", "joy"} {
			var again compare.Trial
			if err := again.UnmarshalBinary(bytes.ReplaceAll(good, []byte(`"`+from+`"`), []byte(`"`+to+`"`))); err != nil {
				t.Fatal(err)
			}
			again.Add(batchAt(length+6*time.Minute, arm(10, 1), arm(30, 0)))
			if n := len(again.Look(began).Findings); n != len(manyGates)+1 {
				t.Errorf("%s as %s: %d findings", from, to, n)
			}
		}
	}
}

func FuzzEvidence(f *testing.F) {
	trial := compare.NewTrial(trialOf(25, manyGates...), true)
	trial.Add(batchAt(time.Minute, arm(10, 1), arm(30, 0)))
	good, err := trial.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var trial compare.Trial
		if trial.UnmarshalBinary(data) != nil {
			return
		}
		trial.Watch(trialOf(25, manyGates...))
		trial.Add(batchAt(time.Minute, arm(10, 1), arm(30, 0)))
		trial.Look(began)
	})
}
