package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/cmd/demo/screen"
	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// How long the way back of a broken version may take. Both are many times what
// it takes on a machine that is not busy.
const (
	backWithin   = 30 * time.Second // from its first bad answer to the last request on it
	silentWithin = 2 * time.Second  // from headgate's decision to the last request on it
)

// outcome is what a scene came to.
type outcome struct {
	scene   scene
	status  rollout.Status
	account traffic.Account
}

// candidate returns the account of the scene's candidate.
func (o outcome) candidate() traffic.Version {
	for _, v := range o.account.Versions {
		if v.Name == o.scene.candidate.version {
			return v
		}
	}
	return traffic.Version{}
}

// exposed returns the time from the candidate's first bad answer to the last
// request on it.
func (o outcome) exposed() time.Duration {
	v := o.candidate()
	return v.LastSent.Sub(v.FirstBad)
}

// blame says who answered the requests that failed; empty when none did.
func (o outcome) blame() string {
	switch v := o.candidate(); {
	case o.account.Failed == 0:
		return ""
	case v.Failed == o.account.Failed:
		return "all by " + v.Name
	default:
		return fmt.Sprintf("%d by %s", v.Failed, v.Name)
	}
}

// wrong returns what is not as it has to be.
func (o outcome) wrong() []string {
	var wrong []string
	note := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	want := rollout.PhaseCompleted
	if o.scene.back {
		want = rollout.PhaseRolledBack
	}
	note(o.status.Phase != want, "the rollout is %s, not %s: %s", o.status.Phase, want, o.status.Reason)
	note(o.account.Sent == 0, "no request was sent")
	note(o.status.Phase != want && slices.ContainsFunc(o.status.Gates, ill), "%s breaks a limit too: this machine may be too busy", o.scene.stable.version)
	if o.scene.back {
		return append(wrong, o.wrongWithBroken()...)
	}
	note(o.account.Failed > 0, "%d requests failed", o.account.Failed)
	note(o.account.Backwards > 0, "users went back to an older version %d times", o.account.Backwards)
	return wrong
}

// ill tells whether a gate waits because the stable version breaks its limit.
func ill(f routing.Finding) bool { return f.Reason == routing.ReasonBaselineIll }

// wrongWithBroken returns what is wrong with a candidate that had to be sent
// back, and with those who should not have noticed.
func (o outcome) wrongWithBroken() []string {
	var wrong []string
	note := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	v := o.candidate()
	others := o.account.Failed - v.Failed
	note(others > 0, "%d requests failed that were not answered by %s", others, v.Name)
	if v.FirstBad.IsZero() {
		return append(wrong, v.Name+" gave no bad answer")
	}
	if o.status.Phase != rollout.PhaseRolledBack {
		return wrong
	}
	loudest := screen.Loudest(o.status.Gates)
	note(loudest == nil || loudest.Verdict != routing.VerdictBreach, "no gate says why %s was sent back", v.Name)
	note(o.exposed() <= 0, "the last request on %s was sent before its first bad answer", v.Name)
	note(o.exposed() > backWithin, "%s had users for %.1f s after its first bad answer, more than %s", v.Name, o.exposed().Seconds(), backWithin)
	late := v.LastSent.Sub(o.status.Since)
	note(late > silentWithin, "%s had users for %.1f s after headgate sent it back, more than %s", v.Name, late.Seconds(), silentWithin)
	return wrong
}
