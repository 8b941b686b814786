package gossip

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
)

// NeighbourID names a neighbour: its peer id, of at most MaxNeighbourID bytes.
type NeighbourID string

// MaxNeighbourID bounds a name.
const MaxNeighbourID = 128

// Core is the replica that a Mesh spreads deltas from.
type Core interface {
	// ID returns the id under which the replica writes, or will.
	ID() crdt.ReplicaID
	// Whole reports whether the replica has what its context says, so that others may rely on it.
	Whole() bool
	// Lacks reports whether the replica lacks something of a context, in its long or its short
	// form.
	Lacks(known crdt.VersionVector) bool
	// Context returns the context, which the mesh does not change.
	Context() (crdt.VersionVector, delta.Heads)
	// Vector returns the context's short form (see delta.Bases), and Tables the bases in it, which
	// the mesh does not change.
	Vector() crdt.VersionVector
	Tables() []delta.Table
	// Expand returns what another's short form stands for, as far as the bases say that are here,
	// and more of that other's.
	Expand(v crdt.VersionVector, heads delta.Heads, more []delta.Table) (crdt.VersionVector, delta.Heads)
	// State returns the digest; settled is false while the root says nothing.
	State() (d Digest, settled bool)
	// Heard is told what another replica has, and compares its deltas with those here.
	Heard(seen crdt.VersionVector, heads delta.Heads) Differences
	// Confirm is told, after that, what of the replica's own writes a host is known to have. across
	// says that it is in quarantine.
	Confirm(host NeighbourID, seen crdt.VersionVector, heads delta.Heads, across bool)
	// Forget is told that a host may have lost what it is known to have. Confirm says what it has.
	Forget(host NeighbourID)
	// Forked is told that a replica's deltas are others at some host.
	Forked(id crdt.ReplicaID)
	// Agrees reports whether a replica's delta that ends at a counter is known to have this hash
	// here.
	Agrees(id crdt.ReplicaID, last uint64, head delta.Hash) bool
	// Chain has the chain of a replica's deltas in the log found, up to the first that ends beyond
	// a counter.
	Chain(id crdt.ReplicaID, upTo uint64) Search[Chain]
	// Compare is told a host's chain of a replica, and has that and the one here compared.
	Compare(from NeighbourID, theirs Chain) Search[Comparison]
	// LogStart returns where someone with the given context begins to read the log, and whether the
	// log covers all that they lack.
	LogStart(theirs crdt.VersionVector) (record uint64, covered bool)
	// LogRead calls fn with the deltas of at most maxRecords records from one on, until fn returns
	// false, and returns the record to go on with; covered is false if the log was cut beyond it,
	// as it is where one that comes then cannot be read.
	LogRead(record uint64, maxRecords int, fn func(*delta.Delta) bool) (
		next uint64, covered bool, err error)
}

// Differences says which replicas' deltas are others, or may be, at a neighbour than here.
type Differences struct {
	Forked []crdt.ReplicaID // that are: nothing is exchanged
	Unsure []crdt.ReplicaID // that may be: the neighbour is asked for their chains
}

// Search is what finds something in the log. It is called, each time in another step, until it is
// done.
type Search[T any] func() (found T, done bool, err error)

// Comparison tells how two chains of a replica differ.
type Comparison struct {
	Forks bool   // as is known
	Last  uint64 // the last dot that they are known to have in common
}

// Outcome is what became of a delta that arrived.
type Outcome int

const (
	Applied Outcome = iota // it is in the context now
	Known                  // it was already
	Early                  // something that it may have seen is missing: it may be offered again
	Refused                // it was dropped
	Later                  // it was not looked at: it is to be offered again by Resume
	Astray                 // it does not continue the chain of its replica's deltas that is here
)

// Apply takes a delta that arrived. After an error nothing more may be received.
type Apply func(*delta.Delta) (Outcome, error)

// Event is something that the mesh's owner must act on.
type Event struct {
	Kind EventKind
	From NeighbourID
}

// EventKind tells what happened.
type EventKind int

const (
	// Behind: the neighbour has what this replica lacks and its log does not reach it. Repair from
	// it.
	Behind EventKind = iota
	// Damaged: this replica and the neighbour have the same context over different cells.
	Damaged
	// Forked: the neighbour is in quarantine, because a replica's deltas there are others than
	// here.
	Forked
)

