package traffic

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Result is what one request came to.
type Result struct {
	At      time.Time // when it was sent
	Took    time.Duration
	User    string
	Version string // that answered; empty: none is known
	Right   bool   // the diagnosis was the one in the data
	Failure string // why it counts as failed; empty: it does not
}

// Ledger counts results. It keeps one latency per answer: sixteen bytes for
// each request of a demo that lasts a minute or two. Its methods may be called
// from several goroutines.
type Ledger struct {
	mu        sync.Mutex
	order     []string // versions, from the oldest on
	versions  map[string]*tally
	last      map[string]string // version by user
	sent      int
	failed    int
	backwards int
	failures  map[string]int // by reason
	firsts    map[string]time.Time
	over      []time.Time // when requests were over, whoever answered
	failedAt  []time.Time // the same of those that failed
	stages    []Stage
	patience  time.Duration // with an answer; 0: without end
}

type tally struct {
	answered, failed, slow, right, users int
	latencies                            []latency
	firstBad                             time.Time // when the first bad answer was there
	lastSent                             time.Time // when the newest request was sent that it answered
}

type latency struct {
	over time.Time // when the answer was there
	took time.Duration
}

// Stage is what was sent between two calls of [Ledger.Begin].
type Stage struct {
	Name     string
	Began    time.Time
	Ended    time.Time // zero while it goes on
	Requests int
	Failed   int
	Answered map[string]int // by version
}

// Version is the account of one version.
type Version struct {
	Name     string
	Answered int // answers that did not fail, ever
	Failed   int
	Slow     int // of Answered, those that took longer than users are patient
	Right    int // of Answered
	Users    int // users whose last answer came from it
	// FirstBad is when its first answer came that failed or was slow; LastSent
	// is when the last request was sent that it answered, well or badly. Zero:
	// there was none.
	FirstBad, LastSent time.Time
	// Over the window that was asked for:
	PerSecond float64
	Share     float64 // of the answers, 0 to 1
	P50, P99  time.Duration
}

// Accuracy returns the share of right diagnoses, 0 to 1. It is not ok before
// the first answer.
func (v Version) Accuracy() (share float64, ok bool) {
	if v.Answered == 0 {
		return 0, false
	}
	return float64(v.Right) / float64(v.Answered), true
}

// Account is a copy of what a ledger knows.
type Account struct {
	Sent      int
	Failed    int
	Backwards int            // times that a user came to an older version than before
	Failures  map[string]int // by reason
	PerSecond float64        // requests, over the window
	Versions  []Version      // from the oldest on
}

// NewLedger returns an empty ledger for versions in their order of age.
func NewLedger(oldestFirst ...string) *Ledger {
	l := &Ledger{
		order: oldestFirst, versions: map[string]*tally{}, last: map[string]string{},
		failures: map[string]int{}, firsts: map[string]time.Time{},
	}
	for _, v := range oldestFirst {
		l.versions[v] = &tally{}
	}
	return l
}

// Patience sets from when on an answer counts as slow; 0: never. It is set
// before the first result.
func (l *Ledger) Patience(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.patience = d
}

// Begin ends the stage that goes on, if any, and begins another. The time may
// have passed: who moves the traffic is asked, and tells, a little later.
func (l *Ledger) Begin(stage string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(at)
	l.stages = append(l.stages, Stage{Name: stage, Began: at})
}

// End ends the stage that goes on, if any.
func (l *Ledger) End(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(at)
}

func (l *Ledger) end(at time.Time) {
	if n := len(l.stages); n > 0 && l.stages[n-1].Ended.IsZero() {
		l.stages[n-1].Ended = at
	}
}

// First returns when the first request that a version answered was over. It is
// not ok when there was none.
func (l *Ledger) First(version string) (at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok = l.firsts[version]
	return at, ok
}

// Record counts a result.
func (l *Ledger) Record(r Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	l.over = append(l.over, r.At.Add(r.Took))
	if _, known := l.versions[r.Version]; !known && r.Failure == "" {
		r.Failure = "answered by an unknown version"
	}
	if t, known := l.versions[r.Version]; known {
		t.note(r, l.patience)
	}
	if r.Failure != "" {
		l.failed++
		l.failures[r.Failure]++
		l.failedAt = append(l.failedAt, r.At.Add(r.Took))
		return
	}
	l.answered(r)
}

