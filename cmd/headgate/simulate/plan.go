package simulate

import (
	"math"
	"sort"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// Present is the present traffic of a model.
type Present struct {
	Rate         float64 // requests a second
	Errors       float64 // part of the requests
	ClientErrors float64
	Latency      *stats.Histogram // in seconds, of any number of answers; nil: unknown
	Keyed        bool             // the split draws users
	// Users is how many there are about; 0: so many that each error is another's.
	Users float64
}

// Plan is what is to be expected of a rollout, at the present traffic.
type Plan struct {
	Model string        `json:"model"`
	Rate  float64       `json:"requests_per_second"`
	Steps []PlannedStep `json:"steps"`
	// Seconds is how long the rollout takes; null: it does not end by itself, see
	// the steps.
	Seconds *float64 `json:"seconds"`
}

// PlannedStep is what is to be expected of a step.
type PlannedStep struct {
	Kind      routing.StepKind  `json:"kind"`
	Percent   float64           `json:"percent"` // of the users, or of the requests that are copied to a shadow
	For       float64           `json:"for_seconds"`
	Hold      bool              `json:"hold"` // a person ends it; Seconds is until its gates are safe
	AtMost    float64           `json:"at_most_seconds,omitempty"`
	OnTimeout routing.OnTimeout `json:"on_timeout,omitempty"`
	// TimesOut says that AtMost is over before the gates are safe, in more than half
	// of the rollouts of a candidate that behaves as stable does.
	TimesOut bool          `json:"times_out"`
	Seconds  *float64      `json:"seconds"` // expected; null: the next does not begin by itself
	Gates    []PlannedGate `json:"gates"`
}

// PlannedGate is what is to be expected of a gate in a step.
type PlannedGate struct {
	Metric string            `json:"metric"`
	Bound  routing.BoundKind `json:"bound"`
	Limit  string            `json:"limit"` // as it is written
	// Present is the value of the metric by the present traffic. Null: unknown.
	Present    *float64 `json:"present"`
	Required   bool     `json:"required"`
	Measurable bool     `json:"measurable"`
	// SafeAfter is after how many seconds a candidate like stable is shown to be
	// safe, in half of the cases. Null: not within 60 days.
	SafeAfter *float64 `json:"safe_after_seconds"`
	Outlasts  bool     `json:"outlasts"` // it is not safe when the step's time is over; false of a step that a person ends
	// SmallestHarm is the value of the metric, also where its increase is limited,
	// from which on a breach is shown within the step's time in nine of ten cases.
	// Null: of none.
	SmallestHarm *float64     `json:"smallest_harm"`
	Unit         routing.Unit `json:"unit"` // of SmallestHarm and Present
}

// planPower is how surely the smallest harm is found.
const planPower = 0.9

// planUntil is how far a plan looks ahead.
const planUntil = 60 * 24 * time.Hour

// PlanOf tells what is to be expected. The verdicts are those of the real judge
// on the numbers that are to be expected: of bad answers the median for what is
// safe, and the count that is exceeded in nine of ten cases for what harm is
// found.
//
// It takes traffic to stay as it is, and each step to begin with a candidate
// that behaves as stable does; what it says of users who err more than once is
// a guess.
func PlanOf(m *routing.Model, l Present) *Plan {
	out := &Plan{Model: m.Name, Rate: l.Rate, Steps: []PlannedStep{}}
	var sum float64
	for i := range m.Steps {
		p := planner{m: m, l: l, step: i}
		s := p.plan()
		out.Steps = append(out.Steps, s)
		if s.Seconds == nil {
			sum = math.Inf(1)
		} else {
			sum += *s.Seconds
		}
	}
	out.Seconds = finite(sum)
	return out
}

func finite(v float64) *float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return &v
}

// planner plans one step.
type planner struct {
	m    *routing.Model
	l    Present
	step int
}

func (p *planner) plan() PlannedStep {
	step := p.m.Steps[p.step]
	out := PlannedStep{
		Kind: step.Kind, Percent: 100 * float64(step.Share) / float64(routing.Whole), For: step.For.Seconds(), Hold: step.Hold,
		Gates: []PlannedGate{},
	}
	if !step.Hold && step.AtMost > 0 {
		out.AtMost, out.OnTimeout = step.AtMost.Seconds(), step.OnTimeout
	}
	lasts := out.For
	last := p.step == len(p.m.Steps)-1 && step.Unwatched()
	for i := range p.m.Policy.Gates {
		if last {
			break // it ends at once, whatever is shown
		}
		g := p.gate(i, step)
		if g.Required && g.Measurable {
			after := math.Inf(1)
			if g.SafeAfter != nil {
				after = *g.SafeAfter
			}
			lasts = max(lasts, after)
		}
		out.Gates = append(out.Gates, g)
	}
	if out.TimesOut = out.AtMost > 0 && lasts > out.AtMost; out.TimesOut {
		if lasts = math.Inf(1); out.OnTimeout == routing.OnTimeoutPromote {
			lasts = out.AtMost
		}
	}
	out.Seconds = finite(lasts)
	return out
}

