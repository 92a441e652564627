package capture

import (
	"time"

	"github.com/headgate/headgate/compare/pair"
)

// joined calls the joiner and gives on what comes of it. A request of which no
// copies can be is none of its business.
func (s *Service) joined(t *stream, f func(j *pair.Joiner, now time.Time) []*pair.Pair) {
	if t.key == "" || t.primary && t.copies == 0 {
		return
	}
	s.mu.Lock()
	pairs := f(s.joiner, time.Now())
	s.mu.Unlock()
	s.give(pairs)
}

func (s *Service) begin(t *stream, now time.Time) {
	s.joined(t, func(j *pair.Joiner, _ time.Time) []*pair.Pair {
		if t.primary {
			j.OpenPrimary(t.key, now)
		} else {
			j.OpenCopy(t.key, t.version, now)
		}
		return nil
	})
}

// finish takes a stream that came to the end of its answer.
func (s *Service) finish(t *stream) {
	if !t.primary {
		s.answer(t)
		return
	}
	x := t.exchange
	x.Model, x.Primary.Version = t.model, t.version
	if t.user != "" && s.options.User != nil {
		x.User, x.HasUser = s.options.User(t.user), true
	}
	s.totals.exchanges.Add(1)
	s.put(item{exchange: &x, held: int64(x.Size())})
	s.joined(t, func(j *pair.Joiner, now time.Time) []*pair.Pair { return j.Primary(t.key, &x, t.copies, now) })
}

// answer takes what came of a copy.
func (s *Service) answer(t *stream) {
	a := t.exchange.Primary
	a.Version = t.version
	s.joined(t, func(j *pair.Joiner, now time.Time) []*pair.Pair {
		if refused(&a) {
			j.Refuse(t.key, a.Version, now)
			return nil
		}
		return j.Copy(t.key, &a, now)
	})
}

// cut takes a stream that ended too early.
func (s *Service) cut(t *stream) {
	a := &t.exchange.Primary
	switch {
	case t.primary:
		s.totals.aborted.Add(1)
		s.lose(t)
	case a.Fault == pair.FaultNone && t.answered:
		a.Fault = pair.FaultBroken
		s.answer(t)
	default:
		a.Fault = pair.FaultSilent
		s.answer(t)
	}
}

// lose takes a stream of which nothing will be said.
func (s *Service) lose(t *stream) {
	s.joined(t, func(j *pair.Joiner, now time.Time) []*pair.Pair {
		if t.primary {
			j.Abort(t.key, now)
		} else {
			j.Refuse(t.key, t.version, now)
		}
		return nil
	})
}
