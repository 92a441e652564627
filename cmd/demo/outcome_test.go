package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// takenOver is an outcome as it should be of a scene in which the candidate
// takes over.
func takenOver() outcome {
	return outcome{
		scene: scenes[0], status: rollout.Status{Phase: rollout.PhaseCompleted},
		account: traffic.Account{Sent: 10, Versions: []traffic.Version{{Name: "v1.0.0"}, {Name: "v2.0.0"}}},
	}
}

// sentBack is an outcome as it should be of a scene in which the candidate is
// sent back.
func sentBack() outcome {
	return outcome{
		scene: scenes[1],
		status: rollout.Status{
			Phase: rollout.PhaseRolledBack, Reason: "9 of 100 failed", Since: noon.Add(5 * time.Second),
			Gates: []routing.Finding{{Metric: "error_rate", Verdict: routing.VerdictBreach}},
		},
		account: traffic.Account{Sent: 1000, Failed: 9, Backwards: 50, Versions: []traffic.Version{
			{Name: "v1.0.0", Answered: 891},
			{Name: "v2.0.0", Answered: 100, Failed: 9, FirstBad: noon, LastSent: noon.Add(5100 * time.Millisecond)},
		}},
	}
}

func TestOutcome(t *testing.T) {
	for name, tc := range map[string]struct {
		fine   func() outcome
		change func(*outcome)
		want   []string
	}{
		"taken over": {takenOver, func(*outcome) {}, nil},
		"failed":     {takenOver, func(o *outcome) { o.account.Failed = 1 }, []string{"1 requests failed"}},
		"backwards":  {takenOver, func(o *outcome) { o.account.Backwards = 2 }, []string{"users went back to an older version 2 times"}},
		"no traffic": {takenOver, func(o *outcome) { o.account.Sent = 0 }, []string{"no request was sent"}},
		"rolled back": {takenOver, func(o *outcome) { o.status = rollout.Status{Phase: rollout.PhaseRolledBack, Reason: "by hand"} },
			[]string{"the rollout is rolled_back, not completed: by hand"}},
		"sent back": {sentBack, func(*outcome) {}, nil},
		"still there": {sentBack, func(o *outcome) { o.status = rollout.Status{Phase: rollout.PhaseProgressing, Reason: "waits"} },
			[]string{"the rollout is progressing, not rolled_back: waits"}},
		"busy machine": {takenOver, func(o *outcome) {
			o.status = rollout.Status{Phase: rollout.PhaseProgressing, Reason: "waits", Gates: []routing.Finding{{Reason: routing.ReasonBaselineIll}}}
		}, []string{"the rollout is progressing, not completed: waits", "v1.0.0 breaks a limit too: this machine may be too busy"}},
		"others failed": {sentBack, func(o *outcome) { o.account.Failed = 12 }, []string{"3 requests failed that were not answered by v2.0.0"}},
		"never bad": {sentBack, func(o *outcome) { o.account.Versions[1].FirstBad = time.Time{} },
			[]string{"v2.0.0 gave no bad answer"}},
		"by hand": {sentBack, func(o *outcome) { o.status.Gates[0].Verdict = routing.VerdictWaiting },
			[]string{"no gate says why v2.0.0 was sent back"}},
		"too long": {sentBack, func(o *outcome) { o.account.Versions[1].FirstBad = noon.Add(-26 * time.Second) },
			[]string{"v2.0.0 had users for 31.1 s after its first bad answer, more than 30s"}},
		"backwards in time": {sentBack, func(o *outcome) { o.account.Versions[1].FirstBad = noon.Add(time.Minute) },
			[]string{"the last request on v2.0.0 was sent before its first bad answer"}},
		"goes on": {sentBack, func(o *outcome) { o.account.Versions[1].LastSent = noon.Add(7500 * time.Millisecond) },
			[]string{"v2.0.0 had users for 2.5 s after headgate sent it back, more than 2s"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := tc.fine()
			tc.change(&o)
			if diff := cmp.Diff(tc.want, o.wrong()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
