package screen

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/demo/traffic"
	"github.com/headgate/headgate/routing/rollout"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func views() map[string]View {
	ends := now.Add(7200 * time.Millisecond)
	start := View{
		Title: "headgate demo, scene 1: a better model takes over", Story: "A better model.", Now: now, Elapsed: 3 * time.Second,
		Status: rollout.Status{
			Model: "tumor", Phase: rollout.PhaseIdle, Stable: "v1.0.0", Step: -1,
			Weights: map[string]float64{"v1.0.0": 100}, Acknowledged: true, Envoys: 1,
			Reason: "v1.0.0 serves everyone",
		},
		Account: traffic.Account{Versions: []traffic.Version{{Name: "v1.0.0"}, {Name: "v2.0.0"}}},
		Events:  []Event{{time.Second, "two models are fitted"}},
	}
	middle := start
	middle.Elapsed = 74 * time.Second
	middle.Status = rollout.Status{
		Model: "tumor", Phase: rollout.PhaseProgressing, Stable: "v1.0.0", Candidate: "v2.0.0",
		Step: 1, Steps: make([]rollout.StepStatus, 4), StepEnds: &ends,
		Weights: map[string]float64{"v1.0.0": 75, "v2.0.0": 25}, Acknowledged: true, Envoys: 1,
		Reason: "25% since 12:00 UTC, held for 12s",
	}
	middle.Account = traffic.Account{
		Sent: 12345, PerSecond: 249.6,
		Versions: []traffic.Version{
			{Name: "v1.0.0", Answered: 11111, Right: 9999, Users: 812, PerSecond: 187, Share: 0.742, P50: 1234 * time.Microsecond, P99: 34 * time.Millisecond},
			{Name: "v2.0.0", Answered: 1234, Right: 1206, Users: 266, PerSecond: 63, Share: 0.258, P50: 987 * time.Microsecond, P99: 9950 * time.Microsecond},
		},
	}
	middle.Events = []Event{
		{10 * time.Second, "step 1 of 4"}, {20 * time.Second, "step 2 of 4"},
		{30 * time.Second, strings.Repeat("a long story ", 10)}, {40 * time.Second, "a\x1b[31m line\nof\ttricks"},
	}
	judged := middle
	judged.Status.Gates = findings("waiting")
	back := judged
	back.Status.Phase, back.Status.Step, back.Status.Gates = rollout.PhaseRolledBack, -1, findings("back")
	bad := middle
	bad.Status.Acknowledged, bad.Status.Waiting, bad.Status.StepEnds = false, []string{"edge-1", "edge-2"}, nil
	bad.Account.Failed, bad.Account.Backwards = 17, 2
	bad.Account.Versions = append([]traffic.Version{}, middle.Account.Versions...)
	bad.Account.Versions[1].Failed = 17
	return map[string]View{"start": start, "middle": middle, "bad": bad, "judged": judged, "back": back}
}

func TestPicture(t *testing.T) {
	for name, v := range views() {
		t.Run(name, func(t *testing.T) {
			lines := Picture(v, 4, Palette{})
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > Width {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			got := strings.Join(lines, "\n") + "\n" + Lines(v) + "\n"
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("picture (-want +got):\n%s", diff)
			}
		})
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

func TestColoursChangeNothingElse(t *testing.T) {
	for name, v := range views() {
		plain, coloured := Picture(v, 4, Palette{}), Picture(v, 4, Palette{Colour: true})
		if cmp.Equal(plain, coloured) {
			t.Errorf("%s: no colours", name)
		}
		for i, line := range coloured {
			coloured[i] = escapes.ReplaceAllString(line, "")
		}
		if diff := cmp.Diff(plain, coloured); diff != "" {
			t.Errorf("%s (-plain +coloured):\n%s", name, diff)
		}
	}
}

func TestBar(t *testing.T) {
	for share, want := range map[float64]string{
		-1: "", 0: "", 0.001: "", 0.01: "▎", 0.10: "██▍", 0.25: "██████", 0.99: "███████████████████████▊",
		1: "████████████████████████", 1.5: "████████████████████████",
	} {
		got := bar(share)
		if utf8.RuneCountInString(got) != barWidth || strings.TrimRight(got, " ") != want {
			t.Errorf("%v: %q, want %q", share, got, want)
		}
	}
}

func live(columns, lines int) (*Screen, *bytes.Buffer) {
	var out bytes.Buffer
	return &Screen{out: &out, live: true, size: func() (int, int) { return columns, lines }}, &out
}

func TestLiveScreenDrawsOverItself(t *testing.T) {
	s, out := live(80, 24)
	v := views()["middle"]
	s.Show(v)
	first := out.String()
	height := strings.Count(first, "\n")
	if strings.Contains(first, "A\r") || height > 23 {
		t.Errorf("the first picture has %d lines: %q", height, first)
	}
	out.Reset()
	s.Show(v)
	want := "\x1b[?25l" + "\x1b[" + strconv.Itoa(height) + "A\r" + strings.TrimPrefix(first, "\x1b[?25l")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("the second picture (-want +got):\n%s", diff)
	}
	out.Reset()
	s.Print("done")
	s.Show(v)
	if diff := cmp.Diff("done\n"+first, out.String()); diff != "" {
		t.Errorf("after a line (-want +got):\n%s", diff)
	}
	out.Reset()
	s.Event(Event{Text: "nothing yet"})
	s.Close()
	if got := out.String(); got != "\x1b[?25h" {
		t.Errorf("close: %q", got)
	}
}

func TestSmallTerminal(t *testing.T) {
	s, out := live(30, 10)
	s.style.Colour = true
	s.Show(views()["middle"])
	lines := strings.Split(strings.TrimSuffix(escapes.ReplaceAllString(out.String(), ""), "\n"), "\n")
	if len(lines) != 9 {
		t.Errorf("%d lines on a terminal of 10", len(lines))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 30 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestPlainScreen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := New(f, false) // a file is no terminal
	s.Event(Event{At: 61 * time.Second, Text: "edited"})
	s.Show(views()["middle"])
	s.Close()
	got, err := os.ReadFile(path)
	want := "01:01  edited\n" + Line(views()["middle"]) + "\n"
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil || s.Live() {
		t.Errorf("live %v, %v (-want +got):\n%s", s.Live(), err, diff)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
