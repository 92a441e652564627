package simulate

import (
	"math"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// Scenario is what is simulated.
type Scenario struct {
	Model     *routing.Model // its steps, gates and promise
	Traffic   Traffic
	Stable    Truth
	Candidate Truth // of the harmful world, from From on
	// From is when the harm begins, counted from the first request of the
	// rollout. Before, the candidate behaves as stable does.
	From time.Duration
	// Until is when a run is given up that is neither promoted nor back.
	Until time.Duration
	// Observed tells that the file says mode: observe. It is simulated as act.
	Observed bool
}

// Traffic is who asks, and how often.
type Traffic struct {
	Rate   float64 // requests a second, of both versions together
	Users  Users
	Bursts Bursts
	Rhythm Rhythm
	Gaps   Gaps
}

// Users are the keys by which requests are split. Number 0: there are none, and
// each request is split by itself.
type Users struct {
	Number int
	Zipf   float64 // the i-th busiest user asks in proportion to i^-Zipf; 0: all alike
	// Failing is the part of the users whose requests fail at FailingRate,
	// whichever version they ask, beside the errors of a Truth.
	Failing     float64
	FailingRate float64
}

// Bursts are short times, at random, in which everything is different for both
// versions. Every 0: there are none.
type Bursts struct {
	Every, For time.Duration // mean time from one to the next, and how long each lasts
	Rate       float64       // times the requests
	Errors     float64       // this part of the requests fails in addition
	Latency    float64       // times the latency
}

// Rhythm is a wave of the rate: Rate × (1 + Swing·sin(2π·t/Period)), with a
// phase of its own in each run. Period 0: there is none.
type Rhythm struct {
	Period time.Duration
	Swing  float64 // in [0, 1)
}

// Gaps are times, at random, of which nothing is known: the access log of an
// Envoy is lost. Every 0: there are none.
type Gaps struct {
	Every, For time.Duration
}

// Truth is how a version behaves.
type Truth struct {
	Errors       float64 // part of the requests
	ClientErrors float64 // part of the requests that are no errors
	Latency      Latency // of requests that are no errors
	ErrorLatency Latency // of errors; zero: as Latency
}

// Latency is a log-normal distribution, by two of its quantiles. Zero: unknown.
type Latency struct {
	Median, P99 time.Duration
}

// normal99 is the 99 % quantile of the standard normal distribution.
const normal99 = 2.3263478740408408

// known tells whether there is a distribution.
func (l Latency) known() bool { return l.Median > 0 }

// times returns the distribution of f times the latency.
func (l Latency) times(f float64) Latency {
	return Latency{scale(l.Median, f), scale(l.P99, f)}
}

func scale(d time.Duration, f float64) time.Duration {
	return time.Duration(math.Round(float64(d) * f))
}

// sigma is the standard deviation of the logarithm.
func (l Latency) sigma() float64 {
	return max(math.Log(float64(l.P99)/float64(l.Median))/normal99, 1e-9)
}

// above is the part of the latencies beyond seconds.
func (l Latency) above(seconds float64) float64 {
	if seconds <= 0 {
		return 1
	}
	return math.Erfc(math.Log(seconds/l.Median.Seconds())/l.sigma()/math.Sqrt2) / 2
}

// quantile is the latency in seconds below which the part q lies.
func (l Latency) quantile(q float64) float64 {
	return l.Median.Seconds() * math.Exp(l.sigma()*math.Sqrt2*math.Erfinv(2*q-1))
}

// mean is in seconds.
func (l Latency) mean() float64 {
	return l.Median.Seconds() * math.Exp(l.sigma()*l.sigma()/2)
}

// Keyed tells whether requests carry a user's key.
func (s *Scenario) Keyed() bool { return s.Traffic.Users.Number > 0 }

// Course is how long the rollout takes at least.
func (s *Scenario) Course() time.Duration {
	var sum time.Duration
	for _, step := range s.Model.Steps {
		sum += step.For
	}
	return sum
}

// Histogram is the distribution as a histogram of some thousand latencies.
func (l Latency) Histogram() *stats.Histogram {
	h := &stats.Histogram{}
	const n = 10_000
	for i := range n {
		h.Add(l.quantile((float64(i)+0.5)/n), 1)
	}
	return h
}
