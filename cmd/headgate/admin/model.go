package admin

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// recently is how far back the recent part of a version's traffic reaches.
const recently = compare.Recently

// Model is a model's status with what its versions answered.
type Model struct {
	rollout.Status

	Promise      *Promise       `json:"promise" doc:"what the gates of the file keep; null: there are none"`
	ConfigOK     bool           `json:"config_ok" doc:"the files as they are now are in force; see GET /v1/config"`
	ConfigErrors int            `json:"config_errors" doc:"mistakes because of which they are not, in the files of all models"`
	Settling     bool           `json:"settling" doc:"not every Envoy has the weights, or they are too new to tell what is served by them"`
	Versions     []ModelVersion `json:"versions" doc:"those with a share or with requests, sorted"`
}

// Promise bounds how often a whole rollout may end wrongly.
type Promise struct {
	FalseRollback  float64 `json:"false_rollback" doc:"of good candidates, the part that may be rolled back"`
	FalsePromotion float64 `json:"false_promotion" doc:"of bad candidates, the part that may be promoted"`
}

// ModelVersion is one version of a model. Requests are counted since headgate
// began.
type ModelVersion struct {
	Version       string         `json:"version"`
	Wanted        float64        `json:"wanted_percent" doc:"share of the users"`
	Served        *float64       `json:"served_percent" doc:"share of the requests of the last minute that began when every Envoy had the present weights; null: there are none, see settling"`
	Endpoints     Reachability   `json:"endpoints" doc:"unknown, answering or not_answering"`
	EndpointsWhy  string         `json:"endpoints_reason,omitempty"`
	TrafficCounts                // since headgate began
	LastMinute    compare.Counts `json:"last_minute" doc:"requests that began in the last minute"`
	Recent        *Recent        `json:"recent,omitempty" doc:"in the last minute, or since the step began, by whole windows of ten seconds; of one model only"`
}

// TrafficCounts is what was answered. Quantiles are null when nothing was.
type TrafficCounts struct {
	Requests     uint64   `json:"requests"`
	Errors       uint64   `json:"errors" doc:"5xx, resets, timeouts"`
	ClientErrors uint64   `json:"client_errors" doc:"4xx"`
	Aborted      uint64   `json:"aborted" doc:"the client went away"`
	P50          *float64 `json:"p50_seconds"`
	P90          *float64 `json:"p90_seconds"`
	P99          *float64 `json:"p99_seconds"`
}

// Recent is what was answered lately.
type Recent struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Complete bool      `json:"complete" doc:"false: records may be missing"`
	TrafficCounts
}

func (a *api) addModels(s *Server) {
	s.Handle(Route{
		Method: http.MethodGet, Path: "/v1/models", Role: RoleViewer,
		Summary: "Every model, with what it served in the last minute.", Answer: Models{}, Handler: a.listModels,
	})
	s.Handle(Route{
		Method: http.MethodGet, Path: "/v1/models/{model}", Role: RoleViewer,
		Summary: "A model, with its recent latencies too.", Params: []Param{modelParam}, Answer: Model{}, Handler: a.showModel,
	})
}

var modelParam = Param{Name: "model", In: "path", Doc: "The model's name.", Type: ""}

func (a *api) listModels(w http.ResponseWriter, _ *http.Request) error {
	totals := make(map[string][]compare.VersionTotal)
	if a.Traffic != nil {
		for _, t := range a.Traffic.AllTotals() {
			totals[t.Model] = append(totals[t.Model], t)
		}
	}
	statuses := a.Controller.Statuses()
	list := Models{Models: make([]Model, 0, len(statuses))}
	ok, mistakes := a.files()
	for _, status := range statuses {
		m := a.model(status, totals[status.Model])
		m.ConfigOK, m.ConfigErrors = ok, mistakes
		list.Models = append(list.Models, m)
	}
	return WriteJSON(w, list)
}

func (a *api) showModel(w http.ResponseWriter, r *http.Request) error {
	m, err := a.describe(r.PathValue("model"))
	if err != nil {
		return err
	}
	return WriteJSON(w, m)
}

// describe returns a model with its recent traffic.
func (a *api) describe(name string) (Model, error) {
	status, ok := a.Controller.Status(name)
	if !ok {
		return Model{}, Problemf(http.StatusNotFound, "there is no model %q", name)
	}
	var totals []compare.VersionTotal
	if a.Traffic != nil {
		totals = a.Traffic.Totals(name)
	}
	m := a.model(status, totals)
	m.ConfigOK, m.ConfigErrors = a.files()
	if a.Traffic != nil {
		a.addRecent(&m)
	}
	return m, nil
}

