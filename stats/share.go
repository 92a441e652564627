package stats

import (
	"math"
	"sync/atomic"
)

// Margin is how much more often a candidate may err than stable: p_c <= Ratio
// p_s + Points. A Ratio of 0 (or less) means 1.
type Margin struct {
	Points float64 // a part of all requests: 0.005 is half a point
	Ratio  float64
}

func (m Margin) ratio() float64 {
	if m.Ratio > 0 {
		return min(m.Ratio, mostRatio)
	}
	return 1
}

// Share compares the rates of two versions between which units (requests, or
// users counted once) are drawn with a known probability w for the candidate.
//
// Formula: against p_c <= rho p_s + delta (Above), for each unit the factor
//
//	1 + a            for an event on the candidate,
//	1 - u a          for an event on stable, u = w rho / (1-w),
//	1/(1 + w a delta) for every unit of both,
//
// with the bets a = (r-1)/(1+ru) for a grid of ratios r > 1; r < 1 and so a < 0
// for Below, against p_c >= rho p_s + delta. The capital is the mean over the
// grid. For a ratio margin a is the best bet where p_c = r rho p_s, and the test
// is the binomial one of the candidate's part of the events.
//
// Assumption: each unit is given to the candidate with probability w whatever
// came before, and whether it errs there depends on nothing but itself and what
// came before. Under the hypothesis the expected factor is 1 + w a (p_c - rho
// p_s) over 1 + w a delta, so at most 1, whatever p_s is and however it changes:
// bursts, a day's rhythm and changes of w are allowed for. An event of the
// candidate where w = 0 and one of stable where w = 1 say nothing.
//
// Copies: when each request goes to the candidate and with probability P to
// stable too, w = 1/(1+P) and the units are both sides' requests. This holds
// when a request that fails on one side is not less likely than others to fail
// on the other.
//
// Papers: Turner, Ly and Gruenwald, "Generic e-variables for exact sequential
// k-sample tests", 2024, and Turner and Gruenwald, "Exact anytime-valid
// confidence intervals for contingency tables", 2023; Lindon and Malek,
// "Anytime-valid inference for multinomial count data", NeurIPS 2022;
// Waudby-Smith and Ramdas, JRSS B 2023.
//
// What it costs: only events count, so that at rates near p the variance is
// 1/(1-p) of the least possible.
//
// A Share may be used by several goroutines.
type Share struct {
	margin Margin
	side   Side
	bets   []float64 // the ratios r
	table  atomic.Pointer[shareTable]
}

// shareTable holds the bets' logs for one w.
type shareTable struct {
	w                        float64
	candidate, stable, every []float64
}

// NewShare is the test of a margin. A margin that is no number is never shown to
// be kept or broken, one of 100 points or more is never shown to be broken.
func NewShare(m Margin, side Side) *Share {
	return &Share{margin: m, side: side, bets: ratios(side)}
}

// Bets is the number of bets: the length of the slices that Add takes.
func (s *Share) Bets() int { return len(s.bets) }

// Add adds the log capital of units, drawn with probability w for the
// candidate, to logs, which has one value for each bet and begins with zeros.
// candidate and stable are the events among the units of each. w may differ
// from call to call; the logs of the last one are kept.
func (s *Share) Add(logs []float64, w float64, units, candidate, stable uint64) {
	s.add(logs, w, float64(units), float64(candidate), float64(stable))
}

func (s *Share) add(logs []float64, w, units, candidate, stable float64) {
	units = max(units, candidate+stable) // each event is a unit
	t := s.table.Load()
	if t == nil || t.w != w {
		t = s.newTable(w)
		s.table.Store(t)
	}
	logs = logs[:len(t.candidate)]
	st, ev := t.stable[:len(t.candidate)], t.every[:len(t.candidate)]
	for k, c := range t.candidate {
		logs[k] += candidate*c + stable*st[k] + units*ev[k]
	}
}

func (s *Share) newTable(w float64) *shareTable {
	n := len(s.bets)
	t := &shareTable{w: w, candidate: make([]float64, n), stable: make([]float64, n), every: make([]float64, n)}
	if !(w > 0 && w < 1) || math.IsNaN(s.margin.Points) || math.IsNaN(s.margin.Ratio) {
		return t
	}
	for k, r := range s.bets {
		t.candidate[k], t.stable[k], t.every[k] = shareBet(r, w, s.margin.ratio(), s.margin.Points)
	}
	return t
}

