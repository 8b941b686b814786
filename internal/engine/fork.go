package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/wire"
	"github.com/peerd/peerd/store"
)

// An id lives for one start: it is drawn in memory at the first write after the store was opened,
// and is stored only with the writes that it names. So a store that is restored, copied, rolled
// back or crashed issues no dot again, whatever it lost. Only an image of running memory does,
// started beside what it is an image of or in its place. That shows when contexts meet: the deltas
// of a replica are chained by hashes, and the chains fork. What is compared here is acted on by
// gossip: see gossip.Fork.

// ErrForked is returned where something is wanted of a host whose chain of some replica's deltas is
// another.
var ErrForked = errors.New("a replica's deltas are others there than here: nothing is exchanged until one side is ended")

// maxCompared is how many replicas of a neighbour's context are looked up in the log for a fork at
// each hello. The own id always is, and first. Of the others the deltas tell that are exchanged
// then: they continue their chains. What a repair takes over does not, so that it looks up all, as far as logs tell.
const maxCompared = 64

// Heard is told what another replica's context is. Where dots stand for other things there than
// here, a removal from there would remove something else here.
func (r *replica) Heard(seen crdt.VersionVector, heads delta.Heads) gossip.Differences {
	return r.heard(seen, heads, maxCompared)
}

// heard is Heard with at most so many replicas looked up.
func (r *replica) heard(seen crdt.VersionVector, heads delta.Heads, most int) (d gossip.Differences) {
	compared, ids := 0, seen.Replicas()
	if i := slices.Index(ids, r.current()); i > 0 {
		ids[0], ids[i] = ids[i], ids[0]
	}
	for _, id := range ids {
		theirs, mine := seen[id], r.seen[id]
		switch {
		case theirs > mine && id == r.current():
			d.Forked = append(d.Forked, id) // dots that were never issued
		case theirs > mine:
			// Who has more finds out, when it hears what is here.
		case theirs == mine || compared < most || id == r.current():
			if theirs != mine {
				compared++
			}
			same, known := r.compareAt(id, theirs, heads[id])
			switch {
			case known && !same:
				d.Forked = append(d.Forked, id)
			case !known && id == r.current():
				d.Unsure = append(d.Unsure, id)
			}
		}
	}
	return d
}

// Agrees reports whether a replica's delta that ends at a counter is known to have this hash here.
func (r *replica) Agrees(id crdt.ReplicaID, last uint64, head delta.Hash) bool {
	same, known := r.compareAt(id, last, head)
	return same && known
}

// maxSearched is how much work it may be to find a delta in the log: about what 2 MiB are. Each replica
// that is compared has as much. Of fewer, the forks of those for which nothing is left would not be found.
const maxSearched = 2 << 20 / bytesPerWork

// compareAt reports whether a replica's delta that ends at a counter has this hash here. It is not
// known if the log does not reach there, or would have to be read for long. A context ends
// where deltas do: one that goes on beyond the counter is another.
func (r *replica) compareAt(id crdt.ReplicaID, last uint64, head delta.Hash) (same, known bool) {
	switch mine := r.seen[id]; {
	case last == 0 || last > mine:
		return false, false
	case last == mine:
		return head == r.heads[id], true
	}
	compare := func(d *delta.Delta) (more bool) {
		if d.Replica != id || d.Last() < last {
			return true
		}
		if d.First <= last {
			same, known = d.Last() == last && d.Hash() == head, true
		}
		if d.Last() == last {
			r.log.note(d)
		}
		return false
	}
	recent := r.log.recent
	for i := len(recent) - 1; i >= 0; i-- {
		for _, d := range recent[i].deltas {
			if d.Replica == id && d.First <= last && last <= d.Last() {
				compare(d)
				return same, known
			}
		}
	}
	if hash, found := r.log.found[crdt.Dot{Replica: id, Counter: last}]; found {
		return head == hash, true
	}
	number, found := r.log.Find(id, last)
	if !found {
		return false, false
	}
	began, before := r.work, r.turn.searched
	err := r.readLog(number, func(rec logged) bool {
		r.turn.searched = before + r.work - began
		return !slices.ContainsFunc(rec.deltas, func(d *delta.Delta) bool { return !compare(d) }) &&
			r.work-began < maxSearched
	})
	return same, known && err == nil
}

