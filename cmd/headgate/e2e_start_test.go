package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing/config"
	"github.com/headgate/headgate/routing/rollout"
)

// spoiled are directories that cannot be used. Each is made where a good one
// was; mended takes it away again.
var spoiled = []struct {
	name  string
	spoil func(t *testing.T, g *gate)
	alive bool // Envoy outlives headgate
}{
	{"missing", func(*testing.T, *gate) {}, true},
	{"empty", func(t *testing.T, g *gate) { noError(t, os.Mkdir(g.conf, 0o755)) }, false},
	{"a file", func(t *testing.T, g *gate) { noError(t, os.WriteFile(g.conf, []byte("model: churn\n"), 0o644)) }, true},
	{"a link to nothing", func(t *testing.T, g *gate) { noError(t, os.Symlink("/nonexistent/conf", g.conf)) }, false},
	{"a broken file", func(t *testing.T, g *gate) {
		noError(t, os.Mkdir(g.conf, 0o755))
		g.write("churn.yaml", "model: churn\nversions: [\n")
	}, false},
}

// TestFaultStartWithoutFiles starts on a journal, with files that cannot be
// used: what was in force before serves, and is called stale.
func TestFaultStartWithoutFiles(t *testing.T) {
	for _, tc := range spoiled {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			g := newGate(t, "run")
			g.write("churn.yaml", p.file("v1"))
			g.start().ready()
			g.serving("churn", "v1", 100)
			g.write("churn.yaml", p.file("v2", "{traffic: 30%}", "{traffic: 100%}"))
			before := g.serving("churn", "v2", 30)
			p.answers(g)
			var load *envoytest.Loader
			if tc.alive {
				load = p.load(t, 100)
			}
			stop(t, g, tc.alive)
			good := g.conf + ".good"
			noError(t, os.Rename(g.conf, good))
			tc.spoil(t, g)

			g.start().ready()
			after := g.serving("churn", "v2", 30)
			if after.Rollout != before.Rollout || after.Step != before.Step || after.Phase != before.Phase {
				t.Errorf("resumed at %+v, was at %+v", after, before)
			}
			c := g.awaitConfig("the mistake and what serves", func(c admin.Config) bool { return refused(c) && c.Hash != "" })
			if c.Loaded == nil || c.Loaded.After(*c.Attempt) {
				t.Errorf("a stale configuration is told as %+v, want its hash and when it was read", c)
			}
			if ok := g.metric("headgate_config_last_reload_successful"); ok != 0 {
				t.Errorf("last reload successful is %v, want 0", ok)
			}
			p.answers(g)
			if !tc.alive {
				load = p.load(t, 100)
			}
			// Commands work all the same.
			g.must("skip", "churn", "--wait")
			g.serving("churn", "v2", 100)

			noError(t, os.RemoveAll(g.conf), os.Rename(good, g.conf))
			g.awaitConfig("the mended directory in force", inForce)
			if ok := g.metric("headgate_config_last_reload_successful"); ok != 1 {
				t.Errorf("mended: last reload successful is %v, want 1", ok)
			}
			g.serving("churn", "v2", 100)
			clean(t, load)
		})
	}
}

// stop kills headgate, and its Envoy unless that lives on.
func stop(t *testing.T, g *gate, envoyLives bool) {
	t.Helper()
	g.keeps()
	g.kill()
	if !envoyLives {
		g.killEnvoy()
	}
}

// keeps waits until the copy is that of the files as they are now, and returns
// its path. It is written after they came into force.
func (g *gate) keeps() (path string) {
	g.t.Helper()
	now, err := os.ReadFile(filepath.Join(g.conf, "churn.yaml"))
	noError(g.t, err)
	path = filepath.Join(g.state, "config.json")
	g.eventually(20*time.Second, "the copy of the configuration", func() bool {
		var kept config.Contents
		data, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(data, &kept) == nil && bytes.Equal(kept.Files["churn.yaml"], now)
	})
	return path
}

