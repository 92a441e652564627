package simulate

import (
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// begins is when synthetic time begins.
var begins = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// machine is the real state machine with an Envoy that takes every plan at
// once, endpoints that answer, and a journal that keeps nothing.
type machine struct {
	state rollout.State
	wake  time.Duration // when it wants a Tick; negative: never
	queue []rollout.Event
	place placement // of the requests now
	begin time.Time
	acks  bool // every plan is acknowledged at once
}

// newMachine begins a rollout of the model's release at time 0, which is begin.
func newMachine(m *routing.Model, begin time.Time, acks bool) (*machine, error) {
	w := rollout.WantedOf(m)
	if w.From == "" || w.From == w.Release {
		w.From = ""
		for _, v := range m.Versions {
			if v.Name != w.Release {
				w.From = v.Name
				break
			}
		}
	}
	if w.From == "" {
		w.From = "stable"
		w.Versions[w.From] = "stable"
	}
	out := &machine{state: rollout.State{Model: m.Name}, wake: -1, begin: begin, acks: acks}
	if err := out.feed(rollout.Configured{Wanted: w}, 0); err != nil {
		return nil, err
	}
	if !out.state.Running() {
		return nil, errors.New("the model's file begins no rollout")
	}
	return out, nil
}

// feed tells the machine of an event and carries out what follows.
func (m *machine) feed(e rollout.Event, at time.Duration) error {
	m.queue = append(m.queue, e)
	for len(m.queue) > 0 {
		next := m.queue[0]
		m.queue = m.queue[1:]
		if _, tick := next.(rollout.Tick); tick {
			m.wake = -1
		}
		var effects []rollout.Effect
		m.state, effects = rollout.Next(m.state, next, m.begin.Add(at))
		for _, effect := range effects {
			switch effect := effect.(type) {
			case rollout.Refused:
				return fmt.Errorf("rollout: %w", effect)
			case rollout.Publish:
				if m.acks {
					m.queue = append(m.queue, rollout.Delivered{Acknowledged: true})
				}
			case rollout.Probe:
				m.queue = append(m.queue, rollout.Probed{Rollout: effect.Rollout})
			case rollout.Wake:
				if m.wake = -1; effect.After >= 0 {
					m.wake = at + effect.After
				}
			}
		}
	}
	m.place = placed(m.step(), m.state.Share())
	return nil
}

// step is the step that runs.
func (m *machine) step() routing.Step {
	r := &m.state.Rollout
	if r.Promoted || r.Step >= len(r.Steps) {
		return routing.Step{Kind: routing.StepTraffic, Share: routing.Whole}
	}
	return r.Steps[r.Step]
}
