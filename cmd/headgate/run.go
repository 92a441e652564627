package main

import (
	"context"
	"errors"
)

func runServer(context.Context, serverOptions, bool) error {
	return errors.New("not wired")
}
