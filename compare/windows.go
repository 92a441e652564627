package compare

import (
	"cmp"
	"slices"
	"time"
)

// Window is what a version answered of the requests that started in
// [Start, End).
type Window struct {
	Start, End time.Time
	Tally      Tally
	// Complete says that nothing is known to be missing. An incomplete window
	// cannot tell "no requests" from "not told": it is unknown, whatever its
	// tally has.
	Complete bool
}

// VersionTotal is what a version answered since the process began.
type VersionTotal struct {
	Model   string
	Version string
	Tally   Tally
}

// Totals returns what each version of a model answered, sorted by version.
func (l *Ledger) Totals(model string) []VersionTotal {
	return l.totals(func(k seriesKey) bool { return k.model == model })
}

// AllTotals returns what every version of every model answered, sorted by
// model and version.
func (l *Ledger) AllTotals() []VersionTotal {
	return l.totals(func(seriesKey) bool { return true })
}

func (l *Ledger) totals(want func(seriesKey) bool) []VersionTotal {
	type entry struct {
		key    seriesKey
		series *series
	}
	var found []entry
	l.mu.RLock()
	for k, s := range l.series {
		if want(k) {
			found = append(found, entry{k, s})
		}
	}
	l.mu.RUnlock()
	totals := make([]VersionTotal, 0, len(found))
	for _, e := range found {
		e.series.mu.Lock()
		t := e.series.total.Clone()
		e.series.mu.Unlock()
		totals = append(totals, VersionTotal{Model: e.key.model, Version: e.key.version, Tally: t})
	}
	slices.SortFunc(totals, func(a, b VersionTotal) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Version, b.Version))
	})
	return totals
}

// Windows returns a version's windows that touch [from, to), oldest first,
// those without requests too. What lies before the reach of the ledger, before
// its beginning or in the future is there and incomplete. At most as many
// windows as the ledger keeps are returned, the newest ones.
func (l *Ledger) Windows(model, version string, from, to time.Time) []Window {
	if !from.Before(to) {
		return nil
	}
	last := l.index(to.Add(-1))
	first := max(l.index(from), last-l.slots()+1)
	windows := make([]Window, 0, last-first+1)
	for i := first; i <= last; i++ {
		windows = append(windows, Window{Start: l.start(i), End: l.start(i + 1), Complete: l.complete(i)})
	}
	l.mu.RLock()
	s := l.series[seriesKey{model, version}]
	l.mu.RUnlock()
	if s == nil {
		return windows
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.windows {
		if w.index >= first && w.index <= last {
			windows[w.index-first].Tally = w.tally.Clone()
		}
	}
	return windows
}

// Since merges a version's windows that touch [from, to) into one.
func (l *Ledger) Since(model, version string, from, to time.Time) Window {
	merged := Window{Start: from, End: to}
	for i, w := range l.Windows(model, version, from, to) {
		if i == 0 {
			merged.Start, merged.Complete = w.Start, !w.Start.After(from)
		}
		merged.End = w.End
		merged.Complete = merged.Complete && w.Complete
		merged.Tally.Merge(&w.Tally)
	}
	return merged
}

// complete tells whether a window was seen from its beginning to its end, and
// no gap touches it.
func (l *Ledger) complete(index int64) bool {
	if index < l.floor.Load() || index <= l.began.Load() || l.start(index+1).After(time.Now()) {
		return false
	}
	return !l.gaps.touches(index, l.start(index+1))
}
