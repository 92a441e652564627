package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"github.com/headgate/headgate/routing"
)

// Load reads a configuration directory once. Its error is of type [Errors].
func Load(dir string) (*routing.Config, error) {
	return NewLoader(dir).Load()
}

// Loader reads a directory again and again. What did not change is not parsed
// again, and a model that did not change is the same pointer in the next
// Config. It is not safe for concurrent use.
type Loader struct {
	dir    string
	failed error // the directory itself cannot be read
	models map[string]*modelFile
	others map[string]*blob // files that models name, by that name
	config *routing.Config  // the last good one
	good   map[string]*routing.Model
}

// modelFile is what is known of one model's file.
type modelFile struct {
	blob     *blob
	compiled *compiled // nil: to be compiled
}

// NewLoader returns a loader that has read nothing yet.
func NewLoader(dir string) *Loader {
	return &Loader{dir: dir, models: map[string]*modelFile{}, others: map[string]*blob{}}
}

// maxAttempts bounds how often files are read again because they changed in
// the meantime.
const maxAttempts = 10

// Load reads what changed since the last call and returns the configuration,
// or all mistakes of all files as [Errors]. Files that change together, by the
// swap of a symbolic link, are never mixed.
func (l *Loader) Load() (*routing.Config, error) {
	if _, still := l.refresh(nil, changes{}); !still {
		return nil, Errors{{Message: "the files keep changing while they are read"}}
	}
	return l.build()
}

// refresh reads until nothing changes any more, and adds to seen what did. It
// looks at the named files only, or at all of them. It is false when they
// never stood still.
func (l *Loader) refresh(names map[string]bool, seen changes) (changed, still bool) {
	for range maxAttempts {
		if !l.readOnce(names, seen) {
			return changed, true
		}
		changed = true
	}
	return true, false
}

// build checks the files against each other.
func (l *Loader) build() (*routing.Config, error) {
	if l.failed != nil {
		return nil, l.failed
	}
	names := sortedKeys(l.models)
	files := make([]*compiled, len(names))
	var errs Errors
	for i, n := range names {
		files[i] = l.models[n].compiled
		errs = append(errs, files[i].errs...)
	}
	errs = append(errs, crossCheck(files)...)
	if len(names) == 0 {
		errs = Errors{{Message: "there is no model: the directory has no file that ends in .yaml"}}
	}
	if len(errs) > 0 {
		errs.sort()
		return nil, errs
	}
	c := &routing.Config{Hash: l.hash(names)}
	if l.config != nil && l.config.Hash == c.Hash {
		return l.config, nil
	}
	l.assemble(c, files)
	l.config = c
	return c, nil
}

func (l *Loader) assemble(c *routing.Config, files []*compiled) {
	listeners := map[netip.AddrPort]*routing.Listener{}
	l.good = make(map[string]*routing.Model, len(files))
	c.Models = make([]*routing.Model, len(files))
	for i, f := range files {
		c.Models[i] = f.model
		l.good[f.name] = f.model
		if listeners[f.listen] == nil {
			listeners[f.listen] = &routing.Listener{Address: f.listen, TLS: f.tls}
			c.Listeners = append(c.Listeners, listeners[f.listen])
		}
	}
	slices.SortFunc(c.Models, func(a, b *routing.Model) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Listeners, func(a, b *routing.Listener) int { return a.Address.Compare(b.Address) })
}

// hash is over the names and contents of all files, those that models name
// included.
func (l *Loader) hash(names []string) string {
	h := sha256.New()
	for _, n := range names {
		fmt.Fprintf(h, "%d %s ", len(n), n)
		sum := l.models[n].blob.sum
		h.Write(sum[:])
	}
	for _, n := range sortedKeys(l.others) {
		fmt.Fprintf(h, "%d %s ", len(n), n)
		sum := l.others[n].sum
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
