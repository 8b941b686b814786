package gossip

import (
	"fmt"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// Receive takes a frame from a neighbour. Deltas in it are handed to apply, until it answers
// Later; a chain in it is compared, until the step is spent. Then Unfinished says so, and Resume
// must be called before the neighbour's next frame is received. An error wraps ErrFrame if the
// neighbour does not keep to the protocol, and is apply's own otherwise.
func (m *Mesh) Receive(id NeighbourID, data []byte, apply Apply) error {
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
	if k != kindHello && k != kindBases && n.unread != nil {
		m.read(id, n, true)
	}
	switch {
	case !m.Quarantined(id):
		if err := m.retryGrown(n, apply); err != nil {
			return err
		}
	case k == kindPart:
		return m.receivePart(id, n, body, apply)
	case !inQuarantine[k]:
		if k == kindDeltas {
			n.owed += uint64(len(body)) // they are on the way no more
		}
		return nil
	}
	switch k {
	case kindHello:
		return m.receiveHello(id, n, body)
	case kindBases:
		return m.receiveBases(id, n, body)
	case kindDeltas:
		return m.receiveDeltas(id, n, body, apply)
	case kindPart:
		return m.receivePart(id, n, body, apply)
	case kindHave:
		return m.receiveHave(id, n, body)
	case kindPrune:
		return m.receivePrune(id, n, body)
	case kindBehind:
		m.events = append(m.events, Event{Behind, id})
	case kindDigest:
		return m.receiveDigest(id, n, body)
	case kindAsk:
		r, err := decodeNumber(body)
		if len(n.chain) < maxAsked {
			n.chain[crdt.ReplicaID(r)] = true
		}
		return err
	case kindChain:
		return m.receiveChain(id, n, body)
	case kindFork:
		ids, err := decodeReplicas(body)
		m.Estrange(id, ids...)
		return err
	case kindSecure:
		return m.receiveSecure(n, body)
	case kindSecured:
		return m.receiveSecured(n, body)
	case kindAck:
		bytes, err := decodeNumber(body)
		n.onTheWay -= min(bytes, n.onTheWay)
		return err
	}
	return nil
}

func (m *Mesh) receiveHave(id NeighbourID, n *neighbour, body []byte) error {
	seen, heads, err := decodeHave(body)
	if err != nil {
		return err
	}
	return m.hears(id, n, seen, heads)
}

func (m *Mesh) receivePrune(id NeighbourID, n *neighbour, body []byte) error {
	ids, err := decodeReplicas(body)
	for _, r := range ids {
		if len(n.unwanted) < maxReplicas {
			n.unwanted[r] = true
			m.offered(id, n, r)
		}
	}
	return err
}

// inQuarantine are the messages that are taken from a neighbour in quarantine.
var inQuarantine = map[kind]bool{
	kindHello: true, kindBases: true, kindFork: true, kindAsk: true, kindChain: true, kindAck: true,
}

// errUnasked ends the link to who sends an answer to nothing.
var errUnasked = fmt.Errorf("%w: a chain that was not asked for", ErrFrame)

// hears notes what a neighbour says that it has.
func (m *Mesh) hears(id NeighbourID, n *neighbour, v crdt.VersionVector, heads delta.Heads) error {
	n.known.Merge(v)
	n.said.Merge(v)
	n.listed.Merge(v)
	m.compare(id, n, v, heads)
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
	n.newcomer = !n.greeted || n.replica != h.replica || n.unread != nil && n.newcomer
	n.greeted, n.replica, n.missing = true, h.replica, 0
	n.heard++
	n.whole = h.whole && h.heard >= n.confirm
	for _, r := range h.graft {
		delete(n.unwanted, r)
	}
	n.hello = n.hello || h.answer
	if n.unread == nil {
		n.waited = 0 // else the wait goes on: one who says hello often is read in the end too
	}
	n.listed, n.tables, n.unread = h.seen.Clone(), nil, &h
	m.read(from, n, false)
	return nil
}

// take takes a hello whose context is in its long form.
func (m *Mesh) take(from NeighbourID, n *neighbour, h hello) {
	first := n.newcomer
	anew := first || !h.seen.Contains(n.stated)
	n.stated, n.heads = crdt.VersionVector{}, delta.Heads{}
	n.securing.greeted(h.seen, h.whole)
	if anew {
		m.core.Forget(from)
	}
	m.reconcile(from, n, h, anew)
	seen, heads := m.distinct(n, h.seen, h.heads)
	m.compare(from, n, seen, heads)
	m.core.Confirm(from, h.seen, h.heads, m.Quarantined(from))
	n.tellFork = n.tellFork || first && m.Quarantined(from) // it may have been started anew
	if first && !m.Quarantined(from) {
		m.linked(n)
	}
	n.lost, n.due = true, true
}

// findStart finds where in the log a neighbour must be served from. It is not done while a frame is received: the
// context may then be ahead of the log by what is being committed.
func (m *Mesh) findStart(n *neighbour) {
	if s := n.sending; s != nil && n.known[s.replica] >= s.first-1 {
		n.known.Raise(s.replica, s.last)
	}
	record, covered := m.core.LogStart(n.known)
	n.lost, n.cursor, n.behind, n.tellBehind = false, record, !covered, !covered
}

func (m *Mesh) receiveDeltas(from NeighbourID, n *neighbour, body []byte, apply Apply) error {
	deltas, news, heads, err := decodeDeltas(&m.unpacker, body)
	if err != nil {
		return err
	}
	if n.partial != nil {
		return fmt.Errorf("%w: deltas between the parts of one", ErrFrame)
	}
	n.owed += uint64(len(body))
	n.rest, n.news, n.newsHeads, n.applied = deltas, news, heads, false
	return m.takeRest(from, n, apply)
}

// Unfinished reports whether something is left of a neighbour's last frame, for Resume.
func (m *Mesh) Unfinished(id NeighbourID) bool {
	n := m.neighbours[id]
	return n != nil && (len(n.rest) > 0 || n.retrying || n.comparing != nil)
}

// Resume goes on with a neighbour's frame for which apply, or the step, had no room. Its errors are
// those of Receive.
func (m *Mesh) Resume(id NeighbourID, apply Apply) error {
	n := m.neighbours[id]
	switch {
	case n == nil:
		return nil
	case n.comparing != nil:
		return m.compareOn(id, n)
	case m.Quarantined(id):
		n.rest, n.retrying = nil, false
		return nil
	}
	if err := m.retryGrown(n, apply); err != nil || len(n.rest) == 0 {
		return err
	}
	return m.takeRest(id, n, apply)
}

// retryGrown looks at what waits, if the context grew since that was done last.
func (m *Mesh) retryGrown(n *neighbour, apply Apply) error {
	n.retrying = false
	if !m.grown || m.paused || !m.core.Whole() {
		return nil
	}
	return m.retry(n, apply)
}

// takeRest hands what is left of a frame to apply.
func (m *Mesh) takeRest(from NeighbourID, n *neighbour, apply Apply) error {
	if m.paused {
		n.drop(n.rest)
		n.rest = nil
		return m.hears(from, n, n.news, n.newsHeads)
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
		if outcome == Astray {
			n.rest = nil // nor is what came with it taken
			m.Estrange(from, d.Replica)
			return nil
		}
		again := d.Last() <= n.came[d.Replica] // it was on the way when our hello asked for it
		n.came.Raise(d.Replica, d.Last())
		n.known.Raise(d.Replica, d.Last())
		n.said.Raise(d.Replica, d.Last())
		n.listed.Raise(d.Replica, d.Last())
		switch outcome {
		case Applied:
			n.applied, m.grown = true, true // what waits is looked at also if the frame ends early
			n.knows(d)
			m.arrived(from, d)
		case Known:
			n.knows(d)
			if !again {
				m.surplus(n, d.Replica)
			}
		case Early:
			m.wait(from, d)
		}
	}
	n.rest = nil
	if err := m.hears(from, n, n.news, n.newsHeads); err != nil {
		return err
	}
	if n.applied {
		m.looked = 0
		return m.retry(n, apply)
	}
	return nil
}

// knows notes that a neighbour knows that we have a delta which it sent. Of its own writes it is told that, with the
// news: then it knows that they are on its chain here, and not lost with it.
func (n *neighbour) knows(d *delta.Delta) {
	if d.Replica != n.replica {
		n.told.Raise(d.Replica, d.Last())
	}
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
	case settled && ours.Root != theirs.Root:
		m.events = append(m.events, Event{Damaged, id})
	}
	return nil
}

