package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// Options are the bounds of a store. The zero value has those that are named.
type Options struct {
	MaxAge   time.Duration // of records, by the time of the request; 0: 30 days; below 0: any
	MaxBytes int64         // of the file; 0: 1 GiB; below 0: any
	Queue    int           // records that wait to be written; 0: 10,000
	// QueueBytes is what the waiting records may take; 0: 64 MiB.
	QueueBytes int64
	// MaxPrediction is how many bytes of one prediction, and of the features, are
	// kept; of longer ones it is kept how long they were. 0: 16 KiB.
	MaxPrediction int
	// Horizon is how long after a request an outcome still belongs to it. Nil, or
	// 0 for a model: MaxAge.
	Horizon func(model string) time.Duration
	Log     *slog.Logger // nil: the default logger
}

func (o Options) withDefaults() Options {
	fill := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	fill((*int64)(&o.MaxAge), int64(30*24*time.Hour))
	fill(&o.MaxBytes, 1<<30)
	fill(&o.QueueBytes, 64<<20)
	if o.Queue <= 0 {
		o.Queue = 10_000
	}
	if o.MaxPrediction <= 0 {
		o.MaxPrediction = 16 << 10
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// horizon of a model's outcomes.
func (o *Options) horizon(model string) time.Duration {
	if o.Horizon != nil {
		if h := o.Horizon(model); h > 0 {
			return h
		}
	}
	if o.MaxAge > 0 {
		return o.MaxAge
	}
	return 100 * 365 * 24 * time.Hour
}

// Store is the records database. Its methods are for concurrent use.
type Store struct {
	path    string
	options Options
	lock    *os.File
	readers *sql.DB

	// The writing goroutine has these for itself.
	writers *sql.DB
	conn    *sql.Conn
	stmts   statements
	waiting map[string]int // outcomes that nothing was served for yet, by model
	full    bool           // synchronous is FULL

	queue queue
	jobs  chan *job
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	mu     sync.Mutex
	status Status
}

// busyTimeout is how long Open waits for another process to let go of the file:
// long enough for the one before to end, in a restart.
const busyTimeout = 3 * time.Second

// Open opens the records, and creates the file when there is none. It fails when
// the file is damaged, cannot be written, belongs to a newer headgate, or is open
// in another process.
func Open(path string, options Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, explain(path, err)
	}
	s := &Store{path: path, options: options.withDefaults(), jobs: make(chan *job), stop: make(chan struct{}), done: make(chan struct{})}
	s.queue.init(s.options.Queue, s.options.QueueBytes)
	if err := s.open(context.Background(), abs); err != nil {
		return nil, errors.Join(explain(path, err), s.release())
	}
	go s.write()
	return s, nil
}

func (s *Store) open(ctx context.Context, abs string) (err error) {
	if s.lock, err = lock(abs + ".lock"); err != nil {
		return err
	}
	if err := create(abs); err != nil {
		return err
	}
	if s.writers, err = sql.Open("sqlite", dsn(abs, "auto_vacuum(INCREMENTAL)", "journal_mode(WAL)", "synchronous(FULL)",
		"cache_size(-16384)", "wal_autocheckpoint(4000)", "journal_size_limit(33554432)")); err != nil {
		return err
	}
	if s.conn, err = s.writers.Conn(ctx); err != nil {
		return err
	}
	s.full = true
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.stmts.prepare(ctx, s.conn); err != nil {
		return err
	}
	if err := s.countWaiting(ctx); err != nil {
		return err
	}
	if s.status.Bytes, err = s.used(ctx); err != nil {
		return err
	}
	s.readers, err = sql.Open("sqlite", dsn(abs, "query_only(1)"))
	if err == nil {
		s.readers.SetMaxOpenConns(4)
		s.readers.SetMaxIdleConns(2)
	}
	return err
}

// lock takes the lock that keeps other processes out. SQLite's own would keep
// our readers out as well.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(busyTimeout); ; <-retry.C {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("is in use by another process; records belong to one headgate"), f.Close())
		}
	}
}

// create makes an empty file that only its owner can read. An existing file is
// not touched: to close a second descriptor would release the locks of a first.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path string, pragmas ...string) string {
	pragmas = append(pragmas, fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{"_pragma": pragmas}.Encode()
}

// Close writes what waits, and lets go of the file. What could not be written is
// counted as dropped, and the error says why.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.stop) })
	<-s.done
	err := s.release()
	if status := s.Status(); status.Err != nil {
		err = errors.Join(status.Err, err)
	}
	return err
}

// release gives everything back, in reverse order.
func (s *Store) release() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	errs = append(errs, s.stmts.close())
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.writers != nil {
		errs = append(errs, s.writers.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	s.readers, s.conn, s.writers, s.lock = nil, nil, nil, nil
	return errors.Join(errs...)
}

// Status is how the store is doing. The counts are since it was opened.
type Status struct {
	Err            error // why nothing is being written now; nil: it is
	Queued         int   // records that wait
	Served, Pairs  uint64
	Outcomes       uint64
	Joined         uint64 // answers whose outcome became known
	Repeated       uint64 // served requests, or answers, that were known already
	DroppedServed  uint64 // for want of room in the queue, or because the file is lost
	DroppedPairs   uint64
	Expired        uint64 // records that age or size has removed, pairs and served requests
	Bytes          int64  // of the file, without what is free in it
	WaitingOutcome int    // outcomes that nothing was served for yet
}

// Status returns how the store is doing.
func (s *Store) Status() Status {
	s.mu.Lock()
	status := s.status
	s.mu.Unlock()
	q := s.queue.counts()
	status.Queued = q.entries
	status.DroppedServed += q.droppedServed
	status.DroppedPairs += q.droppedPairs
	return status
}

// tell changes the status.
func (s *Store) tell(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}
