package admin

import (
	"context"
	"slices"
)

// Role is what a caller may do.
type Role string

// The roles. Each may do what those before it may.
const (
	RoleNone     Role = "none"     // no token needed: health
	RoleViewer   Role = "viewer"   // look
	RoleOperator Role = "operator" // move traffic
	RoleAdmin    Role = "admin"    // say what is true, see [rollout.ActionAdopt]
)

var roles = []Role{RoleNone, RoleViewer, RoleOperator, RoleAdmin}

// includes tells whether r may do what needed asks for.
func (r Role) includes(needed Role) bool {
	have, need := slices.Index(roles, r), slices.Index(roles, needed)
	return have >= 0 && need >= 0 && have >= need
}

// Caller is who sent a request.
type Caller struct {
	Name string // of the token; without tokens "cli" or "cli (USER)" for headgate's own, else "api"
	Role Role
}

type callerKey struct{}

// CallerOf returns who sent the request of a handler's context.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
