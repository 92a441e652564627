package compare

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what a [Ledger] keeps. A zero takes the default.
type Limits struct {
	Window  time.Duration // length of a window; 10 s
	Keep    time.Duration // how far back windows reach; 1 h
	Windows int           // in all, over all versions; 200,000. Beyond, the oldest go first
	Series  int           // versions; 100,000. Observations of further ones are only counted
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Window:  cmp.Or(l.Window, 10*time.Second),
		Keep:    cmp.Or(l.Keep, time.Hour),
		Windows: cmp.Or(l.Windows, 200_000),
		Series:  cmp.Or(l.Series, 100_000),
	}
}

// Ledger keeps what each version answered, since the process began, in windows
// of the last hour, and more exactly of the last minute. An observation belongs to the window in which its
// request started, however late it arrives. It is safe for concurrent use, and
// versions do not wait for each other.
type Ledger struct {
	limits Limits
	live   atomic.Int64 // windows in all series
	began  atomic.Int64 // index of the window in which the ledger began
	newest atomic.Int64 // index of the present window
	floor  atomic.Int64 // index of the oldest window that is still kept

	mu     sync.RWMutex
	series map[seriesKey]*series

	gaps    gapLog
	faults  faultCounters
	sweepMu sync.Mutex // held by whoever lets windows go
}

type seriesKey struct{ model, version string }

// series is one version's part of the ledger.
type series struct {
	mu      sync.Mutex
	total   Tally
	recent  *ring   // nil: no request yet
	windows []*slot // ascending by index, those with requests only
	retired bool    // taken out of the ledger; its windows are no longer counted
}

// slot is a window while it can still be added to.
type slot struct {
	index int64
	tally Tally
}

// Faults counts the observations that could not be kept as they came.
type Faults struct {
	Malformed uint64 // without a model, a version or a known class: not counted anywhere
	Overflow  uint64 // of a version beyond Limits.Series: not counted anywhere
	Early     uint64 // start lies in the future (a clock jumped): in no window
	Late      uint64 // start lies before what windows reach: in no window
}

type faultCounters struct{ malformed, overflow, early, late atomic.Uint64 }

// NewLedger returns an empty ledger. Windows before this moment are never
// complete.
func NewLedger(limits Limits) *Ledger {
	l := &Ledger{
		limits: limits.withDefaults(),
		series: make(map[seriesKey]*series),
	}
	l.gaps.open = make(map[string]time.Time)
	l.gaps.touched = make(map[int64]bool)
	l.begin(l.index(time.Now()))
	return l
}

// begin makes the window at index the first one that is seen. It is not seen
// whole.
func (l *Ledger) begin(index int64) {
	l.began.Store(index)
	l.newest.Store(index)
	l.floor.Store(index - l.slots() + 1)
}

// Observe counts one request.
func (l *Ledger) Observe(o Observation) {
	if o.Model == "" || o.Version == "" || new(Tally).class(o.Class) == nil {
		l.faults.malformed.Add(1)
		return
	}
	s := l.lookup(seriesKey{o.Model, o.Version})
	if s == nil {
		l.faults.overflow.Add(1)
		return
	}
	now := l.index(time.Now())
	if now != l.newest.Load() {
		l.turn(now)
	}
	index := l.index(o.Start)
	inWindow := true
	switch {
	case index > now+1:
		l.faults.early.Add(1)
		inWindow = false
	case index < l.floor.Load():
		l.faults.late.Add(1)
		inWindow = false
	}
	if s.add(&o, index, inWindow) && l.live.Add(1) > int64(l.limits.Windows) {
		l.sweep()
	}
}

// add counts o, in its window too when asked to, and tells whether a window
// was opened for it.
func (s *series) add(o *Observation, index int64, inWindow bool) (opened bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.add(o)
	if s.recent == nil {
		s.recent = new(ring)
	}
	s.recent.add(o, tickOf(time.Now()))
	if !inWindow || s.retired {
		return false
	}
	i := len(s.windows)
	for i > 0 && s.windows[i-1].index > index {
		i--
	}
	if i > 0 && s.windows[i-1].index == index {
		s.windows[i-1].tally.add(o)
		return false
	}
	w := &slot{index: index}
	w.tally.add(o)
	s.windows = slices.Insert(s.windows, i, w)
	return true
}

