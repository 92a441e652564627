package record

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const damaged = "is damaged: move it away together with its -wal and -shm files; only records are lost, and an empty file takes its place at the next start"

// explain says in an error what has to be done about it.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	var what string
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		what = "is locked by another process: whoever looks into it with a tool has to end that"
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		what = damaged
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		what = "cannot be written: the file and its folder must be writable"
	case sqlite3.SQLITE_FULL:
		what = "the disk is full: make room, then it goes on by itself"
	case sqlite3.SQLITE_IOERR:
		what = "the disk does not take it: is it full, or has it failed?"
	default:
		return fmt.Errorf("records %s: %w", path, err)
	}
	return fmt.Errorf("records %s: %s: %w", path, what, err)
}

// code is SQLite's primary code of an error, 0 of others.
func code(err error) int {
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return 0
	}
	return lite.Code() & 0xff
}

// passing tells whether the same may succeed later.
func passing(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM:
		return true
	}
	return false
}

// ruined tells whether nothing will succeed any more.
func ruined(err error) bool {
	return code(err) == sqlite3.SQLITE_CORRUPT || code(err) == sqlite3.SQLITE_NOTADB
}
