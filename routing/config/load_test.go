package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A loader that took every edit on the way says the same as one that reads the
// directory for the first time.
func TestLoaderAfterManyEdits(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	l := NewLoader(dir)
	good := 0
	for i := range 150 {
		edit(t, random, dir)
		got, gotErr := l.Load()
		want, wantErr := Load(dir)
		if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Fatalf("edit %d: got error %v, want %v", i, gotErr, wantErr)
		}
		if gotErr != nil {
			continue
		}
		good++
		if got.Hash != want.Hash || dumped(got) != dumped(want) {
			t.Fatalf("edit %d: got\n%s\nwant\n%s", i, dumped(got), dumped(want))
		}
	}
	if good < 15 || good > 135 {
		t.Errorf("%d of 150 states were good: the edits are not what they should be", good)
	}
}

// edit changes one of a few files: what a model says, what it is compared by,
// whether it is there, and whether it can be read.
func edit(t *testing.T, random *rand.Rand, dir string) {
	t.Helper()
	name := fmt.Sprint("m", random.IntN(6))
	file := filepath.Join(dir, name+".yaml")
	content := modelText(name, 1+random.IntN(5))
	switch random.IntN(12) {
	case 0:
		content = strings.Replace(content, "/"+name, "/m1", 1)
	case 1:
		content = strings.Replace(content, "127.0.0.1:8080", "0.0.0.0:8080", 1)
	case 2:
		content = strings.Replace(content, "release: v2", "release: v3", 1)
	case 3:
		content = strings.Replace(content, "model: "+name, "model: m2", 1)
	case 4:
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		return
	}
	replace(t, file, content)
}

func dumped(c any) string {
	var b strings.Builder
	dump(&b, "", "config", reflect.ValueOf(c))
	return b.String()
}

// One file by itself is what it is in a directory; its mistakes carry the name
// that was given.
func TestParse(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate()
	writeFile(t, filepath.Join(dir, "cert.pem"), cert)
	writeFile(t, filepath.Join(dir, "key.pem"), key)
	text := strings.Replace(modelText("churn", 1), "listen: 127.0.0.1:8080", "listen: {address: 127.0.0.1:8443, tls: {cert: cert.pem, key: key.pem}}", 1)
	file := filepath.Join(dir, "churn.yaml")
	got, err := Parse(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, []byte(text))
	want, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	loaded := *want.Models[0]
	got.Source, got.Places = loaded.Source, loaded.Places // they name the file
	if dumped(got) != dumped(&loaded) {
		t.Errorf("got\n%s\nwant\n%s", dumped(got), dumped(&loaded))
	}
	if _, err := Parse(file, []byte(strings.Replace(text, "key.pem", "none.pem", 1))); err == nil || !strings.HasPrefix(err.Error(), file+":") {
		t.Errorf("got %v, want an error of %s", err, file)
	}
}
