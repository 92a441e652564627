package simulate

import (
	"math"
	"slices"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
)

// grid are the bins in which latencies are drawn: fine where a gate looks,
// coarse elsewhere, or a minute at 2,000 requests a second would cost more than
// its verdict. A bin's value is its geometric middle.
type grid struct {
	edges  []float64 // seconds, ascending; bin i is from edges[i] to edges[i+1]
	values []float64
}

// The widths of bins, as ratios. Bins of the histograms are 1 % wide.
const (
	fineBin   = 1.01
	coarseBin = 1.15
	nearby    = 1.6 // of what a gate looks at, up and down
)

// newGrid covers the latencies with bins. Around each point they are fine, and
// each point is an edge.
func newGrid(laws []Latency, points []float64) *grid {
	low, high := math.Inf(1), 0.0
	for _, l := range laws {
		low, high = min(low, l.quantile(1e-9)), max(high, l.quantile(1-1e-9))
	}
	points = slices.Clone(points)
	slices.Sort(points)
	g := &grid{edges: []float64{low}}
	for x := low; x < high; {
		width := coarseBin
		for _, p := range points {
			if x >= p/nearby && x < p*nearby {
				width = fineBin
			}
		}
		next := x * width
		for _, p := range points {
			switch {
			case p > x*(1+1e-9) && p < next:
				next = p
			case width > fineBin && p/nearby > x*(1+1e-9) && p/nearby < next:
				next = p / nearby
			}
		}
		x = next
		g.edges = append(g.edges, x)
	}
	for i := 1; i < len(g.edges); i++ {
		g.values = append(g.values, math.Sqrt(g.edges[i-1]*g.edges[i]))
	}
	return g
}

// law is a distribution over the bins of a grid.
type law struct {
	parts []float64
	draw  *alias
}

func (g *grid) law(l Latency) *law {
	out := &law{parts: make([]float64, len(g.values))}
	for i := range out.parts {
		out.parts[i] = max(l.above(g.edges[i])-l.above(g.edges[i+1]), 0)
	}
	out.parts[0] += 1 - l.above(g.edges[0])
	out.parts[len(out.parts)-1] += l.above(g.edges[len(g.edges)-1])
	out.draw = newAlias(out.parts)
	return out
}

// fewDraws is up to how many latencies it is cheaper to draw each.
const fewDraws = 200

// add draws the latencies of a Poisson number of requests with the given mean,
// and returns the number. Bins of Poisson arrivals are independent.
func (l *law) add(src source, mean float64, bins []uint32) uint64 {
	if mean < fewDraws {
		n := src.poisson(mean)
		for range n {
			bins[l.draw.draw(src)]++
		}
		return n
	}
	var n uint64
	for i, part := range l.parts {
		k := src.poisson(mean * part)
		bins[i] += uint32(k)
		n += k
	}
	return n
}

// latencyGates tells whether a gate looks at latency.
func (s *Scenario) latencyGates() bool { return OnLatency(s.Model) }

// OnLatency tells whether a gate of a model looks at latency.
func OnLatency(m *routing.Model) bool {
	return slices.ContainsFunc(m.Policy.Gates, func(g routing.Gate) bool {
		m, ok := compare.LookupMetric(g.Metric)
		return ok && m.Kind != compare.KindRate
	})
}

// points are the latencies in seconds that gates look at: limits, and the
// quantiles of both versions.
func (s *Scenario) points() []float64 {
	var out []float64
	for _, g := range s.Model.Policy.Gates {
		m, ok := compare.LookupMetric(g.Metric)
		if !ok || m.Kind == compare.KindRate {
			continue
		}
		if g.Bound == routing.BoundMax && m.Kind == compare.KindQuantile {
			out = append(out, g.Limit)
		}
		q := 0.9 // what is slow for a mean
		if m.Kind == compare.KindQuantile {
			q = m.Quantile
		}
		out = append(out, s.Stable.Latency.quantile(q), s.Candidate.Latency.quantile(q))
	}
	return out
}
