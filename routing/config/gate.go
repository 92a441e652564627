package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/routing"
)

// gate is a limit that a candidate must keep. What its bound may be depends on
// the metric.
type gate struct {
	_ struct{} `like:"{metric: error_rate, max: 1%}"`
	_ struct{} `needs:"bound" hint:"name|error_rate|client_error_rate|latency|latency_mean|latency_p50|latency_p90|latency_p95|latency_p99=write {metric: NAME, max: LIMIT};threshold|limit|value|bound=write max, or max_increase to compare with stable;increase=write max_increase;drop=write max_drop;action|on_failure|on_fail=write on_breach"`
	_ struct{} `hint:"thresholdRange|successCondition|failureCondition=write max: 1%, or max: 500ms of a latency;min=a limit is the largest value that is fine, a success rate of at least {percent} is error_rate with max: {rest}"`
	_ struct{} `hint:"interval|count|window|for|failureLimit|consecutiveErrorLimit|consecutiveSuccessLimit=leave it out, a gate looks at every moment and keeps the promise all the same;inconclusiveLimit=leave it out, what is not shown waits for at_most;initialDelay=leave it out, a gate begins when every Envoy has the share of the step"`
	_ struct{} `hint:"provider|query|template|templateRef=leave it out, headgate measures at Envoy"`

	Metric      metric        `field:"metric,required" doc:"What is limited."`
	Max         *maxBound     `field:"max" one:"bound" doc:"Largest value of the candidate that is fine: 1% of a rate, 500ms of a latency."`
	MaxIncrease *differBound  `field:"max_increase" one:"bound" doc:"How much more than stable, over the same time, is fine: 0.5pp or 1.5x of a rate, 10%, 20ms or 1.5x of a latency."`
	MaxDrop     *differBound  `field:"max_drop" one:"bound" doc:"How much less than stable, over the same time, is fine. Of metrics of which more is better."`
	OnBreach    onBreach      `field:"on_breach" default:"rollback" doc:"What follows when the limit is shown to be broken."`
	Resolution  *pointsOfRate `field:"resolution" doc:"With max_increase: 0pp, the increase that it is safe to be below. 0.5pp when absent."`
}

type onBreach routing.OnBreach

var onBreaches = choice{
	words:   []string{"rollback", "pause", "warn"},
	foreign: map[string]string{"abort": "rollback", "fail": "rollback", "hold": "pause", "alert": "warn", "warning": "warn"},
}

func (o *onBreach) set(word string) error { *o = onBreach(word); return onBreaches.check(word) }
func (*onBreach) schema() schema          { return onBreaches.schema() }

// quantity is a number with a unit, as a limit is written.
type quantity struct {
	word   string
	number float64 // as written: 10 of "10%"; in seconds of a duration
	unit   quantityUnit
}

type quantityUnit string

const (
	unitPercent  quantityUnit = "%"
	unitPoints   quantityUnit = "pp"
	unitTimes    quantityUnit = "x"
	unitDuration quantityUnit = "s"
)

const (
	decimal  = `[0-9]{1,6}(\.[0-9]{1,6})?`
	timespan = `([0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d))+`
)

var (
	maxForm    = form(`^(`+decimal+`%|`+timespan+`)$`, "must be like 1% of a rate, or 500ms of a latency")
	differForm = form(`^(`+decimal+`(%|pp|x)|`+timespan+`)$`, "must be like 0.5pp or 1.5x of a rate, or 10%, 20ms or 1.5x of a latency")

	pointsForm = form(`^`+decimal+`pp$`, "must be in points like 0.5pp")
	timesForm  = form(`^`+decimal+`x$`, "must be a ratio like 1.5x")

	quantityForm = regexp.MustCompile(`^(` + decimal + `)(%|pp|x)$`)
)

func (q *quantity) parse(word string) error {
	*q = quantity{word: word, unit: unitDuration}
	var err error
	if m := quantityForm.FindStringSubmatch(word); m != nil {
		q.unit = quantityUnit(m[3])
		q.number, err = strconv.ParseFloat(m[1], 64)
		return err
	}
	span, err := parseTimespan(word)
	q.number = span.Seconds()
	return err
}

// part is a percentage or a number of points as a part of one.
func (q *quantity) part() float64 {
	f, _ := strconv.ParseFloat(strings.TrimRight(q.word, "%p")+"e-2", 64)
	return f
}

