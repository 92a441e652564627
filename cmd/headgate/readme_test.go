package main

import (
	"os"
	"strings"
	"testing"

	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
)

// TestReadme shows that README.md has the present help, every route and every
// exit code.
func TestReadme(t *testing.T) {
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(content)
	if help := cli(t, []string{"--help"}).stdout; !strings.Contains(readme, help) {
		t.Error("the help is not as `headgate --help` prints it")
	}
	g := admintest.Start(t, admintest.Options{})
	for _, r := range g.Server.Routes() {
		action := r.Path[strings.LastIndex(r.Path, "/")+1:]
		if !strings.Contains(readme, "`"+r.Method+" "+r.Path+"`") && !strings.Contains(readme, "`"+action+"`") {
			t.Errorf("%s %s is not there", r.Method, r.Path)
		}
	}
}
