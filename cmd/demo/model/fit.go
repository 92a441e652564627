package model

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/stat"
)

// Model is a fitted logistic regression. It is immutable.
type Model struct {
	Features []string // that it reads, in the order of its weights
	mean     []float64
	scale    []float64 // standard deviations in the training rows
	// weights of the standardised features; the intercept is the last.
	weights []float64
}

// penalty is the weight of the squared coefficients in the loss. Without one,
// thirty features separate the training rows completely and the coefficients
// grow without bound.
const penalty = 0.01

// Fit fits a logistic regression on some features to the training rows: the
// minimum of the mean log loss plus penalty/2 times the sum of the squared
// coefficients, intercept aside, over standardised features.
func Fit(d *Data, features []string) (*Model, error) {
	m := &Model{Features: features}
	columns := make([]int, len(features))
	for i, f := range features {
		if columns[i] = d.Index(f); columns[i] < 0 {
			return nil, fmt.Errorf("fit: %s: no such feature", f)
		}
		mean, scale := stat.PopMeanStdDev(column(d.Train, columns[i]), nil)
		m.mean, m.scale = append(m.mean, mean), append(m.scale, scale)
	}
	loss := &logLoss{}
	for _, r := range d.Train {
		loss.x = append(loss.x, m.standardise(pick(r.Values, columns)))
		loss.y = append(loss.y, indicator(r.Malignant))
	}
	problem := optimize.Problem{Func: loss.value, Grad: loss.gradient, Hess: loss.hessian}
	start := make([]float64, len(features)+1)
	settings := &optimize.Settings{GradientThreshold: 1e-10, Concurrent: 1}
	result, err := optimize.Minimize(problem, start, settings, &optimize.Newton{})
	if err != nil {
		return nil, fmt.Errorf("fit %d features: %w", len(features), err)
	}
	m.weights = result.X
	return m, nil
}

// Probability returns the probability that a mass is malignant. The values are
// those of Features, in their order.
func (m *Model) Probability(values []float64) float64 {
	return sigmoid(dot(m.weights, m.standardise(values)))
}

// Accuracy returns the share of rows whose diagnosis the model gets right when
// it calls malignant what is more probable than not.
func (m *Model) Accuracy(d *Data, rows []Row) float64 {
	columns := make([]int, len(m.Features))
	for i, f := range m.Features {
		columns[i] = d.Index(f)
	}
	right := 0
	for _, r := range rows {
		if Label(m.Probability(pick(r.Values, columns))) == r.Label() {
			right++
		}
	}
	return float64(right) / float64(len(rows))
}

// Label returns the diagnosis that a probability stands for.
func Label(probability float64) string { return label(probability > 0.5) }

// standardise returns the values in standard deviations from the mean, and a
// one for the intercept.
func (m *Model) standardise(values []float64) []float64 {
	z := make([]float64, len(values)+1)
	for i, v := range values {
		z[i] = (v - m.mean[i]) / m.scale[i]
	}
	z[len(values)] = 1
	return z
}

// logLoss is what Fit minimises.
type logLoss struct {
	x [][]float64 // standardised, with the one of the intercept
	y []float64   // 1 is malignant
}

func (l *logLoss) value(w []float64) float64 {
	sum := 0.0
	for i, x := range l.x {
		t := dot(w, x)
		// log(1+e^t) - y·t, for any t without overflow.
		sum += math.Max(t, 0) + math.Log1p(math.Exp(-math.Abs(t))) - l.y[i]*t
	}
	coefficients := w[:len(w)-1]
	return sum/float64(len(l.x)) + penalty/2*dot(coefficients, coefficients)
}

func (l *logLoss) gradient(g, w []float64) {
	clear(g)
	n := float64(len(l.x))
	for i, x := range l.x {
		e := (sigmoid(dot(w, x)) - l.y[i]) / n
		for j, v := range x {
			g[j] += e * v
		}
	}
	for j := range len(w) - 1 {
		g[j] += penalty * w[j]
	}
}

func (l *logLoss) hessian(h *mat.SymDense, w []float64) {
	h.Zero()
	n := float64(len(l.x))
	for _, x := range l.x {
		p := sigmoid(dot(w, x))
		h.SymRankOne(h, p*(1-p)/n, mat.NewVecDense(len(x), x))
	}
	for j := range len(w) - 1 {
		h.SetSym(j, j, h.At(j, j)+penalty)
	}
}

func sigmoid(t float64) float64 { return 1 / (1 + math.Exp(-t)) }

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func pick(values []float64, columns []int) []float64 {
	out := make([]float64, len(columns))
	for i, c := range columns {
		out[i] = values[c]
	}
	return out
}

func column(rows []Row, c int) []float64 {
	out := make([]float64, len(rows))
	for i, r := range rows {
		out[i] = r.Values[c]
	}
	return out
}
