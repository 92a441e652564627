package xds

import (
	"crypto/sha256"
	"sync"
)

// composer is the compiler that sessions share. Most Envoys need the same
// table at the same time: it is put together once.
type composer struct {
	mu     sync.Mutex
	recent map[string][]composed // by listener, newest first
}

type composed struct {
	key      [sha256.Size]byte
	resource Resource
}

func newComposer() *composer { return &composer{recent: map[string][]composed{}} }

// RouteTable returns the table of a listener.
func (c *composer) RouteTable(listener string, models []*ModelResources) (Resource, error) {
	key := tableKey(models)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.recent[listener] {
		if r.key == key {
			return r.resource, nil
		}
	}
	r, err := RouteTable(listener, models)
	if err != nil {
		return Resource{}, err
	}
	c.recent[listener] = front(c.recent[listener], composed{key, r})
	return r, nil
}

// RuntimeLayer returns a runtime layer. It is cheap: only models in the middle
// of a rollout have weights.
func (c *composer) RuntimeLayer(shard int, models []*ModelResources) Resource {
	return RuntimeLayer(shard, models)
}

// tableKey identifies what a table is made of.
func tableKey(models []*ModelResources) (key [sha256.Size]byte) {
	h := sha256.New()
	for _, m := range models {
		_, _ = h.Write([]byte(m.Model))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(m.RouteVersion))
		_, _ = h.Write([]byte{0})
	}
	h.Sum(key[:0])
	return key
}
