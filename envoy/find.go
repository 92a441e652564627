package envoy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MinVersion is the oldest Envoy that headgate was tried with.
const MinVersion = "1.40.0"

// installed is where `make envoy` puts the pinned Envoy, from the root of the
// repository.
var installed = filepath.Join(".tools", "envoy", "bin", "envoy")

// Binary is an Envoy on this machine.
type Binary struct {
	Path    string // absolute
	Version string // "1.40.0"
}

// ErrNoEnvoy is wrapped by the error of [Find] when there is none at all.
var ErrNoEnvoy = errors.New("no Envoy found: run `make envoy`, or name one with --envoy or $ENVOY")

// Find returns the Envoy to run. Explicit (the flag --envoy) and then $ENVOY
// decide alone when they are set. Otherwise it is the first one that is new
// enough of the PATH and of what `make envoy` installed, looked for beside the
// running program and in the working directory.
func Find(ctx context.Context, explicit string) (Binary, error) {
	if explicit != "" {
		return named(ctx, "--envoy", explicit)
	}
	if path := os.Getenv("ENVOY"); path != "" {
		return named(ctx, "$ENVOY", path)
	}
	var problems []error
	for _, candidate := range candidates() {
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		binary, err := inspect(ctx, path)
		if err == nil {
			return binary, nil
		}
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return Binary{}, fmt.Errorf("%w (run `make envoy` to install Envoy %s)", errors.Join(problems...), MinVersion)
	}
	return Binary{}, ErrNoEnvoy
}

// candidates are the places without a setting, best first.
func candidates() []string {
	places := []string{"envoy"}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			places = append(places, filepath.Join(filepath.Dir(filepath.Dir(self)), installed))
		}
	}
	if dir, err := os.Getwd(); err == nil {
		places = append(places, filepath.Join(dir, installed))
	}
	return places
}

func named(ctx context.Context, source, value string) (Binary, error) {
	path, err := exec.LookPath(value)
	if err != nil {
		return Binary{}, fmt.Errorf("%s: %s: not an executable file (run `make envoy` to install Envoy %s)", source, value, MinVersion)
	}
	binary, err := inspect(ctx, path)
	if err != nil {
		return Binary{}, fmt.Errorf("%s: %w", source, err)
	}
	return binary, nil
}

// versionLine is what `envoy --version` prints: commit, version, state of the
// source tree, kind of build, TLS library.
var versionLine = regexp.MustCompile(`version: \S*/(\d+\.\d+\.\d+)(?:-\w+)?/`)

// inspect asks a binary for its version.
func inspect(ctx context.Context, path string) (Binary, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Binary{}, fmt.Errorf("%s --version: %w", path, err)
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return Binary{}, fmt.Errorf("%s --version: %q: not an Envoy", path, firstLine(string(out)))
	}
	version := string(match[1])
	if older(version, MinVersion) {
		return Binary{}, fmt.Errorf("%s: version %s: must be at least %s", path, version, MinVersion)
	}
	return Binary{Path: path, Version: version}, nil
}

// older compares versions of three numbers.
func older(a, b string) bool {
	left, right := strings.Split(a, "."), strings.Split(b, ".")
	for i := range right {
		l, _ := strconv.Atoi(left[i])
		r, _ := strconv.Atoi(right[i])
		if l != r {
			return l < r
		}
	}
	return false
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line[:min(len(line), 200)]
}
