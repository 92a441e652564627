package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/routing"
)

// policyWords says how a candidate is judged, a line for each thing that an
// edit can change. The journal keeps the lines, so that an edit is noticed and
// can be told also when it was made while headgate was down.
func policyWords(p *routing.Policy) []string {
	words := make([]string, 0, len(p.Gates)+3)
	for i := range p.Gates {
		words = append(words, gateWords(&p.Gates[i]))
	}
	words = append(words,
		"promise: false_rollback "+percent(p.Promise.FalseRollback)+", false_promotion "+percent(p.Promise.FalsePromotion))
	if p.Mode == routing.ModeObserve {
		words = append(words, "mode: observe")
	}
	if p.MaxExcess > 0 {
		words = append(words, fmt.Sprintf("at most %d excess errors", p.MaxExcess))
	}
	return words
}

func gateWords(g *routing.Gate) string {
	limit := g.Written
	if limit == "" {
		limit = strconv.FormatFloat(g.Limit, 'g', -1, 64) + " " + string(g.Unit)
	}
	words := gateName(g.Metric, g.Bound) + " " + limit
	if g.Resolution > 0 {
		words += ", resolution " + strconv.FormatFloat(g.Resolution, 'g', -1, 64)
	}
	if g.OnBreach != "" && g.OnBreach != routing.OnBreachRollback {
		words += ", on_breach " + string(g.OnBreach)
	}
	return words
}

func percent(part float64) string { return strconv.FormatFloat(100*part, 'g', 6, 64) + "%" }

// editPolicy notes an edit of what judges. The rollout goes on, and the step
// waits until it is judged anew.
func (t *transition) editPolicy() {
	policy := t.s.policy()
	before, after := t.s.Rollout.Policy, policyWords(policy)
	if slices.Equal(before, after) || before == nil && len(policy.Gates) == 0 {
		return
	}
	t.note(KindPolicy, ActorConfig, "what judges was edited: "+editWords(before, after), data{Policy: after})
	t.look()
}

// editWords tells what an edit has added and taken away.
func editWords(before, after []string) string {
	var gone, new []string
	for _, w := range before {
		if !slices.Contains(after, w) {
			gone = append(gone, w)
		}
	}
	for _, w := range after {
		if !slices.Contains(before, w) {
			new = append(new, w)
		}
	}
	switch {
	case len(gone) == 0 && len(new) == 0:
		return "another order"
	case len(gone) == 0:
		return "new: " + strings.Join(new, "; ")
	case len(new) == 0:
		return "gone: " + strings.Join(gone, "; ")
	}
	return strings.Join(new, "; ") + " instead of " + strings.Join(gone, "; ")
}
