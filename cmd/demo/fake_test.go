package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// fakeMode says what the fake headgate does: "" it is no fake, "good", or how
// it misbehaves.
const fakeMode = "HEADGATE_DEMO_FAKE"

// fake stands for headgate and Envoy where a test needs one that misbehaves: a
// proxy that splits users by a hash, and the admin API.
type fake struct {
	mode     string
	config   string // file
	versions []string
	proxies  map[string]http.Handler

	mu    sync.Mutex
	step  int // of the rollout; -1 before it
	since time.Time
	bad   int // answers of the candidate
	back  bool

	requests int
}

var (
	listenLine   = regexp.MustCompile(`(?m)^listen: (.*)$`)
	releaseLine  = regexp.MustCompile(`(?m)^release: (.*)$`)
	versionsLine = regexp.MustCompile(`(?m)^  (v.*): \{endpoints: \["(.*)"\]\}$`)
)

var fakeShares = []float64{10, 50, 100}

// runFake is the fake's main function. It takes headgate's arguments.
func runFake(mode string, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	option := func(name string) string {
		for i := range args {
			if args[i] == "--"+name {
				return args[i+1]
			}
		}
		return ""
	}
	if mode == "dies" {
		fmt.Fprintln(os.Stderr, "tumor.yaml:1: a mistake")
		return 1
	}
	f := &fake{mode: mode, config: filepath.Join(option("config"), "tumor.yaml"), step: -1, proxies: map[string]http.Handler{}}
	content, err := os.ReadFile(f.config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, m := range versionsLine.FindAllStringSubmatch(string(content), -1) {
		f.versions = append(f.versions, m[1])
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: m[2]})
		proxy.ModifyResponse = f.judge(m[1])
		f.proxies[m[1]] = proxy
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models/tumor", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(f.status())
	})
	front := &http.Server{Addr: listenLine.FindStringSubmatch(string(content))[1], Handler: f, ReadHeaderTimeout: time.Second}
	admin := &http.Server{Addr: option("admin"), Handler: mux, ReadHeaderTimeout: time.Second}
	failed := make(chan error, 2)
	go func() { failed <- front.ListenAndServe() }()
	go func() { failed <- admin.ListenAndServe() }()
	select {
	case <-ctx.Done():
		return 0
	case err := <-failed:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

// judge sees the answers of a version. The fake named "judges" sends the
// candidate back after three bad ones.
func (f *fake) judge(version string) func(*http.Response) error {
	return func(r *http.Response) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if version == f.versions[1] && r.StatusCode >= http.StatusInternalServerError {
			if f.bad++; f.bad == 3 && f.mode == "judges" {
				f.back, f.since = true, time.Now()
			}
		}
		return nil
	}
}

// status moves on by a step each time 300 ms are over.
func (f *fake) status() rollout.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, _ := os.ReadFile(f.config)
	release := releaseLine.FindStringSubmatch(string(content))
	switch {
	case f.step < 0 && release != nil && release[1] == f.versions[1]:
		f.step, f.since = 0, time.Now()
	case f.mode != "judges" && f.step >= 0 && f.step < len(fakeShares) && time.Since(f.since) > 300*time.Millisecond:
		f.step, f.since = f.step+1, time.Now()
	}
	s := rollout.Status{
		Model: modelName, Phase: rollout.PhaseIdle, Stable: f.versions[0], Step: -1,
		Acknowledged: true, Envoys: 1, Reason: f.versions[0] + " serves everyone",
		Weights: map[string]float64{f.versions[0]: 100 - f.share(), f.versions[1]: f.share()},
	}
	switch {
	case f.back:
		s.Rollout, s.Phase, s.Since, s.Reason = 1, rollout.PhaseRolledBack, f.since, "error_rate is broken"
		s.Gates = []routing.Finding{{Metric: "error_rate", Verdict: routing.VerdictBreach, Text: "3 bad answers"}}
	case f.step >= len(fakeShares):
		s.Rollout, s.Phase, s.Stable, s.Since = 1, rollout.PhaseCompleted, f.versions[1], f.since
	case f.step >= 0:
		s.Rollout, s.Phase, s.Candidate, s.Step = 1, rollout.PhaseProgressing, f.versions[1], f.step
		since := f.since
		s.StepStarted = &since
		for _, share := range fakeShares {
			s.Steps = append(s.Steps, rollout.StepStatus{Kind: routing.StepTraffic, Share: share})
		}
	}
	return s
}

func (f *fake) share() float64 {
	if f.step < 0 || f.back {
		return 0
	}
	return fakeShares[min(f.step, len(fakeShares)-1)]
}

// ServeHTTP sends a request to the version of its user.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("x-user-id")
	if key == "" {
		if c, err := r.Cookie(routing.CookieName); err == nil {
			key = c.Value
		} else {
			key = strconv.FormatInt(time.Now().UnixNano(), 10)
			http.SetCookie(w, &http.Cookie{Name: routing.CookieName, Value: key, Path: "/"})
		}
	}
	f.mu.Lock()
	version := f.versions[0]
	if bucket(key) < f.share() {
		version = f.versions[1]
	}
	if f.mode == "bad" && f.step >= 0 {
		f.requests++
		version = f.versions[f.requests%2] // whoever asks
	}
	f.mu.Unlock()
	if f.mode == "bad" && bucket(key) > 95 {
		http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set(routing.HeaderVersion, version)
	f.proxies[version].ServeHTTP(w, r)
}

func bucket(key string) float64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, key)
	return float64(h.Sum64()%10_000) / 100
}

// logged returns the text of a file that a program writes.
func logged(f *os.File) string {
	content, err := os.ReadFile(f.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content))
}
