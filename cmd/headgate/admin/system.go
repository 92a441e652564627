package admin

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Envoys is the answer of GET /v1/envoys.
type Envoys struct {
	Envoys  []Envoy        `json:"envoys"`
	Refused []RefusedEnvoy `json:"refused" doc:"those that were not let in, newest first"`
}

// Envoy is an Envoy that is connected, or was a moment ago.
type Envoy struct {
	Node         string    `json:"node" doc:"its node id"`
	Version      string    `json:"version" doc:"of Envoy, as it says; empty: unknown"`
	Since        time.Time `json:"since" doc:"when it connected"`
	Gone         bool      `json:"gone" doc:"its stream has ended, it may come back"`
	Acknowledged bool      `json:"acknowledged" doc:"it has all that was sent"`
	Behind       int       `json:"behind" doc:"models of which it has not acknowledged the newest state"`
	Rejected     string    `json:"rejected,omitempty" doc:"Envoy's own words, when it refused something"`
	Warning      string    `json:"warning,omitempty" doc:"what is wrong with its bootstrap"`
	Records      bool      `json:"records" doc:"its access log stream is open"`
}

// RefusedEnvoy is one that was not let in.
type RefusedEnvoy struct {
	Node   string    `json:"node" doc:"as it called itself"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Config is what is known of the configuration directory.
type Config struct {
	Directory string       `json:"directory"`
	Hash      string       `json:"hash" doc:"of what is in force; empty: nothing is"`
	Loaded    *time.Time   `json:"loaded" doc:"when what is in force was read; null: nothing is"`
	Attempt   *time.Time   `json:"attempt" doc:"when the files were last read"`
	OK        bool         `json:"ok" doc:"the files as they are now are in force"`
	Polling   bool         `json:"polling" doc:"the system tells no changes, the files are read again and again"`
	Errors    []ConfigLine `json:"errors" doc:"what is wrong with the files as they are now"`
	Warnings  []ConfigLine `json:"warnings" doc:"what is in force and should be seen to"`
}

// maxFiles bounds the body of a check, in bytes.
const maxFiles = 64 << 20

// ConfigFiles is the body of POST /v1/config/check.
type ConfigFiles struct {
	Files map[string][]byte `json:"files" doc:"contents in base64, by their names in the directory"`
}

// ConfigCheck is the answer of POST /v1/config/check.
type ConfigCheck struct {
	OK     bool         `json:"ok" doc:"the files would be taken now"`
	Errors []ConfigLine `json:"errors" doc:"why not"`
}

// ConfigLine is one mistake in the configuration.
type ConfigLine struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

// String is the line as compilers write it: file:line: path: message.
func (l ConfigLine) String() string {
	var b strings.Builder
	if l.File != "" {
		b.WriteString(l.File + ":")
		if l.Line > 0 {
			b.WriteString(strconv.Itoa(l.Line) + ":")
		}
		b.WriteByte(' ')
	}
	if l.Path != "" {
		b.WriteString(l.Path + ": ")
	}
	return b.String() + l.Message
}

func (a *api) listEnvoys(w http.ResponseWriter, _ *http.Request) error {
	list := a.Envoys()
	list.Envoys = notNil(list.Envoys)
	list.Refused = notNil(list.Refused)
	return WriteJSON(w, list)
}

func (a *api) showConfig(w http.ResponseWriter, _ *http.Request) error {
	c := a.Config()
	c.Errors, c.Warnings = notNil(c.Errors), notNil(c.Warnings)
	return WriteJSON(w, c)
}

func (a *api) checkConfig(w http.ResponseWriter, r *http.Request) error {
	var body ConfigFiles
	if err := ReadJSON(r, &body); err != nil {
		return err
	}
	for name := range body.Files {
		if !filepath.IsLocal(name) {
			return Problemf(http.StatusBadRequest, "files: %q: must be a name inside of the directory", name)
		}
	}
	lines, err := a.Check(r.Context(), body.Files)
	if err != nil {
		return err
	}
	return WriteJSON(w, ConfigCheck{OK: len(lines) == 0, Errors: notNil(lines)})
}
