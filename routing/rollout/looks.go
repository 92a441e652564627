package rollout

import (
	"context"
	"sync"
	"time"

	"github.com/headgate/headgate/routing"
)

// lookEvery is the time between two looks at a model.
const lookEvery = time.Second

// batchSize is how many judgements the controller takes at once, so that
// thousands of models do not keep a command waiting.
const batchSize = 64

// looks asks the judge about all models on trial, again and again. It is a
// goroutine of its own: however long a look takes, the controller goes on.
type looks struct {
	judge Judge
	out   chan lookBatch

	mu     sync.Mutex
	trials map[string]int // the turn of each model on trial
}

// looked is what came of a look. Turn says which Watch it was after: what was
// found before a later one does not count.
type looked struct {
	model     string
	turn      int
	judgement routing.Judgement
}

// lookBatch is what came of some looks.
type lookBatch struct {
	looked []looked
	end    bool // of a round: what was found can be written
}

func (l *looks) set(model string, turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trials[model] = turn
}

func (l *looks) remove(model string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.trials, model)
}

func (l *looks) turn(model string) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	turn, ok := l.trials[model]
	return turn, ok
}

func (l *looks) models(into []string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for model := range l.trials {
		into = append(into, model)
	}
	return into
}

// run looks until ctx ends.
func (l *looks) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var models []string
	for {
		select {
		case <-ctx.Done():
			return
		case model := <-l.judge.Alarm():
			l.send(ctx, lookBatch{looked: l.look(nil, model)})
		case <-tick.C:
			models = l.models(models[:0])
			l.round(ctx, models)
		}
	}
}

// round looks at all of the models, and first at those for which an alarm comes
// meanwhile.
func (l *looks) round(ctx context.Context, models []string) {
	var batch []looked
	for _, model := range models {
		select {
		case alarmed := <-l.judge.Alarm():
			l.send(ctx, lookBatch{looked: l.look(batch, alarmed)})
			batch = nil
		default:
		}
		if batch = l.look(batch, model); len(batch) >= batchSize {
			l.send(ctx, lookBatch{looked: batch})
			batch = nil
		}
	}
	l.send(ctx, lookBatch{batch, true})
}

func (l *looks) look(batch []looked, model string) []looked {
	turn, ok := l.turn(model)
	if !ok {
		return batch
	}
	return append(batch, looked{model, turn, l.judge.Look(model, time.Now())})
}

func (l *looks) send(ctx context.Context, batch lookBatch) {
	if len(batch.looked) == 0 && !batch.end {
		return
	}
	select {
	case l.out <- batch:
	case <-ctx.Done():
	}
}
