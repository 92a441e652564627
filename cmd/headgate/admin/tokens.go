package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxTokensFile is the largest tokens file that is read, in bytes.
const maxTokensFile = 1 << 20

// Tokens are the callers that a tokens file names. The file is read again when
// it changes; when it cannot be used then, the last good one stays in force.
type Tokens struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	stamp   stamp
	entries []token
	failure error // of the last attempt to read it
}

type token struct {
	name    string
	role    Role
	sum     [sha256.Size]byte
	expires time.Time // zero: never
}

// stamp tells versions of a file apart.
type stamp struct {
	size    int64
	mode    os.FileMode
	changed time.Time
	read    time.Time
}

// tokensFile is the form of the file, in YAML or JSON.
type tokensFile struct {
	Tokens []struct {
		Name    string    `yaml:"name"`
		Role    Role      `yaml:"role"`
		SHA256  string    `yaml:"sha256"`
		Expires time.Time `yaml:"expires"`
	} `yaml:"tokens"`
}

// LoadTokens reads a tokens file. The error names each entry that is wrong.
func LoadTokens(path string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	if err := t.read(); err != nil {
		return nil, fmt.Errorf("load admin tokens: %w", err)
	}
	return t, nil
}

// Err returns why the file as it is now is not in force, or nil.
func (t *Tokens) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	return t.failure
}

// caller returns whose token it is.
func (t *Tokens) caller(secret string) (Caller, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	sum := sha256.Sum256([]byte(secret))
	var found *token
	for i := range t.entries {
		if subtle.ConstantTimeCompare(sum[:], t.entries[i].sum[:]) == 1 {
			found = &t.entries[i]
		}
	}
	if found == nil || !found.expires.IsZero() && !time.Now().Before(found.expires) {
		return Caller{}, false
	}
	return Caller{Name: found.name, Role: found.role}, true
}

// refresh reads the file again when it may have changed. Two changes within
// one tick of the file system's clock look alike, so a file that was young when
// it was read is read again.
func (t *Tokens) refresh() {
	info, err := os.Stat(t.path)
	if err == nil && t.failure == nil {
		s := t.stamp
		young := s.read.Sub(s.changed) < 100*time.Millisecond
		if !young && info.Size() == s.size && info.Mode() == s.mode && info.ModTime().Equal(s.changed) {
			return
		}
	}
	before := t.failure
	t.failure = t.read()
	if t.failure != nil && (before == nil || before.Error() != t.failure.Error()) {
		t.log.Error("admin tokens cannot be used, the last good ones stay in force", "error", t.failure)
	}
}

// read replaces the entries by those of the file, or leaves all as it was.
func (t *Tokens) read() error {
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s: mode %04o: must not be open to others, use chmod 600", t.path, info.Mode().Perm())
	}
	now := time.Now()
	content, err := io.ReadAll(io.LimitReader(f, maxTokensFile+1))
	if err != nil {
		return err
	}
	if len(content) > maxTokensFile {
		return fmt.Errorf("%s: must be at most %d bytes", t.path, maxTokensFile)
	}
	entries, err := parseTokens(t.path, content)
	if err != nil {
		return err
	}
	t.entries = entries
	t.stamp = stamp{size: info.Size(), mode: info.Mode(), changed: info.ModTime(), read: now}
	return nil
}

func parseTokens(path string, content []byte) ([]token, error) {
	var file tokensFile
	dec := yaml.NewDecoder(bytes.NewReader(content))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var errs []error
	wrong := func(i int, field, value, rule string) {
		errs = append(errs, fmt.Errorf("%s: tokens[%d].%s: %q: %s", path, i, field, value, rule))
	}
	entries := make([]token, 0, len(file.Tokens))
	names := make(map[string]bool)
	for i, e := range file.Tokens {
		sum, err := hex.DecodeString(strings.ToLower(e.SHA256))
		if err != nil || len(sum) != sha256.Size {
			wrong(i, "sha256", "…", "must be 64 hex digits, the SHA-256 of the token")
			continue
		}
		if e.Name == "" || names[e.Name] {
			wrong(i, "name", e.Name, "must be there and be the only one of that name")
		}
		if !e.Role.includes(RoleViewer) {
			wrong(i, "role", string(e.Role), "must be viewer, operator or admin")
		}
		names[e.Name] = true
		entries = append(entries, token{name: e.Name, role: e.Role, sum: [sha256.Size]byte(sum), expires: e.Expires})
	}
	if len(file.Tokens) == 0 {
		errs = append(errs, fmt.Errorf("%s: tokens: must name at least one", path))
	}
	return entries, errors.Join(errs...)
}