// Pause stops taking deltas, or takes them again: for a replica that has no room. Those that arrive
// meanwhile are dropped and not acknowledged, so a neighbour stops sending when a window of them is on
// the way; all else goes on. Afterwards neighbours are asked for what was dropped, before they are told
// that it arrived. Whoever pauses ticks as for a replica that is being repaired.
func (m *Mesh) Pause(paused bool) {
	if m.paused && !paused {
		for _, n := range m.neighbours {
			n.hello, n.graft = true, true
		}
	}
	m.paused = paused
}

// drop notes that a neighbour has deltas that were not taken.
func (n *neighbour) drop(deltas []*delta.Delta) {
	for _, d := range deltas {
		n.known.Raise(d.Replica, d.Last())
	}
}

// waiting is a delta that could not be applied when it came.
type waiting struct {
	from  NeighbourID
	delta *delta.Delta
}

// Limits of what waits. MaxWaiting is how many deltas may, for what they depend on.
const (
	MaxWaiting      = 1024
	maxWaitingBytes = delta.MaxSize // bytes of them
)

// wait keeps a delta until what it depends on is here. Without room it is dropped: ticks notice that
// it is missing.
func (m *Mesh) wait(from NeighbourID, d *delta.Delta) {
	if slices.ContainsFunc(m.waiting, func(w waiting) bool {
		return w.delta.Replica == d.Replica && w.delta.First == d.First
	}) {
		return
	}
	size := len(d.Encode())
	if len(m.waiting) < MaxWaiting && m.waitBytes+size <= maxWaitingBytes {
		m.waiting = append(m.waiting, waiting{from, d})
		m.waitBytes += size
	}
}

