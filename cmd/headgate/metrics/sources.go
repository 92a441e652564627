package metrics

import (
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing/rollout"
)

// DetailLimit is the number of models up to which every one is told in full.
const DetailLimit = 1000

// Traffic is what the versions answered, see [compare.Ledger].
type Traffic interface {
	AllTotals() []compare.VersionTotal
	GapTotals() compare.GapTotals
	Faults() compare.Faults
}

// Config is the state of the configuration.
type Config struct {
	OK      bool      // the files as they are now are in force
	Success time.Time // when files were last taken; zero: never
	Hash    string    // of what is in force; empty: nothing is
	Polling bool      // the system tells no changes
}

// Fleet is the state of the Envoys.
type Fleet struct {
	Connected  int            // Envoys
	Streams    map[string]int // open streams, by service: xds, ext_proc, access_log
	NACKs      map[string]uint64
	Refused    uint64 // Envoys that were not let in
	Restarts   uint64 // of the Envoy that is a child
	ChildAlive bool   // the child runs; false without one
}

// Decision is how often the ext_proc service gave a version for a reason.
type Decision struct {
	Model, Version, Reason string
	Count                  uint64
}

// Decisions are what the ext_proc service has counted.
type Decisions struct {
	Decisions []Decision
	Undecided uint64            // requests that it could not decide on
	Failures  map[string]uint64 // by kind, a fixed set
}

// Sources are where the values come from. A nil one is left out. They are
// called at each scrape, from any goroutine.
type Sources struct {
	Version       string
	Statuses      func() []rollout.Status
	Traffic       Traffic
	Config        func() Config
	Fleet         func() Fleet
	Decisions     func() Decisions
	JournalErrors func() uint64
}
