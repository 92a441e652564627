package simulate

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// A recording has all that a judge was given of one rollout, as JSON lines: a
// [Header], then an [Interval] for each batch. It has no user's key: it tells how
// many users erred first in an epoch, and numbers those of the newest answers at
// random. Lines are only ever added, each by one write; the last may be torn by
// a crash, and is left out then.

// recordingVersion is the form of recordings. A reader refuses others.
const recordingVersion = 1

// Header is the first line of a recording.
type Header struct {
	Version   int       `json:"headgate_recording"` // set by the Writer
	Model     string    `json:"model"`
	Rollout   int       `json:"rollout"`
	Stable    string    `json:"stable"`
	Candidate string    `json:"candidate"`
	Keyed     bool      `json:"keyed"` // the split draws users, not requests
	Started   time.Time `json:"started"`
	// Steps and Gates are those of the policy that was in force, Gates as they are
	// written: "error_rate max 1%".
	Steps []RecordedStep `json:"steps"`
	Gates []string       `json:"gates"`
}

// RecordedStep is a step of a rollout. Times are in seconds.
type RecordedStep struct {
	Kind          routing.StepKind `json:"kind"`
	Share         routing.Share    `json:"share"` // hundredths of a percent
	For           float64          `json:"for_seconds"`
	Hold          bool             `json:"hold,omitempty"`
	ControlMirror bool             `json:"control_mirror,omitempty"`
	ControlShare  routing.Share    `json:"control_share,omitempty"`
}

// HeaderOf is the header of a recording of a trial, of a rollout through steps.
func HeaderOf(t *routing.Trial, steps []routing.Step, keyed bool, started time.Time) Header {
	h := Header{
		Model: t.Model, Rollout: t.Rollout, Stable: t.Stable, Candidate: t.Candidate,
		Keyed: keyed, Started: started.Round(0).UTC(), Steps: []RecordedStep{}, Gates: []string{},
	}
	for _, s := range steps {
		h.Steps = append(h.Steps, RecordedStep{
			Kind: s.Kind, Share: s.Share, For: s.For.Seconds(), Hold: s.Hold,
			ControlMirror: s.Control.Mirror, ControlShare: s.Control.Share,
		})
	}
	if t.Policy != nil {
		for _, g := range t.Policy.Gates {
			h.Gates = append(h.Gates, g.Metric+" "+string(g.Bound)+" "+g.Written)
		}
	}
	return h
}

func (h *Header) steps() []routing.Step {
	out := make([]routing.Step, 0, len(h.Steps))
	for _, s := range h.Steps {
		out = append(out, routing.Step{
			Kind: s.Kind, Share: s.Share, For: time.Duration(s.For * float64(time.Second)), Hold: s.Hold,
			Control: routing.Control{Mirror: s.ControlMirror, Share: s.ControlShare},
		})
	}
	return out
}

// Interval is one batch, where the rollout stood, and what was done at its end.
type Interval struct {
	Step    int
	Share   routing.Share
	Shadow  routing.Share // of the requests of which the candidate got copies, instead of users
	Control routing.Control
	Since   time.Time // when the share was in force everywhere; zero: not yet
	Gap     bool      // telemetry was lost: the batch is not all
	Batch   compare.Batch
	// Slow is for each FirstSlow of the batch the latency in seconds above which
	// requests counted as slow; 0: they were not counted.
	Slow []float64
	Did  []Deed
}

// Deed is something that was done to the rollout: a record of the journal.
type Deed struct {
	Kind   string `json:"kind"` // of the record: "advanced", "rolled_back"
	Actor  string `json:"actor"`
	Reason string `json:"reason,omitempty"`
}

// intervalLine is an Interval as it is written.
type intervalLine struct {
	To            time.Time     `json:"to"`
	Step          int           `json:"step"`
	Share         routing.Share `json:"share"`
	Shadow        routing.Share `json:"shadow,omitempty"`
	ControlMirror bool          `json:"control_mirror,omitempty"`
	ControlShare  routing.Share `json:"control_share,omitempty"`
	Since         *time.Time    `json:"since,omitempty"`
	Gap           bool          `json:"gap,omitempty"`
	Late          bool          `json:"late,omitempty"`
	Candidate     armLine       `json:"candidate"`
	Stable        armLine       `json:"stable"`
	Slow          []float64     `json:"slow,omitempty"`
	Did           []Deed        `json:"did,omitempty"`
}