// plain is the number without its unit.
func (q *quantity) plain() string { return strings.TrimRight(q.word, "%px") }

// maxBound is the largest value that is fine.
type maxBound struct{ quantity }

func (b *maxBound) set(word string) error {
	switch {
	case numeric.MatchString(word):
		return errors.New("has no unit; " + withUnit(word))
	case strings.HasPrefix(word, "-"):
		return errors.New("must not be negative")
	case pointsForm.check(word) == nil:
		return fmt.Errorf("is a difference of two rates; write max_increase: %s, or %s%% for a limit", word, strings.TrimSuffix(word, "pp"))
	case timesForm.check(word) == nil:
		return fmt.Errorf("is relative to stable; write max_increase: %s", word)
	}
	if err := maxForm.check(word); err != nil {
		return err
	}
	return b.parse(word)
}

// withUnit says how a number without a unit may have been meant.
func withUnit(word string) string {
	switch n, err := strconv.ParseFloat(word, 64); {
	case err != nil || n < 0 || strings.Trim(word, "0123456789.") != "":
		return "a rate is written like 1%, a latency like 500ms"
	case n < 1:
		return fmt.Sprintf("of a rate write %s%%, of a latency %ss", decimals(100*n), word)
	case n < 100:
		return fmt.Sprintf("of a rate write %[1]s%%, of a latency %[1]sms or %[1]ss", word)
	}
	return fmt.Sprintf("write %[1]sms or %[1]ss of a latency", word)
}

// decimals writes a number with at most six digits behind the point.
func decimals(n float64) string {
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(n, 'f', 6, 64), "0"), ".")
}

func (*maxBound) schema() schema { return maxForm.schema() }

// differBound is how far from stable's a value may be.
type differBound struct{ quantity }

func (b *differBound) set(word string) error {
	switch {
	case numeric.MatchString(word):
		return errors.New("has no unit; of a rate write 0.5pp or 1.5x, of a latency 10%, 20ms or 1.5x")
	case strings.HasPrefix(word, "-"):
		return errors.New("must not be negative")
	}
	if err := differForm.check(word); err != nil {
		return err
	}
	return b.parse(word)
}

func (*differBound) schema() schema { return differForm.schema() }

// pointsOfRate is a difference of two rates, more than none.
type pointsOfRate struct{ quantity }

func (r *pointsOfRate) set(word string) error {
	if err := pointsForm.check(word); err != nil {
		return err
	}
	if err := r.parse(word); err != nil {
		return err
	}
	switch part := r.part(); {
	case part <= 0:
		return errors.New("must be more than 0pp")
	case part > 0.5:
		return errors.New("must be at most 50pp")
	}
	return nil
}

func (*pointsOfRate) schema() schema { return pointsForm.schema() }

// Bounds of what a limit can sensibly be.
const (
	largestRatio    = 100
	shortestLatency = 100 * time.Microsecond
	longestLatency  = 24 * time.Hour
	maxGates        = 20 // the promise is divided by them
)

// defaultResolution is in points.
const defaultResolution = 0.005

// gates compiles the gates of a rollout.
func (c *compiler) gates(written []gate, at *path) []routing.Gate {
	if len(written) > maxGates {
		c.d.reject(at, "", fmt.Sprintf("has %d gates, may have %d: the promise is divided by them", len(written), maxGates))
	}
	type limited struct {
		metric metric
		bound  routing.BoundKind
	}
	first := map[limited]int{}
	var out []routing.Gate
	for i := range written {
		g, p := &written[i], at.at(i)
		if c.d.failed[p.in("metric").String()] {
			continue
		}
		compiled, ok := c.gate(g, p)
		if !ok {
			continue
		}
		key := limited{g.Metric, compiled.Bound}
		if before, ok := first[key]; ok {
			c.d.reject(p.in(string(key.bound)), compiled.Written, fmt.Sprintf("%s of %s is already limited in gates[%d]", key.bound, key.metric, before))
			continue
		}
		first[key] = i
		out = append(out, compiled)
	}
	return out
}