// Mesh is the state of dissemination. One goroutine owns it.
type Mesh struct {
	core       Core
	id         crdt.ReplicaID // of the core when the neighbours were last told
	neighbours map[NeighbourID]*neighbour
	ids        []NeighbourID                  // theirs, in order; nil since that changed. What it holds does not change
	source     map[crdt.ReplicaID]NeighbourID // who sent the newest delta of each replica first
	waiting    []waiting                      // deltas that overtook what they depend on
	waitBytes  int
	looked     int  // how many of those were looked at since one was applied
	grown      bool // the context grew otherwise than by deltas: what waits may be ready
	paused     bool // deltas are not taken
	leaving    bool // no neighbour is to rely on what is here
	holds      bool // own deltas wait for Release
	asked      bool // some neighbour may wait for a Secured
	events     []Event
	apart      map[NeighbourID]map[crdt.ReplicaID]*parting // those in quarantine
	packing    packing                                     // of the last frame of deltas
	unpacker   delta.Unpacker
}

// neighbour is one open link.
type neighbour struct {
	greeted bool               // its hello has arrived
	whole   bool               // and said that it has what its context says
	replica crdt.ReplicaID     // under which it wrote when it said hello
	known   crdt.VersionVector // what it has, or was sent
	said    crdt.VersionVector // what it has, by its own word
	stated  crdt.VersionVector // what it said that it has with the hashes of the heads
	heads   delta.Heads        // which are these
	listed  crdt.VersionVector // what it listed since and with its last hello, or sent: all of known, in the short form
	told    crdt.VersionVector // what it knows that we have
	came    crdt.VersionVector // what it sent
	cursor  uint64             // the log's record to serve it next
	seeking bool               // more of the log is to be read before there is a frame for it
	lost    bool               // cursor is to be found anew
	behind  bool               // the log does not cover what it lacks
	missing int                // ticks for which it has had what we lack
	excused int                // deltas that arrived in parts since it had not, or since it was asked
	quiet   int                // ticks since it was told what is new here
	apart   int                // ticks in quarantine since it was told what is here
	due     bool               // deltas that are held back are to go to it

	// Hellos on this link: those sent to it, those heard from it, and how many it must have heard
	// before what it says of itself counts. See Rebase.
	hellos, heard, confirm uint64

	securing securing

	sending *sending // a delta that goes to it in parts
	partial *partial // one that comes from it

	onTheWay uint64 // bytes of deltas sent to it and not acknowledged
	owed     uint64 // bytes of deltas received from it and not acknowledged

	unread   *hello        // its last hello, until it is known what that stands for
	newcomer bool          // the hello is the first of its replica
	waited   int           // ticks for that
	tables   []delta.Table // of bases, that came with it
	tellable int           // the next of ours that it is to be told with our last hello, if it lacks it

	rest      []*delta.Delta     // of its last frame, not looked at
	news      crdt.VersionVector // that came along with it
	newsHeads delta.Heads
	applied   bool // some of that frame's deltas were
	retrying  bool // what waited is being looked at because of that

	unwanted map[crdt.ReplicaID]bool // whose deltas it asked us to leave out
	prune    map[crdt.ReplicaID]bool // whose deltas it is to be asked to leave out
	pruned   map[crdt.ReplicaID]bool // and was asked to, or is to be
	ask      map[crdt.ReplicaID]bool // whose chain it is to be asked for
	asked    map[crdt.ReplicaID]bool // whose chain it was asked for
	chain    map[crdt.ReplicaID]bool // whose chain it asked for

	finding   Search[Chain]      // such a chain that is being found; nil if none is
	comparing Search[Comparison] // what compares one that came from it; nil if none is compared
	chained   Chain              // that one

	// What is due to it. Flags, not queues: a message is made when the link takes it.
	hello, answer, graft, tellBehind, tellBases, tellFork, have, digest bool
}

// maxContext bounds the replicas in what a neighbour says that it has.
const maxContext = 1 << 20

// NewMesh returns a mesh without neighbours.
func NewMesh(core Core) *Mesh {
	return &Mesh{core: core, id: core.ID(), neighbours: map[NeighbourID]*neighbour{},
		source: map[crdt.ReplicaID]NeighbourID{},
		apart:  map[NeighbourID]map[crdt.ReplicaID]*parting{}}
}