type armLine struct {
	Requests          uint64           `json:"requests"`
	Errors            uint64           `json:"errors,omitempty"`
	ClientErrors      uint64           `json:"client_errors,omitempty"`
	Drawn             uint64           `json:"drawn"`
	DrawnErrors       uint64           `json:"drawn_errors,omitempty"`
	DrawnClientErrors uint64           `json:"drawn_client_errors,omitempty"`
	Latency           *stats.Histogram `json:"latency,omitempty"`
	FirstErrors       uint64           `json:"first_errors,omitempty"`
	FirstClientErrors uint64           `json:"first_client_errors,omitempty"`
	FirstSlow         []uint64         `json:"first_slow,omitempty"`
	Last              string           `json:"last,omitempty"` // the newest outcomes: "+k3 -9x"
	Answers           uint64           `json:"answers,omitempty"`
	BadAnswers        uint64           `json:"bad_answers,omitempty"`
}

// Writer writes a recording.
type Writer struct {
	w    io.Writer
	salt uint64 // of the numbers that stand for users
}

// NewWriter writes the header of a new recording.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Version = recordingVersion
	out := AppendWriter(w)
	return out, out.line(h)
}

// AppendWriter goes on with a recording that has its header.
func AppendWriter(w io.Writer) *Writer { return &Writer{w: w, salt: rand.Uint64()} }

// Write adds an interval.
func (w *Writer) Write(i *Interval) error {
	line := intervalLine{
		To: i.Batch.To.Round(0).UTC(), Step: i.Step, Share: i.Share, Shadow: i.Shadow,
		ControlMirror: i.Control.Mirror, ControlShare: i.Control.Share,
		Gap: i.Gap, Late: i.Batch.Late, Slow: i.Slow, Did: i.Did,
		Candidate: w.arm(&i.Batch.Candidate), Stable: w.arm(&i.Batch.Stable),
	}
	if !i.Since.IsZero() {
		since := i.Since.Round(0).UTC()
		line.Since = &since
	}
	return w.line(line)
}

func (w *Writer) line(v any) error {
	encoded, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	if _, err := w.w.Write(append(encoded, '\n')); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	return nil
}

func (w *Writer) arm(a *compare.Arm) armLine {
	out := armLine{
		Requests: a.Requests, Errors: a.Errors, ClientErrors: a.ClientErrors,
		Drawn: a.Drawn, DrawnErrors: a.DrawnErrors, DrawnClientErrors: a.DrawnClientErrors,
		FirstErrors: a.FirstErrors, FirstClientErrors: a.FirstClientErrors, FirstSlow: a.FirstSlow,
		Last: w.outcomes(a.Last), Answers: a.Answers, BadAnswers: a.BadAnswers,
	}
	if a.Latency.N() > 0 {
		out.Latency = &a.Latency
	}
	return out
}

// outcomes writes a sign for each outcome, + good and - bad, with a number that
// stands for the user, if there is one.
func (w *Writer) outcomes(last []compare.Outcome) string {
	var b strings.Builder
	for i, o := range last[max(0, len(last)-compare.LastOutcomes):] {
		if i > 0 {
			b.WriteByte(' ')
		}
		if o.Bad {
			b.WriteByte('-')
		} else {
			b.WriteByte('+')
		}
		if o.User != 0 {
			b.WriteString(strconv.FormatUint(mix(o.User^w.salt)>>32|1, 36))
		}
	}
	return b.String()
}

func readOutcomes(words string) ([]compare.Outcome, error) {
	var out []compare.Outcome
	for _, word := range strings.Fields(words) {
		o := compare.Outcome{Bad: word[0] == '-'}
		var err error
		if len(word) > 1 {
			o.User, err = strconv.ParseUint(word[1:], 36, 32)
		}
		if err != nil || !o.Bad && word[0] != '+' {
			return nil, fmt.Errorf("last: %q: must be + or - and a number", word)
		}
		out = append(out, o)
	}
	return out, nil
}

