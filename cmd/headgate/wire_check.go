package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing/config"
	"github.com/headgate/headgate/routing/rollout"
)

// checker tells whether files would be taken by the running headgate. One is
// asked at a time: a check costs as much as an edit of all files.
type checker struct {
	dir        string // for what is unpacked
	controller *rollout.Controller
	mu         sync.Mutex
}

// check returns why the files would not be taken now; nothing changes.
func (c *checker) check(_ context.Context, files map[string][]byte) ([]admin.ConfigLine, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	loaded, err := loadContents(c.dir, files)
	var wrong config.Errors
	switch {
	case errors.As(err, &wrong):
		return configLines(err), nil
	case err != nil:
		return nil, fmt.Errorf("check files: %w", err)
	}
	if problems := c.controller.Check(loaded); len(problems) > 0 {
		return configLines(&rollout.ConfigError{Problems: problems}), nil
	}
	return nil, nil
}
