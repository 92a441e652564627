package stats

import "math"

// maxBets is the largest number of bets of any test.
const maxBets = 16

// boundary is the last value between refuted and kept, seen from refuted, at
// which f is not negative. f must be monotone between the two and negative at
// kept. It is refuted itself when f is negative there too. The method is
// Chandrupatla's (Adv. Eng. Software 1997): bisection with inverse quadratic
// steps where they are safe; about ten evaluations.
func boundary(refuted, kept float64, f func(float64) float64) float64 {
	a, b := refuted, kept
	fa := f(a)
	if !(fa >= 0) {
		return refuted
	}
	fb := f(b)
	if fb >= 0 {
		return kept
	}
	good, t := a, 0.5
	var c, fc float64
	for range 200 {
		x := a + t*(b-a)
		fx := f(x)
		if fx >= 0 {
			good = x
		}
		if (fx >= 0) == (fa >= 0) {
			c, fc = a, fa
		} else {
			c, fc = b, fb
			b, fb = a, fa
		}
		a, fa = x, fx
		tol := 1e-13*math.Max(math.Abs(a), math.Abs(b)) + 1e-18
		limit := tol / math.Abs(b-a)
		if limit > 0.5 || fx == 0 {
			break
		}
		t = chandrupatla(a, b, c, fa, fb, fc)
		t = min(max(t, limit), 1-limit)
	}
	return good
}

// chandrupatla is the place of the next evaluation, as a part of the way from a
// to b.
func chandrupatla(a, b, c, fa, fb, fc float64) float64 {
	xi := (a - b) / (c - b)
	phi := (fa - fb) / (fc - fb)
	if phi*phi < xi && (1-phi)*(1-phi) < 1-xi {
		t := fa/(fb-fa)*fc/(fb-fc) + (c-a)/(b-a)*fa/(fc-fa)*fb/(fc-fb)
		if t > 0 && t < 1 {
			return t
		}
	}
	return 0.5
}
