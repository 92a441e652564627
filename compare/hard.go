package compare

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// The hard rules, which are in force without being asked for.
const (
	// MetricGrossFailure is the rule that 10 of the candidate's last 20 answers
	// must not be errors while at most 2 of stable's are.
	MetricGrossFailure = "gross_failure"
	// MetricExcessErrors is the rule that a candidate must not give
	// [routing.Policy.MaxExcess] more errors than stable's rate explains.
	MetricExcessErrors = "excess_errors"
)

// hardPart is the part of the promise that the hard rules have.
const hardPart = 0.1

// hardRules are the hard rules with what was found.
type hardRules struct {
	recent  recentAnswers
	grossAt time.Time

	main     *past // what both versions answered; its capital is not used
	worse    *past // margin 0, of users' first errors or of requests
	worse0   shareBet
	ever     bool // worse was shown
	excessAt time.Time
}

// hardLevel is how the hard rules share their part of the promise.
func (t *Trial) hardLevel() float64 {
	level := t.falseRollback() * hardPart
	if t.now.Policy.MaxExcess > 0 {
		level /= 2
	}
	return level
}

func (h *hardRules) open(t *Trial) {
	h.worse0 = shareBet{stats.NewShare(stats.Margin{}, stats.Above)}
	if h.main == nil {
		h.main = newPast(t.userWeight(), t.to)
	}
	if h.worse == nil {
		h.worse = newPast(t.weight, t.to)
	}
}

func (h *hardRules) turn(t *Trial) {
	h.main.turn(t.userWeight())
	h.worse.turn(t.weight)
}

// userWeight is the weight where errors hurt users: those of a shadow do not.
func (t *Trial) userWeight() float64 {
	if t.now.Shadow > 0 {
		return 0
	}
	return t.weight
}

func (h *hardRules) nextEpoch(t *Trial) { h.worse = newPast(t.weight, t.to) }

func (h *hardRules) begin(to time.Time) { h.worse.begin(h.worse0, to) }

func (h *hardRules) add(t *Trial, b *Batch) {
	c := drawnErrors(b)
	h.main.add(&c)
	if t.byUser() {
		c = counts{c: b.Candidate.FirstErrors, s: b.Stable.FirstErrors}
	}
	h.worse.add(&c)
}

func (h *hardRules) addLate(t *Trial, b *Batch) {
	if t.shadowBefore {
		return
	}
	c := drawnErrors(b)
	h.main.addLate(&c, t.weightBefore)
}

func drawnErrors(b *Batch) counts {
	return counts{n: b.Candidate.Drawn, c: b.Candidate.DrawnErrors, m: b.Stable.Drawn, s: b.Stable.DrawnErrors}
}

// excess is how many more errors the candidate gave than stable's rate explains,
// over the shares in which there was something to compare with.
func (h *hardRules) excess() (excess float64, n uint64) {
	if h.main == nil {
		return 0, 0
	}
	for i := range h.main.stretches {
		s := &h.main.stretches[i]
		if s.m > 0 && s.w > 0 && s.w < 1 {
			n += s.n
			excess += float64(s.c) - float64(s.n)*float64(s.s)/float64(s.m)
		}
	}
	return excess, n
}

// find appends what the hard rules say.
func (h *hardRules) find(t *Trial, findings []routing.Finding, figures bool) []routing.Finding {
	findings = append(findings, h.gross(t, figures))
	if t.now.Policy.MaxExcess > 0 {
		findings = append(findings, h.excessErrors(t, figures))
	}
	return findings
}

func hardFinding(metric string, limit float64, n uint64) routing.Finding {
	return routing.Finding{
		Metric: metric, Bound: routing.BoundMax, Limit: limit, Unit: routing.UnitCount, N: n,
		OnBreach: routing.OnBreachRollback, HardRule: true, Verdict: routing.VerdictWaiting,
		Reason: routing.ReasonNoEvidence,
	}
}

func (h *hardRules) gross(t *Trial, figures bool) routing.Finding {
	r := &h.recent
	bad, limit := r.bad(), grossBad
	if figures || bad >= grossBad {
		limit = grossLimit(r.answers, r.usualRate(), t.hardLevel())
	}
	f := hardFinding(MetricGrossFailure, float64(limit), uint64(len(r.last)))
	if h.grossAt.IsZero() && r.gross(t, limit) {
		h.grossAt = t.to
	}
	switch {
	case !h.grossAt.IsZero():
		f.Verdict, f.Reason = routing.VerdictBreach, ""
	case len(r.last) == 0:
		f.Reason = routing.ReasonNoTraffic
	}
	if !figures {
		return f
	}
	if len(r.last) > 0 {
		f.Estimate = finite(float64(bad))
	}
	f.Text = r.text(t, &f, limit)
	return f
}

