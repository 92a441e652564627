package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/extproc"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/config"
	"github.com/headgate/headgate/routing/journal"
	"github.com/headgate/headgate/routing/rollout"
	"github.com/headgate/headgate/xds"
)

// fullJournal is a journal on a disk that can be full.
type fullJournal struct {
	*journal.Memory
	full atomic.Bool
}

func (j *fullJournal) Append(ctx context.Context, records ...*rollout.Record) error {
	if j.full.Load() {
		return errors.New("disk full")
	}
	return j.Memory.Append(ctx, records...)
}

// A start with a full disk serves what was kept. When there is room, the files
// as they are come into force without another edit, and are known to be.
func TestFilesWaitForTheJournal(t *testing.T) {
	t.Parallel()
	const file = "model: churn\nlisten: 127.0.0.1:8080\nversions:\n" +
		"  v1: {endpoints: [\"127.0.0.1:9101\"]}\n  v2: {endpoints: [\"127.0.0.1:9102\"]}\nrelease: "
	conf, state := t.TempDir(), t.TempDir()
	kept := filepath.Join(state, "config.json")
	noError(t, writeKept(kept, &config.Contents{Files: map[string][]byte{"churn.yaml": []byte(file + "v1\n")}}))
	noError(t, os.WriteFile(filepath.Join(conf, "churn.yaml"), []byte(file+"v2\n"), 0o600))
	edited, err := config.Load(conf)
	noError(t, err)

	j := &fullJournal{Memory: journal.NewMemory(rollout.Record{
		Model: "churn", Kind: rollout.KindSeen, Time: time.Now(), Data: []byte(`{"v":1,"stable":"v1"}`),
	})}
	j.full.Store(true)
	log := slog.New(slog.DiscardHandler)
	c, err := rollout.New(t.Context(), rollout.Options{
		Journal: j, Publisher: publisher{xds.NewPublisher(xds.PublisherOptions{}), extproc.New(log)},
		Prober: newProber(func(_, _ string) *routing.Version { return nil }),
	})
	noError(t, err)
	f := newFiles(filesOptions{dir: conf, state: state, useKept: true, controller: c, taken: func(*routing.Config) {}, log: log})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- c.Run(ctx) }()
	go func() { ended <- f.run(ctx) }()
	defer func() { cancel(); <-ended; <-ended }()

	envoytest.Eventually(t, 20*time.Second, "what was kept", func() bool { return f.config() != nil })
	if got := f.status(); got.OK || len(got.Errors) != 1 || f.config().Hash == edited.Hash {
		t.Errorf("while the disk is full: %+v", got)
	}
	j.full.Store(false)
	envoytest.Eventually(t, 20*time.Second, "the edited files", func() bool { return f.status().OK })
	if got := f.status(); got.Hash != edited.Hash || len(got.Errors) > 0 {
		t.Errorf("with room again: %+v", got)
	}
	if s, _ := c.Status("churn"); s.Candidate != "v2" {
		t.Errorf("candidate %q, want v2: %s", s.Candidate, s.Reason)
	}
}
