package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Screen shows views. Its methods may be called from several goroutines.
type Screen struct {
	out   io.Writer
	live  bool
	size  func() (columns, lines int)
	style Palette

	mu    sync.Mutex
	drawn int // lines of the picture that stands on the terminal
}

// New returns a screen: live when the file is a terminal and nothing speaks
// against it (plain, NO_COLOR, TERM=dumb), otherwise one of plain lines.
func New(out *os.File, plain bool) *Screen {
	fd := int(out.Fd())
	s := &Screen{out: out, size: func() (int, int) {
		columns, lines, err := term.GetSize(fd)
		if err != nil {
			return Width, 24
		}
		return columns, lines
	}}
	s.live = !plain && term.IsTerminal(fd) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	s.style.Colour = s.live
	return s
}

// Live tells whether views are drawn as pictures.
func (s *Screen) Live() bool { return s.live }

// Palette returns the colours of what is printed on the screen.
func (s *Screen) Palette() Palette { return s.style }

// Event shows something that happened. A live screen shows it with the next
// view.
func (s *Screen) Event(e Event) {
	if !s.live {
		s.Print(e.String())
	}
}

// Show draws a view over the one before, or prints its lines.
func (s *Screen) Show(v View) {
	if !s.live {
		s.Print(Lines(v))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.out, s.frame(v))
}

// frame returns what draws a view. A terminal that is too small gets less.
func (s *Screen) frame(v View) string {
	columns, lines := s.size()
	rest := len(Picture(v, 0, Palette{}))
	eventLines := min(max(lines-rest-1, 1), 10)
	picture := Picture(v, eventLines, s.style)
	picture = picture[:min(len(picture), max(lines-1, 1))]
	var b strings.Builder
	b.WriteString("\x1b[?25l") // no cursor
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", s.drawn)
	}
	for _, line := range picture {
		b.WriteString(clip(line, columns) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J") // what is left of a longer picture
	s.drawn = len(picture)
	return b.String()
}

// Print prints lines below what has been drawn; a view that is shown later
// is drawn below them.
func (s *Screen) Print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = 0
	_, _ = io.WriteString(s.out, text+"\n")
}

// Close gives the cursor back.
func (s *Screen) Close() {
	if s.live {
		_, _ = io.WriteString(s.out, "\x1b[?25h")
	}
}

// clip cuts a line that may hold colours to a number of columns.
func clip(line string, columns int) string {
	var b strings.Builder
	used, escape := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			if used++; used > columns {
				continue
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}