// Connect opens a link, in place of one that there may be.
func (m *Mesh) Connect(id NeighbourID) {
	n := &neighbour{
		hello:    true,
		stated:   crdt.VersionVector{},
		heads:    delta.Heads{},
		told:     crdt.VersionVector{},
		came:     crdt.VersionVector{},
		unwanted: map[crdt.ReplicaID]bool{},
		prune:    map[crdt.ReplicaID]bool{},
		pruned:   map[crdt.ReplicaID]bool{},
		ask:      map[crdt.ReplicaID]bool{},
		asked:    map[crdt.ReplicaID]bool{},
		chain:    map[crdt.ReplicaID]bool{},
	}
	m.neighbours[id], m.ids = n, nil
	if !m.core.Whole() || m.leaving {
		n.mustConfirm()
	}
}

// Disconnect forgets a link.
func (m *Mesh) Disconnect(id NeighbourID) {
	delete(m.neighbours, id)
	m.ids = nil
}

// Neighbours returns the open links in order.
func (m *Mesh) Neighbours() []NeighbourID {
	if m.ids == nil && len(m.neighbours) > 0 {
		m.ids = slices.Sorted(maps.Keys(m.neighbours))
	}
	return m.ids
}

// Known returns what a neighbour has, as far as is known, and whether it has said so. The vector
// must not be changed.
func (m *Mesh) Known(id NeighbourID) (crdt.VersionVector, bool) {
	n := m.neighbours[id]
	if n == nil {
		return nil, false
	}
	return n.known, n.greeted
}

// Said is Known without what was only sent to the neighbour.
func (m *Mesh) Said(id NeighbourID) crdt.VersionVector {
	if n := m.neighbours[id]; n != nil && n.unread == nil {
		return n.said
	}
	return nil
}

// Inquire has all neighbours say what they have, for Said. By themselves they do not tell what came
// from this replica under ids that it does not write under: those of its earlier starts, and of
// others that it passed on.
func (m *Mesh) Inquire() {
	for _, n := range m.neighbours {
		n.hello, n.answer = true, true
	}
}

// Whole reports whether a neighbour said, once it had heard of the last Rebase or Leave, that it has what
// its context says.
func (m *Mesh) Whole(id NeighbourID) bool {
	n := m.neighbours[id]
	return n != nil && n.greeted && n.whole
}

// Events returns what happened since the last call.
func (m *Mesh) Events() []Event {
	e := m.events
	m.events = nil
	return e
}

// Rebase begins all links again: after a repair the log has holes, and the context has grown beside
// it. What a neighbour says of itself counts again once it has heard how this replica is now: of
// two that rely on each other to give up what they hold, each would do so on an old word of the
// other.
func (m *Mesh) Rebase() {
	m.grown, m.looked = true, 0
	for _, n := range m.neighbours {
		n.lost = true
		n.mustConfirm()
		n.securing.unmark()
	}
	m.asked = true
}

// Leave has neighbours told not to rely on what is here, as it is to be given up, or that they may again. What they say of
// themselves counts once they have heard it, as after Rebase. What survives there they are asked anew, by Secure.
func (m *Mesh) Leave(leaving bool) {
	m.leaving = leaving
	for _, n := range m.neighbours {
		if n.hello = true; leaving {
			n.mustConfirm()
			n.securing.again()
		}
	}
}

func (n *neighbour) mustConfirm() {
	n.hello, n.answer, n.whole = true, true, false
	n.confirm = n.hellos + 1
}

// Ticks, of 100 ms.
const (
	// patience is for how long a neighbour may have what we lack before it is asked: what is on the
	// way from elsewhere, and was held there, comes sooner.
	patience = 5
	// askEvery is between two such requests.
	askEvery = 10
	// excuses is for how many deltas that arrive in parts what is missing is not asked for, as it may be in them: where such
	// ones come all the time, it is not.
	excuses = 5
	// tellAfter is after how long what is new here goes along with deltas again, and tellAlone when
	// it does not wait for any. In a mesh that works it tells nothing that does not come anyway.
	tellAfter = 10
	tellAlone = 20
	// reviewEvery is after how long a host in quarantine is told again what is here: others may
	// have brought one of the two what shows that their chains do not fork.
	reviewEvery = 300
)

