package stats

import "math"

// Relative is where candidate over stable (ratio true), or candidate minus
// stable, lies when each is known to lie in an interval. Two confidence
// sequences of which each end is wrong with at most alpha/2 give one of which
// each end is wrong with at most alpha. A ratio over what may be 0 has no upper
// end.
func Relative(ratio bool, lowC, highC, lowS, highS float64) (low, high float64) {
	if !ratio {
		return lowC - highS, highC - lowS
	}
	low, high = 0, math.Inf(1)
	if highS > 0 && lowC > 0 {
		low = lowC / highS
	}
	if lowS > 0 {
		high = highC / lowS
	}
	return low, high
}

// shown tells whether the margin m is shown to be broken (Above) or kept (Below).
func (m Margin) shown(side Side, lowC, highC, lowS, highS float64) bool {
	if side == Below {
		return highC <= m.ratio()*lowS+m.Points
	}
	return lowC > m.ratio()*highS+m.Points
}

// RelativeQuantileNeeded is about how many values of both versions, a part w of
// them of the candidate, it takes until the intervals of their q-quantiles, each
// at alpha/2, show that the candidate's is above the margin times, plus,
// stable's (Above) or not (Below), if the distributions are what c and s have
// counted. +Inf when they never will. The Points of the margin are in the unit
// of the values.
func RelativeQuantileNeeded(c, s *Histogram, w, q float64, m Margin, alpha float64, side Side) float64 {
	return relativeNeeded(c, s, w, m, side, func(h *Histogram, low bool, scale float64) (float64, float64) {
		a, b := oneEnd(low, alpha/2)
		return h.quantileInterval(q, a, b, scale)
	})
}

// RelativeMeanNeeded is the same for the means of min(value, bound).
func RelativeMeanNeeded(c, s *Histogram, w, bound float64, m Margin, alpha float64, side Side) float64 {
	return relativeNeeded(c, s, w, m, side, func(h *Histogram, low bool, scale float64) (float64, float64) {
		a, b := oneEnd(low, alpha/2)
		return h.meanInterval(bound, a, b, scale)
	})
}

// oneEnd is the levels of an interval of which only one end is wanted.
func oneEnd(low bool, alpha float64) (alphaLow, alphaHigh float64) {
	if low {
		return alpha, 0
	}
	return 0, alpha
}

func relativeNeeded(c, s *Histogram, w float64, m Margin, side Side,
	interval func(h *Histogram, low bool, scale float64) (float64, float64),
) float64 {
	if c.n == 0 || s.n == 0 || !(w > 0 && w < 1) {
		return math.Inf(1)
	}
	return firstTrue(func(n float64) bool {
		lowC, highC := interval(c, side == Above, n*w/float64(c.n))
		lowS, highS := interval(s, side == Below, n*(1-w)/float64(s.n))
		return m.shown(side, lowC, highC, lowS, highS)
	})
}

// SmallestQuantileHarm is about the factor between the candidate's values and
// stable's from which on n values of both, a part w of them of the candidate,
// show with probability 1/2 that the q-quantile is above the margin, if stable's
// distribution is what s has counted and the candidate's has the same form. +Inf
// when there is none.
func SmallestQuantileHarm(s *Histogram, w, n, q float64, m Margin, alpha float64) float64 {
	return smallestHarm(s, w, n, m, func(scaleC, scaleS float64) (float64, float64) {
		low, _ := s.quantileInterval(q, alpha/2, 0, scaleC)
		_, high := s.quantileInterval(q, 0, alpha/2, scaleS)
		return low, high
	})
}

// SmallestMeanHarm is the same for the means of min(value, bound), where the
// bound grows with the candidate's values.
func SmallestMeanHarm(s *Histogram, w, n, bound float64, m Margin, alpha float64) float64 {
	return smallestHarm(s, w, n, m, func(scaleC, scaleS float64) (float64, float64) {
		low, _ := s.meanInterval(bound, alpha/2, 0, scaleC)
		_, high := s.meanInterval(bound, 0, alpha/2, scaleS)
		return low, high
	})
}

func smallestHarm(s *Histogram, w, n float64, m Margin, ends func(scaleC, scaleS float64) (low, high float64)) float64 {
	if s.n == 0 || !(w > 0 && w < 1) || !(n > 0) {
		return math.Inf(1)
	}
	low, high := ends(n*w/float64(s.n), n*(1-w)/float64(s.n))
	if low <= 0 {
		return math.Inf(1)
	}
	return (m.ratio()*high + m.Points) / low
}
