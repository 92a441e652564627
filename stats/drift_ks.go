package stats

import "math"

// KS is the two-sample Kolmogorov-Smirnov statistic: the greatest distance
// between the two empirical distribution functions, in [0, 1]. What is no number
// is left out; without numbers on one side it is NaN.
//
// Papers: Kolmogorov, "Sulla determinazione empirica di una legge di
// distribuzione", 1933; Smirnov, "On the estimation of the discrepancy between
// empirical curves of distribution for two independent samples", 1939.
func KS(a, b []float64) float64 {
	a, b = numbers(a), numbers(b)
	if len(a) == 0 || len(b) == 0 {
		return math.NaN()
	}
	n, m := float64(len(a)), float64(len(b))
	most := 0.0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		v := min(a[i], b[j])
		for i < len(a) && a[i] == v {
			i++
		}
		for j < len(b) && b[j] == v {
			j++
		}
		// In whole numbers, so that equal distances are equal.
		most = max(most, math.Abs(float64(i)*m-float64(j)*n))
	}
	return most / (n * m)
}

// KSCounts is the same of values that were counted in the same ordered bins. It
// is at most the statistic of the values themselves.
func KSCounts(a, b []uint64) float64 {
	a, b = padded(a, b)
	n, m := total(a), total(b)
	if n == 0 || m == 0 {
		return math.NaN()
	}
	most := 0.0
	var sumA, sumB uint64
	for i := range a {
		sumA, sumB = sumA+a[i], sumB+b[i]
		most = max(most, math.Abs(float64(sumA)/float64(n)-float64(sumB)/float64(m)))
	}
	return most
}

// exactPaths is the greatest n times m for which [KSP] counts paths.
const exactPaths = 1_000_000

// KSP is the probability that the statistic of n and m values of one continuous
// distribution is at least d. It is for one look: whoever looks again and again
// wants [KSInterval].
//
// Formula: up to n m = 1,000,000 exact, by the part of the lattice paths from
// (0, 0) to (n, m) that somewhere are d or more off the diagonal (Hodges, "The
// significance probability of the Smirnov two-sample test", Arkiv för Matematik
// 1958); beyond that [KSLimit], which at such sizes is within 0.03 of it.
//
// Assumption: the values are independent. With values that are equal, or counts
// in bins, the probability is smaller than what it gives.
func KSP(d float64, n, m uint64) float64 {
	switch {
	case n == 0 || m == 0 || math.IsNaN(d):
		return math.NaN()
	case d <= 0:
		return 1
	case d > 1:
		return 0
	case n <= exactPaths/m:
		return ksExact(d, int(n), int(m))
	}
	return KSLimit(d, n, m)
}

// ksExact sums from the outside in: the part of the paths to each point that
// were outside before or are now. Every term is positive, so small results are
// as exact as large ones.
func ksExact(d float64, n, m int) float64 {
	// Distances are multiples of 1/(n m), so in whole numbers.
	limit := math.Round(d * float64(n) * float64(m))
	outside := func(i, j int) bool { return math.Abs(float64(i)*float64(m)-float64(j)*float64(n)) >= limit-0.5 }
	row := make([]float64, m+1)
	for i := 0; i <= n; i++ {
		for j := 0; j <= m; j++ {
			switch {
			case outside(i, j):
				row[j] = 1
			case i == 0 && j == 0:
				row[j] = 0
			default:
				p := row[j] * float64(i) / float64(i+j) // from (i-1, j)
				if j > 0 {
					p += row[j-1] * float64(j) / float64(i+j)
				}
				row[j] = p
			}
		}
	}
	return min(row[m], 1)
}

// KSLimit is what [KSP] becomes when n and m are large: with t = d sqrt(n m /
// (n + m)) it is 2 sum over k >= 1 of (-1)^(k-1) exp(-2 k^2 t^2).
func KSLimit(d float64, n, m uint64) float64 {
	t := d * math.Sqrt(float64(n)/(float64(n)+float64(m))*float64(m))
	if t < 1 { // the same function by Jacobi's identity, where the series is slow
		sum := 0.0
		for k := 1; k < 40; k += 2 {
			f := float64(k) * math.Pi / t
			sum += math.Exp(-f * f / 8)
		}
		return min(max(1-math.Sqrt(2*math.Pi)/t*sum, 0), 1)
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k < 20; k++ {
		sum += sign * math.Exp(-2*k*k*t*t)
		sign = -sign
	}
	return min(max(2*sum, 0), 1)
}

// KSInterval is where the greatest distance between the two distribution
// functions lies, however often one looks while n and m grow: it is ever below
// low, or ever above high, with probability at most alpha each. D is [KS], or
// [KSCounts] for the distance at the edges of the bins.
//
// Formula: d plus and minus the width of both sides, each 0.85 sqrt((ln ln(e n)
// + 0.8 ln(1612 / (alpha/2))) / n).
//
// Assumption: the values of each side are independent and have one distribution.
//
// Paper: Howard and Ramdas, "Sequential estimation of quantiles with
// applications to A/B testing and best-arm identification", Bernoulli 2022.
func KSInterval(d float64, n, m uint64, alpha float64) (low, high float64) {
	if n == 0 || m == 0 || !(alpha > 0) || math.IsNaN(d) {
		return 0, 1
	}
	width := ksWidth(n, alpha/2) + ksWidth(m, alpha/2)
	return max(d-width, 0), min(d+width, 1)
}

func ksWidth(n uint64, alpha float64) float64 {
	return 0.85 * math.Sqrt((math.Log(1+math.Log(float64(n)))+0.8*math.Log(1612/min(alpha, 1)))/float64(n))
}
