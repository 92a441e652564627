package compare

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/stats"
)

// evidenceVersion is the form in which evidence is kept. Evidence of another
// form is refused: a trial then begins anew.
const evidenceVersion = 1

// trialEvidence is the kept form of a [Trial].
type trialEvidence struct {
	Version   int           `json:"version"`
	Trial     routing.Trial `json:"trial"`
	Keyed     bool          `json:"keyed"`
	Began     time.Time     `json:"began"`
	To        time.Time     `json:"to"` // everything is counted until then
	Candidate *armCounts    `json:"candidate"`
	Stable    *armCounts    `json:"stable"`
	Epoch     epochEvidence `json:"epoch"`
	// WeightBefore is that of the step before.
	WeightBefore float64         `json:"weight_before,omitempty"`
	Spanned      int             `json:"spanned"`
	Spans        []*spanEvidence `json:"spans,omitempty"`
	Gates        []*gateEvidence `json:"gates"` // in the order of the trial's policy
	Hard         *hardEvidence   `json:"hard"`
}

type epochEvidence struct {
	Number int       `json:"number"`
	Began  time.Time `json:"began"`
	Used   bool      `json:"used"`
}

type spanEvidence struct {
	Number    int              `json:"number"`
	Began     time.Time        `json:"began"`
	Candidate *stats.Histogram `json:"candidate"`
	Stable    *stats.Histogram `json:"stable"`
}

type gateEvidence struct {
	Main      *past     `json:"main,omitempty"`
	MainEver  bool      `json:"main_ever,omitempty"`
	Worse     *past     `json:"worse,omitempty"`
	WorseEver bool      `json:"worse_ever,omitempty"`
	Slow      float64   `json:"slow,omitempty"`
	Bound     float64   `json:"bound,omitempty"`
	FromSpan  int       `json:"from_span,omitempty"`
	BrokenAt  time.Time `json:"broken_at,omitzero"`
}

type hardEvidence struct {
	Main     *past     `json:"main,omitempty"`
	Worse    *past     `json:"worse,omitempty"`
	Ever     bool      `json:"ever,omitempty"`
	GrossAt  time.Time `json:"gross_at,omitzero"`
	ExcessAt time.Time `json:"excess_at,omitzero"`
	Answers  uint64    `json:"answers"`
	Seen     uint64    `json:"seen"`
	Bads     uint64    `json:"bads"`
}

// MarshalBinary returns all that goes on after a restart: a few kB, mostly
// whole numbers. The last answers, by which gross failure is seen, are not in
// it.
func (t *Trial) MarshalBinary() ([]byte, error) {
	e := trialEvidence{
		Version: evidenceVersion, Trial: t.now, Keyed: t.keyed, Began: t.began, To: t.to,
		Candidate: &t.step.candidate, Stable: &t.step.stable,
		Epoch:   epochEvidence{t.epoch.number, t.epoch.began, t.epoch.used},
		Spanned: t.spanned, WeightBefore: t.weightBefore,
		Hard: &hardEvidence{
			Main: t.hard.main, Worse: t.hard.worse, Ever: t.hard.ever, GrossAt: t.hard.grossAt, ExcessAt: t.hard.excessAt,
			Answers: t.hard.recent.answers, Seen: t.hard.recent.seen, Bads: t.hard.recent.bads,
		},
	}
	e.Trial.Since = e.Trial.Since.Round(0)
	for i := range t.spans {
		s := &t.spans[i]
		e.Spans = append(e.Spans, &spanEvidence{s.number, s.began, &s.candidate, &s.stable})
	}
	for _, g := range t.gates {
		e.Gates = append(e.Gates, &gateEvidence{
			Main: g.main, MainEver: g.mainEver, Worse: g.worse, WorseEver: g.worseEver, Slow: g.slow,
			Bound: g.bound, FromSpan: g.fromSpan, BrokenAt: g.brokenAt,
		})
	}
	data, err := json.Marshal(&e)
	if err != nil {
		return nil, fmt.Errorf("write evidence: %w", err)
	}
	return data, nil
}

// UnmarshalBinary takes up what MarshalBinary returned. When it fails, t is as
// before.
func (t *Trial) UnmarshalBinary(data []byte) error {
	e := trialEvidence{Candidate: &armCounts{}, Stable: &armCounts{}, Hard: &hardEvidence{}}
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	n := NewTrial(e.Trial, e.Keyed)
	n.began, n.to, n.spanned, n.weightBefore = e.Began, e.To, e.Spanned, e.WeightBefore
	n.step.candidate, n.step.stable = *e.Candidate, *e.Stable
	n.epoch = userEpoch{e.Epoch.Number, e.Epoch.Began, e.Epoch.Used}
	for _, s := range e.Spans {
		n.spans = append(n.spans, latencySpan{number: s.Number, began: s.Began, candidate: *s.Candidate, stable: *s.Stable})
	}
	for i, g := range n.gates {
		k := e.Gates[i]
		if g.breach != nil { // else the metric is another kind by now, or none
			g.main = k.Main
		}
		g.mainEver, g.worse, g.worseEver = k.MainEver, k.Worse, k.WorseEver
		g.slow, g.bound, g.fromSpan, g.brokenAt = k.Slow, k.Bound, k.FromSpan, k.BrokenAt
		if g.gate.Bound == routing.BoundMaxIncrease {
			g.looked = n.asLooked()
		}
	}
	n.hard = hardRules{
		main: e.Hard.Main, worse: e.Hard.Worse, ever: e.Hard.Ever, grossAt: e.Hard.GrossAt, excessAt: e.Hard.ExcessAt,
		recent: recentAnswers{answers: e.Hard.Answers, seen: e.Hard.Seen, bads: e.Hard.Bads},
	}
	if !n.began.IsZero() {
		n.open()
	}
	*t = *n
	return nil
}

