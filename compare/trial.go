package compare

import (
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// Trial is what is known of one candidate against its stable version, through
// the steps of one rollout. It is pure: it knows no clock, and whoever owns it
// keeps two goroutines from using it at once. Batches go in, findings come out.
type Trial struct {
	now     routing.Trial
	keyed   bool
	unseen  bool    // a gap is open
	unheard bool    // of the candidate, since a gap ended
	weight  float64 // the candidate's part of what is compared; 0 or 1: nothing is
	// weightBefore is that of the step before.
	weightBefore float64
	shadowBefore bool // the step before was a shadow
	began        time.Time
	to           time.Time     // until when everything is counted
	behind       time.Duration // how far the batches' clock went back
	gates        []*gate
	hard         hardRules
	step         stepCounts
	epoch        userEpoch
	spans        []latencySpan
	spanned      int // spans begun so far
}

// stepCounts are what was counted in the present step.
type stepCounts struct {
	candidate, stable armCounts
	changed           uint64 // grows with each batch that had something
}

// armCounts are an arm's numbers, added up.
type armCounts struct {
	Requests          uint64          `json:"requests"`
	Errors            uint64          `json:"errors"`
	ClientErrors      uint64          `json:"client_errors"`
	Drawn             uint64          `json:"drawn"`
	DrawnErrors       uint64          `json:"drawn_errors"`
	DrawnClientErrors uint64          `json:"drawn_client_errors"`
	Latency           stats.Histogram `json:"latency"`
}

func (a *armCounts) add(b *Arm) {
	a.Requests += b.Requests
	a.Errors += b.Errors
	a.ClientErrors += b.ClientErrors
	a.Drawn += b.Drawn
	a.DrawnErrors += b.DrawnErrors
	a.DrawnClientErrors += b.DrawnClientErrors
	a.Latency.Merge(&b.Latency)
}

// userEpoch is a time in which a user is counted once. Who has erred in one
// epoch is known in the next, so each is a test of its own, at its part of the
// level.
type userEpoch struct {
	number int // from 1
	began  time.Time
	used   bool // something was counted
}

// How long an epoch of users lasts, and one of latencies, and how many of these
// are kept.
const (
	epochLength = time.Hour
	spanLength  = 30 * time.Minute
	spansKept   = 8
)

// latencySpan has the latencies since a moment, for tests that need the whole
// distribution.
type latencySpan struct {
	number            int // from 1 through the rollout; its tests have that part of the level
	began             time.Time
	candidate, stable stats.Histogram
}

// NewTrial begins the trial of a rollout. Keyed says that users, not requests,
// are what the split draws.
func NewTrial(t routing.Trial, keyed bool) *Trial {
	n := &Trial{now: t, keyed: keyed, weight: weightOf(&t), epoch: userEpoch{number: 1}}
	n.now.Policy = policyOf(t.Policy)
	n.gates = n.reconcile(nil)
	return n
}

func policyOf(p *routing.Policy) *routing.Policy {
	if p == nil {
		return &routing.Policy{}
	}
	return p
}

// weightOf is the part of the compared units that the candidate has. Copies of
// a share P of the requests to stable make it 1/(1+P), to the candidate P/(1+P).
func weightOf(t *routing.Trial) float64 {
	whole := float64(routing.Whole)
	switch c := t.Control; {
	case t.Shadow > 0:
		return float64(t.Shadow) / (whole + float64(t.Shadow))
	case t.Share < routing.Whole:
		return float64(t.Share) / whole
	case c.Mirror && c.Share > 0:
		return whole / (whole + float64(c.Share))
	case c.Mirror:
		return 1
	default:
		return 1 - float64(c.Share)/whole
	}
}

// turns tells whether one trial of a rollout is another step than the one
// before, or the same with other shares.
func turns(before, next *routing.Trial) bool {
	return before.Step != next.Step || before.Shadow != next.Shadow || weightOf(before) != weightOf(next)
}

// byUser tells whether a breach takes a test of users besides that of requests.
// Which requests a shadow gets is drawn for each by itself, whoever sent it.
func (t *Trial) byUser() bool { return t.keyed && t.now.Shadow == 0 }

// comparable tells whether the step has something to compare with.
func (t *Trial) comparable() bool { return t.weight > 0 && t.weight < 1 }

// Watch says what is judged from now on: the next step, an acknowledgement, an
// edited policy. A step that is not the present one begins with empty counts,
// and what was found for the rollout goes on. Of an edited policy, the gates
// that stayed keep what they found and the others begin anew.
func (t *Trial) Watch(next routing.Trial) {
	if next.Rollout != t.now.Rollout || next.Model != t.now.Model {
		*t = *NewTrial(next, t.keyed)
		return
	}
	turned := turns(&t.now, &next)
	if turned {
		t.weightBefore, t.shadowBefore = t.weight, t.now.Shadow > 0
	}
	t.now, t.weight = next, weightOf(&next)
	t.now.Policy = policyOf(next.Policy)
	before := t.gates
	t.gates = t.reconcile(before)
	switch {
	case turned:
		t.turn()
	case !t.began.IsZero() && !slices.Equal(before, t.gates):
		t.NextEpoch() // what is counted for which gate has changed
	}
}

// turn begins a step.
func (t *Trial) turn() {
	t.step = stepCounts{changed: t.step.changed + 1}
	t.spans = nil
	if t.began.IsZero() {
		return
	}
	for _, g := range t.gates {
		g.turn(t)
	}
	t.hard.turn(t)
	t.NextEpoch()
}

// Gap says whether it is at present unknown, in part, what Envoys served. Then
// nothing is called safe.
func (t *Trial) Gap(open bool) { t.unseen = open }

// Unheard says whether nothing was heard of the candidate since a gap ended, or
// since headgate began again. Then nothing is called safe that was so before.
func (t *Trial) Unheard(yes bool) { t.unheard = yes }

// SetKeyed says that users are what the split draws, when that came out later.
func (t *Trial) SetKeyed() {
	if t.keyed {
		return
	}
	t.keyed = true
	for _, g := range t.gates {
		g.worse = nil
	}
	t.hard.worse = nil
	if !t.began.IsZero() {
		t.open()
	}
}

// Add takes what was answered since the batch before.
func (t *Trial) Add(b *Batch) {
	to := t.clock(b.To)
	if t.began.IsZero() {
		t.start(to)
	}
	t.begin(to)
	if b.Late {
		for _, g := range t.gates {
			g.addLate(t, b)
		}
		t.hard.addLate(t, b)
		t.to = to
		return
	}
	t.hard.recent.add(b)
	t.count(b)
	t.to = to
	if t.epoch.used && !to.Before(t.epoch.began.Add(epochLength)) {
		t.NextEpoch()
	}
}

// count counts a batch of the present step.
func (t *Trial) count(b *Batch) {
	if b.empty() {
		return
	}
	t.step.changed++
	t.step.candidate.add(&b.Candidate)
	t.step.stable.add(&b.Stable)
	if t.needsSpans() {
		for i := range t.spans {
			t.spans[i].candidate.Merge(&b.Candidate.Latency)
			t.spans[i].stable.Merge(&b.Stable.Latency)
		}
	}
	for i, g := range t.gates {
		g.add(t, b, i)
	}
	t.hard.add(t, b)
	t.epoch.used = t.epoch.used || b.hasFirsts()
	t.fixSlow()
}

// empty tells whether a batch has nothing that is counted.
func (b *Batch) empty() bool { return b.Candidate.Requests == 0 && b.Stable.Requests == 0 }

func (b *Batch) hasFirsts() bool {
	for _, a := range [...]*Arm{&b.Candidate, &b.Stable} {
		if a.FirstErrors > 0 || a.FirstClientErrors > 0 {
			return true
		}
		for _, n := range a.FirstSlow {
			if n > 0 {
				return true
			}
		}
	}
	return false
}

// clock is a time of the batches' clock that never goes back.
func (t *Trial) clock(to time.Time) time.Time {
	to = to.Round(0).Add(t.behind)
	if to.Before(t.to) {
		t.behind += t.to.Sub(to)
		to = t.to
	}
	return to
}

// start is the beginning of the first batch that counts.
func (t *Trial) start(to time.Time) {
	t.began = to
	if s := t.now.Since.Round(0); !s.IsZero() && s.Before(to) {
		t.began = s
	}
	t.to, t.epoch.began = t.began, t.began
	t.open()
}

// open makes the tests that are not there yet.
func (t *Trial) open() {
	for _, g := range t.gates {
		g.open(t)
	}
	t.hard.open(t)
}

// begin begins the fresh starts and the spans that are due.
func (t *Trial) begin(to time.Time) {
	for _, g := range t.gates {
		g.begin(to)
	}
	t.hard.begin(to)
	if !t.needsSpans() {
		return
	}
	last := len(t.spans) - 1
	if last >= 0 && !to.After(t.spans[last].began.Add(spanLength)) {
		return
	}
	began := t.to
	if last >= 0 {
		began = t.spans[last].began.Add(to.Sub(t.spans[last].began).Truncate(spanLength))
	}
	t.newSpan(began)
}

// newSpan begins another span of latencies. One in which nothing happened is
// taken over.
func (t *Trial) newSpan(began time.Time) {
	if last := len(t.spans) - 1; last >= 0 && t.spans[last].candidate.N()+t.spans[last].stable.N() == 0 {
		t.spans[last].began = began
		return
	}
	if len(t.spans) >= spansKept {
		// The first of the step has the largest part of the level and the most data.
		t.spans = append(t.spans[:1], t.spans[2:]...)
	}
	t.spanned++
	t.spans = append(t.spans, latencySpan{number: t.spanned, began: began})
}

func (t *Trial) needsSpans() bool {
	for _, g := range t.gates {
		if g.kind == testSpans {
			return true
		}
	}
	return false
}

// Epoch returns the number of the epoch in which users are counted once each,
// and for each gate the latency in seconds above which a request is slow, 0
// where that is not counted. Whoever makes batches forgets which users it has
// counted when the number changes, and counts a user once: at the first bad
// event, on the side where it happened. Where copies are compared, once on each
// side.
func (t *Trial) Epoch() (number int, slow []float64) {
	slow = make([]float64, len(t.gates))
	for i, g := range t.gates {
		slow[i] = g.slow
	}
	return t.epoch.number, slow
}

// NextEpoch ends the epoch early, for whoever can remember no more users.
func (t *Trial) NextEpoch() {
	if t.epoch.used {
		t.epoch = userEpoch{number: t.epoch.number + 1}
	}
	t.epoch.began = t.to
	if !t.keyed {
		return
	}
	for _, g := range t.gates {
		g.nextEpoch(t)
	}
	t.hard.nextEpoch(t)
	t.fixSlow()
}

// stableEnough is how many of stable's answers it takes to say what is slow.
const stableEnough = 100

// fixSlow says for the gates that compare latencies what a slow request is, as
// soon as stable has shown what is usual. It stays through the epoch.
func (t *Trial) fixSlow() {
	if !t.comparable() {
		return
	}
	for _, g := range t.gates {
		g.fixBound(t)
		if !t.keyed || g.kind != testSpans || g.slow > 0 {
			continue
		}
		usual := t.usual()
		if usual == nil {
			return
		}
		g.slow = g.slowAbove(usual)
	}
}

// usual is the newest of stable's latencies that are enough of.
func (t *Trial) usual() *stats.Histogram {
	for i := len(t.spans) - 1; i >= 0; i-- {
		if h := &t.spans[i].stable; h.N() >= stableEnough {
			return h
		}
	}
	return nil
}

// level is the probability with which a gate may be called broken that is not.
// A tenth of the promise is for the hard rules, the rest is for the gates that
// roll back, in equal parts; the others cost nothing.
func (t *Trial) level() float64 {
	n := 0
	for _, g := range t.gates {
		if b := g.gate.OnBreach; b == "" || b == routing.OnBreachRollback {
			n++
		}
	}
	return stats.Budget(t.falseRollback()*(1-hardPart), n)
}

// Promises that hold where none is given.
const usualPromise = 0.05

func (t *Trial) falseRollback() float64 { return orUsual(t.now.Policy.Promise.FalseRollback) }

func (t *Trial) falsePromotion() float64 { return orUsual(t.now.Policy.Promise.FalsePromotion) }

func orUsual(p float64) float64 {
	if !(p > 0) || math.IsInf(p, 1) {
		return usualPromise
	}
	return min(p, 0.5)
}

// userLevel is the part of a level that the present epoch's test of users has.
func (t *Trial) userLevel(level float64) float64 {
	if !t.keyed {
		return level
	}
	return level * stats.StartWeight(t.epoch.number)
}

// Look returns what is shown by now, with numbers and words.
func (t *Trial) Look(now time.Time) routing.Judgement { return t.look(true) }

// Verdicts is Look without estimates, intervals and texts, for who looks very
// often.
func (t *Trial) Verdicts(now time.Time) routing.Judgement { return t.look(false) }

func (t *Trial) look(figures bool) routing.Judgement {
	j := routing.Judgement{
		Rollout: t.now.Rollout, Step: t.now.Step,
		Findings: make([]routing.Finding, 0, len(t.gates)+2),
	}
	level := t.level()
	for _, g := range t.gates {
		j.Findings = append(j.Findings, g.find(t, level, figures))
	}
	j.Findings = t.hard.find(t, j.Findings, figures)
	return j
}
