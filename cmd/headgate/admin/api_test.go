package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing/rollout"
)

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}

func TestModel(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	g.Settle()
	g.Serve("v1", 30, 0, 10*time.Millisecond)
	g.Serve("v2", 10, 2, 20*time.Millisecond)
	m := decode[admin.Model](t, call(t, g, "GET", "/v1/models/churn", ""))
	if m.Phase != rollout.PhaseProgressing || m.Candidate != "v2" || m.Step != 0 || len(m.Steps) != 3 || !m.Acknowledged {
		t.Errorf("status: %+v", m.Status)
	}
	if diff := cmp.Diff(map[string]float64{"v1": 90, "v2": 10}, m.Weights); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
	var got []string
	for _, v := range m.Versions {
		got = append(got, fmt.Sprintf("%s wanted %v served %v requests %d errors %d p50 %.3f recent %d %s %s",
			v.Version, v.Wanted, *v.Served, v.Requests, v.Errors, *v.P50, v.Recent.Requests, v.Endpoints, v.EndpointsWhy))
	}
	want := []string{
		"v1 wanted 90 served 75 requests 30 errors 0 p50 0.010 recent 30 answering ",
		"v2 wanted 10 served 25 requests 10 errors 2 p50 0.020 recent 10 not_answering connection refused",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	list := decode[admin.Models](t, call(t, g, "GET", "/v1/models", ""))
	if len(list.Models) != 2 || list.Models[0].Model != "churn" || list.Models[0].Versions[1].Requests != 10 || list.Models[1].Model != "fraud" {
		t.Errorf("list: %+v", list)
	}
}

// TestServedSharesAreOfThisStep has requests from before the step began.
func TestServedSharesAreOfThisStep(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	g.Ledger.Observe(compare.Observation{
		Node: "edge-1", Model: "churn", Version: "v1", Start: time.Now().Add(-30 * time.Second),
		Code: 200, Class: compare.ClassSuccess, Duration: time.Millisecond,
	})
	m := decode[admin.Model](t, call(t, g, "GET", "/v1/models/churn", ""))
	if v := m.Versions[0]; v.Requests != 1 || v.Recent.Requests != 0 || v.Served != nil || v.LastMinute.Requests != 1 {
		t.Errorf("%+v, recently %+v", v, v.Recent)
	}
	g.Ledger.Observe(compare.Observation{ // the same window of ten seconds, mostly
		Node: "edge-1", Model: "churn", Version: "v1", Start: m.StepStarted.Add(-time.Millisecond),
		Code: 200, Class: compare.ClassSuccess, Duration: time.Millisecond,
	})
	g.Settle()
	g.Serve("v2", 1, 0, time.Millisecond)
	m = decode[admin.Model](t, call(t, g, "GET", "/v1/models/churn", ""))
	if v := m.Versions[1]; v.Served == nil || *v.Served != 100 {
		t.Errorf("%+v: a request from before the step counts", v)
	}
	g.Envoys.Freeze()
	m = decode[admin.Model](t, call(t, g, "POST", "/v1/models/churn/skip", "{}"))
	if v := m.Versions[1]; v.Served != nil || !m.Settling {
		t.Errorf("%+v, settling %t: before the Envoy has the weights nothing is served by them", v, m.Settling)
	}
}

func TestCommands(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	post := func(action, body string) answer { return call(t, g, "POST", "/v1/models/churn/"+action, body) }
	if m := decode[admin.Model](t, post("pause", `{"reason":"lunch"}`)); m.Phase != rollout.PhasePaused {
		t.Errorf("after pause: %s", m.Phase)
	}
	if p := post("pause", "{}").problem(t); p.Status != 409 || p.Detail != "churn is paused already; `headgate resume churn` goes on" {
		t.Errorf("pause twice: %+v", p)
	}
	decode[admin.Model](t, post("resume", "{}"))
	if m := decode[admin.Model](t, post("skip", "{}")); m.Weights["v2"] != 25 {
		t.Errorf("after skip: %v", m.Weights)
	}
	if m := decode[admin.Model](t, post("rollback", `{"reason":"errors"}`)); m.Phase != rollout.PhaseRolledBack || m.Weights["v1"] != 100 {
		t.Errorf("after rollback: %+v", m.Status)
	}
	if m := decode[admin.Model](t, post("retry", "{}")); m.Rollout != 2 {
		t.Errorf("after retry: %+v", m.Status)
	}
	decode[admin.Model](t, post("promote", "{}"))
	g.Await(t, "churn", func(s rollout.Status) bool { return s.Phase == rollout.PhaseCompleted })

	history := decode[admin.History](t, call(t, g, "GET", "/v1/models/churn/history?limit=1000", ""))
	var got []string
	for _, r := range history.Records {
		if r.Actor != "config" && r.Actor != "timer" {
			got = append(got, strings.TrimSpace(r.Kind+" by "+r.Actor+" "+r.Reason))
		}
	}
	if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "paused by api lunch") {
		t.Errorf("history:\n%s", strings.Join(got, "\n"))
	}
	if h := decode[admin.History](t, call(t, g, "GET", "/v1/models/churn/history?limit=2", "")); len(h.Records) != 2 || h.Records[0].Seq <= h.Records[1].Seq {
		t.Errorf("the newest two: %+v", h)
	}
	for _, limit := range []string{"0", "-1", "1001", "x", "1e3"} {
		if p := call(t, g, "GET", "/v1/models/churn/history?limit="+limit, "").problem(t); p.Status != 400 {
			t.Errorf("limit %s: %+v", limit, p)
		}
	}
}