// chain returns what calls fn with the deltas of a replica in the log, until fn returns false. Each
// call reads as much as is left of the step, and a record in any case.
func (r *replica) chain(id crdt.ReplicaID, fn func(*delta.Delta) bool) func() (bool, error) {
	next, found := r.log.Find(id, 1)
	if !found {
		next = r.log.Last + 1
	}
	return func() (done bool, err error) {
		done = true
		err = r.readLog(max(next, r.log.First), func(rec logged) bool {
			for _, d := range rec.deltas {
				if d.Replica == id && !fn(d) {
					return false
				}
			}
			next, done = rec.lsn+1, !r.isSpent()
			return done
		})
		return done, err
	}
}

// Chain has the chain of a replica's deltas in the log found, up to the first that ends beyond a
// counter: the newest gossip.MaxChain of them, and only those behind the last hole.
func (r *replica) Chain(id crdt.ReplicaID, upTo uint64) gossip.Search[gossip.Chain] {
	c := gossip.Chain{Replica: id}
	var last uint64
	read := r.chain(id, func(d *delta.Delta) bool {
		if d.First != last+1 && last >= upTo && last > 0 {
			return false
		}
		if d.First != last+1 {
			c.Links = c.Links[:0] // whether what is in the hole differs is not known
		}
		if last = d.Last(); len(c.Links) == 0 {
			c.First = d.First
		}
		if len(c.Links) == gossip.MaxChain {
			c.First, c.Links = c.Links[0].Last+1, c.Links[1:]
		}
		c.Links = append(c.Links, gossip.ChainLink{Last: last, Hash: d.Hash()})
		return last <= upTo
	})
	return func() (gossip.Chain, bool, error) {
		done, err := read()
		return c, done, err
	}
}

// Compare is told a host's chain of a replica. It has found whether that and the one here are known
// to fork, and the last dot that they are known to have in common.
func (r *replica) Compare(from gossip.NeighbourID, theirs gossip.Chain) (
	find gossip.Search[gossip.Comparison]) {
	id, c := theirs.Replica, gossip.Comparison{}
	if len(theirs.Links) == 0 {
		return func() (gossip.Comparison, bool, error) { return c, true, nil }
	}
	have := make(map[gossip.ChainLink]bool, len(theirs.Links))
	for _, l := range theirs.Links {
		have[l] = true
	}
	theirLast := theirs.Links[len(theirs.Links)-1].Last
	read := r.chain(id, func(d *delta.Delta) bool {
		known := c.Last > 0 || d.First == 1 && theirs.First == 1 // where the two were one
		if have[gossip.ChainLink{Last: d.Last(), Hash: d.Hash()}] {
			c.Last = d.Last()
		} else if known && d.Last() >= theirs.First && d.First <= theirLast {
			c.Forks = true
		}
		return true
	})
	return func() (gossip.Comparison, bool, error) {
		done, err := read()
		if err != nil || !done {
			return c, false, err
		}
		c.Forks = c.Forks && theirLast != c.Last // else one is the beginning of the other
		if o := r.ownID(id); o != nil && c.Forks {
			o.cross(from, c.Last)
		}
		return c, true, nil
	}
}

// A store remembers under which ids it wrote, and how much of that others are known to have:
// nothing here depends on it, and Salvage tells an operator what would be lost with the store.

// maxOwn is how many of its ids a store remembers.
const maxOwn = 64

// ownID is an id under which this store wrote, or that forked: who wrote the chain that is here may
// be gone. Up to known, others are known to have what was written, on that chain. across is the
// same for each host that is on another side of a fork.
type ownID struct {
	id     crdt.ReplicaID
	known  uint64
	across map[gossip.NeighbourID]uint64
}

