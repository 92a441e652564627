package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds/accesslog"
)

// records takes what Envoys log of each request, and counts it.
type records struct {
	ledger   *compare.Ledger
	receiver *accesslog.Receiver
}

// newRecords uses the secret of the state folder, so that a user has the same
// number after a restart.
func newRecords(state string, check func(ctx context.Context, id string) error, log *slog.Logger) (*records, error) {
	secret, err := keySecret(filepath.Join(state, "user-key"))
	if err != nil {
		return nil, fmt.Errorf("secret for users' keys: %w", err)
	}
	ledger := compare.NewLedger(compare.Limits{})
	return &records{
		ledger: ledger,
		receiver: accesslog.New(accesslog.Options{
			Sink: ledger, Hasher: accesslog.NewHasher(secret), NodeIDFromPeer: check, Log: log,
		}),
	}, nil
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
