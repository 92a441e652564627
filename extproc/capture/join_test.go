package capture_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headgate/headgate/compare/pair"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc/capture"
	"github.com/headgate/headgate/routing"
)

// echo answers with what was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_, _ = w.Write(b)
}

// Clients that repeat a request id, and send every header that is ours, get
// nothing mixed up.
func TestHostileIDs(t *testing.T) {
	sink := &kept{}
	service, addr := captured(t, capture.Options{Sink: sink})
	p := newProxy(t, addr, behind(t, echo), []string{behind(t, echo)}, nil)
	const clients, each = 8, 50
	var senders sync.WaitGroup
	for i := range clients {
		senders.Go(func() {
			for n := range each {
				p.send("POST", "/", "the-same", strings.NewReader(fmt.Sprintf("%d/%d", i, n)), func(r *http.Request) {
					for _, name := range []string{
						routing.HeaderPair, routing.HeaderDraw, routing.HeaderModel, routing.HeaderSide,
						routing.HeaderVersion, routing.HeaderKey, routing.HeaderMaxBody, routing.HeaderCopies,
					} {
						r.Header.Set(name, "forged")
						r.Header.Add(name, "00000000-0000-0000-0000-000000000000")
					}
				})
			}
		})
	}
	senders.Wait()
	settled(t, service)
	exchanges, pairs := sink.of("the-same")
	// Copies are capped, so some may be missing; but not many.
	if capped := int(service.Counters().Join.Capped); len(exchanges) != clients*each || len(pairs)+capped != clients*each || len(pairs) < clients*each*9/10 {
		t.Errorf("%d exchanges, %d pairs: %+v", len(exchanges), len(pairs), service.Counters())
	}
	seen := map[string]bool{}
	for _, q := range pairs {
		asked := string(q.Request.Body)
		if string(q.Primary.Body) != asked || string(q.Shadow.Body) != asked || seen[asked] {
			t.Errorf("asked %q: answered %q and %q, seen before: %t", asked, q.Primary.Body, q.Shadow.Body, seen[asked])
		}
		seen[asked] = true
	}
}

// The version, the user and how it was chosen are known however a model
// chooses, and also when the version is hidden.
func TestWhoseAnswer(t *testing.T) {
	sink := &kept{}
	service, decider, addr := capturedAndDecided(t, capture.Options{Sink: sink, User: func(key string) uint64 { return uint64(len(key)) }})
	first, second, third := behind(t, named("v1")), behind(t, named("v2")), behind(t, named("v3"))
	var plan *routing.ModelPlan
	p := newProxy(t, addr, first, []string{second, third}, func(m *routing.ModelPlan) {
		m.Mirrors = m.Mirrors[1:]
		m.Split = routing.Split{Salt: "churn-r1", Ranges: []routing.Range{{Version: "v2", Weight: 5000}, {Version: "v1", Weight: 5000}}}
		plan = m
	})
	path, err := routing.ParsePath("$.user")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 200)
	for i, tt := range []struct {
		name   string
		model  func(m *routing.Model)
		header [2]string
		body   string
		drawn  bool
		user   int // length of the key; 0: none, -1: any
	}{
		{"a short key", func(m *routing.Model) {}, [2]string{"x-user-id", "anna"}, "{}", true, 4},
		{"a long key", func(m *routing.Model) {}, [2]string{"x-user-id", long}, "{}", true, 200},
		{"a secret key", func(m *routing.Model) { m.Key.Name = "authorization" }, [2]string{"authorization", "anna"}, "{}", true, 4},
		{"a draw", func(m *routing.Model) {}, [2]string{"x", "y"}, "{}", true, 36},
		{"no key", func(m *routing.Model) { m.Key.Absent = routing.AbsentCurrent }, [2]string{"x", "y"}, "{}", false, 0},
		{"our cookie", func(m *routing.Model) { m.Key = routing.Key{Absent: routing.AbsentCookie} }, [2]string{"cookie", "hg=anna"}, "{}", true, 4},
		{"our first cookie", func(m *routing.Model) { m.Key = routing.Key{Absent: routing.AbsentCookie} }, [2]string{"x", "y"}, "{}", true, 36},
		{"decided", func(m *routing.Model) { m.Decide = routing.DecideExtProc }, [2]string{"x-user-id", "anna"}, "{}", true, -1},
		{"decided by the body", func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceBody, Path: path, Absent: routing.AbsentRequest}
		}, [2]string{"x", "y"}, `{"user":"anna"}`, true, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edited := *p.model
			edited.HideVersion = true
			tt.model(&edited)
			next := *plan
			next.Model = &edited
			decider.Publish(planOf(&next))
			p.publish(&next)
			p.delivered()
			versions := map[string]int{}
			for n := range 30 {
				id := fmt.Sprintf("who-%d-%d", i, n)
				resp, got := p.send("POST", "/", id, strings.NewReader(tt.body), func(r *http.Request) { r.Header.Set(tt.header[0], tt.header[1]) })
				if resp.Header.Get(routing.HeaderVersion) != "" {
					t.Fatal("the version is not hidden")
				}
				var exchanges []*pair.Exchange
				var pairs []*pair.Pair
				envoytest.Eventually(t, 20*time.Second, "the pair", func() bool {
					exchanges, pairs = sink.of(id)
					return len(exchanges) == 1 && len(pairs) == 1
				})
				x := exchanges[0]
				versions[x.Primary.Version]++
				if x.Primary.Version != string(got) || pairs[0].Shadow.Version != "v3" || string(pairs[0].Shadow.Body) != "v3" {
					t.Errorf("%s answered the user, %s and %s (%q) were captured", got, x.Primary.Version, pairs[0].Shadow.Version, pairs[0].Shadow.Body)
				}
				if x.Drawn != tt.drawn || x.HasUser != (tt.user != 0) || (tt.user > 0 && x.User != uint64(tt.user)) {
					t.Errorf("drawn %t, user %t %d", x.Drawn, x.HasUser, x.User)
				}
			}
			t.Log(versions)
		})
	}
	if c := service.Counters(); c.Undecodable != 0 || c.Dropped != 0 {
		t.Errorf("%+v", c)
	}
}