// cross notes what a host on another side of a fork is known to have.
func (o *ownID) cross(host gossip.NeighbourID, n uint64) {
	if o.across == nil {
		o.across = map[gossip.NeighbourID]uint64{}
	}
	o.across[host] = max(o.across[host], n)
}

// sure returns up to where what it wrote is not lost if this store is ended. Once others are on
// another side of a fork, that is what each of them has: the side that is here may be ended as a
// whole, and any of the others may be kept.
func (o *ownID) sure(across map[gossip.NeighbourID]bool) uint64 {
	if len(across) == 0 {
		return o.known
	}
	sure := uint64(math.MaxUint64)
	for host := range across {
		sure = min(sure, o.across[host])
	}
	return sure
}

// ownID returns what is remembered of an id of this store; nil if it is none.
func (r *replica) ownID(id crdt.ReplicaID) *ownID {
	for i := range r.own {
		if r.own[i].id == id {
			return &r.own[i]
		}
	}
	return nil
}

// Wrote reports whether this store wrote under an id before it was opened, as far as it remembers.
func (r *replica) Wrote(id crdt.ReplicaID) bool { return id != r.current() && r.ownID(id) != nil }

// noteOwn remembers an id under which this store writes.
func (r *replica) noteOwn(id crdt.ReplicaID) {
	if n := len(r.own); n == 0 || r.own[n-1].id != id { // nearly always it is the last
		r.remember(n, ownID{id: id})
	}
}

// Forked is told that a replica's deltas are others at some host. Another's id comes before the
// newest own: after a restart only its place says that it is not that.
func (r *replica) Forked(id crdt.ReplicaID) {
	if r.noteOwn(r.id); id != r.id {
		_, at := r.newestOwn()
		r.remember(at, ownID{id: id, known: math.MaxUint64})
	}
}

func (r *replica) remember(at int, o ownID) {
	if o.id != 0 && r.ownID(o.id) == nil {
		r.own = slices.Insert(r.own, at, o)
		r.own = r.own[max(0, len(r.own)-maxOwn):]
	}
}

// Confirm is told what another host has. What is not known to be on the chain that is here does not
// count. across says that the host is on another side of a fork.
func (r *replica) Confirm(host gossip.NeighbourID, seen crdt.VersionVector, heads delta.Heads, across bool) {
	if across {
		r.across[host] = true
	} else {
		delete(r.across, host)
	}
	for i := range r.own {
		o := &r.own[i]
		n := seen[o.id]
		switch {
		case across && n > o.across[host] && r.Agrees(o.id, n, heads[o.id]):
			o.cross(host, n)
		case !across && n > o.known && r.Agrees(o.id, n, heads[o.id]):
			o.known = n
		}
	}
}

// Forget is told that a host may have lost what it is known to have. What Salvage tells must not
// rest on it any more, so a checkpoint is due.
func (r *replica) Forget(host gossip.NeighbourID) {
	for i := range r.own {
		delete(r.own[i].across, host)
	}
	r.ownFell = r.ownFell || r.across[host]
}

// GiveUp is told who will not come back. A host of which that is so, and that is not linked, is on
// no side of a fork any more: what it has need not be told apart, and it keeps no alarm.
func (e *Engine) GiveUp(gone func(gossip.NeighbourID) bool) {
	e.Mesh.GiveUp(gone)
	for host := range e.across {
		if !gone(host) || e.Quarantined(host) {
			continue
		}
		delete(e.across, host)
		e.replica.Forget(host)
		e.ownFell = true // what is stored names it
	}
}

// maxAcross is how many hosts on another side of a fork a store remembers beyond a restart.
const maxAcross = 64

// writeOwn writes the ids of this store, and who is on another side of a fork: what those have does
// not become known by what others have, also where they are not met again.
func (r *replica) writeOwn(w *wire.Writer) {
	w.Array(2)
	w.Array(2 * len(r.own))
	for _, o := range r.own {
		w.Uint(uint64(o.id))
		w.Uint(o.sure(r.across))
	}
	hosts := sortedKeys(r.across)
	hosts = hosts[:min(len(hosts), maxAcross)]
	w.Array(len(hosts))
	for _, host := range hosts {
		w.String(string(host))
	}
}

