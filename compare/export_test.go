package compare

import "time"

// Turn makes the ledger believe that it is now.
func (l *Ledger) Turn(now time.Time) { l.turn(l.index(now)) }
