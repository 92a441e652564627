package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/routing"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCase is a file, or a directory of files, in testdata.
type testCase struct {
	name  string
	files map[string][]byte
}

func casesIn(t testing.TB, dir string) []testCase {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var cases []testCase
	for _, e := range entries {
		name, isFile := strings.CutSuffix(e.Name(), ".yaml")
		c := testCase{name: name, files: map[string][]byte{}}
		switch {
		case isFile:
			c.files[e.Name()] = readFile(t, filepath.Join(dir, e.Name()))
		case e.IsDir():
			inner, err := os.ReadDir(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range inner {
				c.files[f.Name()] = readFile(t, filepath.Join(dir, e.Name(), f.Name()))
			}
		default:
			continue
		}
		cases = append(cases, c)
	}
	return cases
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lay writes a case into a directory of its own, beside a certificate.
func (c testCase) lay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range c.files {
		writeFile(t, filepath.Join(dir, name), data)
	}
	cert, key := certificate()
	_, other := newCertificate(time.Now().Add(time.Hour))
	writeFile(t, filepath.Join(dir, "cert.pem"), cert)
	writeFile(t, filepath.Join(dir, "key.pem"), key)
	writeFile(t, filepath.Join(dir, "other.key"), other)
	return dir
}

var certificate = sync.OnceValues(func() (cert, key []byte) { return newCertificate(time.Now().Add(time.Hour)) })

func newCertificate(until time.Time) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "models.example.com"},
		DNSNames: []string{"models.example.com"}, NotBefore: until.Add(-2 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// golden compares a text with testdata/DIR/NAME.txt.
func golden(t *testing.T, dir, name, got string) {
	t.Helper()
	file := filepath.Join(dir, name+".txt")
	if *update {
		writeFile(t, file, []byte(got))
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", file, diff)
	}
}

// orphans finds golden files without a case; -update removes them.
func orphans(t *testing.T, dir string, cases []testCase) {
	t.Helper()
	known := map[string]bool{}
	for _, c := range cases {
		known[c.name+".txt"] = true
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if known[filepath.Base(f)] {
			continue
		}
		if !*update {
			t.Errorf("%s: belongs to no case", f)
		} else if err := os.Remove(f); err != nil {
			t.Error(err)
		}
	}
}

func TestBroken(t *testing.T) {
	const dir = "testdata/broken"
	cases := casesIn(t, dir)
	if len(cases) < 70 {
		t.Errorf("%d cases, there were more", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config, err := Load(c.lay(t))
			var errs Errors
			if config != nil || !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("config %v, error %v: want no config and Errors", config, err)
			}
			golden(t, dir, c.name, err.Error()+"\n")
		})
	}
	orphans(t, dir, cases)
}

func TestGood(t *testing.T) {
	const dir = "testdata/good"
	cases := casesIn(t, dir)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config, err := Load(c.lay(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(config.Hash) != 64 {
				t.Errorf("hash %q: want 64 hex digits", config.Hash)
			}
			var b strings.Builder
			for _, l := range config.Listeners {
				dump(&b, "", "listener", reflect.ValueOf(l))
			}
			for _, m := range config.Models {
				dump(&b, "", "model", reflect.ValueOf(m))
			}
			golden(t, dir, c.name, b.String())
		})
	}
	orphans(t, dir, cases)
}

// dump writes a value as a person reads it, without what is zero.
func dump(b *strings.Builder, indent, name string, v reflect.Value) {
	if v.IsZero() {
		return
	}
	if text, ok := dumpText(v); ok {
		fmt.Fprintf(b, "%s%s: %s\n", indent, name, text)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		dump(b, indent, name, v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			dump(b, indent, fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	case reflect.Struct:
		fmt.Fprintf(b, "%s%s:\n", indent, name)
		for i := range v.NumField() {
			dump(b, indent+"  ", v.Type().Field(i).Name, v.Field(i))
		}
	default:
		fmt.Fprintf(b, "%s%s: %v\n", indent, name, v.Interface())
	}
}

func dumpText(v reflect.Value) (string, bool) {
	switch value := v.Interface().(type) {
	case []byte:
		block, _ := pem.Decode(value)
		return "PEM " + block.Type, true
	case routing.Position:
		return fmt.Sprintf("%s:%d:%d", value.File, value.Line, value.Column), true
	case fmt.Stringer:
		return value.String(), true
	}
	return "", false
}
