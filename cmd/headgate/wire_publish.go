package main

import (
	"context"
	"sync/atomic"

	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
	"github.com/headgate/headgate/xds"
)

// publisher hands plans to both who act by them: the ext_proc service, which
// decides by the new plan from the next request on, and the Envoys.
type publisher struct {
	*xds.Publisher
	decider *extproc.Service
}

func (p publisher) Publish(plan *routing.Plan, hold []string) {
	p.decider.Publish(plan)
	p.Publisher.Publish(plan, hold)
}

func (p publisher) Delivery(model string) rollout.Delivery {
	return rollout.Delivery(p.Publisher.Delivery(model))
}

// countedJournal counts the records that could not be written.
type countedJournal struct {
	rollout.Journal
	failures atomic.Uint64
}

func (j *countedJournal) Append(ctx context.Context, records ...*rollout.Record) error {
	err := j.Journal.Append(ctx, records...)
	if err != nil {
		j.failures.Add(1)
	}
	return err
}
