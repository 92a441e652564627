package config

import "time"

// change is how one file differs from what was last told of it.
type change struct {
	base       *blob // as last told; nil: a new file
	removed    bool
	replaced   bool // another file is in its place
	busy       bool // open for writing
	settled    bool // known not to be open for writing
	size       int64
	unfinished bool // does not end with the end of a line
	written    bool // an event said that it was written to in its place
}

// changes is what differs from what was last told, by the name of the file.
type changes map[string]change

func (cs changes) changed(name string, before, now *blob) {
	c, known := cs[name]
	if !known {
		c.base = before
	}
	if c.base.same(now) {
		delete(cs, name)
		return
	}
	c.removed, c.size = false, now.stamp.size
	c.busy, c.settled = now.busy, now.settled
	c.replaced = c.base == nil || c.base.stamp.inode != now.stamp.inode || c.base.stamp.device != now.stamp.device
	c.unfinished = len(now.data) == 0 || now.data[len(now.data)-1] != '\n'
	cs[name] = c
}

// again notes what is new of a file whose contents are not.
func (cs changes) again(name string, now *blob) {
	if c, ok := cs[name]; ok {
		c.busy, c.settled = now.busy, now.settled
		cs[name] = c
	}
}

func (cs changes) removed(name string, before *blob) {
	c, known := cs[name]
	if !known {
		c.base = before
	}
	if c.base == nil {
		delete(cs, name)
		return
	}
	c.removed, c.busy = true, false
	cs[name] = c
}

// How long a change must stand still before it is told.
const (
	holdBusy    = 2 * time.Millisecond   // then it is asked again whether it is still open
	holdInPlace = 5 * time.Millisecond   // written in place, and looks whole
	holdShorter = 10 * time.Millisecond  // written in place, and a little shorter
	holdNew     = 100 * time.Millisecond // a new file, written in place
	holdError   = 100 * time.Millisecond // a mistake in a file
	holdPartial = 250 * time.Millisecond // written in place, and looks like a part
	holdRemoved = 500 * time.Millisecond // a file or the directory is gone
	holdAtMost  = 5 * time.Second        // what never stands still is told all the same
)

// hold returns how long a change must stand still. A file that was renamed
// into place is whole. One that is written in place may be seen half-written,
// and half a model can be a valid model that sends every user to the
// candidate: it waits until its writer has closed it, and longer when it looks
// like the beginning of something.
func (c *change) hold() time.Duration {
	switch {
	case c.removed:
		return holdRemoved
	case c.busy:
		return holdBusy
	case c.replaced && !c.written && c.settled:
		return 0
	case c.unfinished, c.base != nil && c.size < c.base.stamp.size*9/10:
		return holdPartial
	case c.base == nil:
		return holdNew
	case c.size < c.base.stamp.size:
		return holdShorter
	}
	return holdInPlace
}