// asLooked says of every span that it was looked at, which the process that kept
// it has done.
func (t *Trial) asLooked() map[int]spanSeen {
	looked := make(map[int]spanSeen, len(t.spans))
	for i := range t.spans {
		s := &t.spans[i]
		looked[s.number] = spanSeen{at: spanLook{stage(s.candidate.N()), stage(s.stable.N())}}
	}
	return looked
}

// check tells what is wrong with evidence that was read.
func (e *trialEvidence) check() error {
	gates := 0
	if e.Trial.Policy != nil {
		gates = len(e.Trial.Policy.Gates)
	}
	switch {
	case e.Version != evidenceVersion:
		return fmt.Errorf("version: %d: must be %d", e.Version, evidenceVersion)
	case e.Candidate == nil, e.Stable == nil, e.Hard == nil:
		return errors.New("candidate, stable, hard: must be there")
	case len(e.Gates) != gates:
		return fmt.Errorf("gates: %d: must be %d, as in the policy", len(e.Gates), gates)
	case e.Epoch.Number < 1:
		return fmt.Errorf("epoch.number: %d: must be at least 1", e.Epoch.Number)
	case len(e.Spans) > spansKept:
		return fmt.Errorf("spans: %d: must be at most %d", len(e.Spans), spansKept)
	}
	for i, s := range e.Spans {
		if s == nil || s.Candidate == nil || s.Stable == nil || s.Number < 1 {
			return fmt.Errorf("spans[%d]: must be whole", i)
		}
	}
	for i, g := range e.Gates {
		if g == nil {
			return fmt.Errorf("gates[%d]: must be there", i)
		}
	}
	return nil
}

// MarshalText is the kept form of a past: varints in base64, about ten bytes
// for each start.
func (p *past) MarshalText() ([]byte, error) {
	b := binary.AppendUvarint(nil, uint64(len(p.stretches)))
	for i := range p.stretches {
		b = p.stretches[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(p.begun))
	b = binary.AppendVarint(b, int64(p.every))
	b = binary.AppendVarint(b, p.next.UnixNano())
	b = binary.AppendUvarint(b, uint64(len(p.starts)))
	for i := range p.starts {
		s := &p.starts[i]
		b = binary.AppendUvarint(b, uint64(s.stretch))
		b = s.at.append(b)
		b = binary.AppendVarint(b, s.time.UnixNano())
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(s.weight))
	}
	return base64.RawStdEncoding.AppendEncode(nil, b), nil
}

func (c *counts) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(c.w))
	for _, v := range [...]uint64{c.n, c.c, c.m, c.s} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// UnmarshalText reads what MarshalText wrote.
func (p *past) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("read past: %w", err)
	}
	r := pastReader{b: b}
	n := past{stale: true}
	for range r.length() {
		n.stretches = append(n.stretches, r.counts())
	}
	n.begun = int(r.unsigned())
	n.every = time.Duration(r.signed())
	n.next = time.Unix(0, r.signed()).UTC()
	for range r.length() {
		s := start{stretch: int(r.unsigned()), at: r.counts(), time: time.Unix(0, r.signed()).UTC(), weight: r.float()}
		if s.stretch < 0 || s.stretch >= len(n.stretches) {
			r.bad = true
			break
		}
		n.starts = append(n.starts, s)
	}
	if r.bad || len(r.b) > 0 || len(n.stretches) == 0 || n.every <= 0 || n.begun < 1 {
		return errors.New("read past: not what was written")
	}
	*p = n
	return nil
}

// pastReader reads numbers until one is bad.
type pastReader struct {
	b   []byte
	bad bool
}

func (r *pastReader) unsigned() uint64 {
	v, k := binary.Uvarint(r.b)
	r.take(k)
	return v
}

func (r *pastReader) signed() int64 {
	v, k := binary.Varint(r.b)
	r.take(k)
	return v
}

// length is how many things follow; each takes at least a byte.
func (r *pastReader) length() int {
	v := r.unsigned()
	if v > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(v)
}

func (r *pastReader) float() float64 {
	if len(r.b) < 8 {
		r.take(0)
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(r.b))
	r.take(8)
	return v
}

func (r *pastReader) counts() counts {
	return counts{w: r.float(), n: r.unsigned(), c: r.unsigned(), m: r.unsigned(), s: r.unsigned()}
}

func (r *pastReader) take(k int) {
	if k <= 0 {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[k:]
}
