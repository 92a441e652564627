package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/cmd/demo/screen"
	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing/rollout"
)

// How the time of a scene is divided, steps aside. What is before and after
// the rollout takes no longer than a step.
const (
	overture = 5 * time.Second // all users on the stable version
	slack    = 2 * time.Minute // over the sum of the steps, until headgate counts as stuck
	epilogue = 3 * time.Second // after the end of the rollout
)

// How often a view is made, and how often it is printed where it cannot be
// drawn.
const (
	drawEvery  = 200 * time.Millisecond
	printEvery = 4 * time.Second
)

// window is the time over which rates, shares and latencies are shown.
const window = 5 * time.Second

// happen runs the traffic and the rollout. It returns the last status.
func (p *performance) happen(ctx context.Context, s *summary) (rollout.Status, error) {
	p.ledger = traffic.NewLedger(p.scene.stable.version, p.scene.candidate.version)
	p.ledger.Patience(p.scene.patience)
	stop, err := p.startTraffic(ctx)
	if err != nil {
		return rollout.Status{}, err
	}
	defer stop()
	w := &watch{performance: p, traffic: time.Now()}
	if err := w.until(ctx, min(overture, p.step), never); err != nil {
		return w.status, err
	}
	w.saved = time.Now()
	if err := edit(p.conf, p.scene.candidate.version); err != nil {
		return w.status, err
	}
	p.tell(fmt.Sprintf("edited %s: release: %s → %s", filepath.Base(p.conf), p.scene.stable.version, p.scene.candidate.version))
	limit := time.Duration(len(p.scene.shares))*p.step + slack
	if err := w.until(ctx, limit, ended); err != nil {
		return w.status, err
	}
	if err := w.until(ctx, min(epilogue, p.step), never); err != nil {
		return w.status, err
	}
	stop()
	p.ledger.End(time.Now())
	if first, ok := p.ledger.First(p.scene.candidate.version); ok {
		s.firstAfter = first.Sub(w.saved)
	}
	w.show(time.Now())
	return w.status, nil
}

// startTraffic sends requests until stop is called, which may be done twice.
func (p *performance) startTraffic(ctx context.Context) (stop func(), err error) {
	g, err := p.generator(p.ledger)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		g.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

// stayOn goes on with traffic after the summary, until it is interrupted.
func (p *performance) stayOn(ctx context.Context) error {
	next := "and change `release:` in " + p.conf + "\nto go back the way it came, with rollback, pause or resume in between.\n"
	if p.scene.back {
		next = "and " + p.headgate + " retry " + modelName + " --admin " + p.admin + "\nto see it come back once more.\n"
	}
	p.screen.Print(fmt.Sprintf(`It goes on until Ctrl-C. Try in another terminal:
  %[1]s status %[2]s --watch --admin %[3]s
  %[1]s explain %[2]s --admin %[3]s
  %[1]s history %[2]s --admin %[3]s
  curl -i %[4]s -H 'canary: true' -d @%[5]s
`, p.headgate, modelName, p.admin, p.address, filepath.Join(p.dir, requestFile)) + next)
	p.ledger = traffic.NewLedger(p.scene.stable.version, p.scene.candidate.version)
	stop, err := p.startTraffic(ctx)
	if err != nil {
		return err
	}
	defer stop()
	w := &watch{performance: p, traffic: time.Now()}
	err = w.until(ctx, 24*time.Hour, never)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watch follows a rollout, shows it, and keeps the stages of the account.
type watch struct {
	*performance
	status  rollout.Status
	traffic time.Time // since when there is some
	saved   time.Time // the file; zero: not yet
	stage   string    // of the account
	reached bool      // the candidate has answered since
	printed time.Time
	silent  error // of the admin API; nil while it answers
}

func never(rollout.Status) bool { return false }

// ended tells whether a rollout has come to an end.
func ended(s rollout.Status) bool {
	return s.Rollout > 0 && (s.Phase == rollout.PhaseCompleted || s.Phase == rollout.PhaseRolledBack)
}

// until returns when a status is as wanted or the time is over, whichever
// comes first, or with an error when something ended that should run.
func (w *watch) until(ctx context.Context, limit time.Duration, wanted func(rollout.Status) bool) error {
	over := time.NewTimer(limit)
	defer over.Stop()
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.gate.Done():
			return w.gate.Ended()
		case <-w.models[0].Done():
			return w.models[0].Ended()
		case <-w.models[1].Done():
			return w.models[1].Ended()
		case <-over.C:
			return nil
		case now := <-tick.C:
			w.look(ctx, now)
			if wanted(w.status) {
				return nil
			}
		}
	}
}

// look asks for the status, tells what is new in it, and shows it.
func (w *watch) look(ctx context.Context, now time.Time) {
	status, err := w.gate.Status(ctx, modelName)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if w.silent == nil {
			w.tell("the admin API does not answer: " + err.Error())
		}
		w.silent = err
		return
	}
	w.silent = nil
	for _, text := range news(w.status, status) {
		w.tell(text)
	}
	w.status = status
	if name, began, ok := stageOf(status); ok && name != w.stage {
		if began.Before(w.traffic) {
			began = w.traffic
		}
		w.ledger.Begin(name, began)
		w.stage = name
	}
	if first, ok := w.ledger.First(w.scene.candidate.version); ok && !w.reached && !w.saved.IsZero() {
		w.reached = true
		w.tell(fmt.Sprintf("first answer by %s, %d ms after the file was saved", w.scene.candidate.version, first.Sub(w.saved).Milliseconds()))
	}
	w.show(now)
}

func (w *watch) show(now time.Time) {
	if !w.screen.Live() {
		if now.Sub(w.printed) < printEvery {
			return
		}
		w.printed = now
	}
	w.screen.Show(screen.View{
		Title:   fmt.Sprintf("headgate demo, scene %d: %s", w.scene.number, w.scene.title),
		Story:   w.scene.before,
		Now:     now,
		Elapsed: now.Sub(w.began),
		Status:  w.status,
		Account: w.ledger.Account(now, window),
		Events:  w.events,
	})
}
