package main

import "testing"

func TestDidYouMean(t *testing.T) {
	names := []string{"status", "skip", "run", "w"}
	for word, want := range map[string]string{
		"statsu": " (did you mean status?)", "stat": " (did you mean status?)", "skp": " (did you mean skip?)",
		"rnu": " (did you mean run?)", "x": "", "frobnicate": "", "": "",
	} {
		if got := didYouMean(word, "", names); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
