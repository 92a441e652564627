package envoytest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Moves returns each user's changes of version, in order of time. Failed
// requests and answers without a version do not count.
func (r *Report) Moves() []Move {
	last := map[string]string{}
	var moves []Move
	for _, result := range r.Results {
		if result.User == "" || result.Err != nil || result.Version == "" {
			continue
		}
		if before, ok := last[result.User]; ok && before != result.Version {
			moves = append(moves, Move{User: result.User, From: before, To: result.Version, At: result.Start})
		}
		last[result.User] = result.Version
	}
	return moves
}

// Backwards returns the moves that go from a later version to an earlier one,
// in the order given.
func (r *Report) Backwards(order ...string) []Move {
	var back []Move
	for _, m := range r.Moves() {
		if slices.Index(order, m.To) < slices.Index(order, m.From) {
			back = append(back, m)
		}
	}
	return back
}

// Users returns the version that last answered each user.
func (r *Report) Users() map[string]string {
	users := map[string]string{}
	for _, result := range r.Results {
		if result.User != "" && result.Err == nil && result.Version != "" {
			users[result.User] = result.Version
		}
	}
	return users
}

// Percentile returns the duration below which the share q (0 to 1) of the
// answered requests stayed, or 0 without any.
func (r *Report) Percentile(q float64) time.Duration {
	var all []time.Duration
	for _, result := range r.Results {
		if result.Err == nil {
			all = append(all, result.Duration)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// String tells the figures and the first failures.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d failed, versions %v, %d connections opened, median %s, p99 %s",
		len(r.Results), r.Failed, r.Versions, r.Dials, r.Percentile(0.5), r.Percentile(0.99))
	for i, f := range r.failures {
		if i == 5 {
			b.WriteString("\n  …")
			break
		}
		fmt.Fprintf(&b, "\n  %s user %q version %q: status %d, %v, after %s",
			f.Start.Format("15:04:05.000"), f.User, f.Version, f.Status, f.Err, f.Duration)
	}
	return b.String()
}
