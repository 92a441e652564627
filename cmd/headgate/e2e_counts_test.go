package main

import (
	"encoding/json"
	"net/http"

	"github.com/headgate/headgate/cmd/headgate/admin"
)

// versions are a model's versions as the admin surface tells them.
func (g *gate) versions(model string) map[string]admin.ModelVersion {
	g.t.Helper()
	var m admin.Model
	status, body, err := g.get("/v1/models/" + model)
	if err == nil {
		err = json.Unmarshal([]byte(body), &m)
	}
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("versions of %s: HTTP %d, %v", model, status, err)
	}
	all := map[string]admin.ModelVersion{}
	for _, v := range m.Versions {
		all[v.Version] = v
	}
	return all
}

// requests is how many requests of a version were told.
func (g *gate) requests(model, version string) uint64 {
	g.t.Helper()
	return g.versions(model)[version].Requests
}
