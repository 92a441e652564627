package admin_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/cmd/headgate/admin"
	"github.com/headgate/headgate/cmd/headgate/admin/admintest"
)

func writeTokens(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func loadTokens(t *testing.T, content string) (*admin.Tokens, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	writeTokens(t, path, content)
	tokens, err := admin.LoadTokens(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return tokens, path
}

// allRoles returns a tokens file with a token of each role, and the tokens.
func allRoles() (content string, secrets map[admin.Role]string) {
	var file strings.Builder
	file.WriteString("tokens:\n")
	secrets = map[admin.Role]string{}
	for _, role := range []admin.Role{admin.RoleViewer, admin.RoleOperator, admin.RoleAdmin} {
		line, secret := admintest.Token("the-"+string(role), role)
		file.WriteString(line)
		secrets[role] = secret
	}
	return file.String(), secrets
}

func TestBrokenTokensFiles(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for _, tc := range []struct{ name, content, want string }{
		{"empty", "", "tokens: must name at least one"},
		{"unknown field", "tokens: []\nextra: 1", "field extra not found"},
		{"no YAML", "\x00", "control characters"},
		{"no hash", "tokens: [{name: a, role: viewer}]", "tokens[0].sha256: \"…\": must be 64 hex digits"},
		{"short hash", "tokens: [{name: a, role: viewer, sha256: abcd}]", "tokens[0].sha256: \"…\": must be 64 hex digits"},
		{"role none", "tokens: [{name: a, role: none, sha256: " + sum + "}]", `tokens[0].role: "none": must be viewer, operator or admin`},
		{"role unknown", "tokens: [{name: a, role: root, sha256: " + sum + "}]", `tokens[0].role: "root": must be viewer`},
		{"no name", "tokens: [{role: viewer, sha256: " + sum + "}]", `tokens[0].name: ""`},
		{
			"one name twice", "tokens: [{name: a, role: viewer, sha256: " + sum + "}, {name: a, role: admin, sha256: " + sum + "}]",
			`tokens[1].name: "a"`,
		},
		{"huge", "tokens:\n" + strings.Repeat("# x\n", 300_000), "must be at most 1048576 bytes"},
	} {
		path := filepath.Join(t.TempDir(), "tokens.yaml")
		writeTokens(t, path, tc.content)
		_, err := admin.LoadTokens(path, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %s", tc.name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "abcd") {
			t.Errorf("%s: the error shows a hash: %v", tc.name, err)
		}
	}
}

func TestTokensFileMustBePrivate(t *testing.T) {
	content, _ := allRoles()
	path := filepath.Join(t.TempDir(), "tokens.json")
	writeTokens(t, path, content)
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o644: false, 0o604: false, 0o602: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.LoadTokens(path, slog.New(slog.DiscardHandler)); (err == nil) != want {
			t.Errorf("mode %04o: %v; want it to be taken: %t", mode, err, want)
		}
	}
}

func TestTokensAreReadAgain(t *testing.T) {
	lineA, secretA := admintest.Token("alice", admin.RoleViewer)
	lineB, secretB := admintest.Token("bob", admin.RoleViewer)
	tokens, path := loadTokens(t, "tokens:\n"+lineA)
	g := admintest.Start(t, admintest.Options{Tokens: tokens})
	check := func(step string, wantA, wantB int) {
		t.Helper()
		for secret, want := range map[string]int{secretA: wantA, secretB: wantB} {
			if got := call(t, g, "GET", "/v1/models", "", bearer(secret)).status; got != want {
				t.Errorf("%s: %s gets %d, want %d", step, secret, got, want)
			}
		}
	}
	check("at first", 200, 401)
	writeTokens(t, path, "tokens:\n"+lineB) // of the same size
	check("after an edit", 401, 200)
	writeTokens(t, path, "tokens: nonsense")
	check("with a broken file", 401, 200)
	if err := tokens.Err(); err == nil {
		t.Error("a broken file is not told")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("without the file", 401, 200)
	writeTokens(t, path, "tokens:\n"+lineA+lineB)
	check("mended", 200, 200)
	if err := tokens.Err(); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}

// TestTwoEditsInOneTick has the file change while its size and time stay.
func TestTwoEditsInOneTick(t *testing.T) {
	lineA, secretA := admintest.Token("alice", admin.RoleViewer)
	lineB, _ := admintest.Token("bobby", admin.RoleViewer)
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	tick := time.Now()
	edit := func(content string) {
		writeTokens(t, path, content)
		if err := os.Chtimes(path, tick, tick); err != nil {
			t.Fatal(err)
		}
	}
	edit("tokens:\n" + lineA)
	tokens, err := admin.LoadTokens(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	edit("tokens:\n" + lineB)
	g := admintest.Start(t, admintest.Options{Tokens: tokens})
	if got := call(t, g, "GET", "/v1/models", "", bearer(secretA)).status; got != http.StatusUnauthorized {
		t.Errorf("a token that was taken away gets %d, want 401", got)
	}
}

func TestTokenExpires(t *testing.T) {
	line, secret := admintest.Token("alice", admin.RoleAdmin)
	line = strings.Replace(line, "}", ", expires: %s}", 1)
	for until, want := range map[time.Duration]int{-time.Minute: http.StatusUnauthorized, time.Hour: http.StatusOK} {
		tokens, _ := loadTokens(t, "tokens:\n"+fmt.Sprintf(line, time.Now().Add(until).Format(time.RFC3339)))
		g := admintest.Start(t, admintest.Options{Tokens: tokens})
		if got := call(t, g, "GET", "/v1/models", "", bearer(secret)).status; got != want {
			t.Errorf("a token that expires in %v gets %d, want %d", until, got, want)
		}
	}
}
