package journal

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/headgate/headgate/routing/rollout"
)

// Memory is a [rollout.Journal] that ends with the process: for simulations
// and tests.
type Memory struct {
	mu       sync.Mutex
	records  []rollout.Record
	evidence map[string]rollout.Evidence
	fresh    bool
}

// NewMemory returns a journal that holds the records of an earlier one.
func NewMemory(earlier ...rollout.Record) *Memory {
	m := &Memory{fresh: len(earlier) == 0, evidence: map[string]rollout.Evidence{}}
	for _, r := range earlier {
		r.Seq = int64(len(m.records)) + 1
		m.records = append(m.records, r)
	}
	return m
}

// Fresh tells whether the journal began without events.
func (m *Memory) Fresh() bool { return m.fresh }

// Append keeps the records, and sets their Seq.
func (m *Memory) Append(ctx context.Context, records ...*rollout.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		r.Seq = int64(len(m.records)) + 1
		kept := *r
		kept.Time, kept.Data = r.Time.Round(0).UTC(), slices.Clone(r.Data)
		kept.Evidence = nil
		m.records = append(m.records, kept)
		if r.Evidence != nil {
			m.keep(rollout.Evidence{Model: r.Model, Rollout: r.Rollout, Data: r.Evidence})
		}
	}
	return nil
}

// KeepEvidence replaces what is kept of the models.
func (m *Memory) KeepEvidence(ctx context.Context, evidence ...rollout.Evidence) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range evidence {
		m.keep(e)
	}
	return nil
}

func (m *Memory) keep(e rollout.Evidence) {
	e.Data = slices.Clone(e.Data)
	m.evidence[e.Model] = e
}

// Evidence returns what is kept, by model.
func (m *Memory) Evidence(ctx context.Context) (map[string]rollout.Evidence, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.evidence), ctx.Err()
}

// Records returns all records in order.
func (m *Memory) Records() []rollout.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.records)
}

// Replay calls fn for every record in order.
func (m *Memory) Replay(ctx context.Context, fn func(rollout.Record) error) error {
	for _, r := range m.Records() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// History returns a model's newest records, newest first, at most limit.
func (m *Memory) History(ctx context.Context, model string, limit int) ([]rollout.Record, error) {
	var found []rollout.Record
	for _, r := range slices.Backward(m.Records()) {
		if len(found) >= limit {
			break
		}
		if r.Model == model {
			found = append(found, r)
		}
	}
	return found, ctx.Err()
}
