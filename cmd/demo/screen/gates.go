package screen

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/headgate/headgate/routing"
)

// The columns of a gate's line.
const (
	gateWidth    = 20
	verdictWidth = 7
	scaleWidth   = 21 // odd: the limit is in the middle
	countWidth   = 7
	figuresWidth = Width - gateWidth - verdictWidth - scaleWidth - countWidth - 4
)

// Gates returns what each gate has shown: a line that says how to read them,
// then one for each gate, at most [Width] columns wide. A hard rule has one
// only when it has spoken: nobody waits for it.
//
// The limit of every gate is the line in the middle. The bar is the interval
// in which the true value lies: it is wide as long as little is known, and
// narrows. Wholly on the left the limit is kept, wholly on the right it is
// broken; until then headgate waits.
func Gates(findings []routing.Finding, p Palette) []string {
	if len(findings) == 0 {
		return nil
	}
	lines := []string{p.faint(fmt.Sprintf("%-*s %-*s %*s│%-*s %*s  %s", gateWidth, "gate", verdictWidth, "verdict",
		scaleWidth/2, "kept ", scaleWidth/2, " broken", countWidth-1, "answers", "seen (true: within)"))}
	for i := range findings {
		f := &findings[i]
		if f.HardRule && f.Verdict != routing.VerdictBreach {
			continue
		}
		colour := verdictColour(f)
		line := fmt.Sprintf("%-*s %s %s %*s  ", gateWidth, cut(Limit(f), gateWidth),
			p.paint(colour, fmt.Sprintf("%-*s", verdictWidth, verdict(f))), scale(f, p),
			countWidth-1, thousands(int(min(f.N, math.MaxInt32))))
		lines = append(lines, strings.TrimRight(line+cut(figures(f), figuresWidth), " "))
	}
	return lines
}

// Limit names a gate by what it demands: "error_rate ≤ 2%".
func Limit(f *routing.Finding) string {
	switch {
	case f.HardRule:
		return f.Metric
	case f.Bound == routing.BoundMaxDrop:
		return f.Metric + " drop ≤ " + strings.TrimPrefix(amount(f.Limit, f.Unit), "+")
	case f.Bound == routing.BoundMaxIncrease && f.Unit == routing.UnitSeconds:
		return f.Metric + " ≤ +" + amount(f.Limit, f.Unit)
	}
	return f.Metric + " ≤ " + amount(f.Limit, f.Unit)
}

// Loudest returns the finding that says most about where a rollout stands: a
// breach, else the first gate that is waited for. It is nil when all is shown.
func Loudest(findings []routing.Finding) *routing.Finding {
	var waiting *routing.Finding
	for i := range findings {
		f := &findings[i]
		switch {
		case f.Verdict == routing.VerdictBreach:
			return f
		case waiting == nil && f.Verdict == routing.VerdictWaiting && f.Required():
			waiting = f
		}
	}
	return waiting
}

// verdict is the word for what a gate has shown. Nobody waits for one that the
// step cannot measure.
func verdict(f *routing.Finding) string {
	if f.Reason == routing.ReasonNotMeasurable {
		return "-"
	}
	return string(f.Verdict)
}

func verdictColour(f *routing.Finding) string {
	switch f.Verdict {
	case routing.VerdictSafe:
		return "32"
	case routing.VerdictBreach:
		return "1;31"
	}
	return "33"
}

// figures tells the estimate and its interval. A gate that waits for something
// else than evidence says for what.
func figures(f *routing.Finding) string {
	if f.Reason == routing.ReasonNotMeasurable && f.Bound != routing.BoundMax && !f.HardRule {
		return "nobody to compare" // everyone has the candidate
	}
	if f.Verdict == routing.VerdictWaiting && f.Reason != routing.ReasonNoEvidence {
		return strings.ReplaceAll(string(f.Reason), "_", " ")
	}
	if f.HardRule || f.Estimate == nil {
		return ""
	}
	return amount(*f.Estimate, f.Unit) + span(f)
}

