package routing

import "time"

// Policy is how the candidate of a rollout is judged: what the file says under
// rollout, apart from the steps. A policy without gates has no judge but for
// the hard rules.
type Policy struct {
	Gates   []Gate // in the order of the file
	Promise Promise
	Mode    Mode
	// MaxExcess is how many more bad answers than stable's rate explains a
	// candidate may give in a rollout; 0: any number. See compare.MetricExcessErrors.
	MaxExcess uint64
}

// Promise bounds how often a whole rollout may end wrongly, all gates and hard
// rules together and however often they look.
type Promise struct {
	FalseRollback  float64 // of candidates that break no gate, the part that is rolled back; in (0, 0.5]
	FalsePromotion float64 // of candidates that break a gate, the part that is promoted; in (0, 0.5]
}

// Mode says whether verdicts move traffic.
type Mode string

// The modes.
const (
	ModeAct     Mode = "act"     // verdicts advance and go back
	ModeObserve Mode = "observe" // verdicts are only told; people move
)

// Gate is a limit that a candidate must keep.
type Gate struct {
	Metric   string    // a name in the registry of package compare
	Bound    BoundKind // what is limited
	Limit    float64   // in Unit
	Unit     Unit
	Written  string   // the limit as it is written: "0.5pp"
	OnBreach OnBreach // empty is OnBreachRollback
	// Resolution stands in for a limit of no increase at all, which nothing
	// finite can show: such a gate is safe when the increase is below this. In
	// Unit.
	Resolution float64
}

// BoundKind says what a gate limits.
type BoundKind string

// The kinds of bounds.
const (
	BoundMax         BoundKind = "max"          // of the candidate by itself
	BoundMaxIncrease BoundKind = "max_increase" // of the candidate over stable, over the same time
	BoundMaxDrop     BoundKind = "max_drop"     // of the candidate under stable, over the same time
)

// Unit is the unit of a gate's limit, and of what is told of it.
type Unit string

// The units.
const (
	UnitRate    Unit = "rate"    // a part of the requests: 0.01 is 1 %
	UnitPoints  Unit = "points"  // a difference of two rates: 0.005 is 0.5pp
	UnitRatio   Unit = "ratio"   // candidate over stable: 1.1 is 10 % more, and 1.1x
	UnitSeconds Unit = "seconds" // a duration, or a difference of two
	UnitCount   Unit = "count"
)

// OnBreach is what follows when a gate is shown to be broken.
type OnBreach string

// What can follow.
const (
	OnBreachRollback OnBreach = "rollback"
	OnBreachPause    OnBreach = "pause"
	OnBreachWarn     OnBreach = "warn"
)

// OnTimeout is what follows when a step has lasted for AtMost and its gates are
// still not all safe.
type OnTimeout string

// What can follow.
const (
	OnTimeoutPause    OnTimeout = "pause"
	OnTimeoutPromote  OnTimeout = "promote" // the next step begins
	OnTimeoutRollback OnTimeout = "rollback"
)

// Control is what a candidate that serves everyone is compared with.
type Control struct {
	Mirror bool  // copies of the requests go to the stable version
	Share  Share // with Mirror, of the requests that are copied; else of the users who stay with stable
}

// String is the control as it is written in a file.
func (c Control) String() string {
	switch {
	case c.Mirror && c.Share > 0 && c.Share < Whole:
		return "mirror " + c.Share.String()
	case c.Mirror:
		return "mirror"
	case c.Share > 0:
		return c.Share.String()
	}
	return "none"
}

// Trial is what a judge watches: one step of one rollout.
type Trial struct {
	Model     string
	Rollout   int
	Step      int // index
	Steps     int // in all
	Stable    string
	Candidate string
	Share     Share // of the candidate, by assignment
	// Shadow is the share of the requests of which the candidate, to whom no user
	// is sent, gets copies. More than 0: its answers to these are on trial, beside
	// stable's to all requests that may be copied.
	Shadow  Share
	Control Control
	// Since is when every connected Envoy served the share. Zero: not yet, and
	// nothing that is compared with stable counts.
	Since  time.Time
	Policy *Policy
}

// Verdict is what a gate has shown.
type Verdict string

// The verdicts.
const (
	VerdictSafe    Verdict = "safe"    // the limit is kept, shown for this step
	VerdictBreach  Verdict = "breach"  // the limit is broken, shown for this rollout
	VerdictWaiting Verdict = "waiting" // neither is shown
)

// VerdictReason is why a verdict is what it is, for those that wait.
type VerdictReason string

// The reasons. A gate that has shown something has none.
const (
	ReasonNoTraffic       VerdictReason = "no_traffic"       // no request to judge by
	ReasonTelemetryGap    VerdictReason = "telemetry_gap"    // what Envoys served is partly unknown
	ReasonBaselineIll     VerdictReason = "baseline_ill"     // stable breaks the same limit
	ReasonNoEvidence      VerdictReason = "no_evidence"      // not enough requests yet
	ReasonNotAcknowledged VerdictReason = "not_acknowledged" // the step's share is not in force everywhere
	ReasonNotMeasurable   VerdictReason = "not_measurable"   // this step gives no data of this kind; it does not wait for the gate
)

// Finding is what a gate says now, in the JSON form that scripts rely on.
// Estimate, Low and High are of the present step, in Unit; null while there is
// no data.
type Finding struct {
	Metric   string        `json:"metric"`
	Bound    BoundKind     `json:"bound"`
	Verdict  Verdict       `json:"verdict"`
	Reason   VerdictReason `json:"reason"`
	Estimate *float64      `json:"estimate"`
	Low      *float64      `json:"low"`  // of a confidence sequence: it holds at all times together
	High     *float64      `json:"high"` // the same
	Limit    float64       `json:"limit"`
	Unit     Unit          `json:"unit"`
	N        uint64        `json:"n"`      // the candidate's requests behind Estimate
	Needed   uint64        `json:"needed"` // about how many N it takes to be safe if Estimate stays; 0: not known
	OnBreach OnBreach      `json:"on_breach"`
	HardRule bool          `json:"hard_rule"` // in force without being asked for; no step waits for it
	Text     string        `json:"text"`      // in words and numbers
	// OverruledBy is who went on in spite of it, so that no step waits for it and
	// it pauses no more; in statuses only. Empty: nobody.
	OverruledBy string `json:"overruled_by,omitempty"`
}

// Required tells whether a step waits for the gate.
func (f *Finding) Required() bool {
	return !f.HardRule && f.Reason != ReasonNotMeasurable && f.OnBreach != OnBreachWarn
}

// Judgement is what a judge says of a trial.
type Judgement struct {
	Rollout  int
	Step     int
	Findings []Finding // one for each gate in the order of the policy, then the hard rules
	// Evidence is all that the judge needs to go on after a restart. Nil: as it
	// was.
	Evidence []byte
}

// Safe tells whether every gate that the step waits for is safe.
func (j *Judgement) Safe() bool {
	for i := range j.Findings {
		if f := &j.Findings[i]; f.Required() && f.Verdict != VerdictSafe {
			return false
		}
	}
	return true
}
