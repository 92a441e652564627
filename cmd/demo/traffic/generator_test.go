package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
	"github.com/headgate/headgate/routing"
)

// gate answers as a version behind a gate would: named users get v1, users
// with its cookie what the cookie says, new ones a cookie and v2.
type gate struct {
	mu       sync.Mutex
	requests map[string]int  // by user or cookie
	now      map[string]bool // users with a request under way
	overlap  bool
	cookies  int
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, version := g.enter(w, r)
	defer g.leave(who)
	var in struct{ Features map[string]float64 }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Features) != 30 {
		http.Error(w, "features", http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set(routing.HeaderVersion, version)
	_ = json.NewEncoder(w).Encode(server.Answer{
		Prediction: server.Prediction{Prediction: 0.9, Label: model.Malignant}, Version: version,
	})
}

func (g *gate) enter(w http.ResponseWriter, r *http.Request) (who, version string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	who, version = r.Header.Get("x-user-id"), "v1"
	if who == "" {
		version = "v2"
		if c, err := r.Cookie("hg"); err == nil {
			who = c.Value
		} else {
			g.cookies++
			who = fmt.Sprintf("cookie-%d", g.cookies)
			http.SetCookie(w, &http.Cookie{Name: "hg", Value: who, Path: "/"})
		}
	}
	g.overlap = g.overlap || g.now[who]
	g.now[who] = true
	g.requests[who]++
	return who, version
}

func (g *gate) leave(who string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now[who] = false
}

func options(t *testing.T, url string) Options {
	t.Helper()
	d, err := model.Load()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		URL: url + "/predict", Rate: 1000, Users: 50, Visitors: 5, AnonymousShare: 0.2,
		Features: d.Features, Rows: d.HeldOut, Seed: 7,
	}
}

// run lets a generator send until the ledger has so many results.
func run(t *testing.T, o Options, l *Ledger, requests int) {
	t.Helper()
	g, err := NewGenerator(o, l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { g.Run(ctx); close(done) }()
	deadline := time.After(time.Minute)
	for l.Account(time.Now(), time.Second).Sent < requests {
		select {
		case <-deadline:
			t.Fatalf("%d requests after a minute, want %d", l.Account(time.Now(), time.Second).Sent, requests)
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop()
	<-done
}

func TestGenerator(t *testing.T) {
	g := &gate{requests: map[string]int{}, now: map[string]bool{}}
	s := httptest.NewServer(g)
	defer s.Close()
	l := NewLedger("v1", "v2")
	run(t, options(t, s.URL), l, 500)

	a := l.Account(time.Now(), time.Minute)
	sum := 0
	for _, n := range g.requests {
		sum += n
	}
	if a.Failed != 0 || a.Sent != sum {
		t.Errorf("sent %d, failed %d %v; the gate saw %d", a.Sent, a.Failed, a.Failures, sum)
	}
	if g.overlap {
		t.Error("a user had two requests under way")
	}
	v1, v2 := a.Versions[0], a.Versions[1]
	if got := v1.Users + v2.Users; got != len(g.requests) {
		t.Errorf("%d users, the gate saw %d", got, len(g.requests))
	}
	if v2.Users != g.cookies {
		t.Errorf("%d anonymous users, but %d cookies were given out", v2.Users, g.cookies)
	}
	// Five visitors with 40 visits each on average: 100 requests are made by
	// five or a few more.
	if v2.Users < 5 || v2.Users > 15 || v2.Answered < 50 || v2.Answered > 150 {
		t.Errorf("%d anonymous users sent %d requests", v2.Users, v2.Answered)
	}
	first, last := 0, 0
	for i := range 10 {
		first += g.requests[fmt.Sprintf("user-%04d", 1+i)]
		last += g.requests[fmt.Sprintf("user-%04d", 50-i)]
	}
	if first <= last {
		t.Errorf("the first ten users sent %d requests, the last ten %d: want more of the first", first, last)
	}
	// All are told "malignant"; that is right for 84 of 227.
	if share, _ := v1.Accuracy(); share < 0.25 || share > 0.50 {
		t.Errorf("accuracy %.2f, want about 0.37", share)
	}
}

func TestGeneratorFailures(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("no healthy upstream\n"))
	}))
	defer broken.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, tc := range []struct{ name, url, want string }{
		{"status", broken.URL, "HTTP 503: no healthy upstream"},
		{"refused", gone.URL, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := NewLedger("v1", "v2")
			run(t, options(t, tc.url), l, 20)
			a := l.Account(time.Now(), time.Second)
			if a.Failed != a.Sent || len(a.Failures) != 1 || a.Failures[tc.want] != a.Sent {
				t.Errorf("sent %d, failed %d: %v, want all %q", a.Sent, a.Failed, a.Failures, tc.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	good := `{"prediction": 0.9, "label": "malignant", "version": "v1"}`
	for _, tc := range []struct {
		name, body, version string
		status              int
		want                string // the failure; empty: none
	}{
		{"good", good, "v1", 200, ""},
		{"error", "no healthy upstream", "v1", 503, "HTTP 503: no healthy upstream"},
		{"long error", strings.Repeat("x", 300), "", 500, "HTTP 500: " + strings.Repeat("x", 200)},
		{"no JSON", "<html>", "v1", 200, "an answer without a prediction"},
		{"no label", `{"version": "v1"}`, "v1", 200, "an answer without a prediction"},
		{"other version", good, "v2", 200, `the header says "v2", the model "v1"`},
		{"no header", good, "", 200, `the header says "", the model "v1"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if _, err := check(tc.status, []byte(tc.body), tc.version); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestPopulationIsTakenOnceAtATime(t *testing.T) {
	p := newPopulation(3, 2, 0.5, rand.New(rand.NewPCG(1, 1)))
	seen := map[string]bool{}
	for range 5 {
		u := p.take()
		if u == nil || seen[u.id] {
			t.Fatalf("took %v twice, or nobody: %v", u, seen)
		}
		seen[u.id] = true
	}
	if u := p.take(); u != nil {
		t.Errorf("took %s while all are busy", u.id)
	}
	p.giveBack(p.named[2])
	if u := p.take(); u != p.named[2] {
		t.Errorf("took %v, want the only one who is free", u)
	}
}
