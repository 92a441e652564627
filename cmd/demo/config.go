package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// modelName is the model that is released.
const modelName = "tumor"

// release is what the configuration file says.
type release struct {
	Listen                string // HOST:PORT
	Stable, Candidate     string // names of the versions
	StableAt, CandidateAt string // HOST:PORT
	Shares                []string
	For                   time.Duration // each step, at least
	Gates                 []string      // as they are written
}

var file = template.Must(template.New("file").Parse(`model: tumor
listen: {{.Listen}}
match: {prefix: /predict}
versions:
  {{.Stable}}: {endpoints: ["{{.StableAt}}"]}
  {{.Candidate}}: {endpoints: ["{{.CandidateAt}}"]}
release: {{.Stable}}
key: {header: x-user-id, absent: cookie}
overrides:
  - {header: canary, equals: "true", version: {{.Candidate}}}
rollout:
  steps:
{{- range .Shares}}
    - {traffic: {{.}}, for: {{$.For}}}
{{- end}}
  gates:
{{- range .Gates}}
    - {{.}}
{{- end}}
`))

// text returns the file's content.
func (r release) text() (string, error) {
	var b strings.Builder
	if err := file.Execute(&b, r); err != nil {
		return "", err
	}
	return b.String(), nil
}

// edit changes the version that a file releases and saves it over the old
// content, as a plain editor does.
func edit(path, version string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "release: ") {
			lines[i] = "release: " + version
			return os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600)
		}
	}
	return fmt.Errorf("%s: has no release", filepath.Base(path))
}

// freeAddress returns a loopback address on which nothing listens. It is not
// from the range out of which the kernel gives ports to connections, so it
// stays free until the one for whom it is listens.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		l, err := net.Listen("tcp", address) //nolint:noctx // returns at once
		if err != nil {
			continue
		}
		return address, l.Close()
	}
	return "", errors.New("no free port from 20000 to 29999")
}
