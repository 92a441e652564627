package envoy

import (
	"os"
	"strings"
	"testing"
)

func TestLogStaysBounded(t *testing.T) {
	path := t.TempDir() + "/envoy.log"
	write := func(size int) {
		t.Helper()
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return -1
		}
		return info.Size()
	}
	steps := []struct {
		name      string
		size      int
		do        func(string) error
		now, kept int64
	}{
		{"start with little", 100, rotate, 100, -1},
		{"runs with little", maxLog - 1, cut, maxLog - 1, -1},
		{"runs with much", maxLog + 1, cut, 0, maxLog},
		{"start with much", maxLog/2 + 1, rotate, -1, maxLog/2 + 1},
	}
	for _, step := range steps {
		write(step.size)
		if err := step.do(path); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if size(path) != step.now || size(path+".1") != step.kept {
			t.Fatalf("%s: %d bytes and %d kept, want %d and %d", step.name, size(path), size(path+".1"), step.now, step.kept)
		}
	}
	if err := cut(path); err != nil {
		t.Fatalf("no log: %v", err)
	}
}

func TestLastWords(t *testing.T) {
	tests := map[string]struct{ log, want string }{
		"none":     {"[2026-11-23 00:00:00.000][1][warning][main] [a.cc:1] hm\n", ""},
		"one line": {"[2026-11-23 00:00:00.000][1][critical][main] [a.cc:1] out of luck\n", "out of luck"},
		"a dump": {
			"[2026-11-23 00:00:00.000][1][critical][main] [a.cc:1] bad config:\n node {\n }\n: name is empty\n[2026-11-23 00:00:00.001][1][info][main] exiting\n",
			"name is empty",
		},
		"long": {"[critical] " + strings.Repeat("x", 1000), strings.Repeat("x", 300) + " …"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/envoy.log"
			if err := os.WriteFile(path, []byte(test.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := lastWords(path); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
