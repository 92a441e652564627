package screen

// Palette colours text for a terminal. The zero value leaves it as it is.
type Palette struct {
	Colour bool
}

// Bold makes what matters stand out.
func (p Palette) Bold(s string) string { return p.paint("1", s) }

func (p Palette) faint(s string) string { return p.paint("2", s) }

// alarm makes what is bad red.
func (p Palette) alarm(bad bool, s string) string {
	if !bad {
		return s
	}
	return p.paint("1;31", s)
}

// version gives each version a colour of its own.
func (p Palette) version(index int, s string) string {
	colours := []string{"34", "32", "35", "36"}
	return p.paint(colours[index%len(colours)], s)
}

func (p Palette) paint(code, s string) string {
	if !p.Colour || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
