package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/routing/rollout"
)

// TestFaultBrokenFiles edits the directory in ways that must not be taken, and
// shows that Envoy sees nothing of it.
func TestFaultBrokenFiles(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	fine := p.file("v1")
	g.write("churn.yaml", fine)
	g.start().ready()
	g.serving("churn", "v1", 100)
	p.answers(g)
	outside := filepath.Join(t.TempDir(), "outside.yaml")
	noError(t, os.WriteFile(outside, []byte(strings.Replace(fine, "churn", "other", 1)), 0o644))
	load := p.load(t, 100)
	before := g.envoyHolds()
	if len(before) < 4 {
		t.Fatalf("Envoy holds %v, want a listener, a route table and two clusters at least", before)
	}

	for _, tc := range []struct {
		name, file, content string // content empty: a symbolic link to outside
		want                admin.ConfigLine
	}{
		{"two models on one route", "zz.yaml", strings.Replace(fine, "model: churn", "model: fraud", 1),
			admin.ConfigLine{File: "zz.yaml", Line: 3, Path: "match"}},
		{"the same model twice", "zz.yaml", fine, admin.ConfigLine{File: "zz.yaml", Line: 1, Path: "model"}},
		{"no YAML", "churn.yaml", "model: churn\n  listen: [\n", admin.ConfigLine{File: "churn.yaml", Line: 2}},
		{"an unknown version", "churn.yaml", strings.Replace(fine, "release: v1", "release: v3", 1),
			admin.ConfigLine{File: "churn.yaml", Line: 7, Path: "release"}},
		{"an unknown field", "churn.yaml", fine + "relase: v2\n", admin.ConfigLine{File: "churn.yaml", Line: 11, Path: "relase"}},
		{"an empty file", "churn.yaml", "\n", admin.ConfigLine{File: "churn.yaml"}},
		{"an injected cluster", "churn.yaml", strings.ReplaceAll(fine, "v2:", "\"v2/../x\":"),
			admin.ConfigLine{File: "churn.yaml", Line: 6}},
		{"a file outside", "zz.yaml", "", admin.ConfigLine{File: "zz.yaml"}},
	} {
		if tc.content == "" {
			noError(t, os.Symlink(outside, filepath.Join(g.conf, tc.file)))
		} else {
			g.write(tc.file, tc.content)
		}
		c := g.awaitConfig("refusal of "+tc.name, refused)
		checkLine(t, tc.name, c.Errors, tc.want)
		if ok := g.metric("headgate_config_last_reload_successful"); ok != 0 {
			t.Errorf("%s: last reload successful is %v, want 0", tc.name, ok)
		}
		if st := g.status("churn"); st.Phase != rollout.PhaseIdle || st.Weights["v1"] != 100 || !st.Acknowledged {
			t.Errorf("%s: the status became %+v", tc.name, st)
		}
		if tc.file != "churn.yaml" {
			noError(t, os.Remove(filepath.Join(g.conf, tc.file)))
		}
		g.write("churn.yaml", fine)
		g.awaitConfig("a mended directory", inForce)
		if ok := g.metric("headgate_config_last_reload_successful"); ok != 1 {
			t.Errorf("%s, mended: last reload successful is %v, want 1", tc.name, ok)
		}
	}
	if diff := cmp.Diff(before, g.envoyHolds()); diff != "" {
		t.Errorf("Envoy was told something (-before +after):\n%s", diff)
	}
	clean(t, load)
}

// checkLine looks for a mistake at a place; an empty path or line 0 is any.
func checkLine(t *testing.T, name string, got []admin.ConfigLine, want admin.ConfigLine) {
	t.Helper()
	for _, l := range got {
		if l.File == want.File && (want.Line == 0 || l.Line == want.Line) && (want.Path == "" || l.Path == want.Path) && l.Message != "" {
			return
		}
	}
	t.Errorf("%s: the mistakes are %+v, want one like %+v", name, got, want)
}

// TestFaultContract runs what scripts rely on for checking files.
func TestFaultContract(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := newGate(t, "run")
	g.write("churn.yaml", p.file("v1"))
	out, code := g.cli("validate", g.conf, "-o", "json")
	if code != 0 || strings.TrimSpace(out) != "[]" {
		t.Errorf("validate of a fine directory: exit code %d, %s", code, out)
	}
	g.write("churn.yaml", strings.Replace(p.file("v1"), "release: v1", "release: v3", 1))
	g.write("fraud.yaml", "model: fraud\n")
	out, code = g.cli("validate", g.conf, "-o", "json")
	var mistakes []map[string]any
	noError(t, json.Unmarshal([]byte(out), &mistakes))
	files := map[any]bool{}
	for _, m := range mistakes {
		files[m["file"]] = true
		line, isNumber := m["line"].(float64)
		_, hasPath := m["path"].(string)
		message, _ := m["message"].(string)
		if !isNumber || line < 1 || !hasPath || message == "" {
			t.Errorf("a mistake without file, line, path and message: %v", m)
		}
	}
	if code != 1 || !files["churn.yaml"] || !files["fraud.yaml"] {
		t.Errorf("validate of two broken files: exit code %d, %s", code, out)
	}
	if _, code = g.cli("validate"); code != 2 {
		t.Errorf("validate without a directory: exit code %d, want 2", code)
	}
	var schema map[string]any
	noError(t, json.Unmarshal([]byte(g.must("schema")), &schema))
	if schema["$schema"] == nil || schema["properties"] == nil {
		t.Errorf("the schema has neither $schema nor properties: %v", schema)
	}
}

// TestFaultRefusedStarts starts headgate as it must not be started.
func TestFaultRefusedStarts(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	first := newGate(t, "serve")
	first.write("churn.yaml", p.file("v1"))
	first.start().up()
	t.Run("state in use", func(t *testing.T) {
		second := newGate(t, "serve")
		second.conf, second.state = first.conf, first.state
		code, printed := second.start().ends()
		if want := fmt.Sprintf("headgate process %d", first.cmd.Process.Pid); code != 1 || !strings.Contains(printed, want) {
			t.Errorf("exit code %d, printed %q, want 1 and %q", code, printed, want)
		}
		second.state = filepath.Join(filepath.Dir(first.state), "none") // not the first one's to clean up
	})
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"admin beyond loopback without a token", []string{"--admin", "0.0.0.0:0"}, "--admin"},
		{"gRPC beyond loopback in clear", []string{"--grpc", "0.0.0.0:0"}, "--grpc"},
		{"gRPC beyond loopback, TLS not mutual", []string{"--grpc", "0.0.0.0:0", "--grpc-cert", "a.pem", "--grpc-key", "b.pem"}, "--grpc-client-ca"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, "serve", tc.args...)
			g.write("churn.yaml", p.file("v1"))
			code, printed := g.start().ends()
			if code != 2 || !strings.Contains(printed, tc.want) {
				t.Errorf("exit code %d, printed %q, want 2 and the reason with %q", code, printed, tc.want)
			}
			if _, err := os.Stat(g.state); err == nil {
				t.Error("a state folder was made")
			}
		})
	}
	if _, err := first.tryStatus("churn"); err != nil {
		t.Errorf("the first headgate: %v", err)
	}
}
