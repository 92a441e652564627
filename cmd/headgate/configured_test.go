package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
)

var mistake = admin.ConfigLine{File: "churn.yaml", Line: 12, Path: "rolout", Message: "is not known here"}

// TestFilesNotInForce shows that nobody has to look into the log to learn that
// an edit was refused.
func TestFilesNotInForce(t *testing.T) {
	loaded := time.Now()
	for _, tc := range []struct {
		name   string
		config admin.Config
		code   int
		banner string
	}{
		{"in force", admin.Config{OK: true, Loaded: &loaded, Attempt: &loaded}, exitOK, ""},
		{"not read yet", admin.Config{}, exitOK, ""},
		{
			"one mistake", admin.Config{Loaded: &loaded, Attempt: &loaded, Errors: []admin.ConfigLine{mistake}}, exitOK,
			"the files are not in force: churn.yaml:12: rolout: is not known here (the last good configuration serves)",
		},
		{
			"many", admin.Config{Loaded: &loaded, Attempt: &loaded, Errors: []admin.ConfigLine{mistake, mistake, mistake, mistake, mistake, mistake, mistake}}, exitOK,
			"\n  and 2 more: headgate config",
		},
		{
			"nothing in force", admin.Config{Attempt: &loaded, Errors: []admin.ConfigLine{{Message: "cannot read the directory: does not exist"}}}, exitNo,
			"the files are not in force: cannot read the directory: does not exist (no configuration is in force)",
		},
	} {
		g := admintest.Start(t, admintest.Options{})
		g.SetConfig(tc.config)
		for _, line := range []string{"status", "status churn"} {
			got := cli(t, strings.Fields(line), "HEADGATE_ADMIN", g.Address)
			if got.code != tc.code || !strings.Contains(got.stdout, tc.banner) ||
				tc.banner == "" && strings.Contains(got.stdout, "not in force") {
				t.Errorf("%s: %s: %+v; want exit %d and %q", tc.name, line, got, tc.code, tc.banner)
			}
		}
		got := cli(t, strings.Fields("status churn -o json"), "HEADGATE_ADMIN", g.Address)
		var m admin.Model
		if err := json.Unmarshal([]byte(got.stdout), &m); err != nil || m.ConfigOK != tc.config.OK || m.ConfigErrors != len(tc.config.Errors) {
			t.Errorf("%s: %+v: %v", tc.name, got, err)
		}
	}
}

// TestWatchIsQuiet looks at what counts as a change where nothing is redrawn.
func TestWatchIsQuiet(t *testing.T) {
	base := matter([]admin.Model{example()}, "", false)
	change := func(fn func(*admin.Model)) string {
		m := example()
		m.Versions = append([]admin.ModelVersion(nil), m.Versions...)
		fn(&m)
		return matter([]admin.Model{m}, "", false)
	}
	for name, tc := range map[string]struct {
		fn   func(*admin.Model)
		same bool
	}{
		"the clock":       {func(m *admin.Model) { m.StepEnds = minus(time.Hour) }, true},
		"a count":         {func(m *admin.Model) { m.Versions[0].Requests++ }, true},
		"the phase":       {func(m *admin.Model) { m.Phase = "paused" }, false},
		"the weight":      {func(m *admin.Model) { m.Versions[0].Wanted = 1 }, false},
		"the answer":      {func(m *admin.Model) { m.Versions[0].Endpoints = admin.Unreachable }, false},
		"the reason":      {func(m *admin.Model) { m.Reason = "another" }, false},
		"the last minute": {func(m *admin.Model) { m.Versions[0].LastMinute.Requests++ }, true},
		"the deadline":    {func(m *admin.Model) { m.StepTimesOut = minus(-time.Hour) }, true},
	} {
		if got := change(tc.fn) == base; got != tc.same {
			t.Errorf("%s: same %t, want %t", name, got, tc.same)
		}
	}
	a, b := example(), example()
	a.Reason, b.Reason = "25% since 12:00 UTC, 3 of at least 60 min", "25% since 12:00 UTC, 4 of at least 60 min"
	if matter([]admin.Model{a}, "", true) != matter([]admin.Model{b}, "", true) {
		t.Error("the minutes that a step has run are taken for a change")
	}
	judged := func(fn func(*admin.Model)) string {
		m := judgedModel(noon)
		fn(&m)
		return matter([]admin.Model{m}, "", false)
	}
	gates := judged(func(*admin.Model) {})
	for name, fn := range map[string]func(*admin.Model){
		"numbers of gates": func(m *admin.Model) {
			for i := range m.Gates {
				g := &m.Gates[i]
				g.N, g.Needed, g.Estimate, g.Low, g.High, g.Text = g.N+1, g.Needed+1, f64(1), f64(2), nil, "other numbers"
			}
		},
		"what a gate lacks":     reasoned("25% since 09:12 UTC, 42 of at least 60 min, waits for latency_p99: 3,191 of about 3,300 requests"),
		"what it lacks is open": reasoned("25% since 09:12 UTC, 42 of at least 60 min, waits for latency_p99: 3,191 requests are not enough"),
	} {
		if judged(fn) != gates {
			t.Errorf("%s: is taken for a change", name)
		}
	}
	const broken = "25% since 09:12 UTC; latency_p99 1.2s vs 480ms, +151% (+120% to +190%) of 2,110 requests, limit +10%: broken, and overruled by ada"
	const later = "25% since 09:12 UTC; latency_p99 980ms vs 0.481ms, +149.2% (at least +121%) of 2,231 requests, limit +10%: broken, shown at 09:20:01 UTC, and overruled by ada"
	if judged(reasoned(broken)) != judged(reasoned(later)) || judged(reasoned(broken)) == gates {
		t.Error("a gate that is broken: other numbers are taken for a change, or none")
	}
	if judged(func(m *admin.Model) { m.Gates[2].Verdict = "safe" }) == gates {
		t.Error("a verdict is no change")
	}
	if matter(nil, "", true) == matter(nil, "the files are not in force", true) {
		t.Error("a banner is no change")
	}
}

func reasoned(reason string) func(*admin.Model) {
	return func(m *admin.Model) { m.Reason = reason }
}
