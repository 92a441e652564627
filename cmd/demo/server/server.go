// Package server serves a model over HTTP, as a team's model server would:
// predictions as JSON, a health endpoint, errors that name the field.
//
// It can also be told to be ill: to fail, to be slow, to read a feature in
// other units than it was trained on. headgate is told nothing of that.
//
//	POST /predict {"features": {"radius_mean": 17.99, …}}
//	           → {"prediction": 0.98, "label": "malignant", "version": "v2.0.0"}
//	POST /predict {"instances": [{"radius_mean": 17.99, …}, …]}
//	           → {"predictions": [{"prediction": 0.98, "label": "malignant"}, …], "version": "v2.0.0"}
//	GET  /healthz
//
// A body that is not JSON is answered with 400, one that is over a megabyte
// with 413, one whose fields are wrong with 422.
package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/cmd/demo/model"
)

// maxBody is the largest request body in bytes.
const maxBody = 1 << 20

// Faults is what is wrong with a server. The zero value is a healthy one.
type Faults struct {
	FailRate float64       // share of the predictions that end in 500, 0 to 1
	Delay    time.Duration // added to predictions
	SlowRate float64       // share of the predictions that have the delay, 0 to 1; 0: all
	// Skew multiplies features before the model sees them, by name: a unit
	// that changed between training and serving.
	Skew map[string]float64
}

// Prediction is the answer for one set of features.
type Prediction struct {
	Prediction float64 `json:"prediction"` // probability of malignant
	Label      string  `json:"label"`      // model.Malignant or model.Benign
}

// Answer is the answer to a request with "features".
type Answer struct {
	Prediction
	Version string `json:"version"`
}

// Batch is the answer to a request with "instances".
type Batch struct {
	Predictions []Prediction `json:"predictions"`
	Version     string       `json:"version"`
}

// request is the body of POST /predict. One of the two is set.
type request struct {
	Features  map[string]json.RawMessage   `json:"features"`
	Instances []map[string]json.RawMessage `json:"instances"`
}

// Server answers predictions of one version of a model.
type Server struct {
	version string
	model   *model.Model
	known   []string // names of all features that a client may send
	faults  Faults

	mu     sync.Mutex
	random *rand.Rand
}

// New returns a server of a model under a version's name. Clients may send any
// of the known features; those that the model reads they must send.
func New(version string, m *model.Model, known []string, faults Faults) (*Server, error) {
	for name := range faults.Skew {
		if !slices.Contains(m.Features, name) {
			return nil, fmt.Errorf("skew: %s: the model does not read it", name)
		}
	}
	if !(faults.FailRate >= 0 && faults.FailRate <= 1) {
		return nil, fmt.Errorf("fail rate: %v: must be from 0 to 1", faults.FailRate)
	}
	if !(faults.SlowRate >= 0 && faults.SlowRate <= 1) {
		return nil, fmt.Errorf("slow rate: %v: must be from 0 to 1", faults.SlowRate)
	}
	return &Server{
		version: version, model: m, known: known, faults: faults,
		random: rand.New(rand.NewPCG(1, 2)),
	}, nil
}

// Handler returns the routes of the server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /predict", s.predict)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok", "version": s.version})
	})
	return mux
}

func (s *Server) predict(w http.ResponseWriter, r *http.Request) {
	in, status, err := read(w, r)
	if err != nil {
		writeError(w, status, err)
		return
	}
	answer, err := s.answer(in)
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, err)
		return
	}
	if !s.pause(r) {
		return
	}
	if s.happens(s.faults.FailRate) {
		writeError(w, http.StatusInternalServerError, errors.New("the model failed"))
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func read(w http.ResponseWriter, r *http.Request) (*request, int, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("body: must be at most %d bytes", maxBody)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("body: %w", err)
	}
	in := &request{}
	err = json.Unmarshal(body, in)
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		return nil, http.StatusUnprocessableEntity, fmt.Errorf("%s: %s: must be %s", wrong.Field, wrong.Value, wanted(wrong))
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("body: %w", err)
	}
	return in, http.StatusOK, nil
}

func wanted(e *json.UnmarshalTypeError) string {
	if e.Type.Kind() == reflect.Slice {
		return "a list"
	}
	return "an object"
}

// answer returns an Answer or a Batch.
func (s *Server) answer(in *request) (any, error) {
	switch {
	case in.Features != nil && in.Instances != nil:
		return nil, errors.New("features, instances: only one of them can be set")
	case in.Features != nil:
		p, err := s.one("features", in.Features)
		return Answer{Prediction: p, Version: s.version}, err
	case len(in.Instances) > 0:
		out := Batch{Version: s.version}
		for i, features := range in.Instances {
			p, err := s.one(fmt.Sprintf("instances[%d]", i), features)
			if err != nil {
				return nil, err
			}
			out.Predictions = append(out.Predictions, p)
		}
		return out, nil
	}
	return nil, errors.New("features: missing")
}

func (s *Server) one(path string, features map[string]json.RawMessage) (Prediction, error) {
	for name := range features {
		if !slices.Contains(s.known, name) {
			return Prediction{}, fmt.Errorf("%s.%s: no such feature", path, name)
		}
	}
	values := make([]float64, len(s.model.Features))
	for i, name := range s.model.Features {
		raw, ok := features[name]
		if !ok {
			return Prediction{}, fmt.Errorf("%s.%s: missing", path, name)
		}
		if err := json.Unmarshal(raw, &values[i]); err != nil || string(raw) == "null" {
			return Prediction{}, fmt.Errorf("%s.%s: %s: must be a number", path, name, raw)
		}
		if factor, ok := s.faults.Skew[name]; ok {
			values[i] *= factor
		}
	}
	p := s.model.Probability(values)
	return Prediction{Prediction: p, Label: model.Label(p)}, nil
}

// pause waits as long as the faults say. It returns false when the client went
// away.
func (s *Server) pause(r *http.Request) bool {
	if s.faults.Delay <= 0 || s.faults.SlowRate > 0 && !s.happens(s.faults.SlowRate) {
		return true
	}
	t := time.NewTimer(s.faults.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// happens draws lots: true in a share of the calls.
func (s *Server) happens(share float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.Float64() < share
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": strings.TrimSpace(err.Error())})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client went away
}
