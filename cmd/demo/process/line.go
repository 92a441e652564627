package process

import (
	"bytes"
	"sync"
)

// FirstLine is a writer that hands on the first line written to it.
type FirstLine struct {
	once sync.Once
	buf  bytes.Buffer
	line chan string
}

// NewFirstLine returns a writer that has no line yet.
func NewFirstLine() *FirstLine { return &FirstLine{line: make(chan string, 1)} }

// C receives the line, without its end.
func (f *FirstLine) C() <-chan string { return f.line }

// Write never fails.
func (f *FirstLine) Write(p []byte) (int, error) {
	if f.buf.Len() < 1<<10 {
		f.buf.Write(p)
	}
	if line, _, ok := bytes.Cut(f.buf.Bytes(), []byte("\n")); ok {
		f.once.Do(func() { f.line <- string(line) })
	}
	return len(p), nil
}