// lookup returns a version's series and makes it when there is room, else nil.
func (l *Ledger) lookup(k seriesKey) *series {
	l.mu.RLock()
	s := l.series[k]
	l.mu.RUnlock()
	if s != nil {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s = l.series[k]; s != nil {
		return s
	}
	if len(l.series) >= l.limits.Series {
		return nil
	}
	s = &series{}
	l.series[k] = s
	return s
}

// turn makes the window at index the present one. When the clock went back,
// what was told of the hours that now come again is let go: they begin anew.
func (l *Ledger) turn(index int64) {
	l.sweepMu.Lock()
	defer l.sweepMu.Unlock()
	if index < l.newest.Load()-1 {
		l.drop(math.MinInt64, index+1)
		l.begin(index)
		return
	}
	l.newest.Store(max(index, l.newest.Load()))
	l.advance(l.newest.Load() - l.slots() + 1)
}

// sweep lets go of the oldest windows when there are too many, until a
// sixteenth is free, so that the next windows do not each cost a sweep.
func (l *Ledger) sweep() {
	l.sweepMu.Lock()
	defer l.sweepMu.Unlock()
	room := int64(l.limits.Windows)
	if l.live.Load() <= room {
		return
	}
	for l.floor.Load() < l.newest.Load() && l.live.Load() > room-room/16 {
		l.advance(l.floor.Load() + 1)
	}
}

// advance lets go of the windows before floor.
func (l *Ledger) advance(floor int64) {
	if floor <= l.floor.Load() {
		return
	}
	l.floor.Store(floor)
	l.drop(floor, math.MaxInt64)
	l.gaps.forget(floor)
}

// drop lets go of the windows outside of [from, to).
func (l *Ledger) drop(from, to int64) {
	for _, s := range l.all() {
		s.mu.Lock()
		before := len(s.windows)
		s.windows = slices.DeleteFunc(s.windows, func(w *slot) bool {
			return w.index < from || w.index >= to
		})
		dropped := before - len(s.windows)
		s.mu.Unlock()
		l.live.Add(-int64(dropped))
	}
}

func (l *Ledger) all() []*series {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]*series, 0, len(l.series))
	for _, s := range l.series {
		all = append(all, s)
	}
	return all
}

// Retain forgets the versions for which keep answers no, so that versions that
// left the configuration do not stay for ever.
func (l *Ledger) Retain(keep func(model, version string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, s := range l.series {
		if keep(k.model, k.version) {
			continue
		}
		delete(l.series, k)
		s.mu.Lock()
		s.retired = true
		l.live.Add(-int64(len(s.windows)))
		s.windows = nil
		s.mu.Unlock()
	}
}

// Faults returns what could not be kept as it came.
func (l *Ledger) Faults() Faults {
	return Faults{
		Malformed: l.faults.malformed.Load(),
		Overflow:  l.faults.overflow.Load(),
		Early:     l.faults.early.Load(),
		Late:      l.faults.late.Load(),
	}
}

// Reach returns the start of the oldest window that is still kept.
func (l *Ledger) Reach() time.Time { return l.start(l.floor.Load()) }

var epoch = time.Unix(0, 0)

func (l *Ledger) slots() int64 { return max(1, int64(l.limits.Keep/l.limits.Window)) }

// index returns the number of the window that t falls into. It counts from the
// Unix epoch, so that windows of several ledgers can be merged.
func (l *Ledger) index(t time.Time) int64 {
	n := t.Sub(epoch) // saturates, where UnixNano would wrap
	i := n / l.limits.Window
	if n%l.limits.Window < 0 {
		i--
	}
	return int64(i)
}

func (l *Ledger) start(index int64) time.Time {
	return time.Unix(0, index*int64(l.limits.Window)).UTC()
}
