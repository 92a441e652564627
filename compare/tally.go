package compare

// Tally counts what a version answered. Tallies of disjoint requests can be
// merged: the result is the tally of all of them. The zero value is empty.
type Tally struct {
	Requests     uint64
	Success      uint64
	Errors       uint64
	ClientErrors uint64
	Aborted      uint64
	// Status counts by the first digit of the HTTP status: Status[5] are the
	// 5xx. Status[0] are requests without an answer.
	Status [6]uint64
	// Latency has the answered requests only, whatever their class.
	Latency Sketch
}

// Classes returns every class, in the order in which they are shown.
func Classes() []Class {
	return []Class{ClassSuccess, ClassError, ClassClientError, ClassAborted}
}

// Of returns the number of requests of a class.
func (t *Tally) Of(c Class) uint64 {
	if n := t.class(c); n != nil {
		return *n
	}
	return 0
}

// Merge adds what other has counted. Other stays as it is.
func (t *Tally) Merge(other *Tally) {
	t.Requests += other.Requests
	for _, c := range Classes() {
		*t.class(c) += *other.class(c)
	}
	for i := range t.Status {
		t.Status[i] += other.Status[i]
	}
	t.Latency.Merge(&other.Latency)
}

// Clone returns a copy that shares nothing with t.
func (t *Tally) Clone() Tally {
	c := *t
	c.Latency = t.Latency.Clone()
	return c
}

// add counts an observation whose class is known to be valid.
func (t *Tally) add(o *Observation) {
	t.Requests++
	*t.class(o.Class)++
	t.Status[statusClass(o.Code)]++
	t.Latency.Add(o.Duration)
}

// class returns the counter of a class, or nil when there is no such class.
func (t *Tally) class(c Class) *uint64 {
	switch c {
	case ClassSuccess:
		return &t.Success
	case ClassError:
		return &t.Errors
	case ClassClientError:
		return &t.ClientErrors
	case ClassAborted:
		return &t.Aborted
	default:
		return nil
	}
}

func statusClass(code int) int {
	if c := code / 100; c >= 1 && c <= 5 {
		return c
	}
	return 0
}
