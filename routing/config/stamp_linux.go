package config

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stamp tells whether a file is the same as when it was read. Two equal stamps
// can still hide a change that was made within one tick of the file system's
// clock, so a young one proves nothing, see young.
type stamp struct {
	device, inode uint64
	size          int64
	modified      time.Time
	changed       time.Time // of contents, name or mode
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), modified: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode = st.Dev, st.Ino
		s.changed = time.Unix(st.Ctim.Unix())
	}
	return s
}

// beingWritten tells whether a process has the file open for writing, and
// whether that could be found out. The kernel grants a read lease only on
// files that nobody writes; it is given back at once.
func beingWritten(f *os.File) (busy, known bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, false
	}
	var leased error
	err = raw.Control(func(fd uintptr) {
		if _, leased = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); leased == nil {
			_, _ = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	switch {
	case err != nil:
		return false, false
	case leased == nil:
		return false, true
	default:
		return leased == unix.EAGAIN, leased == unix.EAGAIN
	}
}

// openFlags keep an open from waiting for the other end of a pipe.
const openFlags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
