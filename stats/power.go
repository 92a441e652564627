package stats

import "math"

// most is the largest number that the power calculations look at.
const most = 1e15

// path is what the log capital of each bet is expected to be per unit, and the
// standard deviation of one unit's.
type path struct {
	mean, sd [maxBets]float64
	bets     int
}

// at is the log capital after n units when all bets are z standard deviations
// below what is expected.
func (p *path) at(n, z float64) float64 {
	var logs [maxBets]float64
	for k := range p.bets {
		logs[k] = n*p.mean[k] - z*math.Sqrt(n)*p.sd[k]
	}
	return LogMix(logs[:p.bets])
}

// needed is the number of units after which the log capital has reached at.
func (p *path) needed(at, z float64) float64 {
	return firstTrue(func(n float64) bool { return p.at(n, z) >= at })
}

// firstTrue is the least n >= 1 from which on f is true; +Inf when there is none
// up to most.
func firstTrue(f func(n float64) bool) float64 {
	hi := 1.0
	for !f(hi) {
		if hi *= 2; hi > most {
			return math.Inf(1)
		}
	}
	lo := hi / 2
	for hi-lo > 1e-6*hi && hi > 1 {
		if mid := (lo + hi) / 2; f(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return math.Ceil(hi * (1 - 1e-9))
}

// Needed is about how many requests it takes until the test at level alpha has
// shown its claim with probability 1/2, when each is bad with probability
// truth; +Inf when it never will. The capital is taken at the expected counts.
func (r *Rate) Needed(alpha, truth float64) float64 { return r.NeededFor(alpha, truth, 0.5) }

// NeededFor is Needed for another probability, the power: the capital is taken
// where the counts are below what is expected by the normal quantile of it.
func (r *Rate) NeededFor(alpha, truth, power float64) float64 {
	p := r.path(truth)
	return p.needed(Threshold(alpha), quantileNormal(power))
}

func (r *Rate) path(truth float64) path {
	p := path{bets: len(r.bad)}
	truth = min(max(truth, 0), 1)
	r.add(p.mean[:p.bets], 1, truth)
	for k, bad := range r.bad {
		p.sd[k] = math.Abs(bad) * math.Sqrt(truth*(1-truth))
	}
	return p
}

// Smallest is the true rate nearest to the limit that the test finds within n
// requests with the given power: the smallest harm for Above, the largest rate
// that is still shown to keep the limit for Below. NaN when there is none.
func (r *Rate) Smallest(alpha, n, power float64) float64 {
	at, z := Threshold(alpha), quantileNormal(power)
	found := func(truth float64) float64 {
		p := r.path(truth)
		return p.at(n, z) - at
	}
	end := 1.0
	if r.side == Below {
		end = 0
	}
	if !(found(end) >= 0) {
		return math.NaN()
	}
	return boundary(end, min(max(r.limit, 0), 1), found)
}

// Needed is about how many units of both versions it takes until the test at
// level alpha has shown its claim with probability 1/2, when units err with
// probability pc on the candidate and ps on stable; +Inf when it never will.
func (s *Share) Needed(alpha, w, pc, ps float64) float64 {
	return s.NeededFor(alpha, w, pc, ps, 0.5)
}

// NeededFor is Needed for another probability, the power.
func (s *Share) NeededFor(alpha, w, pc, ps, power float64) float64 {
	p := s.path(w, pc, ps)
	return p.needed(Threshold(alpha), quantileNormal(power))
}

func (s *Share) path(w, pc, ps float64) path {
	t := s.newTable(w)
	p := path{bets: len(t.candidate)}
	c, st := w*min(max(pc, 0), 1), (1-w)*min(max(ps, 0), 1)
	for k := range p.bets {
		mean := c*t.candidate[k] + st*t.stable[k]
		square := c*t.candidate[k]*t.candidate[k] + st*t.stable[k]*t.stable[k]
		p.mean[k] = mean + t.every[k]
		p.sd[k] = math.Sqrt(max(square-mean*mean, 0))
	}
	return p
}

// Smallest is the candidate's rate nearest to the margin that the test finds
// within so many units of both versions with the given power, when units err
// with probability ps on stable. NaN when there is none.
func (s *Share) Smallest(alpha, w, units, ps, power float64) float64 {
	at, z := Threshold(alpha), quantileNormal(power)
	found := func(pc float64) float64 {
		p := s.path(w, pc, ps)
		return p.at(units, z) - at
	}
	end := 1.0
	if s.side == Below {
		end = 0
	}
	if !(found(end) >= 0) {
		return math.NaN()
	}
	kept := s.margin.ratio()*ps + s.margin.Points
	return boundary(end, min(max(kept, 0), 1), found)
}

// QuantileNeeded is about how many values it takes until the interval of the
// q-quantile is beyond limit on one side with probability 1/2, if the
// distribution is what h has counted: above it (Above, at level alpha) or below
// it (Below). +Inf when it never will be.
func QuantileNeeded(h *Histogram, q, limit, alpha float64, side Side) float64 {
	if h.n == 0 {
		return math.Inf(1)
	}
	count := h.CountAbove(limit)
	if side == Below {
		count = h.CountMaybeAbove(limit)
	}
	return NewRate(1-q, side).Needed(alpha, float64(count)/float64(h.n))
}

// MeanNeeded is the same for the mean of min(value, bound).
func MeanNeeded(h *Histogram, bound, limit, alpha float64, side Side) float64 {
	m := NewMean(limit, bound, side)
	p := path{bets: m.Bets()}
	m.Add(p.mean[:p.bets], h)
	for k := range p.bets {
		p.mean[k] /= float64(max(h.n, 1))
	}
	return p.needed(Threshold(alpha), 0)
}

// quantileNormal is the quantile of the standard normal distribution, within
// the range that power calculations use.
func quantileNormal(p float64) float64 {
	return math.Sqrt2 * math.Erfinv(2*min(max(p, 1e-9), 1-1e-9)-1)
}