func TestActorIsTheTokensName(t *testing.T) {
	content, secrets := allRoles()
	tokens, _ := loadTokens(t, content)
	g := admintest.Start(t, admintest.Options{Tokens: tokens})
	decode[admin.Model](t, call(t, g, "POST", "/v1/models/churn/pause", "{}", bearer(secrets[admin.RoleOperator]), set("User-Agent", "headgate/x")))
	records := g.Journal.Records()
	if last := records[len(records)-1]; last.Actor != "the-operator" {
		t.Errorf("actor %q, want the-operator", last.Actor)
	}
}

func TestReady(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	if got := call(t, g, "GET", "/readyz", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	g.SetUnready("no configuration", "no Envoy has connected")
	got := call(t, g, "GET", "/readyz", "")
	if p := got.problem(t); p.Status != 503 || p.Detail != "not ready: no configuration; no Envoy has connected" || len(p.List) != 2 {
		t.Errorf("%+v", p)
	}
	if got := call(t, g, "GET", "/livez", ""); got.status != 200 {
		t.Errorf("alive all the same: %d", got.status)
	}
}

func TestUnexpectedErrorsStayInTheLog(t *testing.T) {
	g := admintest.Start(t, admintest.Options{Add: []admin.Route{{
		Method: "GET", Path: "/v1/broken", Role: admin.RoleViewer, Media: "text/plain",
		Handler: func(http.ResponseWriter, *http.Request) error { return errors.New("the password is swordfish") },
	}}})
	got := call(t, g, "GET", "/v1/broken", "")
	if p := got.problem(t); p.Status != 500 || strings.Contains(got.body, "swordfish") {
		t.Errorf("%s", got.body)
	}
	if !strings.Contains(g.Log.String(), "swordfish") {
		t.Error("the log does not have it")
	}
}

// describedBy loads the document that a gate serves.
func describedBy(t *testing.T, g *admintest.Gate) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(call(t, g, "GET", "/v1/openapi.json", "").body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	return doc
}

// TestAnswersAreAsDescribed has real answers of every route checked against
// the document.
func TestAnswersAreAsDescribed(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") })
	g := admintest.Start(t, admintest.Options{Metrics: metrics})
	g.Serve("v1", 5, 1, time.Millisecond)
	doc := describedBy(t, g)
	doc.Servers = openapi3.Servers{{URL: g.URL}}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, request := range []string{
		"GET /livez", "GET /readyz", "GET /metrics", "GET /v1/version", "GET /v1/openapi.json",
		"GET /v1/models", "GET /v1/models/churn", "GET /v1/models/fraud", "GET /v1/models/nobody", "GET /v1/envoys", "GET /v1/config", "POST /v1/config/check",
		"POST /v1/models/churn/pause", "POST /v1/models/churn/pause", "POST /v1/models/churn/resume", "POST /v1/models/churn/skip",
		"POST /v1/models/churn/decision", "POST /v1/models/churn/rollback", "POST /v1/models/churn/retry", "POST /v1/models/churn/promote", "POST /v1/models/churn/adopt",
		"GET /v1/models/churn/history", "GET /v1/models/churn/history?limit=x",
	} {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if method == "POST" {
			req.Header.Set("Content-Type", "application/json")
		}
		route, params, err := router.FindRoute(req)
		if err != nil {
			t.Errorf("%s: %v", request, err)
			continue
		}
		seen[method+" "+route.Path] = true
		got := call(t, g, method, path, "{}")
		err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
			Status:                 got.status, Header: got.header, Body: io.NopCloser(bytes.NewBufferString(got.body)),
		})
		if err != nil {
			t.Errorf("%s: %d %s: %v", request, got.status, got.body, err)
		}
	}
	for _, r := range g.Server.Routes() {
		if id := r.Method + " " + r.Path; !seen[id] && r.Path != "/v1/events" {
			t.Errorf("%s was not tried", id)
		}
		if item := doc.Paths.Find(r.Path); item == nil || item.GetOperation(r.Method) == nil || r.Summary == "" {
			t.Errorf("%s %s is not described", r.Method, r.Path)
		}
	}
}

