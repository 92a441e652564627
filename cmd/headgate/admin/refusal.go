package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/headgate/headgate/routing/rollout"
)

// refusal says why a command was not carried out, of which model, and what can
// be done instead.
func refusal(err error, s rollout.Status, action rollout.Action) *Problem {
	var refused rollout.Refused
	switch {
	case errors.As(err, &refused):
		return Problemf(http.StatusConflict, "%s", refusalText(refused.Error(), s, action))
	case errors.Is(err, rollout.ErrUnknownModel):
		return Problemf(http.StatusNotFound, "%s", err)
	default: // the journal, or the end of the process
		return Problemf(http.StatusServiceUnavailable, "%s", err)
	}
}

func refusalText(reason string, s rollout.Status, action rollout.Action) string {
	text := s.Model + ": " + reason
	if what, ok := strings.CutPrefix(reason, "it is "); ok {
		text = s.Model + " is " + what
	}
	if next := instead(s, action); next != "" && !strings.Contains(reason, "`headgate ") {
		text += "; " + next
	}
	return text
}

// instead names the command that makes sense where action does not; empty:
// none is known.
func instead(s rollout.Status, action rollout.Action) string {
	switch {
	case s.Phase == rollout.PhasePaused && (action == rollout.ActionPause || action == rollout.ActionSkip):
		return fmt.Sprintf("`headgate resume %s` goes on", s.Model)
	case s.Phase == rollout.PhaseRolledBack && action != rollout.ActionRetry && action != rollout.ActionAdopt:
		return fmt.Sprintf("`headgate retry %s` tries again", s.Model)
	case s.Phase == rollout.PhaseIdle || s.Phase == rollout.PhaseCompleted:
		switch action {
		case rollout.ActionPromote, rollout.ActionPause, rollout.ActionResume, rollout.ActionSkip:
			return "another release: in its file begins a rollout"
		case rollout.ActionRetry, rollout.ActionRollback, rollout.ActionAdopt:
		}
	}
	return ""
}