func (h *hardRules) excessErrors(t *Trial, figures bool) routing.Finding {
	excess, n := h.excess()
	allowed := float64(t.now.Policy.MaxExcess)
	f := hardFinding(MetricExcessErrors, allowed, n)
	if n > 0 && !h.ever {
		h.ever = h.worse.logE(h.worse0) >= stats.Threshold(t.userLevel(t.hardLevel()))
	}
	if h.excessAt.IsZero() && h.ever && excess >= allowed {
		h.excessAt = t.to
	}
	switch {
	case !h.excessAt.IsZero():
		f.Verdict, f.Reason = routing.VerdictBreach, ""
	case n == 0 && (!t.comparable() || t.now.Shadow > 0):
		f.Reason = routing.ReasonNotMeasurable
	case n == 0:
		f.Reason = routing.ReasonNoTraffic
	}
	if !figures {
		return f
	}
	verdict := "not broken"
	switch {
	case f.Verdict == routing.VerdictBreach:
		verdict = "broken"
	case excess >= allowed:
		verdict = "beyond the limit, but chance is not ruled out yet"
	}
	if n > 0 {
		f.Estimate = finite(max(0, excess))
	}
	f.Text = fmt.Sprintf("%s about %s more errors in %s than %s's rate explains, limit %s: %s", MetricExcessErrors,
		count(uint64(max(0, math.Round(excess)))), plural(n, "request"), t.now.Stable, count(t.now.Policy.MaxExcess), verdict)
	return f
}

// recentAnswers is what both versions answered last. It is not kept over a
// restart, but for how many answers there were.
type recentAnswers struct {
	last    []recentAnswer // of the candidate, the newest last
	stable  []Outcome      // of stable, the newest last
	users   []Outcome      // the candidate's last users with their last outcomes, the newest last
	answers uint64         // of the candidate
	row     uint64         // of them, the newest that are all errors; a lower bound
	// stable's answers and errors, in all
	seen, bads uint64
}

// recentAnswer is an answer of the candidate, with what stable had answered
// when its batch began.
type recentAnswer struct {
	Outcome
	seen, bads uint64
}

// recentUsers is how many users are remembered with their last outcome.
const recentUsers = 16

func (r *recentAnswers) add(b *Batch) {
	before, bads := r.seen, r.bads
	r.seen += max(b.Stable.Answers, b.Stable.Requests)
	r.bads += max(b.Stable.BadAnswers, b.Stable.Errors)
	r.answers += max(b.Candidate.Answers, b.Candidate.Requests)
	r.stable = newest(append(r.stable, b.Stable.Last...), LastOutcomes)
	r.inRow(b)
	for _, o := range b.Candidate.Last {
		r.last = append(r.last, recentAnswer{o, before, bads})
		if o.User != 0 {
			r.users = slices.DeleteFunc(r.users, func(u Outcome) bool { return u.User == o.User })
			r.users = newest(append(r.users, o), recentUsers)
		}
	}
	r.last = newest(r.last, LastOutcomes)
}

// inRow counts the errors since the last good answer.
func (r *recentAnswers) inRow(b *Batch) {
	a := &b.Candidate
	n, bad := max(a.Answers, a.Requests), max(a.BadAnswers, a.Errors)
	if n == bad {
		r.row += n
		return
	}
	r.row = 0
	for i := len(a.Last) - 1; i >= 0 && a.Last[i].Bad; i-- {
		r.row++
	}
}

// newest are the last n, at the beginning of the same memory.
func newest[T any](s []T, n int) []T {
	if len(s) > n {
		copy(s, s[len(s)-n:])
		s = s[:n]
	}
	return s
}

func (r *recentAnswers) bad() int {
	n := 0
	for i := range r.last {
		if r.last[i].Bad {
			n++
		}
	}
	return n
}

// usualRate is stable's error rate since the share was published.
func (r *recentAnswers) usualRate() float64 {
	if r.seen == 0 {
		return 0
	}
	return float64(r.bads) / float64(r.seen)
}

// The numbers of the rule about gross failure.
const (
	grossBad      = 10   // of the last 20, at first
	stableBad     = 2    // of stable's last 20, at most
	grossChance   = 1e-3 // that stable looks so much better if it fails as the candidate does
	silentStable  = 10   // answers that stable should have given meanwhile, where it gives none
	grossRate     = 0.05 // the error rate that the rule allows for at least
	grossAttempts = LastOutcomes - grossBad + 1
	fewUsers      = 3
)

