package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/demo/screen"
	"github.com/headgate/headgate/cmd/demo/traffic"
)

func TestSummary(t *testing.T) {
	zero := noon
	s := summary{took: 61_400 * time.Millisecond, firstAfter: 43 * time.Millisecond}
	s.outcome.scene = scenes[0]
	s.outcome.account = traffic.Account{
		Sent: 15012, Failed: 7, Backwards: 1, Failures: map[string]int{"EOF": 2, "HTTP 503": 5},
		Versions: []traffic.Version{
			{Name: "v1.0.0", Answered: 10000, Right: 8990}, {Name: "v2.0.0", Answered: 5005, Right: 4900},
		},
	}
	s.stages = []traffic.Stage{
		{Name: "v1.0.0 alone", Began: zero, Ended: zero.Add(5 * time.Second), Requests: 1250, Answered: map[string]int{"v1.0.0": 1250}},
		{Name: "10%", Began: zero, Ended: zero.Add(12 * time.Second), Requests: 3007, Failed: 7, Answered: map[string]int{"v1.0.0": 2700, "v2.0.0": 300}},
		{Name: "25%", Began: zero, Ended: zero},
	}
	s.wrong = s.outcome.wrong()
	var b strings.Builder
	s.write(&b, screen.Palette{})
	want := `
scene 1, a better model takes over: FAILED after 61 s

  requests sent                           15012
  failed                                      7  0 by v2.0.0
  users who changed version backwards         1
  accuracy of v1.0.0                      89.9%  of 10000 answers
  accuracy of v2.0.0                      97.9%  of 5005 answers
  first answer by v2.0.0                  43 ms  after the file was saved

  stage                held   requests   failed    by v2.0.0
  v1.0.0 alone        5.0 s       1250        0         0.0%
  10%                12.0 s       3007        7        10.0%
  25%                 0.0 s          0        0         0.0%

failed 2 times: EOF
failed 5 times: HTTP 503
not as it should be: the rollout is , not completed: 
not as it should be: 7 requests failed
not as it should be: users went back to an older version 1 times
scene 1  FAILED: 15012 requests, 7 failed (0 by v2.0.0)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 18)
	for text, want := range map[string]string{
		"":               "",
		"one":            "  one",
		"one\n two":      "  one two",
		long:             "  " + strings.TrimSpace(strings.Repeat("word ", 15)) + "\n  word word word",
		"x " + long[:73]: "  x " + long[:73],
	} {
		if diff := cmp.Diff(want, wrap(text, 2)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