// TestFaultOldCopy has headgate killed before it could write the copy: an older
// one takes nobody back to where they were.
func TestFaultOldCopy(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	steps := []string{"{traffic: 30%}", "{traffic: 100%}"}
	g.write("churn.yaml", p.file("v1", steps...))
	g.start().ready()
	g.serving("churn", "v1", 100)
	p.answers(g)
	copied := g.keeps()
	old, err := os.ReadFile(copied)
	noError(t, err)
	g.write("churn.yaml", p.file("v2", steps...))
	before := g.await("churn", "the step", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
	load := p.load(t, 100)
	goesOn(t, load, 50)
	stop(t, g, true)
	noError(t, os.WriteFile(copied, old, 0o600), os.Rename(g.conf, g.conf+".good"))
	holds := g.envoyHolds()

	g.start().up()
	g.awaitConfig("the mistake", refused)
	goesOn(t, load, 100)
	if diff := cmp.Diff(holds, g.envoyHolds()); diff != "" {
		t.Errorf("Envoy was told something (-before +after):\n%s", diff)
	}
	noError(t, os.Rename(g.conf+".good", g.conf))
	g.awaitConfig("the mended directory in force", inForce)
	after := g.await("churn", "the step again", func(s rollout.Status) bool { return settled(s) && s.Weights["v2"] == 30 })
	if after.Rollout != before.Rollout || after.Step != before.Step || after.Phase != before.Phase {
		t.Errorf("resumed at %+v, was at %+v", after, before)
	}
	if moves := clean(t, load).Moves(); len(moves) != 0 {
		t.Errorf("%d users moved, the first: %+v", len(moves), moves[0])
	}
}

// TestFaultFirstStartWithoutFiles starts with nothing to go by: nothing is
// published, until there is something.
func TestFaultFirstStartWithoutFiles(t *testing.T) {
	for _, tc := range spoiled {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			g := newGate(t, "run")
			noError(t, os.Remove(g.conf))
			tc.spoil(t, g)
			g.start().up()
			g.eventually(20*time.Second, "an Envoy", func() bool {
				return g.metric("headgate_envoys_connected") == 1
			})
			if tc.name != "empty" {
				g.awaitConfig("the mistake", func(c admin.Config) bool { return refused(c) && c.Hash == "" && c.Loaded == nil })
			}
			if has := g.envoyHolds(); len(has) != 0 {
				t.Errorf("Envoy was told %v, want nothing", has)
			}
			if status, body, err := g.get("/readyz"); err != nil || status != http.StatusServiceUnavailable {
				t.Errorf("/readyz: HTTP %d, %v: %s, want 503", status, err, body)
			} else if why := "no configuration is in force: " + g.conf; tc.name != "empty" && !strings.Contains(body, why) {
				t.Errorf("/readyz does not say %q: %s", why, body)
			}
			if !p.closed() {
				t.Error("somebody listens")
			}
			noError(t, os.RemoveAll(g.conf), os.Mkdir(g.conf, 0o755))
			g.write("churn.yaml", p.file("v1"))
			g.ready().serving("churn", "v1", 100)
			p.answers(g)
		})
	}
}

// TestFaultStaleCopy spoils the copy, too.
func TestFaultStaleCopy(t *testing.T) {
	t.Parallel()
	p, g := servedPair(t)
	p.answers(g)
	load := p.load(t, 100)
	stop(t, g, true)
	noError(t, os.Rename(g.conf, g.conf+".good"))
	copied := filepath.Join(g.state, "config.json")
	data, err := os.ReadFile(copied)
	noError(t, err, os.WriteFile(copied, []byte(strings.Replace(string(data), "{", "[", 1)), 0o600))
	g.start().up()
	g.awaitConfig("the mistake", refused)
	sent := load.Sent()
	envoytest.Eventually(t, 20*time.Second, "requests without a configuration", func() bool { return load.Sent() > sent+50 })
	noError(t, os.Rename(g.conf+".good", g.conf))
	g.awaitConfig("the mended directory in force", inForce)
	g.ready().serving("churn", "v1", 100)
	clean(t, load)
}