// Tick is due every 100 ms: it has the neighbours told what we have, and asks for what they have
// and nobody sent. While the replica is being repaired it does not ask.
func (m *Mesh) Tick(repairing bool) {
	renamed := m.core.ID() != m.id
	m.id = m.core.ID()
	busy := m.assembling()
	for id, n := range m.neighbours {
		n.hello = n.hello || renamed
		if !n.greeted {
			continue
		}
		m.readAnyway(id, n)
		n.quiet++
		n.have = n.have || n.quiet >= tellAlone
		switch {
		case m.Quarantined(id):
			n.missing = 0
			n.apart++
			n.hello = n.hello || n.apart >= reviewEvery
		case !m.core.Lacks(n.listed):
			n.missing, n.excused = 0, 0
		case busy && n.excused < excuses:
			n.missing = 0
		case !repairing:
			if n.missing++; n.missing%askEvery == patience {
				n.hello, n.graft, n.excused = true, true, 0
			}
		}
	}
}

// Resting reports whether the next ticks will do nothing, unless something happens before: all
// neighbours know what is here, and here is what they have.
func (m *Mesh) Resting() bool {
	if len(m.waiting)+len(m.apart) > 0 || m.core.ID() != m.id {
		return false
	}
	seen, _ := m.core.Context()
	for _, n := range m.neighbours {
		if !n.greeted || n.unread != nil || n.partial != nil || n.sending != nil || n.missing > 0 ||
			!n.told.Contains(seen) || m.core.Lacks(n.listed) {
			return false
		}
	}
	return true
}

// SendDigest has a random neighbour told the digest: due every second while something changes.
func (m *Mesh) SendDigest(rng *rand.Rand) {
	ids := m.Neighbours()
	if len(ids) == 0 {
		return
	}
	if n := m.neighbours[ids[rng.IntN(len(ids))]]; n.greeted {
		n.digest = true
	}
}

// Next returns the next frame for a neighbour, nil if there is none now. What the frame tells is
// taken for told: if it is not delivered, the link must be closed.
func (m *Mesh) Next(id NeighbourID) ([]byte, error) {
	n := m.neighbours[id]
	if n == nil {
		return nil, nil
	}
	n.seeking = false // also where deltas are not what is next
	if n.hello {
		return m.nextHello(n), nil
	}
	if !n.greeted {
		return nil, nil
	}
	if f := m.nextBases(n); f != nil {
		return f, nil
	}
	if f := m.nextFork(id, n); f != nil {
		return f, nil
	}
	if data, err := m.nextChain(n); data != nil || err != nil || n.seeking {
		return data, err
	}
	if m.Quarantined(id) {
		return nil, nil
	}
	if len(n.prune) > 0 {
		return n.nextPrune(), nil
	}
	if n.unread != nil {
		return nil, nil
	}
	if data := n.securing.next(); data != nil {
		return data, nil
	}
	if n.lost {
		m.findStart(n)
	}
	if n.tellBehind {
		n.tellBehind = false
		return encodeBehind(), nil
	}
	if !m.paused && n.owed >= ackAfter {
		data := encodeNumber(kindAck, n.owed)
		n.owed = 0
		return data, nil
	}
	if n.sending != nil && n.onTheWay < window {
		return n.nextPart(), nil
	}
	if n.sending == nil && !n.behind && n.onTheWay < window && (n.due || !m.holds) {
		if data, err := m.nextDeltas(n); data != nil || err != nil {
			return data, err
		}
		n.due = n.due && (n.seeking || n.lost)
	}
	if n.have {
		if data := m.nextHave(n); data != nil {
			return data, nil
		}
	}
	if n.digest {
		n.digest = false
		if d, settled := m.core.State(); settled {
			return encodeDigest(d), nil
		}
	}
	return nil, nil
}

func (n *neighbour) nextPrune() []byte {
	ids := slices.Sorted(maps.Keys(n.prune))
	ids = ids[:min(len(ids), maxReplicas)]
	for _, id := range ids {
		delete(n.prune, id)
	}
	return encodeReplicas(kindPrune, ids)
}

func (m *Mesh) nextHello(n *neighbour) []byte {
	seen, heads := m.core.Context()
	h := hello{version: protocolVersion, replica: m.core.ID(), seen: m.core.Vector(), heads: heads, total: len(seen), sum: sumOf(seen, heads),
		answer: n.answer, whole: m.core.Whole() && !m.leaving, heard: n.heard}
	n.hellos++
	if n.graft {
		for id, count := range n.known {
			if count > seen[id] && len(h.graft) < maxReplicas {
				h.graft = append(h.graft, id)
				delete(n.pruned, id)
				delete(n.prune, id)
			}
		}
		slices.Sort(h.graft)
	}
	n.hello, n.graft, n.answer = false, false, false
	n.tellBases, n.tellable = true, 0
	n.told, n.quiet, n.apart = seen.Clone(), 0, 0
	return h.encode()
}
