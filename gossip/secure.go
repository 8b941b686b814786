package gossip

import (
	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/wire"
)

// What a neighbour says that it has may be gone after a loss of power there. Who must know what survives one asks for it, by
// a frame Secure with the newest dot that matters. The neighbour answers Secured once that, and all before it of its
// replica, is in its log and the log is synced, whatever it said before. So nobody pays but who asks, and what is idle stays
// so. While a question is not answered no other follows: the next one is for all that was asked meanwhile.

// securing is what a neighbour is asked for, and what it asks for.
type securing struct {
	replica crdt.ReplicaID // whose dots it is asked for
	wanted  uint64         // the last of them that somebody waits for
	asked   uint64         // the last that it was asked for on this link, since its last hello
	secured uint64         // up to this one they survive there, by its word

	asks   crdt.Dot // that it asks for; zero if it waits for none
	marked uint64   // how far the dots of that replica had come here once that was here; zero before
	end    uint64   // where the log ended then
	ready  bool     // the log is synced up to there: it is to be told
}

// Secure has all neighbours asked whether a dot, and all before it of its replica, survives a loss of power there. What
// they answer Secured says. Of one replica at a time they are asked.
func (m *Mesh) Secure(d crdt.Dot) {
	for _, n := range m.neighbours {
		s := &n.securing
		if s.replica != d.Replica {
			s.replica, s.wanted, s.asked, s.secured = d.Replica, 0, 0, 0
		}
		s.wanted = max(s.wanted, d.Counter)
	}
}

// Secured returns up to which dot of the replica that was asked for last all survives a loss of power at a neighbour.
func (m *Mesh) Secured(id NeighbourID) crdt.Dot {
	if n := m.neighbours[id]; n != nil && n.unread == nil {
		return crdt.Dot{Replica: n.securing.replica, Counter: n.securing.secured}
	}
	return crdt.Dot{}
}

// Vouch is told where the log ends that has all of the context, and up to where that is synced. told says that some
// neighbour that asked is now to be told, and waits that one waits for a sync.
func (m *Mesh) Vouch(end, synced uint64) (told, waits bool) {
	if !m.asked {
		return false, false
	}
	m.asked = false
	seen, _ := m.core.Context()
	for _, n := range m.neighbours {
		s := &n.securing
		if s.asks.Counter == 0 || s.ready {
			continue
		}
		m.asked = true
		has := seen[s.asks.Replica]
		if has < s.asks.Counter {
			continue
		}
		if s.marked == 0 {
			s.marked, s.end = has, end
		}
		s.ready = s.end <= synced
		told, waits = told || s.ready, waits || !s.ready
	}
	return told, waits
}

// next returns a question to a neighbour, or the answer to its own.
func (s *securing) next() []byte {
	switch {
	case s.ready:
		d := crdt.Dot{Replica: s.asks.Replica, Counter: s.marked}
		s.asks, s.marked, s.ready = crdt.Dot{}, 0, false
		return encodeDot(kindSecured, d)
	case s.wanted > s.secured && s.asked <= s.secured:
		s.asked = s.wanted
		return encodeDot(kindSecure, crdt.Dot{Replica: s.replica, Counter: s.asked})
	}
	return nil
}

func (m *Mesh) receiveSecure(n *neighbour, body []byte) error {
	d, err := decodeDot(body)
	if err == nil {
		n.securing.asks = d
		n.securing.unmark()
		m.asked = true
	}
	return err
}

func (m *Mesh) receiveSecured(n *neighbour, body []byte) error {
	d, err := decodeDot(body)
	if s := &n.securing; err == nil && d.Replica == s.replica && s.asked > 0 {
		seen, _ := m.core.Context()
		s.secured = max(s.secured, min(d.Counter, seen[d.Replica]))
	}
	return err
}

// unmark takes back what is to be told: the log may not have it any more.
func (s *securing) unmark() { s.marked, s.ready = 0, false }

// greeted is after a hello: a question may have been lost before it, and who lost what it has said to hold begins anew.
func (s *securing) greeted(seen crdt.VersionVector, whole bool) {
	if s.asked = 0; !whole || seen[s.replica] < s.secured {
		s.secured = 0
	}
}

// again forgets what the neighbour has said: it was of what had come there until then.
func (s *securing) again() {
	if s.wanted <= s.secured {
		s.wanted = 0 // nobody waits
	}
	s.asked, s.secured = 0, 0
}

// A secure asks for a dot, a secured answers with it, or with a later one of its replica.
func encodeDot(k kind, d crdt.Dot) []byte {
	return frame(k, 2, func(w *wire.Writer) {
		w.Uint(uint64(d.Replica))
		w.Uint(d.Counter)
	})
}

func decodeDot(body []byte) (d crdt.Dot, err error) {
	err = decode(body, 2, func(r *wire.Reader) {
		d = crdt.Dot{Replica: crdt.ReplicaID(r.Uint()), Counter: r.Uint()}
	})
	return d, err
}
