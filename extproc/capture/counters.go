package capture

import "github.com/headgate/headgate/compare/pair"

// Counters are what the service has counted since it was made.
type Counters struct {
	Streams     uint64 // opened
	Active      int64  // open now
	Exchanges   uint64 // users' requests that were captured to the end of their answers
	Truncated   uint64 // bodies of which only the beginning was kept
	Aborted     uint64 // users' requests that ended before their answers did
	Dropped     uint64 // streams, exchanges and pairs left out for want of room
	Undecodable uint64 // streams that told too little, or things in no order
	Memory      int64  // bytes held now, without those of Join

	Join pair.Counts
}

// Counters returns the counters as they are now. They are read one by one.
func (s *Service) Counters() Counters {
	s.mu.Lock()
	join := s.joiner.Counts()
	s.mu.Unlock()
	return Counters{
		Streams:     s.totals.streams.Load(),
		Active:      s.totals.active.Load(),
		Exchanges:   s.totals.exchanges.Load(),
		Truncated:   s.totals.truncated.Load(),
		Aborted:     s.totals.aborted.Load(),
		Dropped:     s.totals.dropped.Load(),
		Undecodable: s.totals.undecodable.Load(),
		Memory:      s.memory.used.Load(),
		Join:        join,
	}
}
