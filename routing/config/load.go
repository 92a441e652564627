package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strconv"

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
	names  []string         // of models, sorted; nil: to be sorted

	todo       map[string]bool // models to be compiled
	recompiled map[string]bool // models that were since the last good build
	whole      build           // the last good one
}

// modelFile is what is known of one model's file.
type modelFile struct {
	blob     *blob
	compiled *compiled // nil: to be compiled
}

// build is a good configuration and what it was built of.
type build struct {
	config *routing.Config // nil: there was none
	names  []string
	files  []*compiled    // by the names
	index  map[string]int // of files, by the name
	at     []int          // position in config.Models, by the index of files
}

// NewLoader returns a loader that has read nothing yet.
func NewLoader(dir string) *Loader {
	return &Loader{
		dir: dir, models: map[string]*modelFile{}, others: map[string]*blob{},
		todo: map[string]bool{}, recompiled: map[string]bool{},
	}
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

// build checks the files against each other. Where the last configuration was
// good and the files that changed did not change what they are compared by,
// the rest is taken over from it.
func (l *Loader) build() (*routing.Config, error) {
	if l.failed != nil {
		return nil, l.failed
	}
	if l.names == nil {
		l.names = sortedKeys(l.models)
	}
	b, ok := l.patched()
	if !ok {
		var errs Errors
		if b, errs = l.full(); len(errs) > 0 {
			errs.sort()
			return nil, errs
		}
	}
	if b.config.Hash = l.hash(); l.whole.config != nil && l.whole.config.Hash == b.config.Hash {
		b.config = l.whole.config
	}
	l.whole = b
	clear(l.recompiled)
	return b.config, nil
}

// patched builds by changing a copy of the last good configuration.
func (l *Loader) patched() (build, bool) {
	b := l.whole
	if b.config == nil || len(b.names) != len(l.names) || &b.names[0] != &l.names[0] {
		return build{}, false
	}
	b.files = slices.Clone(b.files)
	b.config = &routing.Config{Models: slices.Clone(b.config.Models), Listeners: b.config.Listeners}
	for name := range l.recompiled {
		i := b.index[name]
		now := l.models[name].compiled
		if len(now.errs) > 0 || !comparesAs(now, b.files[i]) {
			return build{}, false
		}
		b.files[i] = now
		b.config.Models[b.at[i]] = now.model
	}
	return b, true
}

// full builds from all files.
func (l *Loader) full() (build, Errors) {
	b := build{names: l.names, index: make(map[string]int, len(l.names))}
	var errs Errors
	for i, n := range l.names {
		b.index[n] = i
		b.files = append(b.files, l.models[n].compiled)
		errs = append(errs, b.files[i].errs...)
	}
	errs = append(errs, crossCheck(b.files)...)
	if len(l.names) == 0 {
		errs = Errors{{Message: "there is no model: the directory has no file that ends in .yaml"}}
	}
	if len(errs) == 0 {
		b.assemble()
	}
	return b, errs
}

func (b *build) assemble() {
	b.config = &routing.Config{}
	order := make([]int, len(b.files))
	listeners := map[netip.AddrPort]bool{}
	for i, f := range b.files {
		order[i] = i
		if !listeners[f.listen] {
			listeners[f.listen] = true
			b.config.Listeners = append(b.config.Listeners, &routing.Listener{Address: f.listen, TLS: f.tls})
		}
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(b.files[x].name, b.files[y].name) })
	b.at = make([]int, len(order))
	for at, i := range order {
		b.at[i] = at
		b.config.Models = append(b.config.Models, b.files[i].model)
	}
	slices.SortFunc(b.config.Listeners, func(x, y *routing.Listener) int { return x.Address.Compare(y.Address) })
}

// hash is over the names and contents of all files, those that models name
// included.
func (l *Loader) hash() string {
	h := sha256.New()
	var line []byte
	add := func(name string, b *blob) {
		line = strconv.AppendQuote(line[:0], name)
		h.Write(append(line, b.sum[:]...))
	}
	for _, n := range l.names {
		add(n, l.models[n].blob)
	}
	for _, n := range sortedKeys(l.others) {
		add(n, l.others[n])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
