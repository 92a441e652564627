package config

import (
	"regexp/syntax"
)

// maxProgramSize is the largest RE2 program that Envoy takes: the default of
// its runtime key re2.max_program_size.error_level.
const maxProgramSize = 100

// programSize estimates, rather too high than too low, the size of the program
// to which RE2 compiles an expression. RE2 matches bytes where Go's syntax
// package matches runes, so a class of runes counts with the byte sequences
// that encode it.
func programSize(expression string) int {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0
	}
	size := 0
	for i := range program.Inst {
		size += instructionSize(&program.Inst[i])
	}
	return size
}

func instructionSize(in *syntax.Inst) int {
	const anyRune = 10 // one and more bytes, suffixes shared
	switch in.Op {
	case syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return anyRune
	case syntax.InstRune, syntax.InstRune1:
		if len(in.Rune) == 1 {
			return len(string(in.Rune[0])) // folded case is a flag of the instruction
		}
		size := 0
		for i := 0; i+1 < len(in.Rune); i += 2 {
			size += rangeSize(in.Rune[i], in.Rune[i+1])
		}
		return size
	}
	return 1
}

// rangeSize counts the byte instructions of a range of runes.
func rangeSize(low, high rune) int {
	size := 0
	for _, plane := range []struct {
		first, last rune
		bytes       int
	}{{0, 0x7f, 1}, {0x80, 0x7ff, 2}, {0x800, 0xffff, 3}, {0x10000, 0x10ffff, 4}} {
		if low <= plane.last && high >= plane.first {
			size += plane.bytes
			if low > plane.first || high < plane.last { // ragged ends
				size += plane.bytes - 1
			}
		}
	}
	return size
}
