package config

import (
	"regexp/syntax"
	"slices"
	"unicode"
)

// maxProgramSize is the largest RE2 program of one expression. The bootstrap
// has Envoy take twice as much, because a condition on a cookie or a parameter
// becomes part of a larger expression.
const maxProgramSize = 500

// programSize estimates, rather too high than too low, the size of the program
// to which RE2 compiles an expression. It is 0 for what does not compile.
func programSize(expression string) int {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0
	}
	size := 4
	for i := range program.Inst {
		size += max(1, len(program.Inst[i].Rune)/2)
	}
	return size
}

// ascii tells whether an expression means the same to Envoy as to Go. Envoy
// matches bytes as Latin-1, Go matches UTF-8, so what is written must be ASCII.
// Values that are not can still differ, where an expression counts characters.
func ascii(expression string) bool {
	for i := range len(expression) {
		if expression[i] >= 0x80 {
			return false
		}
	}
	tree, err := syntax.Parse(expression, syntax.Perl&^syntax.UnicodeGroups)
	return err == nil && asciiTree(tree)
}

func asciiTree(t *syntax.Regexp) bool {
	for _, r := range t.Rune {
		if r >= 0x80 && r != unicode.MaxRune && t.Flags&syntax.FoldCase == 0 {
			return false
		}
	}
	for _, sub := range t.Sub {
		if !asciiTree(sub) {
			return false
		}
	}
	return true
}

// anchoredInside tells whether an expression asks for the beginning or the end
// of the value elsewhere than at its own ends. It cannot become part of a
// larger expression then.
func anchoredInside(expression string) bool {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return false
	}
	for tree.Op == syntax.OpCapture {
		tree = tree.Sub[0]
	}
	inner := []*syntax.Regexp{tree}
	if tree.Op == syntax.OpConcat {
		inner = tree.Sub
	}
	for len(inner) > 0 && isAnchor(inner[0]) {
		inner = inner[1:]
	}
	for len(inner) > 0 && isAnchor(inner[len(inner)-1]) {
		inner = inner[:len(inner)-1]
	}
	return slices.ContainsFunc(inner, hasAnchor)
}

func isAnchor(t *syntax.Regexp) bool {
	switch t.Op {
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return true
	}
	return false
}

func hasAnchor(t *syntax.Regexp) bool {
	return isAnchor(t) || slices.ContainsFunc(t.Sub, hasAnchor)
}
