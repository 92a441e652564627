package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
)

func handler(t *testing.T, r model.Recipe, faults server.Faults) http.Handler {
	t.Helper()
	d, err := model.Load()
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Cook(d, r)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New("v1.0.0", m, d.Features, faults)
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func post(h http.Handler, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/predict", strings.NewReader(body)))
	return w
}

const first = `{"radius_mean": 17.99, "texture_mean": 10.38, "area_mean": 1001}`

func TestPredict(t *testing.T) {
	w := post(handler(t, model.Size, server.Faults{}), `{"features": `+first+`}`)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	p, _ := got["prediction"].(float64)
	if rounded := fmt.Sprintf("%.6f", p); rounded != "0.722878" {
		t.Errorf("prediction %s, want 0.722878", rounded)
	}
	delete(got, "prediction")
	if diff := cmp.Diff(map[string]any{"label": "malignant", "version": "v1.0.0"}, got); diff != "" {
		t.Errorf("the rest of the answer (-want +got):\n%s", diff)
	}
}

func TestPredictBatch(t *testing.T) {
	h := handler(t, model.Size, server.Faults{})
	w := post(h, `{"instances": [`+first+`, {"radius_mean": 9, "texture_mean": 12}]}`)
	var got server.Batch
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	var labels []string
	for _, p := range got.Predictions {
		labels = append(labels, p.Label)
	}
	if diff := cmp.Diff([]string{"malignant", "benign"}, labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestWrongRequests(t *testing.T) {
	h := handler(t, model.Size, server.Faults{})
	for _, tc := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"not JSON", `{`, 400, "body: unexpected end of JSON input"},
		{"nothing", `{}`, 422, "features: missing"},
		{"both", `{"features": {}, "instances": []}`, 422, "features, instances: only one of them can be set"},
		{"missing", `{"features": {"radius_mean": 1}}`, 422, "features.texture_mean: missing"},
		{"null", `{"features": {"radius_mean": 1, "texture_mean": null}}`, 422, "features.texture_mean: null: must be a number"},
		{"unknown", `{"features": {"radius": 1}}`, 422, "features.radius: no such feature"},
		{"text", `{"features": {"radius_mean": "1", "texture_mean": 2}}`, 422, "features.radius_mean: \"1\": must be a number"},
		{"too large a number", `{"features": {"radius_mean": 1e999, "texture_mean": 2}}`, 422, "features.radius_mean: 1e999: must be a number"},
		{"list", `{"features": []}`, 422, "features: array: must be an object"},
		{"object", `{"instances": {}}`, 422, "instances: object: must be a list"},
		{"second", `{"instances": [` + first + `, {}]}`, 422, "instances[1].radius_mean: missing"},
		{"large", `{"features": "` + strings.Repeat("x", 1<<20) + `"}`, 413, "body: must be at most 1048576 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := post(h, tc.body)
			var got struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v", w.Body, err)
			}
			if w.Code != tc.status || got.Error != tc.want {
				t.Errorf("%d %q, want %d %q", w.Code, got.Error, tc.status, tc.want)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	h := handler(t, model.Size, server.Faults{})
	for request, want := range map[string]int{
		"GET /healthz": 200, "GET /predict": 405, "GET /": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", request, w.Code, want)
		}
	}
}

func TestFailRate(t *testing.T) {
	h := handler(t, model.Size, server.Faults{FailRate: 0.25})
	failed := 0
	for range 1000 {
		if post(h, `{"features": `+first+`}`).Code == http.StatusInternalServerError {
			failed++
		}
	}
	// Four standard deviations: ±55.
	if failed < 195 || failed > 305 {
		t.Errorf("%d of 1000 failed, want about 250", failed)
	}
}

func TestDelay(t *testing.T) {
	h := handler(t, model.Size, server.Faults{Delay: 300 * time.Millisecond})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if w := post(h, `{"features": `+first+`}`); w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("took %s, want 300ms", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/predict", strings.NewReader(`{"features": `+first+`}`))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if body, _ := io.ReadAll(w.Body); len(body) != 0 {
			t.Errorf("a client that went away got %s", body)
		}
	})
}

func TestSlowRate(t *testing.T) {
	h := handler(t, model.Size, server.Faults{Delay: time.Second, SlowRate: 0.25})
	synctest.Test(t, func(t *testing.T) {
		slow := 0
		for range 1000 {
			start := time.Now()
			post(h, `{"features": `+first+`}`)
			if time.Since(start) == time.Second {
				slow++
			}
		}
		if slow < 195 || slow > 305 { // ±4 standard deviations
			t.Errorf("%d of 1000 are slow, want about 250", slow)
		}
	})
}

func TestSkew(t *testing.T) {
	// In inches a large mass looks small.
	h := handler(t, model.Size, server.Faults{Skew: map[string]float64{"radius_mean": 1 / 2.54}})
	var got server.Answer
	if err := json.Unmarshal(post(h, `{"features": `+first+`}`).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Label != model.Benign {
		t.Errorf("label %s, want benign", got.Label)
	}
}

func TestNewRefuses(t *testing.T) {
	m := &model.Model{Features: []string{"radius_mean"}}
	for want, faults := range map[string]server.Faults{
		"skew: area_mean: the model does not read it": {Skew: map[string]float64{"area_mean": 2}},
		"fail rate: 1.5: must be from 0 to 1":         {FailRate: 1.5},
		"slow rate: -1: must be from 0 to 1":          {SlowRate: -1},
	} {
		if _, err := server.New("v1.0.0", m, m.Features, faults); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