// named answers with the name of the version.
func named(version string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write([]byte(version))
	}
}

// One random number decides what is captured and who gets a copy: each captured
// request has its copies, a smaller share is a part of it, and copies of requests
// that are not captured are not either. It has nothing to do with the split.
func TestNestedShares(t *testing.T) {
	sink := &kept{}
	service, addr := captured(t, capture.Options{Sink: sink})
	p := newProxy(t, addr, behind(t, named("v1")), []string{behind(t, named("v2")), behind(t, named("v3")), behind(t, named("v4"))}, func(m *routing.ModelPlan) {
		m.Capture.Share = 2500
		m.Mirrors[0].Share, m.Mirrors[1].Share, m.Mirrors[2].Share = 2500, 500, 5000
		m.Split = routing.Split{Salt: "churn-r1", Ranges: []routing.Range{{Version: "v2", Weight: 3000}, {Version: "v1", Weight: 7000}}}
	})
	settled(t, service)
	sink.forget()
	before := service.Counters()
	const n = 3000
	var next atomic.Int64
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				p.send("POST", "/", "n-"+strconv.FormatInt(i, 10), strings.NewReader("{}"), func(r *http.Request) {
					r.Header.Set("x-user-id", strconv.FormatInt(i, 10))
				})
			}
		})
	}
	senders.Wait()
	settled(t, service)
	sink.mu.Lock()
	defer sink.mu.Unlock()
	primaries, shadows := map[string]float64{}, map[string]int{}
	for _, x := range sink.exchanges {
		primaries[x.Primary.Version]++
	}
	for _, q := range sink.pairs {
		shadows[q.Shadow.Version]++
	}
	c := service.Counters()
	captured := len(sink.exchanges)
	near := func(what string, got, want float64, of int) {
		if limit := 5 * math.Sqrt(float64(of)*want*(1-want)); math.Abs(got-want*float64(of)) > limit {
			t.Errorf("%s: %v of %d, want about %v", what, got, of, want*float64(of))
		}
	}
	near("captured", float64(captured), 0.25, n)
	near("the candidate's among them", primaries["v2"], 0.3, captured)
	near("the small share among them", float64(shadows["v3"]), 0.2, captured)
	if shadows["v2"] != captured || shadows["v4"] != captured {
		t.Errorf("%d captured, of copies %v", captured, shadows)
	}
	if streams := c.Streams - before.Streams; int(streams) != captured+len(sink.pairs) {
		t.Errorf("%d streams for %d requests and %d copies", streams, captured, len(sink.pairs))
	}
}