// gate compiles one gate. It is false for one that has no bound.
func (c *compiler) gate(g *gate, p *path) (routing.Gate, bool) {
	out := routing.Gate{Metric: string(g.Metric), OnBreach: routing.OnBreach(g.OnBreach)}
	var q *quantity
	var err error
	switch {
	case g.Max != nil:
		q, out.Bound = &g.Max.quantity, routing.BoundMax
		out.Limit, out.Unit, err = maxOf(g.Metric, q)
	case g.MaxIncrease != nil:
		q, out.Bound = &g.MaxIncrease.quantity, routing.BoundMaxIncrease
		out.Limit, out.Unit, err = increaseOf(g.Metric, q)
	case g.MaxDrop != nil:
		q, out.Bound = &g.MaxDrop.quantity, routing.BoundMaxDrop
		err = fmt.Errorf("less of %s does no harm; write max_increase", g.Metric)
	default:
		return out, false
	}
	if err != nil {
		c.d.reject(p.in(string(out.Bound)), q.word, err.Error())
	}
	out.Written = q.word
	none := out.Unit == routing.UnitPoints && out.Limit == 0
	switch {
	case g.Resolution != nil && !none:
		c.d.reject(p.in("resolution"), g.Resolution.word, "belongs to max_increase: 0pp; any other gate is safe below its limit")
	case g.Resolution != nil:
		out.Resolution = g.Resolution.part()
	case none:
		out.Resolution = defaultResolution
	}
	return out, true
}

// maxOf is the limit of max.
func maxOf(m metric, q *quantity) (float64, routing.Unit, error) {
	switch {
	case m.measure() == measureRate && q.unit == unitDuration:
		return 0, "", fmt.Errorf("is a duration; %s is a rate, write it like 1%%", m)
	case m.measure() == measureDuration && q.unit == unitPercent:
		return 0, "", fmt.Errorf("is a rate; %s is a duration, write it like 500ms, or write max_increase: %s to compare with stable", m, q.word)
	case q.number <= 0 && m.measure() == measureRate:
		return 0, "", errors.New("must be more than 0%: that nothing ever fails cannot be shown")
	case m.measure() == measureRate && q.number >= 100:
		return 0, "", errors.New("must be less than 100%")
	case m.measure() == measureRate:
		return q.part(), routing.UnitRate, nil
	}
	return latencyOf(q)
}

// increaseOf is the limit of max_increase.
func increaseOf(m metric, q *quantity) (float64, routing.Unit, error) {
	rate := m.measure() == measureRate
	switch {
	case q.unit == unitTimes:
		return ratioOf(q.number, "1x", "write "+map[bool]string{true: "0pp for no increase at all", false: "1.1x for a tenth more"}[rate])
	case rate && q.unit == unitPercent:
		return 0, "", fmt.Errorf("can mean two things of a rate; write %spp for points, or %sx for a ratio", q.plain(), ratioText(q))
	case rate && q.unit == unitDuration:
		return 0, "", fmt.Errorf("is a duration; %s is a rate, write 0.5pp or 1.5x", m)
	case rate && q.number >= 100:
		return 0, "", errors.New("must be less than 100pp")
	case rate:
		return q.part(), routing.UnitPoints, nil
	case q.unit == unitPoints:
		return 0, "", fmt.Errorf("is in points of a rate; %s is a duration, write 10%%, 20ms or 1.5x", m)
	case q.unit == unitPercent:
		return ratioOf(1+q.part(), "0%", "no two versions are equally fast, write 10%")
	}
	return latencyOf(q)
}

func ratioOf(ratio float64, none, instead string) (float64, routing.Unit, error) {
	switch {
	case ratio <= 1:
		return 0, "", fmt.Errorf("must be more than %s; %s", none, instead)
	case ratio > largestRatio:
		return 0, "", fmt.Errorf("must be at most %dx", largestRatio)
	}
	return ratio, routing.UnitRatio, nil
}

// ratioText is a percentage of increase as a ratio, "1.1" of 10%.
func ratioText(q *quantity) string {
	return strconv.FormatFloat(1+q.part(), 'g', 7, 64)
}

func latencyOf(q *quantity) (float64, routing.Unit, error) {
	switch {
	case q.number < shortestLatency.Seconds():
		return 0, "", errors.New("must be at least 0.1ms")
	case q.number > longestLatency.Seconds():
		return 0, "", errors.New("must be at most 24h")
	}
	return q.number, routing.UnitSeconds, nil
}