// readOwn reads what writeOwn wrote. Each of the hosts has at least what was sure.
func readOwn(rd *wire.Reader) (own []ownID) {
	rd.Array(2)
	n := rd.Array(2*maxOwn) / 2
	for i := 0; i < n && rd.Err() == nil; i++ {
		own = append(own, ownID{id: crdt.ReplicaID(rd.Uint()), known: rd.Uint()})
	}
	n = rd.Array(maxAcross)
	for i := 0; i < n && rd.Err() == nil; i++ {
		host := gossip.NeighbourID(rd.String(gossip.MaxNeighbourID))
		for j := range own {
			own[j].cross(host, own[j].known)
		}
	}
	return own
}

// recall takes what was stored of the ids of this store.
func (r *replica) recall(own []ownID) {
	r.own = own
	for _, o := range own {
		for host := range o.across {
			r.across[host] = true
		}
	}
}

// Salvaged is one operation of a store's own that no other host is known to have.
type Salvaged struct {
	Dot  crdt.Dot
	Time dotted.Time // zero if the log has it no more
	Op   delta.Op
}

// Salvage calls fn with what this store wrote, under its newest ids, and nobody else is known to
// have, and with what was written under an id that forked and the other side is not known to have,
// whoever wrote it: first what its log has, in the order of writing, then what only its cells have.
// After a fork was noticed that is what the other side is not known to have, also where hosts on
// the side of this store have it. What is not known is told rather than left out. It reads a store
// that nobody has open, whatever its state, and changes nothing. Records that cannot be read are
// passed over; then, when all is told, the error names the first.
func Salvage(st store.Store, log store.Log, fn func(Salvaged) error) error {
	s := salvage{
		snap: st.Snapshot(), log: log, fn: fn, known: map[crdt.ReplicaID]uint64{}, told: map[crdt.Dot]bool{},
		gone: map[crdt.Dot]bool{}, hiding: &clears{},
	}
	defer s.snap.Close()
	s.record(keyRebuild, func(record []byte) error {
		_, own, err := decodeRebuild(record)
		s.owns(own)
		return err
	})
	bases, err := loadBases(s.snap)
	if err != nil {
		s.pass(err)
	}
	s.bases = bases
	s.record(keyCheckpoint, func(record []byte) error {
		c, err := decodeCheckpoint(record, &s.bases)
		if err == nil {
			s.owns(c.own)
			s.saved = c.next
		}
		return err
	})
	// The log is cut behind a checkpoint only: a newer one, which is gone, may have had more ids.
	s.blind = s.blind || s.saved > 0 && s.saved < log.First()
	first := true
	s.records(func(rec logged) {
		s.blind, first = s.blind || first && rec.lsn > 1 && s.saved == 0, false
		if _, there := s.known[rec.own]; !there && rec.own != 0 {
			s.known[rec.own] = 0
		}
	})
	s.records(func(rec logged) {
		for _, d := range rec.deltas {
			s.delta(d)
		}
	})
	s.cells()
	return errors.Join(s.failed, s.rotten)
}

// salvage is Salvage at work.
type salvage struct {
	snap   store.Snapshot
	log    store.Log
	fn     func(Salvaged) error
	known  map[crdt.ReplicaID]uint64 // of own ids, what others are known to have
	told   map[crdt.Dot]bool
	gone   map[crdt.Dot]bool // that the log says was removed: the tree may still have it
	hiding *clears
	bases  delta.Bases
	blind  bool           // a record of own ids cannot be read, or is gone: in the cells any id may be one
	saved  store.Position // where the records begin of which the tree may have nothing
	failed error          // of fn, or of the store
	rotten error          // the first record that cannot be read
}

func (s *salvage) owns(own []ownID) {
	for _, o := range own {
		s.known[o.id] = o.known
	}
}

// pass notes that a record cannot be read.
func (s *salvage) pass(err error) {
	if s.rotten == nil {
		s.rotten = err
	}
}