// span writes an interval, with units only where they differ from the
// estimate's: " (0.2–1.9)". An end that is not known is left out.
func span(f *routing.Finding) string {
	if f.Low == nil && f.High == nil {
		return ""
	}
	seen := amount(*f.Estimate, f.Unit)
	end := func(v *float64) string {
		if v == nil {
			return ""
		}
		text := strings.TrimPrefix(amount(*v, f.Unit), "+")
		if bare := strings.TrimRightFunc(text, notDigit); text[len(bare):] == seen[len(strings.TrimRightFunc(seen, notDigit)):] {
			return bare
		}
		return text
	}
	return " (" + end(f.Low) + "–" + end(f.High) + ")"
}

func notDigit(r rune) bool { return !unicode.IsDigit(r) }

// scale draws the interval beside its limit.
func scale(f *routing.Finding, p Palette) string {
	cells := []rune(strings.Repeat("·", scaleWidth))
	limit := scaleWidth / 2
	low, high := 0, -1
	if (f.Estimate != nil || f.Low != nil || f.High != nil) && f.Reason != routing.ReasonNotMeasurable && !f.HardRule {
		low, high = ends(placeOr(f, f.Low, 0), placeOr(f, f.High, scaleWidth-1), f.Verdict)
		for i := low; i <= high; i++ {
			cells[i] = '━'
		}
	}
	cells[limit] = '│'
	if low <= limit && limit <= high {
		cells[limit] = '┿'
	}
	if f.Estimate != nil && low <= high {
		cells[min(max(place(f, *f.Estimate), low), high)] = '●'
	}
	return p.faint(string(cells[:low])) + p.paint(verdictColour(f), string(cells[low:high+1])) + p.faint(string(cells[high+1:]))
}

// ends keeps an interval on the side of the limit on which its gate is: a
// column is too coarse for what is just beyond it.
func ends(low, high int, v routing.Verdict) (lowest, highest int) {
	limit := scaleWidth / 2
	switch v {
	case routing.VerdictSafe:
		high = min(high, limit-1)
		return min(low, high), high
	case routing.VerdictBreach:
		low = max(low, limit+1)
		return low, max(low, high)
	}
	return low, high
}

// placeOr returns the column of an end of an interval, or that of an end that
// is not known.
func placeOr(f *routing.Finding, v *float64, unknown int) int {
	if v == nil {
		return unknown
	}
	return place(f, *v)
}

// place returns the column of a value, from 0 to scaleWidth-1. All values have
// one, however large: the limit is in the middle, and steps become smaller the
// farther they are from it. A scale of values that cannot be negative begins
// with zero.
func place(f *routing.Finding, v float64) int {
	size := f.Limit
	if f.Unit == routing.UnitRatio {
		size--
	}
	if size <= 0 {
		size = 0.01 // no increase at all is allowed; something has to be the unit
	}
	off := (v - f.Limit) / size
	var at float64
	switch {
	case math.IsInf(off, 0):
		at = 0.5 + math.Copysign(0.5, off)
	case f.Bound == routing.BoundMax && f.Limit > 0:
		at = (1 + off) / (2 + off)
	default:
		at = 0.5 + 0.5*off/(1+math.Abs(off))
	}
	return min(max(int(at*scaleWidth), 0), scaleWidth-1)
}

// amount writes a value in its unit with two or three digits.
func amount(v float64, u routing.Unit) string {
	switch u {
	case routing.UnitRate:
		return digits(100*v) + "%"
	case routing.UnitPoints:
		return signed(100*v) + "pp"
	case routing.UnitRatio:
		return signed(100*(v-1)) + "%"
	case routing.UnitSeconds:
		if math.Abs(v) >= 0.9995 {
			return digits(v) + "s"
		}
		return digits(1000*v) + "ms"
	}
	return digits(v)
}

func signed(v float64) string {
	if text := digits(v); v > 0 && text != "0" {
		return "+" + text
	}
	return digits(v)
}

// digits writes a number with two digits, those before the point all.
func digits(v float64) string {
	places := 0
	if v != 0 {
		places = min(max(0, 1-int(math.Floor(math.Log10(math.Abs(v))))), 2)
	}
	text := strconv.FormatFloat(v, 'f', places, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// cut shortens a text to a number of columns and takes control characters out
// of it.
func cut(s string, columns int) string {
	runes := []rune(strings.Map(printable, s))
	if len(runes) > columns {
		return string(runes[:columns-1]) + "…"
	}
	return string(runes)
}
