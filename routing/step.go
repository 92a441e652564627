package routing

// Unwatched tells whether a step gives everyone to the candidate, with no time
// and no control to watch it. As the last one it ends when it is in force,
// whatever is shown.
func (s Step) Unwatched() bool {
	return s.Kind == StepTraffic && s.Share == Whole && s.For == 0 && !s.Hold && s.Control == Control{}
}
