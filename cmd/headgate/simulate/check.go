package simulate

import (
	"errors"
	"strconv"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
)

// Bounds on what one run may cost.
const (
	maxUsers = 1_000_000
	maxUntil = 60 * 24 * time.Hour
)

func parseCount(word string) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > maxUsers {
		return 0, errors.New("must be a whole number from 1 to 1000000")
	}
	return n, nil
}

func parseZipf(word string) (float64, error) {
	f, ok := number(word)
	if !ok || f > 3 {
		return 0, errors.New("must be a number from 0, all alike, to 3; 1 is usual")
	}
	return f, nil
}

func parseSwing(word string) (float64, error) {
	part, err := ParsePart(word)
	if err == nil && part > 0.99 {
		err = errors.New("must be at most 99%")
	}
	return part, err
}

// check looks at what only the whole can tell, and settles what was left open.
func (s *Scenario) check(file string) error {
	var errs config.Errors
	fail := func(path, rule string) { errs = append(errs, config.Error{File: file, Path: path, Message: rule}) }
	model := *s.Model
	s.Observed = model.Policy.Mode == routing.ModeObserve
	model.Policy.Mode = routing.ModeAct // what it would do is what is asked
	s.Model = &model
	if s.Traffic.Rate <= 0 {
		fail("traffic.rate", "is missing; give it in a scenario, or as --rate 20/s")
	}
	course := s.Course()
	if s.Until == 0 {
		s.Until = min(max(2*course, course+6*time.Hour), maxUntil)
	}
	switch {
	case course == 0:
		fail("rollout.steps", "no step has a time: there is nothing to judge in")
	case s.Until <= course:
		fail("until", "must be longer than the steps take, "+course.String())
	case s.Until > maxUntil:
		fail("until", "must be at most "+maxUntil.String())
	case s.From >= course:
		fail("candidate.from", "must be before the steps are over, "+course.String())
	}
	if b := s.Traffic.Bursts; b.Every > 0 && (b.For >= b.Every || b.For < time.Second) {
		fail("traffic.bursts.for", "must be at least 1s, and shorter than every")
	}
	if g := s.Traffic.Gaps; g.Every > 0 && (g.For >= g.Every || g.For < time.Second) {
		fail("traffic.gaps.for", "must be at least 1s, and shorter than every")
	}
	if s.latencyGates() && !s.Stable.Latency.known() {
		fail("stable.latency", "is missing: a gate is on latency")
	}
	if s.Candidate.Latency.known() && !s.Stable.Latency.known() {
		fail("candidate.latency", "needs stable.latency too")
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}
