package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostile are files made to cost time or memory, or to be read as something
// else than what they show.
const most = maxFileSize / hostileShare

var hostile = map[string]string{
	"bomb of values":     "a: &a [" + strings.Repeat("x,", 9) + "x]\n" + bomb("abcdefghijklmnop"),
	"bomb of nodes":      "a: [" + strings.Repeat("1,", most/2-10) + "1]\n",
	"lists in lists":     strings.Repeat("[", most-10),
	"depth in flow":      "a: " + strings.Repeat("[", 9_000/hostileShare) + strings.Repeat("]", 9_000/hostileShare) + "\n",
	"depth in mappings":  strings.Repeat("{a: ", 9_000/hostileShare) + strings.Repeat("}", 9_000/hostileShare) + "\n",
	"depth in blocks":    strings.Repeat("- ", 10_000/hostileShare) + "a\n",
	"depth by keys":      strings.Repeat("? ", 10_000/hostileShare) + "a\n",
	"depth by indent":    indented(1_400 / hostileShare),
	"items":              strings.Repeat("- a\n", most/4-1),
	"fields":             strings.Repeat("a: b\n", 9_000/hostileShare),
	"empty lines":        strings.Repeat("\n", most-1),
	"comments":           strings.Repeat("#\n", most/2-1),
	"comments in a list": "a:\n" + strings.Repeat("  # b\n  - c\n", 9_000/hostileShare),
	"spaces":             "a:" + strings.Repeat(" ", most-10) + "b\n",
	"one word":           "model: " + strings.Repeat("a", most-10) + "\n",
	"one field":          strings.Repeat("a", most-10) + ": b\n",
	"one quote":          `model: "` + strings.Repeat("a\n", most/2-10),
	"escapes":            `model: "` + strings.Repeat(`\u0041`, most/6-10) + "\"\n",
	"block of text":      "model: |\n" + strings.Repeat(" a\n", most/3-10),
	"anchors":            "a: [" + strings.Repeat("&a b, ", 9_000/hostileShare) + "]\n",
	"documents":          strings.Repeat("---\n", most/4-1),
	"tags":               "a: [" + strings.Repeat("!!str b, ", 9_000/hostileShare) + "]\n",
	"versions":           "model: a\nlisten: 1.2.3.4:5\nrelease: v\nversions:\n" + strings.Repeat("  v: {dns: a}\n", 4_000/hostileShare),
	"zero bytes":         strings.Repeat("\x00", most-1),
}

func bomb(names string) string {
	var b strings.Builder
	for i := 1; i < len(names); i++ {
		b.WriteString(names[i:i+1] + ": &" + names[i:i+1] + " [" + strings.Repeat("*"+names[i-1:i]+", ", 8) + "]\n")
	}
	return b.String()
}

func indented(depth int) string {
	var b strings.Builder
	for i := range depth {
		if b.Len() > maxFileSize-2*depth-10 {
			break
		}
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// allowedMemory is what one hostile file may allocate in all.
const allowedMemory = 32 << 20

func TestHostileFiles(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "churn.yaml"), []byte(text))
			refused(t, dir)
		})
	}
	t.Run("100 MB", func(t *testing.T) {
		dir := t.TempDir()
		name := filepath.Join(dir, "churn.yaml")
		writeFile(t, name, []byte("model: churn\n"))
		if err := os.Truncate(name, 100<<20); err != nil {
			t.Fatal(err)
		}
		if got := refused(t, dir); got != "churn.yaml: is larger than 256 KiB" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a pipe", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(dir, "churn.yaml"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := refused(t, dir); got != "churn.yaml: is not a regular file" {
			t.Errorf("got %q", got)
		}
	})
}

// refused loads a directory, checks what that cost, and returns the error.
// Time is that of the processor: the machine may be busy with something else.
func refused(t *testing.T, dir string) string {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := processorTime(t)
	config, err := Load(dir)
	took := processorTime(t) - start
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Fatalf("was accepted: %v", config)
	}
	if took > allowedTime {
		t.Errorf("took %v, allowed are %v", took, allowedTime)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > allowedMemory {
		t.Errorf("allocated %d MiB in all, allowed are %d", got>>20, allowedMemory>>20)
	}
	return err.Error()
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Names and links that lead out of the directory are refused.
func TestLeavingTheDirectory(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, filepath.Join(outside, "secret.yaml"), casesIn(t, "testdata/good")[0].files["canary.yaml"])
	cert, key := certificate()
	writeFile(t, filepath.Join(outside, "cert.pem"), cert)
	writeFile(t, filepath.Join(outside, "key.pem"), key)
	model := func(cert, key string) string {
		return "model: churn\nlisten: {address: 127.0.0.1:8443, tls: {cert: " + cert + ", key: " + key + "}}\nversions:\n  v1: {dns: \"a.b:80\"}\nrelease: v1\n"
	}
	for name, c := range map[string]struct {
		lay  func(dir string) error
		want string
	}{
		"link to a file outside": {
			func(dir string) error {
				return os.Symlink(filepath.Join(outside, "secret.yaml"), filepath.Join(dir, "a.yaml"))
			},
			"a.yaml: leads out of the configuration directory",
		},
		"link that climbs": {
			func(dir string) error {
				rel, err := filepath.Rel(dir, filepath.Join(outside, "secret.yaml"))
				if err != nil {
					return err
				}
				return os.Symlink(rel, filepath.Join(dir, "a.yaml"))
			},
			"a.yaml: leads out of the configuration directory",
		},
		"link to a directory outside": {
			func(dir string) error {
				if err := os.Symlink(outside, filepath.Join(dir, "..data")); err != nil {
					return err
				}
				return os.Symlink("..data/secret.yaml", filepath.Join(dir, "a.yaml"))
			},
			"a.yaml: leads out of the configuration directory",
		},
		"link to nothing": {
			func(dir string) error { return os.Symlink("nothing", filepath.Join(dir, "a.yaml")) },
			"a.yaml: does not exist",
		},
		"link to itself": {
			func(dir string) error { return os.Symlink("a.yaml", filepath.Join(dir, "a.yaml")) },
			"a.yaml: too many levels of symbolic links",
		},
		"directory": {
			func(dir string) error { return os.Mkdir(filepath.Join(dir, "a.yaml"), 0o700) },
			"a.yaml: is a directory, must be a file",
		},
		"certificate by a link": {
			func(dir string) error {
				if err := os.Symlink(outside, filepath.Join(dir, "tls")); err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(model("tls/cert.pem", "tls/key.pem")), 0o600)
			},
			"a.yaml:2: listen.tls.cert: tls/cert.pem: leads out of the configuration directory\n" +
				"a.yaml:2: listen.tls.key: tls/key.pem: leads out of the configuration directory",
		},
		"certificate by its whole name": {
			func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(model(outside+"/cert.pem", outside+"/key.pem")), 0o600)
			},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.lay(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestDirectoryThatCannotBeRead(t *testing.T) {
	empty := t.TempDir()
	for dir, want := range map[string]string{
		filepath.Join(empty, "missing"): "cannot read the directory: does not exist",
		empty:                           "there is no model: the directory has no file that ends in .yaml",
		"testdata/good/minimal.yaml":    "cannot read the directory: is not a directory",
	} {
		if config, err := Load(dir); config != nil || err == nil || err.Error() != want {
			t.Errorf("%s: config %v, error %v: want %s", dir, config, err, want)
		}
	}
}
