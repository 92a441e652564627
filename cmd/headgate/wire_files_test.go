package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// What cannot be used is told as it is: with nothing in force nothing is called
// the last good one, and what is not known of a place is left out.
func TestFilesSayWhatIsInForce(t *testing.T) {
	t.Parallel()
	mistake := rollout.ConfigProblem{Path: "key", Message: "none: must stay", Position: routing.Position{File: "churn.yaml", Line: 9}}
	missing := config.Errors{{Message: "cannot read the directory: no such file or directory"}}
	for _, tc := range []struct {
		name    string
		err     error
		current *routing.Config
		useKept bool
		log     string
		missing string
	}{
		{
			"missing at the first start", missing, nil, false,
			`msg="nothing is in force: the configuration directory cannot be used; headgate waits for it" error="cannot read the directory: no such file or directory"`,
			"no configuration is in force: models: cannot read the directory: no such file or directory",
		},
		{
			"missing, a copy may be there", missing, nil, true,
			`msg="the configuration directory cannot be used; headgate waits for it" error="cannot read the directory: no such file or directory"`,
			"no configuration is in force: models: cannot read the directory: no such file or directory",
		},
		{
			"a mistake in the first files", config.Errors{{File: "churn.yaml", Line: 3, Path: "release", Value: "v9", Message: "is unknown"}}, nil, false,
			`msg="nothing is in force: configuration refused; headgate waits for another" file=churn.yaml line=3 path=release error="v9: is unknown"`,
			"no configuration is in force: models: churn.yaml:3: release: v9: is unknown",
		},
		{
			"an edit", &rollout.ConfigError{Problems: []rollout.ConfigProblem{mistake}}, &routing.Config{}, false,
			`msg="configuration refused, the last good one stays in force" file=churn.yaml line=9 path=key error="none: must stay"`, "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			o := serverOptions{LogFormat: "text"}
			f := newFiles(filesOptions{dir: "models", useKept: tc.useKept, log: o.logger(&b)})
			f.current = tc.current
			f.refused(tc.err, time.Now())
			_, line, _ := strings.Cut(strings.TrimSpace(b.String()), "level=ERROR ")
			if line != tc.log {
				t.Errorf("log:\n%s\nwant\n%s", line, tc.log)
			}
			if got := f.missing(); got != tc.missing {
				t.Errorf("missing: %q, want %q", got, tc.missing)
			}
		})
	}
}

// TestLogLeavesOutWhatIsEmpty and keeps the rest.
func TestLogLeavesOutWhatIsEmpty(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"text": "level=INFO msg=hello a=0 c=x\n", "json": `"level":"INFO","msg":"hello","a":0,"c":"x"}` + "\n"} {
		var b strings.Builder
		o := serverOptions{LogFormat: format}
		o.logger(&b).Info("hello", "a", 0, "b", "", "c", "x")
		if !strings.HasSuffix(b.String(), want) {
			t.Errorf("%s: %q, want %q at its end", format, b.String(), want)
		}
	}
}