// note keeps how bad an answer of the version was, and when it was asked.
func (t *tally) note(r Result, patience time.Duration) {
	slow := r.Failure == "" && patience > 0 && r.Took > patience
	switch {
	case r.Failure != "":
		t.failed++
	case slow:
		t.slow++
	}
	over := r.At.Add(r.Took)
	if bad := slow || r.Failure != ""; bad && (t.firstBad.IsZero() || over.Before(t.firstBad)) {
		t.firstBad = over
	}
	t.lastSent = later(t.lastSent, r.At)
}

func (l *Ledger) answered(r Result) {
	t := l.versions[r.Version]
	t.answered++
	if r.Right {
		t.right++
	}
	t.latencies = append(t.latencies, latency{r.At.Add(r.Took), r.Took})
	if _, ok := l.firsts[r.Version]; !ok {
		l.firsts[r.Version] = r.At.Add(r.Took)
	}
	before, came := l.last[r.User]
	if before == r.Version {
		return
	}
	if came {
		l.versions[before].users--
		if slices.Index(l.order, r.Version) < slices.Index(l.order, before) {
			l.backwards++
		}
	}
	t.users++
	l.last[r.User] = r.Version
}

// Account returns what is known at a time; rates, shares and latencies are
// those of the requests that were over within the window before it.
func (l *Ledger) Account(now time.Time, window time.Duration) Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := Account{Sent: l.sent, Failed: l.failed, Backwards: l.backwards, Failures: maps.Clone(l.failures)}
	since := now.Add(-window)
	if len(l.over) > 0 && l.over[0].After(since) {
		window = max(now.Sub(l.over[0]), time.Second) // it has not run for that long
	}
	for i := len(l.over) - 1; i >= 0 && l.over[i].After(since); i-- {
		a.PerSecond += 1 / window.Seconds()
	}
	answered := 0
	for _, name := range l.order {
		t := l.versions[name]
		took := t.within(since)
		answered += len(took)
		a.Versions = append(a.Versions, Version{
			Name: name, Answered: t.answered, Failed: t.failed, Slow: t.slow, Right: t.right, Users: t.users,
			FirstBad: t.firstBad, LastSent: t.lastSent,
			PerSecond: float64(len(took)) / window.Seconds(),
			P50:       quantile(took, 0.50), P99: quantile(took, 0.99),
			Share: float64(len(took)),
		})
	}
	for i := range a.Versions {
		a.Versions[i].Share /= max(float64(answered), 1)
	}
	return a
}

// Stages returns the stages in their order.
func (l *Ledger) Stages() []Stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Stage, len(l.stages))
	for i, s := range l.stages {
		out[i] = l.count(s)
	}
	return out
}

// count fills in what was over in a stage.
func (l *Ledger) count(s Stage) Stage {
	s.Requests, s.Failed = s.times(l.over), s.times(l.failedAt)
	s.Answered = map[string]int{}
	for _, name := range l.order {
		latencies := l.versions[name].latencies
		answered := make([]time.Time, len(latencies))
		for i, a := range latencies {
			answered[i] = a.over
		}
		if n := s.times(answered); n > 0 {
			s.Answered[name] = n
		}
	}
	return s
}

// times returns how many of the times are within the stage.
func (s Stage) times(all []time.Time) int {
	n := 0
	for _, t := range all {
		if !t.Before(s.Began) && (s.Ended.IsZero() || t.Before(s.Ended)) {
			n++
		}
	}
	return n
}

// within returns the latencies of the answers since a time, sorted. Results
// are recorded when they are over, so the newest are last.
func (t *tally) within(since time.Time) []time.Duration {
	var out []time.Duration
	for i := len(t.latencies) - 1; i >= 0 && t.latencies[i].over.After(since); i-- {
		out = append(out, t.latencies[i].took)
	}
	slices.Sort(out)
	return out
}

// quantile returns the smallest of the sorted values that is not exceeded by a
// share q of them; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(i, 0)]
}
