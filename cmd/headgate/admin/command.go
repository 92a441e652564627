package admin

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/headgate/headgate/routing/rollout"
)

// commands are the actions, who may ask for them, and what they do.
var commands = []struct {
	action  rollout.Action
	role    Role
	summary string
}{
	{rollout.ActionPromote, RoleOperator, "Skip the remaining steps: the candidate serves everyone."},
	{rollout.ActionPause, RoleOperator, "Stay at the present weights."},
	{rollout.ActionResume, RoleOperator, "Go on after a pause."},
	{rollout.ActionRollback, RoleOperator, "Back to the stable version, now."},
	{rollout.ActionRetry, RoleOperator, "After going back: a new rollout of the same version."},
	{rollout.ActionSkip, RoleOperator, "End this step and begin the next."},
	{rollout.ActionAdopt, RoleAdmin, "Say which version serves, when headgate does not know."},
}

func (a *api) addCommands(s *Server) {
	for _, c := range commands {
		s.Handle(Route{
			Method: http.MethodPost, Path: "/v1/models/{model}/" + string(c.action), Role: c.role, Summary: c.summary,
			Params: []Param{modelParam}, Body: Order{}, Answer: Model{},
			Handler: func(w http.ResponseWriter, r *http.Request) error { return a.command(w, r, c.action) },
		})
	}
	s.Handle(Route{
		Method: http.MethodGet, Path: "/v1/models/{model}/history", Role: RoleViewer,
		Summary: "A model's newest records, newest first.",
		Params: []Param{modelParam, {
			Name: "limit", In: "query", Doc: "At most so many, from 1 to 1000; 50 when not given.", Type: 0,
		}},
		Answer: History{}, Handler: a.history,
	})
}

func (a *api) command(w http.ResponseWriter, r *http.Request, action rollout.Action) error {
	model := r.PathValue("model")
	before, ok := a.Controller.Status(model)
	if !ok {
		return Problemf(http.StatusNotFound, "there is no model %q", model)
	}
	var order Order
	if err := ReadJSON(r, &order); err != nil {
		return err
	}
	switch {
	case len(order.Reason) > maxReason:
		return Problemf(http.StatusBadRequest, "reason: must be at most %d bytes", maxReason)
	case action == rollout.ActionAdopt && order.Version == "":
		return Problemf(http.StatusBadRequest, "version: must say which version serves")
	case action != rollout.ActionAdopt && order.Version != "":
		return Problemf(http.StatusBadRequest, "version: %s takes none", action)
	}
	_, err := a.Controller.Do(r.Context(), rollout.Command{
		Model: model, Action: action, Version: order.Version,
		Actor: CallerOf(r.Context()).Name, Reason: order.Reason,
	})
	if err != nil {
		return refusal(err, before, action)
	}
	m, err := a.describe(model)
	if err != nil {
		return err
	}
	return WriteJSON(w, m)
}

// History is the answer of GET /v1/models/{model}/history.
type History struct {
	Records []Record `json:"records"`
}

// Record is one line of the journal.
type Record struct {
	Seq     int64           `json:"seq" doc:"position in the journal"`
	Model   string          `json:"model"`
	Rollout int             `json:"rollout" doc:"number of the model's rollout; 0: before the first"`
	Time    time.Time       `json:"time"`
	Kind    string          `json:"kind" doc:"what happened, e.g. started"`
	Actor   string          `json:"actor" doc:"who asked for it: config, timer, cli, a token's name"`
	Reason  string          `json:"reason" doc:"why, as it was given; empty: nothing was said"`
	Summary string          `json:"summary" doc:"what happened, with versions and shares, and the reason"`
	Data    json.RawMessage `json:"data,omitempty" doc:"details, which may change from release to release"`
}

func recordOf(r rollout.Record) Record {
	shown := Record{
		Seq: r.Seq, Model: r.Model, Rollout: r.Rollout, Time: r.Time,
		Kind: r.Kind, Actor: r.Actor, Reason: r.Reason,
		Summary: rollout.Summary(r),
	}
	if json.Valid(r.Data) {
		shown.Data = r.Data
	}
	return shown
}

const (
	defaultHistory = 50
	maxHistory     = 1000
)

func (a *api) history(w http.ResponseWriter, r *http.Request) error {
	model := r.PathValue("model")
	if _, ok := a.Controller.Status(model); !ok {
		return Problemf(http.StatusNotFound, "there is no model %q", model)
	}
	limit := defaultHistory
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxHistory {
			return Problemf(http.StatusBadRequest, "limit: %q: must be a number from 1 to %d", text, maxHistory)
		}
		limit = n
	}
	records, err := a.Controller.History(r.Context(), model, limit)
	if err != nil {
		return Problemf(http.StatusServiceUnavailable, "read journal: %s", err)
	}
	answer := History{Records: make([]Record, 0, len(records))}
	for _, record := range records {
		answer.Records = append(answer.Records, recordOf(record))
	}
	return WriteJSON(w, answer)
}
