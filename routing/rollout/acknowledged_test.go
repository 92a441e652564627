package rollout_test

import (
	"testing"
	"testing/synctest"

	"github.com/headgate/headgate/routing/journal"
)

// TestStatusBeforePublishing asks for the status while the new weights are on
// their way to the publisher: what the Envoys acknowledged are the old ones.
func TestStatusBeforePublishing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet("one")
		f.auto = true
		asked := 0
		g := start(t, journal.NewMemory(), f)
		g.apply(churn())
		synctest.Wait()
		f.before = func() {
			st, _ := g.Status("churn")
			if asked++; st.Acknowledged {
				t.Errorf("acknowledged before it was published: %v", st.Weights)
			}
		}
		g.apply(churn(release("v2")))
		synctest.Wait()
		if st, _ := g.Status("churn"); st.Weights["v2"] != 10 || !st.Acknowledged || asked == 0 {
			t.Errorf("afterwards, asked %d times: %+v", asked, st)
		}
		g.stop()
	})
}
