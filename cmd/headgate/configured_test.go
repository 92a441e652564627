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
		"the clock":  {func(m *admin.Model) { m.StepEnds = minus(time.Hour) }, true},
		"a count":    {func(m *admin.Model) { m.Versions[0].Requests++ }, true},
		"the phase":  {func(m *admin.Model) { m.Phase = "paused" }, false},
		"the weight": {func(m *admin.Model) { m.Versions[0].Wanted = 1 }, false},
		"the answer": {func(m *admin.Model) { m.Versions[0].Endpoints = admin.Unreachable }, false},
		"the reason": {func(m *admin.Model) { m.Reason = "another" }, false},
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
	if matter(nil, "", true) == matter(nil, "the files are not in force", true) {
		t.Error("a banner is no change")
	}
}
