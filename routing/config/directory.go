package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// blob is the contents of one file at one moment, or why there are none.
type blob struct {
	stamp   stamp
	read    time.Time
	data    []byte // nil with rule
	sum     [sha256.Size]byte
	rule    string // what is wrong, in words
	link    string // where a symbolic link says it leads; empty: no link
	busy    bool   // a process has it open for writing
	settled bool   // known not to be open for writing
}

// clockTick is more than the granularity of any file system's clock that
// headgate runs on; a file changed within it before it was read can change
// again without a new stamp.
const clockTick = 20 * time.Millisecond

// young tells whether a later change could leave the stamp as it is.
func (b *blob) young() bool {
	return b.read.Sub(b.stamp.changed) < clockTick || b.read.Sub(b.stamp.modified) < clockTick
}

func (b *blob) same(other *blob) bool {
	return b != nil && other != nil && b.sum == other.sum && b.rule == other.rule
}

// directory is an open configuration directory. Names below it are resolved
// without leaving it, whatever symbolic links say.
type directory struct {
	root *os.Root
	path string
}

// openDirectory opens the directory; its error is for people.
func openDirectory(path string) (*directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, Errors{{Message: "cannot read the directory: " + reason(err)}}
	}
	return &directory{root, path}, nil
}

func (d *directory) close() { _ = d.root.Close() }

// names lists the files that are models, sorted. Hidden files, other
// extensions and plain subdirectories are left out.
func (d *directory) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, Errors{{Message: "cannot read the directory: " + reason(err)}}
	}
	defer func() { _ = f.Close() }()
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, Errors{{Message: "cannot read the directory: " + reason(err)}}
	}
	names := all[:0]
	for _, n := range all {
		if isModel(n) {
			names = append(names, n)
		}
	}
	return names, nil
}

func isModel(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	ext := strings.ToLower(filepath.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

// open opens a file below the directory, or one with an absolute name.
func (d *directory) open(name string) (*os.File, error) {
	if filepath.IsAbs(name) {
		return os.OpenFile(name, openFlags, 0)
	}
	return d.root.OpenFile(name, openFlags, 0)
}

func (d *directory) stat(name string) (fs.FileInfo, error) {
	if filepath.IsAbs(name) {
		return os.Stat(name)
	}
	return d.root.Stat(name)
}

// read reads a file of at most some bytes. What goes wrong is in the blob.
func (d *directory) read(name string, most int64) *blob {
	b := &blob{read: time.Now(), link: d.link(name)}
	f, err := d.open(name)
	if err != nil {
		return b.fail(reason(err))
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return b.fail(reason(err))
	}
	b.stamp = stampOf(info)
	switch {
	case info.IsDir():
		return b.fail("is a directory, must be a file")
	case !info.Mode().IsRegular():
		return b.fail("is not a regular file")
	case info.Size() > most:
		return b.fail(fmt.Sprintf("is larger than %d KiB", most>>10))
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return b.fail(reason(err))
	}
	if int64(len(data)) > most {
		return b.fail(fmt.Sprintf("is larger than %d KiB", most>>10))
	}
	b.data, b.sum = data, sha256.Sum256(data)
	busy, known := beingWritten(f)
	b.busy, b.settled = busy, known && !busy
	return b
}

// link returns where a symbolic link says it leads, or "".
func (d *directory) link(name string) string {
	full := d.full(name)
	target, err := os.Readlink(full)
	switch {
	case err != nil:
		return ""
	case filepath.IsAbs(target):
		return filepath.Clean(target)
	}
	return filepath.Join(filepath.Dir(full), target)
}

func (d *directory) full(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.path, name)
}

func (b *blob) fail(rule string) *blob {
	b.rule = rule
	return b
}

// reason says why a file cannot be read, without its path.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case errors.As(err, &errno):
		return errno.Error()
	case strings.Contains(err.Error(), "not a directory"):
		return "is not a directory"
	case strings.Contains(err.Error(), "escapes"):
		return "leads out of the configuration directory"
	}
	return "cannot be read"
}
