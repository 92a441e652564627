package xds

import (
	"slices"
	"strings"
	"time"
)

// A model whose address is edited keeps the old listener until it is served on
// the new one: an address that cannot be bound must not take the model away.
// The old one then stays a moment longer, because Envoy acknowledges a listener
// some milliseconds before it accepts connections.

// part returns the model's part in a listener's table, or nil.
func (m *model) part(listener string) *tablePart {
	for _, p := range m.routes {
		if p.listener == listener {
			return p
		}
	}
	return nil
}

// on tells whether the listener's table names the model, or will.
func (m *model) on(listener string) bool {
	p := m.part(listener)
	return p != nil && (p.acked != nil || p.sent != nil)
}

// elsewhere tells whether the model stands in the table of another listener.
func (m *model) elsewhere(listener string) bool {
	return slices.ContainsFunc(m.routes, func(p *tablePart) bool {
		return p.listener != listener && (p.acked != nil || p.sent != nil)
	})
}

// stay finds out whether the listeners that the model has left keep it.
func (s *session) stay(m *model, now time.Time) {
	delete(s.leaving, m)
	m.stays = false
	if m.held || m.want == nil {
		m.stays = m.held
		return
	}
	at := m.want.Listener
	if s.served(m) {
		if _, known := s.opened[at]; !known {
			s.opened[at] = now
		}
		if !now.Before(s.opened[at].Add(s.limits.removal)) {
			return
		}
	}
	if m.elsewhere(at) {
		m.stays, s.leaving[m] = true, true
	}
}

// served tells whether the Envoy has the model where the plan wants it, in
// whatever state.
func (s *session) served(m *model) bool {
	at := m.want.Listener
	p := m.part(at)
	return p != nil && p.acked != nil && s.watches[kindListener].have[at] != ""
}

// keeps tells whether a listener that the plan no longer has is still needed.
func (s *session) keeps(listener string, now time.Time) bool {
	if isMirror(listener) {
		return false
	}
	w := s.watches[kindListener]
	next, moving := w.sent[listener]
	if w.have[listener] == "" || (moving && next == "") {
		return false
	}
	t := s.tables[listener]
	if t == nil || !t.asked || !t.known {
		// Any model may be on it.
		return !s.allOpen(now)
	}
	for m := range t.members {
		if m.want != nil && m.on(listener) {
			return true
		}
	}
	return false
}

// allOpen tells whether every listener of the plan has been serving for a
// while.
func (s *session) allOpen(now time.Time) bool {
	for _, r := range s.snapshot.Listeners {
		since, open := s.opened[r.Name]
		if !open || now.Before(since.Add(s.limits.removal)) {
			return false
		}
	}
	return true
}

// failedBind is an address that a listener could not bind.
type failedBind struct {
	next  time.Time // when it is tried again
	tries int
	text  string // Envoy's own words
}

// failBind notes that an address is taken. Somebody else may let it go at any
// moment: the first tries follow each other fast.
func (s *session) failBind(listener, text string, now time.Time) {
	b := s.unbound[listener]
	pause := min(s.limits.rebind<<min(b.tries, 10), s.limits.longestRebind)
	s.unbound[listener] = failedBind{next: now.Add(pause), tries: b.tries + 1, text: text}
}

// cannotBind tells whether a refusal says nothing about the listener, only
// about this Envoy's machine and this moment.
func cannotBind(text string) bool {
	return strings.Contains(text, "cannot bind") || strings.Contains(text, "Address already in use")
}

// mistake is a refusal.
type mistake struct {
	kind  kind
	text  string // in Envoy's words, one line
	rest  string // what is in force instead
	again bool   // nothing new since the last one
}

// mistaken describes a refusal. It must be called before it takes effect.
func (s *session) mistaken(k kind, f *flight, text string) mistake {
	m := mistake{kind: k, text: text, rest: "the last accepted one stays"}
	bad := f.culprits(text)
	if len(bad) == 0 {
		bad = f.added
	}
	for _, r := range bad {
		if k == kindListener {
			m.again = s.unbound[r.Name].text == text
		}
		if s.watches[k].have[r.Name] != "" {
			continue
		}
		m.rest = "it is left out"
		if k == kindListener && s.awaited(r.Name) {
			m.rest = "its models stay on their old listener"
		}
	}
	return m
}

// awaited tells whether models stay elsewhere until the listener serves.
func (s *session) awaited(listener string) bool {
	for m := range s.leaving {
		if m.want != nil && m.want.Listener == listener {
			return true
		}
	}
	return false
}

// oneLine makes one line of Envoy's words, which end in a line break and may
// hold more of them, also written as \n.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, `\n`, "\n")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