// TestDescriptionIsStrict shows that the check above can fail.
func TestDescriptionIsStrict(t *testing.T) {
	type Shown struct {
		Count int `json:"count"`
	}
	g := admintest.Start(t, admintest.Options{Add: []admin.Route{{
		Method: "GET", Path: "/v1/shown", Role: admin.RoleViewer, Summary: "A test.", Answer: Shown{},
		Handler: func(w http.ResponseWriter, _ *http.Request) error { return admin.WriteJSON(w, Shown{}) },
	}}})
	schema := describedBy(t, g).Components.Schemas["Shown"].Value
	for body, want := range map[string]bool{`{"count":1}`: true, `{"count":"1"}`: false, `{}`: false, `{"count":null}`: false} {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.VisitJSON(v, openapi3.EnableJSONSchema2020()); (err == nil) != want {
			t.Errorf("%s: %v; want valid: %t", body, err, want)
		}
	}
}

func TestServerEndsWithOpenStreams(t *testing.T) {
	s := admin.New(admin.Options{Log: discard()})
	g := admintest.Start(t, admintest.Options{})
	admin.AddAPI(s, admin.Sources{Controller: g.Controller, Journal: g.Journal})
	l, err := admin.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	began := time.Now()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("does not end")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v to end", took)
	}
}

// TestCheckConfig asks about files, and about names that lead out of a
// directory.
func TestCheckConfig(t *testing.T) {
	g := admintest.Start(t, admintest.Options{})
	post := func(body string) answer { return call(t, g, "POST", "/v1/config/check", body) }
	if c := decode[admin.ConfigCheck](t, post(`{"files":{"churn.yaml":"eA=="}}`)); !c.OK || len(c.Errors) != 0 {
		t.Errorf("fine: %+v", c)
	}
	if c := decode[admin.ConfigCheck](t, post(`{}`)); c.OK || len(c.Errors) != 1 {
		t.Errorf("refused: %+v", c)
	}
	for _, name := range []string{"../churn.yaml", "/etc/passwd", ""} {
		if p := post(`{"files":{"` + name + `":""}}`).problem(t); p.Status != 400 {
			t.Errorf("%q: %+v", name, p)
		}
	}
	if a := post(`{"files":{"big":"` + strings.Repeat("A", 100<<10) + `"}}`); a.status != 200 {
		t.Errorf("100 KiB: %d", a.status)
	}
	if p := call(t, g, "POST", "/v1/models/churn/pause", `{"reason":"`+strings.Repeat("A", 100<<10)+`"}`).problem(t); p.Status != 413 {
		t.Errorf("100 KiB elsewhere: %+v", p)
	}
}
