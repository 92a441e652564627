package main

import (
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing/rollout"
)

func writePEM(t *testing.T, path string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"churn":                        "churn",
		"größer 模型 ✓":                  "größer 模型 ✓",
		"\x1b[31mred\x1b[0m":           `\x1b[31mred\x1b[0m`,
		"a\r\nb\tc":                    `a\r\nb\tc`,
		"\u202egnp.exe":                `\u202egnp.exe`,
		"\xff\xfe":                     `\xff\xfe`,
		"\u009b31m":                    `\u009b31m`,
		"\x00\x07":                     `\x00\a`,
		"zero\u200bwidth":              `zero\u200bwidth`,
		"the replacement character: �": "the replacement character: �",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
	if got := plainLines("a\nb\x1b"); got != "a\nb\\x1b" {
		t.Errorf("plainLines: %q", got)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("\x1b]0;title\x07")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range plain(s) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("plain(%q) has %q", s, r)
			}
		}
	})
}

var (
	noon  = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	minus = func(d time.Duration) *time.Time { t := noon.Add(-d); return &t }
	f64   = func(v float64) *float64 { return &v }
)

// hostile is a model whose every text wants to move the cursor.
func hostile() admin.Model {
	const code = "\x1b[2J\r\n\u202e"
	return admin.Model{
		Status: rollout.Status{
			Model: "m" + code, Phase: rollout.Phase("p" + code), Stable: "s" + code, Candidate: "c" + code,
			Weights: map[string]float64{"w" + code: 50}, Reason: "r" + code, Release: "e" + code, Step: 0,
			Waiting: []string{"n" + code}, Late: []string{"l" + code}, Rejected: "j" + code, Envoys: 1,
			Steps: []rollout.StepStatus{{Kind: "k", For: "f" + code}},
		},
		Versions: []admin.ModelVersion{{Version: "v" + code, Endpoints: admin.Unreachable, EndpointsWhy: "y" + code}},
	}
}

func TestScreensShowNoControlCharacters(t *testing.T) {
	var b strings.Builder
	var s screen
	s.models(&b, []admin.Model{hostile()})
	s.model(&b, hostile(), noon)
	b.WriteString(summary(hostile().Status))
	p := program{stdout: &output{w: &b}}
	p.printEnvoys(admin.Envoys{
		Envoys:  []admin.Envoy{{Node: "\x1b[2J", Version: "\r", Rejected: "\x1b", Warning: "\u202e"}},
		Refused: []admin.RefusedEnvoy{{Node: "\x1b[2J\n", Reason: "\x1b"}},
	}, noon)
	if text := b.String(); strings.ContainsAny(text, "\x1b\r\u202e") {
		t.Errorf("%q", text)
	}
}

func example() admin.Model {
	return admin.Model{
		Status: rollout.Status{
			Model: "churn", Rollout: 3, Phase: rollout.PhaseProgressing, Stable: "v1.0.0", Candidate: "v2.0.0", Release: "v2.0.0",
			Step: 1, Weights: map[string]float64{"v1.0.0": 75, "v2.0.0": 25}, Acknowledged: true, Envoys: 2,
			Reason: "step 1 of 4: 25% for 2h", Since: *minus(2*time.Hour + 10*time.Minute), StepStarted: minus(40 * time.Minute),
			StepEnds: minus(-80 * time.Minute),
			Steps: []rollout.StepStatus{
				{Kind: "traffic", Share: 10, For: "1h0m0s"}, {Kind: "traffic", Share: 25, For: "2h0m0s"},
				{Kind: "traffic", Share: 50}, {Kind: "traffic", Share: 100, For: "90s"},
			},
		},
		Versions: []admin.ModelVersion{
			{
				Version: "v1.0.0", Wanted: 75, Served: f64(74.8123), Endpoints: admin.Reachable,
				LastMinute:    compare.Counts{Requests: 12_031, ClientErrors: 3},
				TrafficCounts: admin.TrafficCounts{Requests: 182_031, Errors: 0, ClientErrors: 12, P50: f64(0.00813), P90: f64(0.0123), P99: f64(0.0401)},
			},
			{
				Version: "v2.0.0", Wanted: 25, Served: f64(25.1877), Endpoints: admin.Unreachable, EndpointsWhy: "127.0.0.1:9102: connection refused",
				LastMinute:    compare.Counts{Requests: 4_011, Errors: 7},
				TrafficCounts: admin.TrafficCounts{Requests: 9_120, Errors: 7, P50: f64(0.00000091), P90: f64(1.25), P99: f64(61.5)},
			},
		},
	}
}