// retry applies what waits, for as long as that makes progress. If apply has no more room it is gone on with when the
// neighbour's frame is, or whenever the next one comes.
func (m *Mesh) retry(n *neighbour, apply Apply) error {
	var astray []waiting
	defer func() {
		for _, w := range astray {
			m.Estrange(w.from, w.delta.Replica)
		}
	}()
	for m.grown = false; m.looked < len(m.waiting); {
		w := m.waiting[0]
		outcome, err := apply(w.delta)
		if err != nil {
			return err
		}
		if outcome == Later {
			m.grown, n.retrying = true, true
			return nil
		}
		m.waiting[0] = waiting{}
		m.waiting = m.waiting[1:]
		if outcome == Early {
			m.waiting = append(m.waiting, w)
			m.looked++
			continue
		}
		switch outcome {
		case Applied:
			m.looked = 0
			m.arrived(w.from, w.delta)
		case Astray:
			astray = append(astray, w)
		}
		m.waitBytes -= len(w.delta.Encode())
	}
	m.looked = 0
	return nil
}

// forgetWaiting drops what came from a neighbour and waits.
func (m *Mesh) forgetWaiting(from NeighbourID) {
	m.looked = 0
	m.waiting = slices.DeleteFunc(m.waiting, func(w waiting) bool {
		if w.from == from {
			m.waitBytes -= len(w.delta.Encode())
		}
		return w.from == from
	})
}

// Waiting returns how many deltas wait for what they depend on.
func (m *Mesh) Waiting() int { return len(m.waiting) }
