package envoy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/envoy"
	"github.com/headgate/headgate/envoy/envoytest"
)

// fake writes a program that calls itself an Envoy of that version.
func fake(t *testing.T, path, version string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho\necho '" + path + "  version: abc/" + version + "/Clean/RELEASE/BoringSSL'\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	newer := fake(t, dir+"/new/envoy", "1.41.0-dev")
	old := fake(t, dir+"/old/envoy", "1.39.2")
	installed := fake(t, dir+"/here/.tools/envoy/bin/envoy", "1.40.0")
	odd := dir + "/odd"
	if err := os.WriteFile(odd, []byte("#!/bin/sh\necho hello\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		explicit, env, path string
		empty               bool // the working directory has no installed one
		want                envoy.Binary
		err                 string
	}{
		"the flag":                {explicit: newer, env: old, want: envoy.Binary{Path: newer, Version: "1.41.0"}},
		"the variable":            {env: newer, path: dir + "/old", want: envoy.Binary{Path: newer, Version: "1.41.0"}},
		"the PATH":                {path: dir + "/new", want: envoy.Binary{Path: newer, Version: "1.41.0"}},
		"installed":               {want: envoy.Binary{Path: installed, Version: "1.40.0"}},
		"the PATH is too old":     {path: dir + "/old", want: envoy.Binary{Path: installed, Version: "1.40.0"}},
		"none":                    {empty: true, err: envoy.ErrNoEnvoy.Error()},
		"only an old one":         {path: dir + "/old", empty: true, err: old + ": version 1.39.2: must be at least 1.40.0 (run `make envoy` to install Envoy 1.40.0)"},
		"the flag is too old":     {explicit: old, err: "--envoy: " + old + ": version 1.39.2: must be at least 1.40.0"},
		"the variable is no file": {env: dir + "/gone", err: "$ENVOY: " + dir + "/gone: not an executable file (run `make envoy` to install Envoy 1.40.0)"},
		"no Envoy at all":         {explicit: odd, err: "--envoy: " + odd + ` --version: "hello": not an Envoy`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ENVOY", test.env)
			t.Setenv("PATH", test.path)
			t.Chdir(dir + "/here")
			if test.empty {
				t.Chdir(dir)
			}
			got, err := envoy.Find(t.Context(), test.explicit)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != test.err {
				t.Errorf("got  %s\nwant %s", text, test.err)
			}
			if name == "none" && !errors.Is(err, envoy.ErrNoEnvoy) {
				t.Error("not ErrNoEnvoy")
			}
		})
	}
}

func TestFindReal(t *testing.T) {
	b, err := envoy.Find(t.Context(), envoytest.Binary(t))
	if err != nil || !strings.HasPrefix(b.Version, "1.") || !filepath.IsAbs(b.Path) {
		t.Fatalf("%+v, %v", b, err)
	}
}

func TestParseAddress(t *testing.T) {
	tests := map[string]struct {
		want  envoy.Address
		local bool
		err   string
	}{
		"unix:/run/hg.sock": {want: envoy.Address{Unix: "/run/hg.sock"}, local: true},
		"127.0.0.1:80":      {want: envoy.Address{Host: "127.0.0.1", Port: 80}, local: true},
		"[::1]:80":          {want: envoy.Address{Host: "::1", Port: 80}, local: true},
		"localhost:80":      {want: envoy.Address{Host: "localhost", Port: 80}, local: true},
		"0.0.0.0:80":        {want: envoy.Address{Host: "0.0.0.0", Port: 80}},
		"xds.ml.svc:80":     {want: envoy.Address{Host: "xds.ml.svc", Port: 80}},
		"unix:run.sock":     {err: "unix:run.sock: the path of a unix socket must be absolute"},
		":80":               {err: ":80: must be host:port or unix:/path"},
		"host":              {err: "host: must be host:port or unix:/path"},
		"host:0":            {err: "host:0: the port must be a number from 1 to 65535"},
		"host:65536":        {err: "host:65536: the port must be a number from 1 to 65535"},
	}
	for text, test := range tests {
		t.Run(text, func(t *testing.T) {
			got, err := envoy.ParseAddress(text)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || got != test.want || got.Local() != test.local || got.String() != text {
				t.Fatalf("%+v, local %t, %q, %v", got, got.Local(), got.String(), err)
			}
		})
	}
	if _, err := envoy.ParseAddress("unix:/" + strings.Repeat("x", 103)); err == nil || !strings.Contains(err.Error(), "at most 103 bytes, this has 104") {
		t.Errorf("a path that is too long: %v", err)
	}
}
