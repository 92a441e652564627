package screen

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// View is what there is to show at one moment.
type View struct {
	Title   string
	Story   string // what it is about, in a sentence
	Now     time.Time
	Elapsed time.Duration // since the demo began
	Status  rollout.Status
	Account traffic.Account
	Events  []Event // the newest last
}

// Event is something that happened.
type Event struct {
	At   time.Duration // since the demo began
	Text string
}

// String formats the event as a line of its own.
func (e Event) String() string { return clock(e.At) + "  " + e.Text }

// Width is the number of columns of a picture.
const Width = 80

// barWidth is the number of columns of a full bar.
const barWidth = 24

// Picture returns the lines of a view, each at most Width columns. Their
// number depends on the number of versions, gates and event lines alone.
func Picture(v View, eventLines int, p Palette) []string {
	lines := []string{
		p.Bold(fit(apart(v.Title, fmt.Sprintf("%s   %3.0f requests/s", clock(v.Elapsed), v.Account.PerSecond)))),
		fit(v.Story),
		"",
		fit(phase(v.Status, v.Now)),
		p.faint(fit("  " + v.Status.Reason)),
		p.faint(fit("  " + delivery(v.Status))),
		p.faint(fmt.Sprintf("%-8s  %-*s  %s", "version", barWidth+8, "wanted, share of users", "served, share of requests")),
	}
	for i, version := range v.Account.Versions {
		wanted := v.Status.Weights[version.Name] / 100
		lines = append(lines, fmt.Sprintf("%-8.8s  %5.1f%% %s   %5.1f%% %s", version.Name,
			100*wanted, p.version(i, bar(wanted)), 100*version.Share,
			p.version(i, strings.TrimRight(bar(version.Share), " "))))
	}
	lines = append(lines, "", p.faint(fmt.Sprintf("%-8s  %7s %9s %7s %9s %9s %15s %6s",
		"version", "per s", "answers", "failed", "p50", "p99", "accuracy so far", "users")))
	for _, version := range v.Account.Versions {
		lines = append(lines, row(version, p))
	}
	lines = append(lines, totals(v, p), "")
	if gates := Gates(v.Status.Gates, p); len(gates) > 0 {
		lines = append(append(lines, gates...), p.faint(fit(words(v.Status.Gates))), "")
	}
	return append(lines, events(v.Events, eventLines, p)...)
}

// words returns what headgate itself says of the gate that decides.
func words(findings []routing.Finding) string {
	if f := Loudest(findings); f != nil {
		return f.Text
	}
	return "every gate is safe"
}

func row(v traffic.Version, p Palette) string {
	failed := p.alarm(v.Failed > 0, fmt.Sprintf("%7s", thousands(v.Failed)))
	return fmt.Sprintf("%-8.8s  %7.0f %9s %s %9s %9s %15s %6s", v.Name, v.PerSecond, thousands(v.Answered),
		failed, milliseconds(v.P50), milliseconds(v.P99), accuracy(v), thousands(v.Users))
}

func totals(v View, p Palette) string {
	a, sentBack := v.Account, v.Status.Phase == rollout.PhaseRolledBack
	return fmt.Sprintf("sent %s   ", thousands(a.Sent)) +
		p.alarm(a.Failed > 0, "failed "+thousands(a.Failed)) + "   " +
		p.alarm(a.Backwards > 0 && !sentBack, "users who went back to an older version "+thousands(a.Backwards))
}

func events(all []Event, n int, p Palette) []string {
	lines := make([]string, n)
	shown := all[max(0, len(all)-n):]
	for i, e := range shown {
		lines[i] = fit(e.String())
		if i < len(shown)-1 {
			lines[i] = p.faint(lines[i])
		}
	}
	return lines
}

// Lines returns a view as plain text: a line, and what the gates have shown
// while a rollout moves.
func Lines(v View) string {
	lines := []string{Line(v)}
	if v.Status.Phase == rollout.PhaseProgressing {
		for _, gate := range Gates(v.Status.Gates, Palette{}) {
			lines = append(lines, "       "+gate)
		}
	}
	return strings.Join(lines, "\n")
}

// Line returns the traffic of a view as one line of plain text. Of the shares
// it tells those of the newest version.
func Line(v View) string {
	newest := v.Account.Versions[len(v.Account.Versions)-1]
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s wanted %s%% served %.1f%% | accuracy", clock(v.Elapsed), newest.Name,
		strconv.FormatFloat(v.Status.Weights[newest.Name], 'f', -1, 64), 100*newest.Share)
	p99 := time.Duration(0)
	for _, version := range v.Account.Versions {
		fmt.Fprintf(&text, " %s %s", version.Name, accuracy(version))
		p99 = max(p99, version.P99)
	}
	fmt.Fprintf(&text, " | %.0f/s failed %d p99 %s", v.Account.PerSecond, v.Account.Failed, milliseconds(p99))
	return text.String()
}

func accuracy(v traffic.Version) string {
	share, ok := v.Accuracy()
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*share)
}

// phase says in one line where a rollout is.
func phase(s rollout.Status, now time.Time) string {
	if s.Step < 0 || s.Step >= len(s.Steps) {
		return fmt.Sprintf("%s: %s", s.Model, strings.ReplaceAll(string(s.Phase), "_", " "))
	}
	text := fmt.Sprintf("%s: %s → %s, %s, step %d of %d", s.Model, s.Stable, s.Candidate, s.Phase, s.Step+1, len(s.Steps))
	if s.StepEnds != nil {
		left := max(s.StepEnds.Sub(now), 0)
		text += fmt.Sprintf(", %.0f s left", left.Seconds())
	}
	return text
}

// delivery says how far the weights have come.
func delivery(s rollout.Status) string {
	switch {
	case s.Rejected != "":
		return "an Envoy refused them: " + s.Rejected
	case s.Envoys == 0:
		return "no Envoy is connected"
	case !s.Acknowledged:
		return "the weights are on their way to " + strings.Join(s.Waiting, ", ")
	case s.Envoys == 1:
		return "Envoy has acknowledged the weights"
	}
	return fmt.Sprintf("all %d Envoys have acknowledged the weights", s.Envoys)
}

// bar draws a share in eighths of a column.
func bar(share float64) string {
	const eighths = "▏▎▍▌▋▊▉"
	n := int(share*barWidth*8 + 0.5)
	n = min(max(n, 0), barWidth*8)
	out := strings.Repeat("█", n/8)
	if rest := n % 8; rest > 0 {
		out += string([]rune(eighths)[rest-1])
	}
	return out + strings.Repeat(" ", barWidth-(n+7)/8)
}

// fit cuts a text to Width columns and takes control characters out of it: it
// may come from a file or from Envoy.
func fit(s string) string {
	runes := []rune(strings.Map(printable, strings.TrimRight(s, " ")))
	if len(runes) > Width {
		return string(runes[:Width-1]) + "…"
	}
	return string(runes)
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// apart puts two texts at the two ends of a line.
func apart(left, right string) string {
	gap := max(Width-len([]rune(left))-len([]rune(right)), 1)
	return left + strings.Repeat(" ", gap) + right
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

func milliseconds(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d == 0:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", ms)
	}
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
