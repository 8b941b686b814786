package gossip

import (
	"fmt"

	"github.com/peerd/peerd/crdt"
)

// Receive takes a frame from a neighbour. Deltas in it are handed to apply, until it answers Later: then Unfinished
// says so, and Resume must be called before the neighbour's next frame is received. An error wraps ErrFrame if the
// neighbour does not keep to the protocol, and is apply's own otherwise.
func (m *Mesh) Receive(id NeighbourID, data []byte,
	apply func(*crdt.Delta) (Outcome, error)) error {
	n := m.neighbours[id]
	if n == nil {
		return nil
	}
	if len(data) == 0 || len(data) > MaxFrame {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(data))
	}
	k, body := kind(data[0]), data[1:]
	if !n.greeted && k != kindHello {
		return fmt.Errorf("%w: a message before hello", ErrFrame)
	}
	if err := m.retryGrown(n, apply); err != nil {
		return err
	}
	switch k {
	case kindHello:
		return m.receiveHello(id, n, body)
	case kindDeltas:
		return m.receiveDeltas(id, n, body, apply)
	case kindHave:
		v, err := decodeHave(body)
		if err == nil {
			err = n.hears(v)
		}
		return err
	case kindPrune:
		ids, err := decodePrune(body)
		for _, r := range ids {
			if len(n.unwanted) < maxReplicas {
				n.unwanted[r] = true
				m.offered(id, n, r)
			}
		}
		return err
	case kindBehind:
		if !n.strange {
			m.events = append(m.events, Event{Behind, id})
		}
	case kindDigest:
		return m.receiveDigest(id, n, body)
	case kindAsk:
		r, err := decodeAsk(body)
		if len(n.chain) < maxAsked {
			n.chain[r] = true
		}
		return err
	case kindChain:
		return m.receiveChain(n, body)
	case kindAbandoned:
		return m.receiveAbandoned(n, body)
	case kindRift:
		return m.receiveRift(id, n, body)
	case kindAck:
		bytes, err := decodeAck(body)
		n.onTheWay -= min(bytes, n.onTheWay)
		return err
	}
	return nil
}

// hears notes what a neighbour says that it has.
func (n *neighbour) hears(v crdt.VersionVector) error {
	n.known.Merge(v)
	n.said.Merge(v)
	if len(n.known) > maxContext {
		return fmt.Errorf("%w: a context of %d replicas", ErrFrame, len(n.known))
	}
	return nil
}

func (m *Mesh) receiveHello(from NeighbourID, n *neighbour, body []byte) error {
	h, err := decodeHello(body)
	if err != nil {
		return err
	}
	first := !n.greeted || n.replica != h.replica
	n.greeted, n.replica, n.known, n.missing = true, h.replica, h.seen, 0
	n.said = h.seen.Clone()
	n.heard++
	n.whole = h.whole && h.heard >= n.confirm
	for _, r := range h.graft {
		delete(n.unwanted, r)
	}
	n.hello = n.hello || h.answer
	differ := m.core.Heard(h.seen, h.heads)
	for _, r := range differ.Suspects {
		n.ask[r] = true
	}
	for _, r := range differ.Forked {
		m.noticeRift(newRift(r, "", from), riftTicks)
	}
	n.differs, n.strange = differ.Strange, len(differ.Strange) > 0
	if first && !n.strange {
		m.linked(n)
	}
	n.lost, n.due = true, true
	return nil
}

// place finds where in the log a neighbour must be served from. It is not done while a frame is received: the
// context may then be ahead of the log by what is being committed.
func (m *Mesh) place(n *neighbour) {
	record, covered := m.core.LogStart(n.known)
	n.lost, n.cursor, n.behind, n.tellBehind = false, record, !covered, !covered && !n.strange
}

func (m *Mesh) receiveDeltas(from NeighbourID, n *neighbour, body []byte,
	apply func(*crdt.Delta) (Outcome, error)) error {
	deltas, news, err := decodeDeltas(body)
	if err != nil {
		return err
	}
	n.owed += uint64(len(body))
	n.rest, n.news, n.applied = deltas, news, false
	return m.takeRest(from, n, apply)
}

