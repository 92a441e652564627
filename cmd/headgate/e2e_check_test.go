package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/routing/rollout"
)

// TestValidateAsksTheRunningHeadgate has an edit that is fine by itself and
// would be refused in the middle of a rollout.
func TestValidateAsksTheRunningHeadgate(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	middle := p.file("v2", "{traffic: 50%}", "{traffic: 100%}")
	g.write("churn.yaml", middle)
	g.serving("churn", "v2", 50)

	dir := t.TempDir()
	for _, tc := range []struct {
		name, content string
		code          int
		want          string
	}{
		{"the same", middle, exitOK, "would take it now"},
		{"another key", strings.Replace(middle, "x-user-id", "x-account", 1), exitNo, "churn.yaml:8: key"},
		{"broken", strings.Replace(middle, "release: v2", "release: v9", 1), exitNo, "churn.yaml:7: release"},
	} {
		noError(t, os.WriteFile(filepath.Join(dir, "churn.yaml"), []byte(tc.content), 0o644))
		if alone := cli(t, []string{"validate", dir}); tc.name != "broken" && alone.code != exitOK {
			t.Errorf("%s: by itself: %+v", tc.name, alone)
		}
		got := cli(t, []string{"validate", dir, "--running"}, "HEADGATE_ADMIN", g.admin)
		if got.code != tc.code || !strings.Contains(got.stdout, tc.want) {
			t.Errorf("%s: %+v; want exit %d and %q", tc.name, got, tc.code, tc.want)
		}
	}
	entries, err := os.ReadDir(g.state)
	noError(t, err)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), ".config-") {
			t.Errorf("left in the state folder: %s", e.Name())
		}
	}
	st := g.await("churn", "nothing", func(rollout.Status) bool { return true })
	if c := g.awaitConfig("no change", inForce); st.Weights["v2"] != 50 || !c.OK {
		t.Errorf("a check changed something: %+v, %+v", st, c)
	}
}
