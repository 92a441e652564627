package simulate

import (
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// Result is what a simulation has shown, in the JSON form that scripts rely on.
type Result struct {
	Seed uint64 `json:"seed"`
	Runs int    `json:"runs"` // of each world
	// UntilSeconds is when runs are given up that are neither promoted nor back.
	UntilSeconds float64 `json:"until_seconds"`
	// Breaks are the gates that the harmful candidate breaks in truth, but for
	// those that only warn; empty: it is none that should go back.
	Breaks []string `json:"breaks"`
	// BreaksWarnings are those that only warn.
	BreaksWarnings []string `json:"breaks_warnings"`
	// HealthyBreaks are the gates that the healthy candidate breaks in truth:
	// going back is right then, and stable should be looked at.
	HealthyBreaks  []string `json:"healthy_breaks"`
	FalseRollback  float64  `json:"promised_false_rollback"`
	FalsePromotion float64  `json:"promised_false_promotion"`
	// Notes say what is simulated otherwise than the file has it, and what makes
	// the comparison lame.
	Notes []string     `json:"notes"`
	Rules []RuleResult `json:"rules"`
}

// RuleResult is how one rule did. What is null has no runs to tell it by.
type RuleResult struct {
	Rule string `json:"rule"`
	// FalseRollback is the part of the healthy runs that went back, and
	// FalsePromotion that of the harmful runs which were promoted, among those that
	// had not gone back before the harm; with 95 % confidence intervals (Clopper
	// and Pearson, 1934).
	FalseRollback      *float64 `json:"false_rollback"`
	FalseRollbackLow   *float64 `json:"false_rollback_low"`
	FalseRollbackHigh  *float64 `json:"false_rollback_high"`
	FalsePromotion     *float64 `json:"false_promotion"`
	FalsePromotionLow  *float64 `json:"false_promotion_low"`
	FalsePromotionHigh *float64 `json:"false_promotion_high"`
	// Seconds from the first harm to the way back, over all harmful runs that
	// had not gone back before. Null: so many never went back.
	MedianSecondsToRollback *float64 `json:"median_seconds_to_rollback"`
	P90SecondsToRollback    *float64 `json:"p90_seconds_to_rollback"`
	P99SecondsToRollback    *float64 `json:"p99_seconds_to_rollback"`
	// Seconds until healthy runs were promoted, over those that were.
	MedianSecondsToPromotion *float64 `json:"median_seconds_to_promotion"`
	Healthy                  Ends     `json:"healthy"`
	Harmful                  Ends     `json:"harmful"`
	About                    string   `json:"about"`
}

// Ends count the runs of one world by how they ended.
type Ends struct {
	Promoted   int `json:"promoted"`
	RolledBack int `json:"rolled_back"`
	Early      int `json:"rolled_back_before_harm"` // among RolledBack
	Paused     int `json:"paused"`
	Waiting    int `json:"waiting"` // neither, when the time was over
	// By is what sent runs back, where the rule says: a gate as it is written, a
	// hard rule, or at_most. PausedBy is what paused those that ended so.
	By       map[string]int `json:"by,omitempty"`
	PausedBy map[string]int `json:"paused_by,omitempty"`
}

func (e *Ends) add(o outcome, from time.Duration) {
	switch o.end {
	case EndPromoted:
		e.Promoted++
	case EndRolledBack:
		e.RolledBack++
		if o.at <= from {
			e.Early++
		}
		count(&e.By, o.why)
	case EndPaused:
		e.Paused++
		count(&e.PausedBy, o.why)
	case EndWaiting:
		e.Waiting++
	}
}

func count(by *map[string]int, why string) {
	if why == "" {
		return
	}
	if *by == nil {
		*by = map[string]int{}
	}
	(*by)[why]++
}

// names are the rules in the order of the outcomes, with what they do.
func (r *runner) names() (names, about []string) {
	if r.judge {
		names, about = append(names, Headgate), append(about, "the gates of the scenario, judged at every moment")
	}
	for _, rule := range r.rules {
		names, about = append(names, rule.Name()), append(about, rule.About())
	}
	return names, about
}

func (r *runner) result() *Result {
	p := r.s.Model.Policy.Promise
	out := &Result{
		Seed: r.o.Seed, Runs: r.o.Runs, FalseRollback: p.FalseRollback, FalsePromotion: p.FalsePromotion,
		UntilSeconds: r.s.Until.Seconds(), Breaks: []string{}, BreaksWarnings: []string{}, Notes: r.notes(),
	}
	out.HealthyBreaks, _ = r.s.broken(r.s.Stable)
	if r.s.harms() {
		out.Breaks, out.BreaksWarnings = r.s.broken(r.s.Candidate)
	}
	names, about := r.names()
	for i, name := range names {
		out.Rules = append(out.Rules, r.rule(i, name, about[i], len(out.Breaks) > 0))
	}
	return out
}

func (r *runner) rule(i int, name, about string, breaks bool) RuleResult {
	out := RuleResult{Rule: name, About: about}
	var promoted, back []float64
	for _, ends := range r.ends[0] {
		o := ends[i]
		if out.Healthy.add(o, 0); o.end == EndPromoted {
			promoted = append(promoted, o.at.Seconds())
		}
	}
	if r.world[0] != nil {
		out.FalseRollback, out.FalseRollbackLow, out.FalseRollbackHigh = part(out.Healthy.RolledBack, r.o.Runs)
	}
	out.MedianSecondsToPromotion = quantileOf(promoted, 0.5)
	if r.world[1] == nil {
		return out
	}
	for _, ends := range r.ends[1] {
		o := ends[i]
		out.Harmful.add(o, r.s.From)
		switch {
		case o.end != EndRolledBack:
			back = append(back, math.Inf(1))
		case o.at > r.s.From:
			back = append(back, (o.at - r.s.From).Seconds())
		}
	}
	if met := r.o.Runs - out.Harmful.Early; breaks && met > 0 {
		out.FalsePromotion, out.FalsePromotionLow, out.FalsePromotionHigh = part(out.Harmful.Promoted, met)
	}
	out.MedianSecondsToRollback = quantileOf(back, 0.5)
	out.P90SecondsToRollback = quantileOf(back, 0.9)
	out.P99SecondsToRollback = quantileOf(back, 0.99)
	return out
}

// part is x of n with its 95 % interval.
func part(x, n int) (estimate, low, high *float64) {
	p, a, b := float64(x)/float64(n), 0.0, 1.0
	if x > 0 {
		a = distuv.Beta{Alpha: float64(x), Beta: float64(n - x + 1)}.Quantile(0.025)
	}
	if x < n {
		b = distuv.Beta{Alpha: float64(x + 1), Beta: float64(n - x)}.Quantile(0.975)
	}
	return &p, &a, &b
}

// quantileOf is nil when there are no values, or the quantile is infinite.
func quantileOf(values []float64, q float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	v := values[min(int(math.Ceil(q*float64(len(values))))-1, len(values)-1)]
	if math.IsInf(v, 1) {
		return nil
	}
	return &v
}

// broken names the gates that a candidate of this truth breaks against stable,
// those that only warn by themselves.
func (s *Scenario) broken(t Truth) (gates, warnings []string) {
	gates, warnings = []string{}, []string{}
	for i := range s.Model.Policy.Gates {
		g := &s.Model.Policy.Gates[i]
		m, ok := compare.LookupMetric(g.Metric)
		if !ok {
			continue
		}
		value, base := t.value(&m), s.Stable.value(&m)
		limit := g.Limit
		switch {
		case g.Bound == routing.BoundMax:
			base = 0
		case g.Unit == routing.UnitRatio:
			limit, base = g.Limit*base, 0
		}
		switch {
		case value-base <= limit*(1+1e-9)+1e-12:
		case g.OnBreach == routing.OnBreachWarn:
			warnings = append(warnings, gateName(g))
		default:
			gates = append(gates, gateName(g))
		}
	}
	return gates, warnings
}

// value is the true figure of a metric, without what bursts and users add.
func (t Truth) value(m *compare.Metric) float64 {
	switch {
	case m.Event == compare.EventError:
		return t.Errors
	case m.Event == compare.EventClientError:
		return (1 - t.Errors) * t.ClientErrors
	case !t.Latency.known():
		return 0
	case m.Kind == compare.KindMean:
		return (1-t.Errors)*t.Latency.mean() + t.Errors*t.failed().mean()
	}
	return t.quantile(m.Quantile)
}

// quantile is that of all answers, errors and others, by bisection.
func (t Truth) quantile(q float64) float64 {
	low, high := 0.0, max(t.Latency.quantile(1-1e-12), t.failed().quantile(1-1e-12))
	for range 200 {
		middle := (low + high) / 2
		if (1-t.Errors)*t.Latency.above(middle)+t.Errors*t.failed().above(middle) > 1-q {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}
