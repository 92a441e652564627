//go:build !linux

package config

import (
	"io/fs"
	"os"
	"time"
)

// stamp tells whether a file is the same as when it was read, see young.
type stamp struct {
	device, inode uint64 // not known here
	size          int64
	modified      time.Time
	changed       time.Time // as modified
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{size: info.Size(), modified: info.ModTime(), changed: info.ModTime()}
}

// beingWritten cannot be found out here.
func beingWritten(*os.File) (busy, known bool) { return false, false }

const openFlags = os.O_RDONLY
