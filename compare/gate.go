package compare

import (
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// test is how a gate is tested.
type test int

const (
	testNone  test = iota // nothing that traffic shows
	testLimit             // one rate against a limit: [stats.Rate]
	testShare             // two rates: [stats.Share]
	testSpans             // intervals of latencies, in spans of time
)

// gate is a limit with what was found about it in the rollout.
type gate struct {
	gate   routing.Gate
	metric Metric
	kind   test

	breach, safe bet      // of testLimit and testShare
	worse0       shareBet // against stable, margin 0: of users, or of requests without a key

	main     *past
	mainEver bool // requests have reached the level once, beside stable's; of testShare and testSpans
	worse    *past
	// worseEver says that the candidate was shown to be worse than stable once, with
	// a key in this epoch of users or in one before.
	worseEver bool
	slow      float64 // seconds above which a request is slow, in this epoch; 0: not known
	bound     float64 // seconds; of a mean that is compared, 0: not known
	fromSpan  int     // spans before this one were before the gate
	brokenAt  time.Time

	looked map[int]spanSeen // by span
	cached safeLook
	hoped  needLook
}

// newGate returns a gate about which nothing is known.
func newGate(r routing.Gate) *gate {
	if r.OnBreach == "" {
		r.OnBreach = routing.OnBreachRollback
	}
	g := &gate{gate: r}
	m, known := LookupMetric(r.Metric)
	g.metric = m
	g.worse0 = shareBet{stats.NewShare(stats.Margin{}, stats.Above)}
	if !known || m.Source != SourceTraffic {
		return g
	}
	switch limit := g.gate.Limit; {
	case r.Bound == routing.BoundMax && m.Kind == KindRate:
		g.limit(limit, g.safeLimit())
	case r.Bound == routing.BoundMax && m.Kind == KindQuantile:
		g.limit(1-m.Quantile, 1-m.Quantile)
		g.slow = limit
	case r.Bound == routing.BoundMaxIncrease && m.Kind == KindRate:
		g.kind = testShare
		g.breach = shareBet{stats.NewShare(g.margin(limit), stats.Above)}
		g.safe = shareBet{stats.NewShare(g.margin(g.safeLimit()), stats.Below)}
	case r.Bound == routing.BoundMax, r.Bound == routing.BoundMaxIncrease:
		g.kind = testSpans
		if r.Bound == routing.BoundMax {
			g.slow = limit
		}
	}
	return g
}

func (g *gate) limit(breach, safe float64) {
	g.kind = testLimit
	g.breach = limitBet{stats.NewRate(breach, stats.Above)}
	g.safe = limitBet{stats.NewRate(safe, stats.Below)}
}

func (g *gate) margin(limit float64) stats.Margin {
	if g.gate.Unit == routing.UnitRatio {
		return stats.Margin{Ratio: limit}
	}
	return stats.Margin{Points: limit}
}

// safeLimit is what has to be shown: the limit, or the resolution where the
// limit leaves no room.
func (g *gate) safeLimit() float64 {
	none := 0.0
	if g.gate.Unit == routing.UnitRatio {
		none = 1
	}
	if g.gate.Limit <= none && g.gate.Resolution > g.gate.Limit {
		return g.gate.Resolution
	}
	return g.gate.Limit
}

// same tells whether evidence about one gate is evidence about the other.
func (g *gate) same(r *routing.Gate) bool {
	a := &g.gate
	return a.Metric == r.Metric && a.Bound == r.Bound && a.Limit == r.Limit && a.Unit == r.Unit && a.Resolution == r.Resolution
}

// reconcile returns the gates of the present policy: of those that there were,
// each that stayed, and new ones.
func (t *Trial) reconcile(old []*gate) []*gate {
	old = slices.Clone(old)
	gates := make([]*gate, 0, len(t.now.Policy.Gates))
	for _, r := range t.now.Policy.Gates {
		i := slices.IndexFunc(old, func(g *gate) bool { return g != nil && g.same(&r) })
		if i >= 0 {
			g := old[i]
			old[i] = nil
			if g.gate.OnBreach = r.OnBreach; r.OnBreach == "" {
				g.gate.OnBreach = routing.OnBreachRollback
			}
			g.gate.Written = r.Written
			g.cached, g.hoped = safeLook{}, needLook{} // by the promise that there was
			gates = append(gates, g)
			continue
		}
		g := newGate(r)
		gates = append(gates, g)
		if !t.began.IsZero() {
			g.open(t)
			if g.kind == testSpans {
				t.newSpan(t.to)
				g.fromSpan = t.spanned
			}
		}
	}
	return gates
}

// open makes the tests that are not there yet.
func (g *gate) open(t *Trial) {
	if g.main == nil && g.breach != nil {
		g.main = newPast(t.weight, t.to)
	}
	if g.worse == nil && (t.keyed || g.kind == testLimit) {
		g.worse = newPast(t.weight, t.to)
	}
}

// turn goes on in another step.
func (g *gate) turn(t *Trial) {
	if g.main != nil {
		g.main.turn(t.weight)
	}
	if g.worse != nil {
		g.worse.turn(t.weight)
	}
	g.looked, g.cached, g.hoped = nil, safeLook{}, needLook{}
}

// nextEpoch begins to count users again.
func (g *gate) nextEpoch(t *Trial) {
	g.worse = newPast(t.weight, t.to)
	if g.kind == testSpans && g.gate.Bound != routing.BoundMax {
		g.slow = 0
	}
}

func (g *gate) begin(to time.Time) {
	if g.main != nil {
		g.main.begin(g.breach, to)
	}
	if g.worse != nil {
		g.worse.begin(g.worse0, to)
	}
}

// add counts a batch of the present step for the gate of that index.
func (g *gate) add(t *Trial, b *Batch, index int) {
	if g.kind == testNone {
		return
	}
	if g.main != nil {
		c := g.counts(b, g.kind == testLimit)
		g.main.add(&c)
	}
	switch {
	case g.worse == nil, t.keyed && !t.byUser() && g.kind != testLimit:
	case t.byUser():
		c := g.firsts(b, index)
		g.worse.add(&c)
	default:
		c := g.counts(b, false)
		g.worse.add(&c)
	}
}

// addLate counts a batch of the step before.
func (g *gate) addLate(t *Trial, b *Batch) {
	if g.main != nil && g.metric.Kind == KindRate {
		c := g.counts(b, g.kind == testLimit)
		g.main.addLate(&c, t.weightBefore)
	}
}

// counts are a batch's requests and events: all, or those that are compared.
func (g *gate) counts(b *Batch, all bool) counts {
	if g.metric.Kind != KindRate {
		ca, st := &b.Candidate.Latency, &b.Stable.Latency
		return counts{n: ca.N(), c: ca.CountAbove(g.slow), m: st.N(), s: st.CountAbove(g.slow)}
	}
	var c counts
	if all {
		c.n, c.c = b.Candidate.Requests, b.Candidate.events(g.metric.Event)
	} else {
		c.n, c.c = b.Candidate.Drawn, b.Candidate.drawnEvents(g.metric.Event)
	}
	c.m, c.s = b.Stable.Drawn, b.Stable.drawnEvents(g.metric.Event)
	return c
}

// firsts are a batch's users who had their first event.
func (g *gate) firsts(b *Batch, index int) counts {
	if g.metric.Kind != KindRate {
		return counts{c: b.Candidate.firstSlow(index), s: b.Stable.firstSlow(index)}
	}
	return counts{c: b.Candidate.firsts(g.metric.Event), s: b.Stable.firsts(g.metric.Event)}
}

func (a *Arm) events(e Event) uint64 {
	if e == EventClientError {
		return a.ClientErrors
	}
	return a.Errors
}

func (a *Arm) drawnEvents(e Event) uint64 {
	if e == EventClientError {
		return a.DrawnClientErrors
	}
	return a.DrawnErrors
}

func (a *Arm) firsts(e Event) uint64 {
	if e == EventClientError {
		return a.FirstClientErrors
	}
	return a.FirstErrors
}

func (a *Arm) firstSlow(gate int) uint64 {
	if gate < len(a.FirstSlow) {
		return a.FirstSlow[gate]
	}
	return 0
}

// slowAbove is what is slow beside what stable's users are used to.
func (g *gate) slowAbove(usual *stats.Histogram) float64 {
	q := g.metric.Quantile
	if g.metric.Kind == KindMean {
		q = 0.9
	}
	v := usual.Quantile(q)
	if g.metric.Kind == KindMean {
		return v
	}
	if g.gate.Unit == routing.UnitRatio {
		return v * (1 + (g.gate.Limit-1)/2)
	}
	return v + g.gate.Limit/2
}

// shown is what the rollout has shown about a gate.
type shown int

const (
	shownNothing shown = iota
	shownBreach
	shownIll // the limit is broken, by stable too
)

// look looks for a breach. The level holds for the test of requests and for the
// test of users, since a breach needs both.
func (g *gate) look(t *Trial, level float64) shown {
	if !g.brokenAt.IsZero() {
		return shownBreach
	}
	if t.began.IsZero() || g.kind == testNone {
		return shownNothing
	}
	worse := stats.Threshold(t.userLevel(level))
	if !g.worseEver && g.worse != nil && g.worse.logE(g.worse0) >= worse {
		g.worseEver = true
	}
	result := shownNothing
	switch g.kind {
	case testLimit:
		result = g.lookLimit(t, level, worse)
	case testShare:
		g.mainEver = g.mainEver || g.main.logE(g.breach) >= stats.Threshold(level)
		result = g.asUsers(t)
	case testSpans:
		result = g.lookSpans(t, level)
	}
	if result == shownBreach {
		g.brokenAt = t.to
	}
	return result
}

// asUsers is a breach if requests have shown one, and where users are drawn
// these too.
func (g *gate) asUsers(t *Trial) shown {
	if g.mainEver && (!t.byUser() || g.worseEver) {
		return shownBreach
	}
	return shownNothing
}

// lookLimit looks at a rate by itself. A candidate that breaks a limit must be
// shown to be worse than stable, or a failure that both share would be blamed on
// it: stable may have too few requests to tell that it fails as well. When
// stable is seen to break the limit, over the time from which the evidence
// comes, the candidate has to be worse over that time.
func (g *gate) lookLimit(t *Trial, level, worse float64) shown {
	if g.main.logE(g.breach) < stats.Threshold(level) {
		return shownNothing
	}
	since, at := g.main.best(g.breach)
	if since.m == 0 || float64(since.s) <= g.breachLimit()*float64(since.m) {
		if g.worseEver || !t.comparable() {
			return shownBreach
		}
		return shownNothing
	}
	if t.comparable() && g.worse.logESince(g.worse0, at) >= worse {
		return shownBreach
	}
	return shownIll
}

// breachLimit is the limit as the rate that a testLimit tests.
func (g *gate) breachLimit() float64 {
	if g.metric.Kind == KindQuantile {
		return 1 - g.metric.Quantile
	}
	return g.gate.Limit
}

// isSafe tells whether the present step has shown that the limit is kept. It is
// a test of this step alone, at the level of a false promotion: a candidate that
// is bad breaks at least one gate, which then has to be called safe wrongly.
func (g *gate) isSafe(t *Trial) bool {
	var c counts
	switch g.kind {
	case testLimit:
		c = g.stepCounts(t, true)
	case testShare:
		c = g.stepCounts(t, false)
	case testSpans:
		return g.safeSpans(t)
	default:
		return false
	}
	if c.n == 0 {
		return false
	}
	var room [32]float64
	logs := room[:g.safe.Bets()]
	g.safe.count(logs, &c)
	return stats.LogMix(logs) >= stats.Threshold(t.falsePromotion())
}

// stepCounts are the present step's counts; of latencies, those which may be
// above the limit count as above it.
func (g *gate) stepCounts(t *Trial, all bool) counts {
	ca, st := &t.step.candidate, &t.step.stable
	c := counts{w: t.weight}
	if g.metric.Kind != KindRate {
		c.n, c.c = ca.Latency.N(), ca.Latency.CountMaybeAbove(g.slow)
		c.m, c.s = st.Latency.N(), st.Latency.CountMaybeAbove(g.slow)
		return c
	}
	c.n, c.c = ca.Drawn, ca.drawnEvents(g.metric.Event)
	if all {
		c.n, c.c = ca.Requests, ca.events(g.metric.Event)
	}
	c.m, c.s = st.Drawn, st.drawnEvents(g.metric.Event)
	if t.now.Shadow > 0 && c.n > 0 {
		// Copies can be dropped. What is not there has not erred, and is no proof.
		c.w = min(c.w, float64(c.n)/float64(c.n+c.m))
	}
	return c
}

func (a *armCounts) events(e Event) uint64 {
	if e == EventClientError {
		return a.ClientErrors
	}
	return a.Errors
}

func (a *armCounts) drawnEvents(e Event) uint64 {
	if e == EventClientError {
		return a.DrawnClientErrors
	}
	return a.DrawnErrors
}

// measurable tells whether the present step can say anything about the gate.
func (g *gate) measurable(t *Trial) bool {
	return g.kind != testNone && (g.gate.Bound == routing.BoundMax || t.comparable())
}

// countsOf are how many requests of the two versions the gate is judged by.
func (g *gate) countsOf(t *Trial) (candidate, stable uint64) {
	c := g.stepCounts(t, g.gate.Bound == routing.BoundMax)
	return c.n, c.m
}
