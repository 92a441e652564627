package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is what is known of where output goes.
type screen struct {
	terminal bool
	colour   bool
	width    int // in columns; 0: no limit
}

func screenOf(w io.Writer, getenv func(string) string) screen {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return screen{}
	}
	s := screen{terminal: true, width: 100, colour: getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		s.width = width
	}
	return s
}

// The colours that are used, by their ANSI codes.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
	bold   = "1"
)

// paint colours text on a terminal that wants it.
func (s screen) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// plain makes text safe to print: what a terminal would act on, or hide, is
// shown as an escape.
func plain(text string) string { return escape(text, false) }

// oneLine puts a text of several lines on one.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// plainLines is plain, but leaves line ends and tabs alone.
func plainLines(text string) string { return escape(text, true) }

func escape(text string, lines bool) string {
	safe := func(r rune) bool { return unicode.IsPrint(r) || lines && (r == '\n' || r == '\t') }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case safe(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// cell is one field of a table.
type cell struct {
	text   string // plain
	colour string // empty: none
	right  bool
}

func text(s string) cell { return cell{text: plain(s)} }

func number(s string) cell { return cell{text: s, right: true} }

func (c cell) in(colour string) cell {
	c.colour = colour
	return c
}

// table writes rows in columns that are as wide as their widest cell. The last
// column takes what is left of the screen.
func (s screen) table(w io.Writer, indent string, header []string, rows [][]cell) {
	all := make([][]cell, 0, len(rows)+1)
	if header != nil {
		first := make([]cell, len(header))
		for i, h := range header {
			first[i] = cell{text: h, colour: faint}
			if len(rows) > 0 {
				first[i].right = rows[0][i].right
			}
		}
		all = append(all, first)
	}
	all = append(all, rows...)
	var widths []int
	for _, row := range all {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range all {
		s.row(&b, indent, row, widths)
	}
	_, _ = io.WriteString(w, b.String())
}

func (s screen) row(b *strings.Builder, indent string, row []cell, widths []int) {
	var line strings.Builder
	column := utf8.RuneCountInString(indent)
	line.WriteString(indent)
	for i, c := range row {
		width := widths[i]
		shown := c.text
		if last := i == len(row)-1; last && s.width > 0 && !c.right {
			shown = shorten(shown, max(s.width-column, 10))
			width = utf8.RuneCountInString(shown)
		}
		pad := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(shown)))
		if c.right {
			line.WriteString(pad)
		}
		line.WriteString(s.paint(c.colour, shown))
		if !c.right {
			line.WriteString(pad)
		}
		line.WriteString("  ")
		column += width + 2
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

func shorten(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}
