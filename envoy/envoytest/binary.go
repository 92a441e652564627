package envoytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Binary returns the path of the Envoy to test with: $ENVOY, then
// .tools/envoy/bin/envoy in the repository, then the PATH. Without one the
// test fails.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ENVOY"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			t.Fatalf("$ENVOY: %v", err)
		}
		return path
	}
	if root, ok := repositoryRoot(); ok {
		path := filepath.Join(root, ".tools", "envoy", "bin", "envoy")
		if _, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("envoy")
	if err != nil {
		t.Fatal("no Envoy to test with: run `make envoy`, or set ENVOY to the path of one")
	}
	return path
}

// repositoryRoot is the nearest directory upwards with a go.mod.
func repositoryRoot() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}
