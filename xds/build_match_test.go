package xds_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
)

// conditions is one of each kind, on values that tell them apart.
func conditions() []routing.Condition {
	var all []routing.Condition
	for _, place := range []struct {
		source routing.Source
		name   string
	}{
		{routing.SourceHeader, "x-tier"},
		{routing.SourceCookie, "tier"},
		{routing.SourceQuery, "tier"},
		{routing.SourceQuery, "a.b[c]^-x"},
	} {
		c := routing.Condition{Source: place.source, Name: place.name}
		add := func(op routing.Op, value string, edit func(*routing.Condition)) {
			c := c
			c.Op, c.Value = op, value
			if edit != nil {
				edit(&c)
			}
			all = append(all, c)
		}
		add(routing.OpEquals, "gold", nil)
		add(routing.OpEquals, "", nil)
		add(routing.OpPrefix, "go", nil)
		add(routing.OpPrefix, "", nil)
		add(routing.OpSuffix, "ld", nil)
		add(routing.OpContains, "ol", nil)
		add(routing.OpContains, "l;d", nil)
		add(routing.OpContains, "l&d", nil)
		add(routing.OpPresent, "", nil)
		add(routing.OpIn, "", func(c *routing.Condition) { c.Values = []string{"silver", "g.ld", "", "gold"} })
		for _, expression := range []string{"g.+d", "gol?d+", "[^x]ol[d-z]", "(?i)GOLD", "gold|silver", `\w+\b.*d`} {
			add(routing.OpRegex, expression, func(c *routing.Condition) {
				c.Regex = regexp.MustCompile("^(?:" + expression + ")$")
			})
		}
	}
	return all
}

// Every condition holds in Envoy exactly when it holds in Go.
func TestConditionsAgreeWithHolds(t *testing.T) {
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	var plans []*routing.ModelPlan
	for i, c := range conditions() {
		p := rolling(fmt.Sprintf("c%d", i), blue, green, func(m *routing.Model) {
			m.Overrides = []routing.Override{{Condition: c, Version: "v2.0.0"}}
		})
		p.Split = routing.Split{Ranges: []routing.Range{{Version: "v1.0.0", Weight: routing.Whole}}}
		plans = append(plans, p)
	}
	addr := newControl(t, planOf(plans...)).start().Listener(anyPort.String())
	rng := rand.New(rand.NewPCG(3, 4))
	for i, p := range plans {
		requests := make([]request, 150)
		for k := range requests {
			requests[k] = conditionRequest(rng, "/"+p.Model.Name, p.Model.Overrides[0].Condition)
		}
		answers := sendAll(t, addr, requests)
		c := conditions()[i]
		name := fmt.Sprintf("%d %s %s %s %q", i, c.Source, c.Name, c.Op, c.Value)
		t.Run(name, func(t *testing.T) {
			counts := agree(t, p, requests, answers)
			if counts["v2.0.0"] == 0 && possible(c) {
				t.Error("no request satisfied it")
			}
		})
	}
}

// possible tells whether any value can satisfy a condition of the table.
func possible(c routing.Condition) bool {
	switch {
	case c.Op == routing.OpEquals:
		return c.Value != ""
	case c.Source == routing.SourceCookie:
		return !strings.Contains(c.Value, ";")
	case c.Source == routing.SourceQuery:
		return !strings.Contains(c.Value, "&")
	}
	return true
}

// conditionRequest carries values that nearly or just satisfy the conditions.
func conditionRequest(rng *rand.Rand, path string, c routing.Condition) request {
	values := []string{"gold", "golden", "old", "go", "", "g.ld", "silver", "GOLD", "x-gold", "gol;d", "gol&d", "golld", "g x d", "=gold"}
	pick := func() string { return values[rng.IntN(len(values))] }
	names := []string{c.Name, c.Name, c.Name, "x" + c.Name, c.Name + "x", c.Name[:len(c.Name)-1], "other", strings.ToUpper(c.Name)}
	r := request{method: "GET", path: path}
	var parts []string
	for range rng.IntN(4) {
		parts = append(parts, names[rng.IntN(len(names))]+"="+pick())
	}
	switch c.Source {
	case routing.SourceHeader:
		for range rng.IntN(3) {
			r.headers = append(r.headers, [2]string{c.Name, pick()})
		}
	case routing.SourceCookie:
		separator := []string{"; ", ";", " ; "}[rng.IntN(3)]
		r.headers = [][2]string{{"cookie", strings.Join(parts, separator)}}
	case routing.SourceQuery:
		for i := range parts {
			parts[i] = strings.ReplaceAll(parts[i], " ", "+")
		}
		r.path += "?" + strings.Join(parts, "&")
	}
	return r
}
