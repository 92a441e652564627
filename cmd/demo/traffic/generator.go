package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/headgate/headgate/cmd/demo/model"
	"github.com/headgate/headgate/cmd/demo/server"
	"github.com/headgate/headgate/routing"
)

// Options say who sends what where.
type Options struct {
	URL            string
	Rate           float64     // requests a second
	Users          int         // who name themselves
	Visitors       int         // who do not, at any one time
	AnonymousShare float64     // of the requests, 0 to 1
	Features       []string    // names of the values of a row
	Rows           []model.Row // to ask about, with the truth
	Seed           uint64      // of who asks what; timing and answers aside, runs are equal
}

// timeout is how long a user waits for an answer.
const timeout = 5 * time.Second

// inFlight is how many requests are under way at most. When an ill version
// holds more, traffic waits.
const inFlight = 256

// Generator sends requests at a steady rate over connections that stay open.
type Generator struct {
	options   Options
	ledger    *Ledger
	people    *population
	bodies    [][]byte // by row
	random    *rand.Rand
	transport *http.Transport
}

// NewGenerator returns a generator that records in a ledger.
func NewGenerator(o Options, l *Ledger) (*Generator, error) {
	random := rand.New(rand.NewPCG(o.Seed, 1))
	g := &Generator{
		options: o, ledger: l, random: random,
		people:    newPopulation(o.Users, o.Visitors, o.AnonymousShare, random),
		transport: &http.Transport{MaxIdleConnsPerHost: inFlight, DisableCompression: true},
	}
	for i, row := range o.Rows {
		body, err := Body(o.Features, row)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		g.bodies = append(g.bodies, body)
	}
	return g, nil
}

// Body returns the request about a row.
func Body(features []string, row model.Row) ([]byte, error) {
	values := make(map[string]float64, len(row.Values))
	for i, v := range row.Values {
		values[features[i]] = v
	}
	return json.Marshal(map[string]any{"features": values})
}

// Run sends requests until the context ends, and returns when the last answer
// is there.
func (g *Generator) Run(ctx context.Context) {
	defer g.transport.CloseIdleConnections()
	var pending sync.WaitGroup
	defer pending.Wait()
	slots := make(chan struct{}, inFlight)
	interval := time.Duration(float64(time.Second) / g.options.Rate)
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		if u := g.people.take(); u != nil {
			row := g.random.IntN(len(g.bodies))
			pending.Go(func() {
				g.ledger.Record(g.send(u, row))
				g.people.giveBack(u)
				<-slots
			})
		} else {
			<-slots
		}
		// After a halt traffic goes on at its rate; it does not catch up.
		due = later(due.Add(interval), time.Now().Add(-interval))
		timer.Reset(time.Until(due))
	}
}

// Ask sends one request as nobody in particular, outside the account, and
// returns the version that answered.
func (g *Generator) Ask() (version string, err error) {
	r := g.send(&user{}, 0)
	if r.Failure != "" {
		return "", errors.New(r.Failure)
	}
	return r.Version, nil
}

// send has its own deadline: a request under way is not cut off when the
// traffic ends.
func (g *Generator) send(u *user, row int) Result {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	result := Result{At: time.Now(), User: u.id}
	answer, err := g.ask(ctx, u, row, &result)
	result.Took = time.Since(result.At)
	if err != nil {
		result.Failure = err.Error()
		return result
	}
	result.Right = answer.Label == g.options.Rows[row].Label()
	return result
}

func (g *Generator) ask(ctx context.Context, u *user, row int, result *Result) (*server.Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.options.URL, bytes.NewReader(g.bodies[row]))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if u.name != "" {
		r.Header.Set(headerUser, u.name)
	}
	client := http.Client{Transport: g.transport, Jar: u.jar}
	resp, err := client.Do(r)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, cause(err)
	}
	result.Version = resp.Header.Get(routing.HeaderVersion)
	return check(resp.StatusCode, body, result.Version)
}

// check tells whether an answer is one that a user can work with.
func check(status int, body []byte, version string) (*server.Answer, error) {
	if status != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %.200s", status, bytes.TrimSpace(body))
	}
	var a server.Answer
	if err := json.Unmarshal(body, &a); err != nil || a.Label == "" {
		return nil, errors.New("an answer without a prediction")
	}
	if a.Version != version {
		return nil, fmt.Errorf("the header says %q, the model %q", version, a.Version)
	}
	return &a, nil
}

// cause returns the innermost error: without addresses and ports, so that
// failures of one kind are counted together.
func cause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", timeout)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
