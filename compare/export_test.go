package compare

import "time"

// SetClock gives a judge another clock.
func (j *Judge) SetClock(clock func() (wall time.Time, running time.Duration)) { j.clock = clock }

// Remembered is how many users a judge remembers.
func (j *Judge) Remembered() int64 { return j.users.Load() }

// Parts of the hard rules.
var (
	Fisher       = fisher
	BinomialTail = binomialTail
	GrossLimit   = grossLimit
)

// Turn makes the ledger believe that it is now.
func (l *Ledger) Turn(now time.Time) { l.turn(l.index(now)) }
