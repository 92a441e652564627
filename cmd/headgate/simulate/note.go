package simulate

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/routing"
)

// notes say what is simulated otherwise than the file has it, and what makes the
// comparison lame.
func (r *runner) notes() []string {
	out := []string{}
	policy := &r.s.Model.Policy
	if r.s.Observed {
		out = append(out, "The file says mode: observe; it is simulated as act.")
	}
	if len(policy.Gates) == 0 {
		out = append(out, "There are no gates: nothing is judged but the hard rules, and the other rules have nothing to measure.")
	}
	var left, soft []string
	for i := range policy.Gates {
		g := &policy.Gates[i]
		if _, ok := simulated(g); !ok {
			left = append(left, gateName(g))
		} else if g.OnBreach == routing.OnBreachPause || g.OnBreach == routing.OnBreachWarn {
			soft = append(soft, gateName(g)+" ("+string(g.OnBreach)+")")
		}
	}
	if len(left) > 0 {
		out = append(out, "Synthetic requests do not tell of "+strings.Join(left, ", ")+": no rule has these gates.")
	}
	if len(soft) > 0 && len(r.rules) > 0 {
		out = append(out, "The other rules go back on every breach, also of "+strings.Join(soft, ", ")+".")
	}
	return append(out, r.unmeasured()...)
}

// unmeasured warns of steps that are over before the other rules measure.
func (r *runner) unmeasured() []string {
	every := max(r.o.Settings.Interval, minute)
	if len(r.rules) == 0 || len(r.s.Model.Policy.Gates) == 0 {
		return nil
	}
	if course := r.s.Course(); course < every {
		return []string{fmt.Sprintf("The steps take %s, less than the interval of %s: the other rules never measure. See --interval.", words(course), words(every))}
	}
	var short []string
	for i, step := range r.s.Model.Steps {
		if 0 < step.For && step.For < every {
			short = append(short, fmt.Sprintf("step %d (%s)", i+1, words(step.For)))
		}
	}
	if len(short) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("Shorter than the interval of %s, so that the other rules may not measure in it: %s. See --interval.",
		words(every), strings.Join(short, ", "))}
}