// shareBet is what an event on the candidate, one on stable, and each unit add
// to the log of the capital of the bet on r.
func shareBet(r, w, rho, delta float64) (candidate, stable, every float64) {
	a, b := shareStake(r, w, rho)
	return math.Log1p(a), math.Log1p(-b), -shareCost(w*a, delta)
}

// shareStake is the part of the capital that an event on the candidate wins, and
// that one on stable loses.
func shareStake(r, w, rho float64) (a, b float64) {
	u := w * rho / (1 - w)
	a = (r - 1) / (1 + r*u)
	return a, u * a
}

// shareCost is what each unit costs, where the margin is delta. A margin that
// nothing can keep costs next to nothing.
func shareCost(wa, delta float64) float64 {
	return math.Log1p(max(wa*min(max(delta, -1), 1), -1+1e-15))
}

// ShareInterval is where the difference p_c - p_s lies (ratio false), or p_c /
// p_s (ratio true), after units drawn with probability w of which xc erred on
// the candidate and xs on stable: the confidence sequence that inverts [Share].
// The truth is ever below low with probability at most alphaLow, ever above
// high with at most alphaHigh. Low is above a margin exactly if the test Above
// it has reached [Threshold] of alphaLow, and high below it exactly if the test
// Below it has reached that of alphaHigh. What is not known is [-1, 1], and
// [0, +Inf] for a ratio; so is all of it where w is not between 0 and 1.
func ShareInterval(w float64, units, xc, xs uint64, ratio bool, alphaLow, alphaHigh float64) (low, high float64) {
	c := shareCounts{w: w, candidate: float64(xc), stable: float64(xs)}
	c.units = max(float64(units), c.candidate+c.stable)
	if ratio {
		return c.ratio(Threshold(alphaLow), Threshold(alphaHigh))
	}
	return c.difference(Threshold(alphaLow), Threshold(alphaHigh))
}

type shareCounts struct{ w, units, candidate, stable float64 }

func (c shareCounts) difference(atLow, atHigh float64) (low, high float64) {
	if !(c.w > 0 && c.w < 1) || c.units <= 0 {
		return -1, 1
	}
	estimate := (c.candidate/c.w - c.stable/(1-c.w)) / c.units
	estimate = min(max(estimate, -1), 1)
	return boundary(-1, estimate, c.against(harms, atLow)), boundary(1, estimate, c.against(benefits, atHigh))
}

// against is how far the log capital of the bets on rs is above at, by the
// margin in points.
func (c shareCounts) against(rs []float64, at float64) func(delta float64) float64 {
	var won, wa [maxBets]float64
	for k, r := range rs {
		a, b := shareStake(r, c.w, 1)
		won[k], wa[k] = c.candidate*math.Log1p(a)+c.stable*math.Log1p(-b), c.w*a
	}
	return func(delta float64) float64 {
		var logs [maxBets]float64
		for k := range rs {
			logs[k] = won[k] - c.units*shareCost(wa[k], delta)
		}
		return LogMix(logs[:len(rs)]) - at
	}
}

// againstRatio is the same by the log of the margin as a ratio.
func (c shareCounts) againstRatio(rs []float64, at float64) func(logRho float64) float64 {
	return func(logRho float64) float64 {
		var logs [maxBets]float64
		for k, r := range rs {
			a, b := shareStake(r, c.w, math.Exp(logRho))
			logs[k] = c.candidate*math.Log1p(a) + c.stable*math.Log1p(-b)
		}
		return LogMix(logs[:len(rs)]) - at
	}
}

// The ratios between which an interval's ends are sought; what is beyond is as
// good as 0 and as without end.
const (
	leastRatio = 1e-9
	mostRatio  = 1e9
)

func (c shareCounts) ratio(atLow, atHigh float64) (low, high float64) {
	low, high = 0, math.Inf(1)
	if !(c.w > 0 && c.w < 1) || c.candidate+c.stable <= 0 {
		return low, high
	}
	estimate := min(max((c.candidate/c.w)/(c.stable/(1-c.w)), leastRatio), mostRatio)
	from, to, mid := math.Log(leastRatio), math.Log(mostRatio), math.Log(estimate)
	l := boundary(from, mid, c.againstRatio(harms, atLow))
	if l > from {
		low = math.Exp(l)
	}
	h := boundary(to, mid, c.againstRatio(benefits, atHigh))
	if h < to {
		high = math.Exp(h)
	}
	return low, high
}