// Reader reads a recording.
type Reader struct {
	Header Header
	in     *bufio.Reader
	n      int
	last   time.Time
}

// maxLine bounds a line: histograms of two versions are at most 200 kB of it.
const maxLine = 4 << 20

// NewReader reads the header of a recording.
func NewReader(r io.Reader) (*Reader, error) {
	out := &Reader{in: bufio.NewReaderSize(r, 64<<10)}
	line, err := out.line()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("line 1: is not the beginning of a recording")
		}
		return nil, err
	}
	var form struct {
		Version int `json:"headgate_recording"`
	}
	switch err := json.Unmarshal(line, &form); {
	case err != nil || form.Version == 0:
		return nil, errors.New("line 1: is not the beginning of a recording")
	case form.Version != recordingVersion:
		return nil, fmt.Errorf("line 1: form %d: was written by another headgate; this one reads form %d", form.Version, recordingVersion)
	}
	if err := json.Unmarshal(line, &out.Header); err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	if len(out.Header.Steps) == 0 {
		return nil, errors.New("line 1: steps: must not be empty")
	}
	return out, nil
}

// line returns the next whole line.
func (r *Reader) line() ([]byte, error) {
	var line []byte
	for {
		chunk, err := r.in.ReadSlice('\n')
		line = append(line, chunk...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("line %d: is too long", r.n+1)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF): // a torn line is none
			return nil, io.EOF
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", r.n+1, err)
		}
		r.n++
		return line, nil
	}
}

// Next returns the next interval; io.EOF after the last.
func (r *Reader) Next() (*Interval, error) {
	encoded, err := r.line()
	if err != nil {
		return nil, err
	}
	var line intervalLine
	if err := json.Unmarshal(encoded, &line); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.n, err)
	}
	out, err := line.interval(&r.Header)
	if err == nil && line.To.Before(r.last) {
		err = fmt.Errorf("to: %s: must not be before the line above", line.To.Format(time.RFC3339Nano))
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", r.n, err)
	}
	r.last = line.To
	return out, nil
}

func (l *intervalLine) interval(h *Header) (*Interval, error) {
	switch {
	case l.To.IsZero():
		return nil, errors.New("to: is missing")
	case l.Step < 0 || l.Step >= len(h.Steps):
		return nil, fmt.Errorf("step: %d: must be from 0 to %d", l.Step, len(h.Steps)-1)
	case max(l.Share, l.Shadow, l.ControlShare) > routing.Whole:
		return nil, errors.New("share: must be at most the whole")
	}
	out := &Interval{
		Step: l.Step, Share: l.Share, Shadow: l.Shadow, Control: routing.Control{Mirror: l.ControlMirror, Share: l.ControlShare},
		Gap: l.Gap, Slow: l.Slow, Did: l.Did,
		Batch: compare.Batch{To: l.To, Late: l.Late},
	}
	if l.Since != nil {
		out.Since = *l.Since
	}
	var err error
	if out.Batch.Candidate, err = l.Candidate.arm(); err != nil {
		return nil, fmt.Errorf("candidate: %w", err)
	}
	if out.Batch.Stable, err = l.Stable.arm(); err != nil {
		return nil, fmt.Errorf("stable: %w", err)
	}
	return out, nil
}

func (l *armLine) arm() (compare.Arm, error) {
	out := compare.Arm{
		Requests: l.Requests, Errors: l.Errors, ClientErrors: l.ClientErrors,
		Drawn: l.Drawn, DrawnErrors: l.DrawnErrors, DrawnClientErrors: l.DrawnClientErrors,
		FirstErrors: l.FirstErrors, FirstClientErrors: l.FirstClientErrors, FirstSlow: l.FirstSlow,
		Answers: l.Answers, BadAnswers: l.BadAnswers,
	}
	if l.Errors+l.ClientErrors > l.Requests || l.DrawnErrors+l.DrawnClientErrors > l.Drawn {
		return out, errors.New("errors: must not be more than the requests")
	}
	if l.Latency != nil {
		out.Latency.Merge(l.Latency)
	}
	var err error
	out.Last, err = readOutcomes(l.Last)
	return out, err
}
