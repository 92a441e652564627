package main

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// hushed is the log of what Envoys do. While headgate ends their streams break
// off because of that, and to say so would be a false alarm: only for debugging.
type hushed struct {
	slog.Handler
	ending *atomic.Bool
}

func (h hushed) Handle(ctx context.Context, r slog.Record) error {
	if h.ending.Load() && r.Level < slog.LevelError {
		if !h.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return h.Handler.Handle(ctx, r)
}

func (h hushed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return hushed{h.Handler.WithAttrs(attrs), h.ending}
}

func (h hushed) WithGroup(name string) slog.Handler {
	return hushed{h.Handler.WithGroup(name), h.ending}
}