func (p *planner) gate(i int, step routing.Step) PlannedGate {
	g := &p.m.Policy.Gates[i]
	out := PlannedGate{
		Metric: g.Metric, Bound: g.Bound, Limit: g.Written, Required: g.OnBreach != routing.OnBreachWarn, Unit: routing.UnitRate,
	}
	m, ok := compare.LookupMetric(g.Metric)
	if ok && m.Kind != compare.KindRate {
		out.Unit = routing.UnitSeconds
	}
	known := ok && m.Source == compare.SourceTraffic && p.l.Rate > 0 && (m.Kind == compare.KindRate || p.l.Latency != nil && p.l.Latency.N() > 0)
	if !known {
		return out
	}
	out.Present = p.value(&m)
	first := p.findings(time.Minute, i, 0)[i]
	if out.Measurable = first.Reason != routing.ReasonNotMeasurable; !out.Measurable {
		return out
	}
	out.SafeAfter = p.safeAfter(i)
	out.Outlasts = out.Required && !step.Hold && (out.SafeAfter == nil || *out.SafeAfter > step.For.Seconds())
	if step.For > 0 {
		out.SmallestHarm = p.smallestHarm(i, &m, step.For)
	}
	return out
}

// safeAfter is when gate i is safe, by doubling and bisection.
func (p *planner) safeAfter(i int) *float64 {
	safe := func(d time.Duration) bool { return p.findings(d, -1, 0)[i].Verdict == routing.VerdictSafe }
	high := 10 * time.Second
	for !safe(high) {
		if high *= 2; high > planUntil {
			return nil
		}
	}
	low := high / 2
	for high-low > high/50 {
		if middle := (low + high) / 2; safe(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return finite(high.Round(time.Second).Seconds())
}

// smallestHarm is the least value of the metric of gate i that is found in a
// time.
func (p *planner) smallestHarm(i int, m *compare.Metric, d time.Duration) *float64 {
	found := func(harm float64) bool { return p.findings(d, i, harm)[i].Verdict == routing.VerdictBreach }
	// Rates from the present one to 1 and latencies from the present ones to
	// 1,000 times these, both on a scale of ratios.
	low, high := 1.0, 1000.0
	if m.Kind == compare.KindRate {
		low = max(*p.value(m), 1e-6)
		high = 1
	}
	if low >= high || !found(high) {
		return nil
	}
	for range 40 {
		if middle := math.Sqrt(low * high); found(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	if m.Kind != compare.KindRate {
		high *= *p.value(m)
	}
	return finite(high)
}

// value is what a metric is by the present traffic.
func (p *planner) value(m *compare.Metric) *float64 {
	switch {
	case m.Event == compare.EventClientError:
		return finite((1 - p.l.Errors) * p.l.ClientErrors)
	case m.Kind == compare.KindRate:
		return finite(p.l.Errors)
	case m.Kind == compare.KindMean:
		return finite(p.l.Latency.Mean(math.Inf(1)))
	}
	return finite(p.l.Latency.Quantile(m.Quantile))
}

// findings are what a judge says after a time in the step, when the metric of
// gate i has a harm: a rate, or times the latency. With i < 0 there is none.
func (p *planner) findings(d time.Duration, i int, harm float64) []routing.Finding {
	step := p.m.Steps[p.step]
	t := routing.Trial{
		Model: p.m.Name, Rollout: 1, Step: p.step, Steps: len(p.m.Steps), Stable: "stable", Candidate: "candidate",
		Share: step.Share, Control: step.Control, Since: begins, Policy: &p.m.Policy,
	}
	if step.Kind == routing.StepShadow {
		t.Share, t.Shadow = 0, step.Share
	}
	trial := compare.NewTrial(t, p.l.Keyed)
	e := newExpected(p, d, i, harm)
	// In parts: users are counted once an hour, what is slow is only known when
	// something has been seen, and a breach is one whenever it is seen.
	parts := min(max(17, int(d/(7*time.Minute))), 401)
	var found []routing.Finding
	for k := 1; k <= parts; k++ {
		_, slow := trial.Epoch()
		at := begins.Add(d * time.Duration(k) / time.Duration(parts))
		trial.Add(e.batch(at, float64(k)/float64(parts), slow))
		found = trial.Verdicts(at).Findings
	}
	return found
}

// expected are the numbers that are to be expected of a time.
type expected struct {
	p    *planner
	arms [2]expectedArm
}

type expectedArm struct {
	total   [3]float64 // requests, errors, client errors
	given   [3]uint64  // of them, so far
	sums    []float64  // parts of the latencies up to each bin
	values  []float64  // of the bins, in seconds
	batches int        // so far
	scale   float64    // of the latencies
	users   float64    // 0: no bound
	copied  bool       // nobody sees the answers
}

func newExpected(p *planner, d time.Duration, i int, harm float64) *expected {
	step := p.m.Steps[p.step]
	place := placed(step, step.Share)
	out := &expected{p: p}
	for arm := range out.arms {
		a := &out.arms[arm]
		a.copied = arm == stable && place.copies > 0
		part := place.parts()[arm]
		n := p.l.Rate * part * d.Seconds()
		errors, client := p.l.Errors, p.l.ClientErrors
		a.scale, a.users = 1, p.l.Users*part
		power := 0.5
		if arm == candidate && i >= 0 && harm > 0 {
			power = 1 - planPower
			m, _ := compare.LookupMetric(p.m.Policy.Gates[i].Metric)
			switch m.Event {
			case compare.EventError:
				errors = harm
			case compare.EventClientError:
				client = harm
			default:
				a.scale = harm
			}
		}
		a.total = [3]float64{math.Round(n), poissonQuantile(n*errors, power), poissonQuantile(n*(1-errors)*client, power)}
		a.total[0] = max(a.total[0], a.total[1]+a.total[2])
		a.spread(p.l.Latency)
	}
	return out
}

// poissonQuantile is the least count that is not exceeded with probability p.
func poissonQuantile(mean, p float64) float64 {
	if mean <= 0 {
		return 0
	}
	if mean > 1e6 {
		return math.Round(mean + math.Sqrt(mean)*distuv.UnitNormal.Quantile(p))
	}
	d := distuv.Poisson{Lambda: mean}
	top := int(mean+10*math.Sqrt(mean)) + 10
	return float64(sort.Search(top, func(k int) bool { return d.CDF(float64(k)) >= p }))
}

// spread takes up the distribution of latencies.
func (a *expectedArm) spread(h *stats.Histogram) {
	if h == nil || h.N() == 0 {
		return
	}
	var sum float64
	h.ForEach(func(low, high float64, n uint64) {
		if math.IsInf(high, 1) {
			high = low
		}
		sum += float64(n) / float64(h.N())
		a.values = append(a.values, a.scale*(low+high)/2)
		a.sums = append(a.sums, sum)
	})
}

// batch is what comes until a part of the time is over.
func (e *expected) batch(to time.Time, part float64, slow []float64) *compare.Batch {
	b := &compare.Batch{To: to}
	for arm, out := range []*compare.Arm{&b.Candidate, &b.Stable} {
		e.arms[arm].next(out, part, e.p.l.Keyed, slow)
	}
	return b
}

func (a *expectedArm) next(out *compare.Arm, part float64, keyed bool, slow []float64) {
	var now [3]uint64
	for k := range now {
		upTo := uint64(math.Floor(a.total[k]*part + 1e-9))
		now[k], a.given[k] = upTo-a.given[k], upTo
	}
	out.Drawn, out.DrawnErrors, out.DrawnClientErrors = now[0], now[1], now[2]
	if !a.copied {
		out.Requests, out.Errors, out.ClientErrors = now[0], now[1], now[2]
	}
	a.answer(out)
	if keyed {
		out.FirstErrors, out.FirstClientErrors = a.first(now[1]), a.first(now[2])
		for _, limit := range slow {
			var n uint64
			if limit > 0 {
				n = a.first(out.Latency.CountAbove(limit))
			}
			out.FirstSlow = append(out.FirstSlow, n)
		}
	}
	for range min(now[0], compare.LastOutcomes) {
		out.Last = append(out.Last, compare.Outcome{User: 1})
	}
}

// answer gives the requests of a batch latencies that are evenly spread over the
// distribution, each batch at other places of it.
func (a *expectedArm) answer(out *compare.Arm) {
	if len(a.values) == 0 {
		return
	}
	const golden = 0.6180339887498949 // its multiples are spread evenly
	a.batches++
	_, offset := math.Modf(float64(a.batches) * golden)
	n := float64(out.Drawn)
	var before uint64
	for k, sum := range a.sums {
		upTo := uint64(math.Floor(min(sum, 1)*n + offset))
		if k == len(a.sums)-1 {
			upTo = out.Drawn
		}
		if upTo = min(upTo, out.Drawn); upTo > before {
			out.Latency.Add(a.values[k], upTo-before)
			before = upTo
		}
	}
}

// first is how many of so many events are their users' first, when users are
// alike.
func (a *expectedArm) first(events uint64) uint64 {
	if a.users <= 0 {
		return events
	}
	return uint64(math.Round(a.users * -math.Expm1(-float64(events)/a.users)))
}