// grossLimit is how many of the last 20 answers have to be bad, after n answers
// of the candidate, when a version that is fine errs at a rate p. It is the
// least number c from 10 on with n P(X >= c) <= level/11, X binomial (20, p).
// With 11 possible c, the expected number of times that a candidate that is
// fine ever reaches it is at most the level, however long it runs. At rates up
// to 5 % and the usual promise it is 10 for the first 40,000 answers and 12
// after 840,000. 21, which is never reached, where p is too high to tell.
func grossLimit(n uint64, p, level float64) int {
	p = max(p, grossRate)
	for c := grossBad; c <= LastOutcomes; c++ {
		if float64(n)*binomialTail(LastOutcomes, c, p) <= level/grossAttempts {
			return c
		}
	}
	return LastOutcomes + 1
}

// binomialTail is P(X >= c) for X binomial (n, p).
func binomialTail(n, c int, p float64) float64 {
	if p >= 1 {
		return 1
	}
	// P(X = k) from k-1, beginning with P(X = 0).
	term, sum := math.Pow(1-p, float64(n)), 0.0
	for k := 0; k <= n; k++ {
		if k >= c {
			sum += term
		}
		term *= float64(n-k) / float64(k+1) * p / (1 - p)
	}
	return sum
}

// gross tells whether the candidate fails grossly while stable does not. Both
// are looked at over the same time: a shared failure reaches the busier version's
// last answers, and leaves them, earlier.
func (r *recentAnswers) gross(t *Trial, limit int) bool {
	bad := r.bad()
	if bad < grossBad {
		return false
	}
	run := r.run()
	if bad < limit && run < limit {
		return false
	}
	return r.stableFine(t, run) && r.usersAgree(t, run)
}

// run is how many of the candidate's newest answers are bad in a row.
func (r *recentAnswers) run() int {
	n := 0
	for i := len(r.last) - 1; i >= 0 && r.last[i].Bad; i-- {
		n++
	}
	return n
}

// stableFine tells whether stable answers well over the time of the candidate's
// bad answers.
func (r *recentAnswers) stableFine(t *Trial, run int) bool {
	if t.weight >= 1 {
		return run >= grossBad // nobody else is asked
	}
	oldest := slices.IndexFunc(r.last, func(a recentAnswer) bool { return a.Bad })
	seen, bads := r.seen-r.last[oldest].seen, r.bads-r.last[oldest].bads
	if seen == 0 {
		// Nobody may be left on stable, or its next answer comes at any moment.
		return run >= LastOutcomes && float64(r.row)*(1-t.weight)/t.weight >= silentStable
	}
	newestBad := 0
	for _, o := range r.stable {
		if o.Bad {
			newestBad++
		}
	}
	if newestBad > stableBad || float64(bads) > float64(seen)*stableBad/LastOutcomes {
		return false
	}
	return fisher(uint64(r.bad()), uint64(len(r.last)-oldest), bads, seen) <= grossChance
}

// fisher is the probability that of all x+y bad ones among n+m answers at least
// x fall on the n, when it is chance which do: Fisher's exact test (1935), the
// upper tail of the hypergeometric distribution.
func fisher(x, n, y, m uint64) float64 {
	logChoose := func(n, k uint64) float64 {
		a, _ := math.Lgamma(float64(n) + 1)
		b, _ := math.Lgamma(float64(k) + 1)
		c, _ := math.Lgamma(float64(n-k) + 1)
		return a - b - c
	}
	sum, all := 0.0, logChoose(n+m, x+y)
	for k := x; k <= min(n, x+y); k++ {
		if rest := x + y - k; rest <= m {
			sum += math.Exp(logChoose(n, k) + logChoose(m, rest) - all)
		}
	}
	return sum
}

// usersAgree tells whether it is more than one user's requests that fail: a user
// who fails on any version fails on the one that the hash chose, and may be most
// of its traffic.
func (r *recentAnswers) usersAgree(t *Trial, run int) bool {
	if !t.keyed {
		return true
	}
	bad := 0
	for _, u := range r.users {
		if u.Bad {
			bad++
		}
	}
	if len(r.users) < fewUsers {
		return run >= grossBad
	}
	return bad >= fewUsers && 3*bad >= len(r.users)
}

func (r *recentAnswers) text(t *Trial, f *routing.Finding, limit int) string {
	of := t.now.Candidate
	if t.now.Shadow > 0 {
		of += " to copies"
	}
	if len(r.last) == 0 {
		return MetricGrossFailure + ": " + t.noTraffic(t.now.Candidate)
	}
	bad := 0
	for _, o := range r.stable {
		if o.Bad {
			bad++
		}
	}
	verdict := "not broken"
	if f.Verdict == routing.VerdictBreach {
		verdict = "broken"
	}
	stable := t.now.Stable + " none"
	if len(r.stable) > 0 {
		stable = fmt.Sprintf("%s %d of %d", t.now.Stable, bad, len(r.stable))
	}
	return fmt.Sprintf("%s %d of the last %d answers of %s are errors (%s), limit %d: %s",
		MetricGrossFailure, r.bad(), len(r.last), of, stable, limit, verdict)
}
