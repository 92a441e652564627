package protocol

import (
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// normal returns a text in the form in which texts are compared: Unicode NFC,
// every run of white space one space, none at the ends; fold: and without
// regard to case.
func normal(s string, fold bool) string {
	s = strings.Join(strings.Fields(norm.NFC.String(s)), " ")
	if fold {
		s = cases.Fold().String(s)
	}
	return s
}

// short cuts a long text.
func short(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// quote returns a text as a JSON string.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`) // a string is always JSON
	}
	return b
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