// record reads a record of own ids, if it is there.
func (s *salvage) record(key []byte, read func(record []byte) error) {
	record, ok, err := s.snap.Get(key)
	if err == nil && ok {
		err = read(record)
	}
	if err != nil {
		s.blind = true
		s.pass(err)
	}
}

// records calls fn with the records of the log. Where the disk does not give them back it goes on
// behind the checkpoint: of those before, the cells are in the tree.
func (s *salvage) records(fn func(logged)) {
	at := s.recordsFrom(s.log.First(), fn)
	if at < s.saved && s.saved <= s.log.Next() {
		s.recordsFrom(s.saved, fn)
	}
}

// recordsFrom calls fn with the records from one on, and returns up to where they could be read.
func (s *salvage) recordsFrom(at store.Position, fn func(logged)) (end store.Position) {
	r, err := s.log.Read(at, make([]byte, readBuffer))
	if err != nil {
		s.passLogged(err)
		return at
	}
	defer r.Close()
	for s.failed == nil {
		got, err := r.Next()
		if errors.Is(err, io.EOF) {
			return s.log.Next()
		}
		var rec logged
		if err == nil {
			at = got.Next
			rec, err = decodeLogged(slices.Clone(got.Data))
		}
		if err == nil {
			fn(rec)
		} else if s.passLogged(err); errors.Is(err, store.ErrUnreadable) {
			return at
		}
	}
	return at
}

// passLogged is pass of an error of the log; one that is not about a record ends all.
func (s *salvage) passLogged(err error) {
	switch {
	case errors.Is(err, store.ErrCorrupt):
		s.pass(err)
	case errors.Is(err, store.ErrUnreadable):
		s.pass(fmt.Errorf("%w: %w", store.ErrCorrupt, err))
	default:
		s.failed = cmp.Or(s.failed, err)
	}
}

// tell tells an operation, once, if it is to be told.
func (s *salvage) tell(w Salvaged) {
	known, own := s.known[w.Dot.Replica]
	if !own || w.Dot.Counter <= known || s.told[w.Dot] || s.failed != nil {
		return
	}
	s.told[w.Dot] = true
	s.failed = s.fn(w)
}

func (s *salvage) delta(d *delta.Delta) {
	for _, t := range d.Tables() {
		if !slices.ContainsFunc(s.bases.Tables(), func(have delta.Table) bool { return have.Dot == t.Dot }) {
			s.bases.Hold(t)
		}
	}
	for i, op := range d.Ops {
		for _, dot := range op.Removes {
			if _, own := s.known[dot.Replica]; own || s.blind {
				s.gone[dot] = true
			}
		}
		switch op.Kind {
		case delta.OpEnd, delta.OpBase:
			continue // it is nothing that anybody would write again
		case delta.OpClear:
			s.hiding.add(&pendingClear{
				prefix: op.Address, replica: d.Replica, below: d.Dot(i).Counter, seen: &seenSet{vector: d.Seen, seen: s.bases.Read(d.Seen)},
			})
		}
		s.tell(Salvaged{Dot: d.Dot(i), Time: d.Time, Op: op})
	}
}

// cells finds what the log has no more: entries that are still there. What a clear hides is not.
func (s *salvage) cells() {
	err := loadClears(s.snap, &s.bases, func(p *pendingClear) { s.hiding.add(p) }, func(uint64) {})
	if err != nil {
		s.pass(err)
	}
	err = scanRecords(s.snap, prefixCell, func(key, value []byte) error {
		a, c, err := decodeCell(s.snap, key, value)
		if err != nil {
			s.pass(err)
		}
		for _, e := range s.hiding.hide(a, c) {
			if _, own := s.known[e.Dot.Replica]; !own && s.blind {
				s.known[e.Dot.Replica] = 0
			}
			if !s.gone[e.Dot] {
				s.tell(Salvaged{Dot: e.Dot, Op: delta.Op{Kind: delta.OpPut, Address: a, Payload: e.Payload}})
			}
		}
		return s.failed
	})
	s.failed = cmp.Or(s.failed, err)
}