func TestModelOnAScreen(t *testing.T) {
	var b strings.Builder
	screen{terminal: true, width: 100}.model(&b, example(), noon)
	compareGolden(t, "testdata/screen.golden", b.String())
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	var narrow strings.Builder
	m := example()
	m.Reason = strings.Repeat("because ", 20)
	screen{terminal: true, width: 80}.models(&narrow, []admin.Model{m})
	for line := range strings.Lines(narrow.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 86 { // the reason has ten columns at least
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestTimesAddUp looks at a step that waited, or was paused.
func TestTimesAddUp(t *testing.T) {
	for _, tc := range []struct {
		began, left time.Duration
		step, want  string
	}{
		{40 * time.Minute, 80 * time.Minute, "2h0m0s", "ran 40m, 1h20m left"},
		{time.Hour, 80 * time.Minute, "2h0m0s", "ran 40m, 1h20m left (began 1h ago: pauses and waiting for Envoys do not count)"},
		{2700 * time.Millisecond, 7300 * time.Millisecond, "10s", "ran 2s, 8s left"},
		{time.Hour, 0, "", "since 1h"},
	} {
		m := example().Status
		m.StepStarted, m.StepEnds = minus(tc.began), minus(-tc.left)
		if got := stepState(m, rollout.StepStatus{For: tc.step}, noon); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

// TestTroubleIsSeen looks at the line of a model whose candidate fails.
func TestTroubleIsSeen(t *testing.T) {
	for _, tc := range []struct {
		name string
		fn   func(*admin.Model)
		want string
	}{
		{"all fails", func(m *admin.Model) {
			m.Versions[0].LastMinute = compare.Counts{}
			m.Versions[1].LastMinute = compare.Counts{Requests: 40, Errors: 40}
		}, "    40    100%  v2.0.0 does not answer; step"},
		{"few errors", func(m *admin.Model) {
			m.Versions[1].LastMinute = compare.Counts{Requests: 1_000_000, Errors: 3}
		}, "<0.01%"},
		{"no traffic", func(m *admin.Model) {
			m.Versions[0].LastMinute, m.Versions[1].LastMinute = compare.Counts{}, compare.Counts{}
		}, "      0       -  v2.0.0"},
		{"none answers", func(m *admin.Model) { m.Versions[0].Endpoints = admin.Unreachable }, "v1.0.0, v2.0.0 do not answer; step"},
		{"a silent version without users", func(m *admin.Model) { m.Candidate, m.Versions[1].Wanted = "", 0 }, "0.04%  step"},
	} {
		m := example()
		tc.fn(&m)
		var b strings.Builder
		screen{}.models(&b, []admin.Model{m})
		if !strings.Contains(b.String(), tc.want) {
			t.Errorf("%s: %q is not in\n%s", tc.name, tc.want, b.String())
		}
	}
}

func TestColoursOnlyWhereWanted(t *testing.T) {
	for colour, want := range map[bool]bool{true: true, false: false} {
		var b strings.Builder
		screen{terminal: true, width: 100, colour: colour}.model(&b, example(), noon)
		if got := strings.Contains(b.String(), "\x1b[31m"); got != want {
			t.Errorf("colour %t: %q", colour, b.String())
		}
	}
	if s := screenOf(os.NewFile(^uintptr(0), "closed"), os.Getenv); s.terminal || s.colour {
		t.Errorf("not a terminal: %+v", s)
	}
}

func TestTimeSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 42*time.Second + 700*time.Millisecond: "42s", 200 * time.Second: "3m20s", time.Minute: "1m",
		5*time.Hour + 2*time.Minute + time.Second: "5h2m", 3 * time.Hour: "3h", 76 * time.Hour: "3d4h",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%v) = %s, want %s", d, got, want)
		}
	}
	for s, want := range map[float64]string{
		0.0000009: "900ns", 0.0123456: "12.3ms", 0.00099949: "999µs", 1.23456: "1.23s", 61.5: "1m1.5s", 0.1: "100ms",
	} {
		if got := seconds(&s); got != want {
			t.Errorf("seconds(%v) = %s, want %s", s, got, want)
		}
	}
}
