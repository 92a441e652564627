package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files of a state directory that belong to this package.
const (
	stateLock     = "headgate.lock"
	processLock   = "envoy.lock"
	recordFile    = "envoy.json"
	bootstrapFile = "envoy.yaml"
	logFile       = "envoy.log"
)

// ErrStateInUse is wrapped by the error of [LockState] when another headgate
// has the directory.
var ErrStateInUse = errors.New("state directory is in use")

// StateDir is a state directory that this process alone uses. The kernel gives
// it free when the process ends, however it ends.
type StateDir struct {
	path string
	lock *os.File
}

// LockState claims a state directory, which it creates if need be. When
// another process has it, the error wraps [ErrStateInUse] and names the
// process.
func LockState(dir string) (*StateDir, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, free, err := tryLock(filepath.Join(dir, stateLock))
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if !free {
		defer func() { _ = lock.Close() }()
		return nil, fmt.Errorf("%w: %s: by headgate process %s: stop that one, or choose another directory with --state", ErrStateInUse, dir, holderText(lock))
	}
	// The number is for people. The lock holds without it, on a full disk too.
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &StateDir{path: dir, lock: lock}, nil
}

// Path returns the absolute path of the directory.
func (s *StateDir) Path() string { return s.path }

// Close gives the directory free.
func (s *StateDir) Close() error { return s.lock.Close() }

func (s *StateDir) file(name string) string { return filepath.Join(s.path, name) }

func holderText(lock *os.File) string {
	text, err := io.ReadAll(io.LimitReader(lock, 20))
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return pid
	}
	return "(unknown)"
}

// tryLock opens a file and takes its lock if that is free. The lock lasts until
// the last descriptor of this opening is closed, in whichever process.
func tryLock(path string) (file *os.File, free bool, err error) {
	file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return file, true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return file, false, nil
		default:
			_ = file.Close()
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// record tells the next headgate about the Envoy of a state directory. It is
// written once before the start, without a process id, and once after.
type record struct {
	PID       int       `json:"pid"`
	StartTime uint64    `json:"start_time"` // as the kernel counts it; tells a reused id
	Binary    string    `json:"binary"`
	Version   string    `json:"version"`
	Bootstrap string    `json:"bootstrap"` // hash
	Node      string    `json:"node"`
	Started   time.Time `json:"started"`
}

// readRecord returns the record of a state directory, or nil when there is
// none that can be read: it helps, and nothing depends on it.
func readRecord(path string) *record {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var r record
	if json.Unmarshal(text, &r) != nil {
		return nil
	}
	return &r
}

func writeRecord(path string, r record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(path, append(text, '\n'))
}

// writeAtomic replaces a file so that a crash leaves the old or the new one.
func writeAtomic(path string, content []byte) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Sync()
	}
	err = errors.Join(err, temporary.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
