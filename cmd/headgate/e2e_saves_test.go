package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// named returns the pair's file for another model behind the same listener, in
// the first step from v1 to v2.
func (p pair) named(model string, percent int) string {
	text := p.file("v2", fmt.Sprintf("{traffic: %d%%}", percent), "{traffic: 100%}")
	return strings.NewReplacer("model: churn", "from: v1\nmodel: "+model, "/predict", "/"+model).Replace(text)
}

// sharesOf returns the shares of the candidate that the journal has of a
// model, in order, and the position of each record.
func (g *gate) sharesOf(model string) (shares []int, positions []int64) {
	g.t.Helper()
	for _, r := range g.history(model) {
		if r.Kind != rollout.KindStarted && r.Kind != rollout.KindSteps {
			continue
		}
		var d struct {
			Steps []struct {
				Share routing.Share `json:"share"`
			} `json:"steps"`
		}
		noError(g.t, json.Unmarshal(r.Data, &d))
		shares, positions = append(shares, int(d.Steps[0].Share.Percent())), append(positions, r.Seq)
	}
	return shares, positions
}

// TestFaultSaves saves a file in all the ways that editors and scripts do,
// under load. Each state is reached, and nothing else ever.
func TestFaultSaves(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	file := func(percent int) string {
		return p.file("v2", fmt.Sprintf("{traffic: %d%%}", percent), "{traffic: 100%}")
	}
	path := filepath.Join(g.conf, "churn.yaml")
	g.write("churn.yaml", p.file("v1"))
	g.start().ready()
	g.serving("churn", "v1", 100)
	p.answers(g)
	load := p.load(t, 200)
	g.write("churn.yaml", file(1))
	g.serving("churn", "v2", 1)

	pause := func(most time.Duration) { <-time.After(rand.N(most)) }
	saves := []func(text string){
		func(text string) { g.write("churn.yaml", text) }, // renamed into place
		func(text string) { // truncated, and written in two steps
			f, err := os.Create(path)
			noError(t, err)
			at := rand.IntN(len(text))
			_, first := f.WriteString(text[:at])
			pause(30 * time.Millisecond)
			_, second := f.WriteString(text[at:])
			noError(t, first, second, f.Close())
		},
		func(text string) { // the same by a program that closes the file in between
			at := rand.IntN(len(text))
			noError(t, os.WriteFile(path, []byte(text[:at]), 0o644))
			pause(30 * time.Millisecond)
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			noError(t, err)
			_, err = f.WriteString(text[at:])
			noError(t, err, f.Close())
		},
		func(text string) { // deleted, and made anew
			noError(t, os.Remove(path))
			pause(30 * time.Millisecond)
			noError(t, os.WriteFile(path, []byte(text), 0o644))
		},
		func(text string) { // the old one kept as a backup, the mode changed
			noError(t, os.Rename(path, path+"~"))
			noError(t, os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, 0o640), os.Chmod(path, 0o644))
		},
	}
	want := []int{1}
	for i := range times(20, 95) {
		percent := i + 2
		saves[i%len(saves)](file(percent))
		g.serving("churn", "v2", float64(percent))
		want = append(want, percent)
	}
	noError(t, os.Chmod(path, 0o600))
	got, _ := g.sharesOf("churn")
	if !slices.Equal(got, want) {
		t.Errorf("shares in the journal: %v, want each that was saved, once: %v", got, want)
	}
	report := clean(t, load)
	if back := report.Backwards("v1", "v2"); len(back) != 0 {
		t.Errorf("%d users went back while the share only grew, the first: %+v", len(back), back[0])
	}
	if c, err := g.config(); err != nil || !inForce(c) {
		t.Errorf("the configuration at last: %+v, %v", c, err)
	}
}

// TestFaultConfigMap swaps a symbolic link, as the kubelet does, behind which
// two files change together. They are never mixed.
func TestFaultConfigMap(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	models := []string{"churn", "predict"} // the load asks the second
	swap := func(percent int) {
		g.t.Helper()
		dir := fmt.Sprintf("..%d", percent)
		noError(t, os.Mkdir(filepath.Join(g.conf, dir), 0o755))
		for _, m := range models {
			noError(t, os.WriteFile(filepath.Join(g.conf, dir, m+".yaml"), []byte(p.named(m, percent)), 0o644))
		}
		tmp := filepath.Join(g.conf, "..data_tmp")
		noError(t, os.Symlink(dir, tmp), os.Rename(tmp, filepath.Join(g.conf, "..data")),
			os.RemoveAll(filepath.Join(g.conf, fmt.Sprintf("..%d", percent-1))))
	}
	swap(1)
	for _, m := range models {
		noError(t, os.Symlink("..data/"+m+".yaml", filepath.Join(g.conf, m+".yaml")))
	}
	g.start().ready()
	g.awaitShares(models, 1)
	p.answers(g)
	load := p.load(t, 200)
	last := times(20, 98)
	for percent := 2; percent <= last; percent++ {
		swap(percent)
		// Half of the swaps come while the one before is on its way.
		if percent%2 == 0 || percent == last {
			g.awaitShares(models, percent)
		}
	}
	shares, first := g.sharesOf(models[0])
	others, second := g.sharesOf(models[1])
	if !slices.Equal(shares, others) {
		t.Errorf("shares in the journal:\n%s: %v\n%s: %v\nwant the same", models[0], shares, models[1], others)
	}
	if len(shares) == 0 || shares[len(shares)-1] != last || !slices.IsSorted(shares) {
		t.Errorf("shares in the journal: %v, want them growing up to %d", shares, last)
	}
	for i := 1; i < min(len(first), len(second)); i++ { // at the start each model has two records
		if d := first[i] - second[i]; d != 1 && d != -1 {
			t.Errorf("swap to %d %%: records %d and %d, want them side by side", shares[i], first[i], second[i])
		}
	}
	clean(t, load)
}

func (g *gate) awaitShares(models []string, percent int) {
	g.t.Helper()
	for _, m := range models {
		g.serving(m, "v2", float64(percent))
	}
}