// Unfinished reports whether something is left of a neighbour's last frame, for Resume.
func (m *Mesh) Unfinished(id NeighbourID) bool {
	n := m.neighbours[id]
	return n != nil && (len(n.rest) > 0 || n.retrying)
}

// Resume goes on with a neighbour's frame for which apply had no room. Its errors are those of Receive.
func (m *Mesh) Resume(id NeighbourID, apply func(*crdt.Delta) (Outcome, error)) error {
	n := m.neighbours[id]
	if n == nil {
		return nil
	}
	if err := m.retryGrown(n, apply); err != nil || len(n.rest) == 0 {
		return err
	}
	return m.takeRest(id, n, apply)
}

// retryGrown looks at what waits, if the context grew since that was done last.
func (m *Mesh) retryGrown(n *neighbour, apply func(*crdt.Delta) (Outcome, error)) error {
	n.retrying = false
	if !m.grown || m.paused || !m.core.Whole() {
		return nil
	}
	return m.retry(n, apply)
}

// takeRest hands what is left of a frame to apply.
func (m *Mesh) takeRest(from NeighbourID, n *neighbour,
	apply func(*crdt.Delta) (Outcome, error)) error {
	switch {
	case m.paused:
		n.drop(n.rest)
		n.rest = nil
		return n.hears(n.news)
	case n.strange:
		n.rest = nil
		return n.hears(n.news)
	}
	for len(n.rest) > 0 {
		d := n.rest[0]
		outcome, err := apply(d)
		if err != nil {
			return err
		}
		if outcome == Later {
			return nil
		}
		n.rest = n.rest[1:]
		again := d.Last() <= n.came[d.Replica] // it was on the way when our hello asked for it
		n.came.Raise(d.Replica, d.Last())
		n.known.Raise(d.Replica, d.Last())
		n.said.Raise(d.Replica, d.Last())
		switch outcome {
		case Applied:
			n.applied = true
			n.told.Raise(d.Replica, d.Last())
			m.arrived(from, d)
		case Known:
			n.told.Raise(d.Replica, d.Last())
			if !again {
				m.surplus(n, d.Replica)
			}
		case Early:
			m.wait(from, d)
		}
	}
	n.rest = nil
	if err := n.hears(n.news); err != nil {
		return err
	}
	if n.applied {
		m.looked = 0
		return m.retry(n, apply)
	}
	return nil
}

func (m *Mesh) receiveDigest(id NeighbourID, n *neighbour, body []byte) error {
	theirs, err := decodeDigest(body)
	if err != nil {
		return err
	}
	ours, settled := m.core.State()
	switch {
	case ours.Context != theirs.Context:
		n.quiet = max(n.quiet, tellAfter)
	case settled && ours.Root != theirs.Root && !n.strange:
		m.events = append(m.events, Event{Damaged, id})
	}
	return nil
}

func (m *Mesh) receiveChain(n *neighbour, body []byte) error {
	c, err := decodeChain(body)
	if err != nil {
		return err
	}
	if !n.asked[c.Replica] {
		return fmt.Errorf("%w: a chain that was not asked for", ErrFrame)
	}
	delete(n.asked, c.Replica)
	whole := m.core.Whole()
	forks, err := m.core.Compare(c)
	if forks {
		n.differs, n.strange = append(n.differs, c.Replica), true
	}
	switch {
	case whole && !m.core.Whole():
		m.Rebase()
	case m.core.Whole() && !m.suspected():
		for _, o := range m.neighbours {
			o.hello = o.hello || !o.toldWhole
		}
	}
	return err
}

func (m *Mesh) receiveAbandoned(n *neighbour, body []byte) error {
	all, err := decodeAbandoned(body)
	if err != nil {
		return err
	}
	for _, b := range all {
		if len(n.branches) < maxReplicas {
			n.branches[b.Name()] = b.Tries + 1
		}
		m.healedRifts(b.Replica)
	}
	if m.core.Abandon(all) {
		m.Rebase() // we are not whole any more
	}
	return nil
}