// files tells whether the files as they are now are in force.
func (a *api) files() (ok bool, mistakes int) {
	if a.Config == nil {
		return true, 0
	}
	c := a.Config()
	return c.OK, len(c.Errors)
}

// model puts a status and its traffic together.
func (a *api) model(status rollout.Status, totals []compare.VersionTotal) Model {
	m := Model{Status: filled(status), Promise: a.promise(status.Model)}
	tallies := make(map[string]*compare.Tally, len(totals))
	for i := range totals {
		tallies[totals[i].Version] = &totals[i].Tally
	}
	names := slices.Collect(maps.Keys(status.Weights))
	for name := range tallies {
		names = append(names, name)
	}
	slices.Sort(names)
	m.Versions = make([]ModelVersion, 0, len(names))
	for _, name := range slices.Compact(names) {
		v := ModelVersion{Version: name, Wanted: status.Weights[name], Endpoints: ReachabilityUnknown}
		if a.Endpoints != nil {
			v.Endpoints, v.EndpointsWhy = a.Endpoints(status.Model, name)
		}
		if t := tallies[name]; t != nil {
			v.TrafficCounts = countsOf(t)
		}
		m.Versions = append(m.Versions, v)
	}
	if a.Traffic != nil {
		a.addServed(&m, time.Now())
	}
	return m
}

// promise is what the file promises of a model with gates.
func (a *api) promise(model string) *Promise {
	if a.Policy == nil {
		return nil
	}
	policy := a.Policy(model)
	if policy == nil || len(policy.Gates) == 0 {
		return nil
	}
	return &Promise{FalseRollback: policy.Promise.FalseRollback, FalsePromotion: policy.Promise.FalsePromotion}
}

// addServed tells what was served by the present weights. What was served by
// those before would say nothing of them.
func (a *api) addServed(m *Model, now time.Time) {
	since, known := weightsSince(&m.Status)
	m.Settling = !known || now.Before(since.Add(compare.Tick))
	shares := make([]float64, len(m.Versions))
	var all float64
	for i := range m.Versions {
		v := &m.Versions[i]
		v.LastMinute = a.Traffic.Lately(m.Model, v.Version, now.Add(-recently))
		if known {
			shares[i] = float64(a.Traffic.Lately(m.Model, v.Version, since).Requests)
			all += shares[i]
		}
	}
	if all == 0 {
		return
	}
	for i := range m.Versions {
		shares[i] *= 100 / all
		m.Versions[i].Served = &shares[i]
	}
}

// weightsSince returns since when every Envoy has the present weights.
func weightsSince(s *rollout.Status) (since time.Time, known bool) {
	switch {
	case !s.Acknowledged:
		return time.Time{}, false
	case s.Phase == rollout.PhaseProgressing || s.Phase == rollout.PhasePaused:
		if s.StepStarted == nil {
			return time.Time{}, false
		}
		return *s.StepStarted, true
	case s.Phase == rollout.PhaseRolledBack:
		// The phase begins with the command, the Envoys have the weights some
		// milliseconds later.
		return s.Since.Add(compare.Tick), true
	default:
		return s.Since, true
	}
}

// addRecent adds the latencies of the last minute. When the step is younger,
// only of its own time.
func (a *api) addRecent(m *Model) {
	to := time.Now()
	from := to.Add(-recently)
	if m.StepStarted != nil && m.StepStarted.After(from) {
		from = *m.StepStarted
	}
	for i := range m.Versions {
		w := a.Traffic.Since(m.Model, m.Versions[i].Version, from, to)
		m.Versions[i].Recent = &Recent{From: w.Start, To: w.End, Complete: w.Complete, TrafficCounts: countsOf(&w.Tally)}
	}
}

func countsOf(t *compare.Tally) TrafficCounts {
	quantile := func(q float64) *float64 {
		d, ok := t.Latency.Quantile(q)
		if !ok {
			return nil
		}
		s := d.Seconds()
		return &s
	}
	return TrafficCounts{
		Requests: t.Requests, Errors: t.Errors, ClientErrors: t.ClientErrors, Aborted: t.Aborted,
		P50: quantile(0.5), P90: quantile(0.9), P99: quantile(0.99),
	}
}

// filled returns the status with empty lists in place of null.
func filled(s rollout.Status) rollout.Status {
	s.Steps = notNil(s.Steps)
	s.Waiting = notNil(s.Waiting)
	s.Late = notNil(s.Late)
	s.Gates = notNil(s.Gates)
	s.Mode = cmp.Or(s.Mode, routing.ModeAct)
	if s.Weights == nil {
		s.Weights = map[string]float64{}
	}
	s.Phase = cmp.Or(s.Phase, rollout.PhaseBlocked)
	return s
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
