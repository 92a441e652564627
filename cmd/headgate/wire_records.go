package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds/accesslog"
)

// records takes what Envoys log of each request: it is counted, and judged.
type records struct {
	ledger   *compare.Ledger
	recorder *recorder
	judge    *compare.Judge
	receiver *accesslog.Receiver
}

// Observe is told of each request. Answers to copies reached no user: they are
// for the judge alone.
func (r *records) Observe(o compare.Observation) {
	r.judge.Observe(o)
	if !o.Mirrored {
		r.ledger.Observe(o)
	}
}

// Gap is told of times in which an Envoy's records may be lost.
func (r *records) Gap(node string, from, to time.Time) {
	r.judge.Gap(node, from, to)
	r.ledger.Gap(node, from, to)
}

// newRecords uses the secret of the state folder, so that a user has the same
// number after a restart.
func newRecords(state string, steps func(model string) []routing.Step, check func(ctx context.Context, id string) error, log *slog.Logger) (*records, error) {
	secret, err := keySecret(filepath.Join(state, "user-key"))
	if err != nil {
		return nil, fmt.Errorf("secret for users' keys: %w", err)
	}
	r := &records{ledger: compare.NewLedger(compare.Limits{}), recorder: newRecorder(state, steps, log)}
	r.judge = compare.NewJudge(compare.JudgeOptions{Log: log, Record: r.recorder.record})
	r.receiver = accesslog.New(accesslog.Options{
		Sink: r, Hasher: accesslog.NewHasher(secret), NodeIDFromPeer: check, Log: log,
	})
	return r, nil
}

const secretSize = 32

// keySecret reads the file, and makes it when it is not there. It is there
// whole or not at all.
func keySecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) != secretSize {
		return nil, fmt.Errorf("%s: has %d bytes, must have %d", path, len(secret), secretSize)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	if err := os.WriteFile(path+".new", secret, 0o600); err != nil {
		return nil, err
	}
	return secret, os.Rename(path+".new", path)
}

func (r *records) register(s grpc.ServiceRegistrar) { r.receiver.Register(s) }

// retain forgets the versions that left the configuration.
func (r *records) retain(c *routing.Config) {
	known := map[string]bool{}
	for _, m := range c.Models {
		for _, v := range m.Versions {
			known[routing.ClusterName(m.Name, v.Name)] = true
		}
	}
	r.ledger.Retain(func(model, version string) bool { return known[routing.ClusterName(model, version)] })
}
