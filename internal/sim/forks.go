package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/delta"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
	"github.com/peerd/peerd/store"
)

// In some worlds an image of a running machine, memory and all, is started again: in place of the
// machine, or beside it. Both go on under one id and give its dots a second time. What a dot stands
// for is then no longer one thing, and the oracle, which knows transactions by their dots, has
// nothing to say. Instead each transaction leaves a marker and a count, both of which nothing
// removes. Hosts on different sides must name the fork and exchange nothing. Then one side is ended,
// as an operator does it: in the end each acknowledged transaction is there and was counted once, or
// was salvaged from a host that was ended.

const (
	markerKey = "markers" // a set
	ledgerKey = "ledger"  // a counter
)

// inQuarantine are the frames that may go to a neighbour in quarantine: hellos, questions for chains,
// chains, and forks.
var inQuarantine = map[byte]bool{1: true, 7: true, 8: true, 10: true, 11: true}

// drawForks makes the plan one of forks: without faults that lose writes, so that none may be
// missing.
func (p *plan) drawForks(rng *rand.Rand) {
	p.faults = []Fault{Image}
	others := []Fault{Reset, Partition, OneWay, Kill, Restart, Pause, Join, ComeBack, ClockBehind,
		SlowDisk}
	for range rng.IntN(4) {
		p.faults = append(p.faults, others[rng.IntN(len(others))])
	}
	p.durability = always
	p.maxLog, p.maxLogAge = 1<<30, 7*24*time.Hour // the log must reach back to the fork
	p.faultEvery = min(p.faultEvery, 2*time.Second)
	p.writeEvery = min(p.writeEvery, 150*time.Millisecond)
	p.emptied = false
	p.putBacks = 1 + rng.IntN(3)
}

// mark returns what leaves a transaction's marker.
func (w *world) mark(t *transaction) []mutation {
	w.markers++
	t.marker = fmt.Sprint(w.markers)
	return []mutation{addTo(markerKey, t.marker), {
		what: "count", cell: dotted.KeyAddress(ledgerKey).Type(crdt.TypeString), adds: 1, count: true,
		do: func(f crdt.Fields) error { return second(f.Counter(ledgerKey).Add(1)) },
	}}
}

// noteFork notes that two deltas have the same dots.
func (w *realm) noteFork(h *host, first crdt.Dot) {
	if !w.images[first.Replica] {
		w.fail("dot %v names two deltas; %s has the second one", first, h.name)
	}
	h.say("has a fork at %v", first)
}

// noteForks checks an alarm about forks.
func (h *host) noteForks() {
	for _, f := range h.engine.Forks() {
		if !h.w.images[f.Replica] {
			h.w.fail("%s raises an alarm about a fork of %v, and there was none", h.name, f.Replica)
		}
		h.say("has %v in quarantine", f.There)
	}
}

// drawID draws the host a replica id: the one in the memory that it was started from, if it was.
func (h *host) drawID() crdt.ReplicaID {
	id := h.memory
	if h.memory = 0; id == 0 {
		id = h.w.newID()
	}
	h.writes = id
	return id
}

// takeImage takes an image of a running machine, which is started again after a while.
func (w *world) takeImage(m *machine) {
	h := m.hosts[0] // of worlds of several spaces there are no images
	if !h.up() || h.refusing != nil || w.putBacks == w.plan.putBacks {
		return
	}
	image, id := h.disk.clone(), h.engine.ID()
	w.after(time.Duration(500+w.rng.IntN(4000))*time.Millisecond, func() {
		if w.calm || h.gone || w.putBacks == w.plan.putBacks || len(w.machines) == maxHosts {
			return
		}
		w.putBacks++
		w.images[id], w.blind = true, true
		if w.chance(2) {
			h.putBack(image, id)
			return
		}
		o := newMachine(w, image, m.spaces())
		o.say("is an image of %s", h.id)
		o.hosts[0].wakeFrom(id)
	})
}

// putBack puts the host's machine back to an image. What was acknowledged since and is nowhere
// else is lost.
func (h *host) putBack(image *disk, id crdt.ReplicaID) {
	w := h.w
	there := map[string]bool{}
	for _, o := range w.members() {
		if o != h {
			w.tellMarkers(o.disk, there)
		}
	}
	h.replaceDisk(image, "an image of its machine")
	w.tellMarkers(h.disk, there)
	for _, t := range w.hist.all {
		t.lost = t.lost || !there[t.marker]
	}
	h.wakeFrom(id)
}

// wakeFrom starts the process with the id that it had in memory, under which it goes on writing.
func (h *host) wakeFrom(id crdt.ReplicaID) {
	h.memory = id
	if h.machine.start(); !h.up() {
		return
	}
	h.step(func() error {
		for { // until one is not given up
			u := h.submit(nil)
			for h.asked > 0 {
				if _, err := h.roundAlone(); err != nil {
					return err
				}
			}
			if u.done {
				return nil
			}
		}
	})
}

// tellMarkers notes the markers on a disk.
func (w *realm) tellMarkers(d *disk, there map[string]bool) {
	_, tree, log := d.clone().part(w)
	r, err := engine.Open(tree, log, engine.Config{NewID: w.newID}, w.rng, time.Time{})
	if err != nil {
		w.fail("the disk with markers does not open: %v", err)
	}
	v := r.View()
	defer v.Close()
	f := engine.Fields(v)
	for m := range f.Set(markerKey).All() {
		there[m] = true
	}
	if err := f.Err(); err != nil {
		w.fail("markers cannot be read: %v", err)
	}
}

// apart returns a replica whose chains differ at two hosts.
func (w *realm) apart(a, b *host) (crdt.ReplicaID, bool) {
	seen, heads := a.engine.Context()
	other, theirs := b.engine.Context()
	for id := range w.images {
		if a.engine.ID() == id && other[id] > seen[id] || b.engine.ID() == id && seen[id] > other[id] {
			return id, true // dots that the one whose they are never issued
		}
		if seen[id] == 0 || other[id] == 0 || w.follows(heads[id], theirs[id]) ||
			w.follows(theirs[id], heads[id]) {
			continue
		}
		return id, true
	}
	return 0, false
}

// follows reports whether a delta is another one, or comes after it in its replica's chain.
func (w *realm) follows(head, other delta.Hash) bool {
	for ; head != 0; head = w.hist.before[head] {
		if head == other {
			return true
		}
	}
	return false
}

// endForks checks what the hosts say of forks, and ends all sides but one, as an operator does.
func (w *realm) endForks() {
	w.pass(20 * time.Second)
	for _, h := range w.members() {
		if !h.up() {
			w.fail("%s does not start", h.name)
		}
	}
	w.checkForks()
	var stay, end []*host
	members := w.members()
	w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	for _, h := range members {
		ends := false
		for _, o := range stay {
			_, apart := w.apart(h, o)
			ends = ends || apart
		}
		if ends {
			end = append(end, h)
		} else {
			stay = append(stay, h)
		}
	}
	for _, h := range end {
		w.end(h)
	}
}

// checkForks checks that hosts on two sides, where they are linked, have each other in quarantine, and
// that each host still has what it acknowledged.
func (w *realm) checkForks() {
	apart, alarmed := false, false
	for _, h := range w.members() {
		for _, o := range w.members() {
			id, forked := w.apart(h, o)
			apart = apart || forked
			if forked && h.links[o.id] != nil && o.links[h.id] != nil && !h.engine.Quarantined(o.id) {
				w.fail("%s and %s have two chains of %v, and the first does not say so", h.name, o.id, id)
			}
		}
		alarmed = alarmed || len(h.engine.Forks()) > 0
		w.checkOwnMarkers(h)
	}
	if apart && !alarmed {
		w.fail("dots were issued twice, and nobody noticed")
	}
}

func (w *realm) checkOwnMarkers(h *host) {
	there := map[string]bool{}
	w.tellMarkers(h.disk, there)
	for _, t := range w.hist.all {
		if t.acked && t.disk == h.disk && !there[t.marker] {
			w.fail("%s lost transaction %d, which it acknowledged", h.name, t.id)
		}
	}
	w.checkLedger(h, len(there))
}

// checkLedger checks that each transaction was counted once.
func (w *realm) checkLedger(h *host, markers int) {
	v := h.engine.View()
	defer v.Close()
	f := engine.Fields(v)
	if counted := f.Counter(ledgerKey).Get(); f.Err() != nil || int(counted) != markers {
		w.fail("%s has %d transactions and counted %d (%v)", h.id, markers, counted, f.Err())
	}
}

// end stops a host, salvages what only it has, and gives it an empty disk.
func (w *realm) end(h *host) {
	if w.chance(2) {
		h.machine.close()
	}
	set := dotted.KeyAddress(markerKey).Type(crdt.TypeSet)
	_, tree, log := h.disk.clone().part(w)
	err := engine.Salvage(tree, log, func(s engine.Salvaged) error {
		if s.Op.Kind == delta.OpPut && len(s.Op.Address) > len(set) && s.Op.Address[:len(set)] == set {
			if name, _, ok := s.Op.Address[len(set):].CutName(); ok {
				w.salvaged[name] = true
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		w.fail("%s cannot be salvaged: %v", h.name, err)
	}
	h.replaceDisk(newDisk(), "an empty disk, as its side of the fork is ended")
}

// checkMarkers checks that each acknowledged transaction is there and was counted once, or was
// salvaged.
func (w *realm) checkMarkers() {
	for _, h := range w.members() {
		there := map[string]bool{}
		w.tellMarkers(h.disk, there)
		for _, t := range w.hist.all {
			if t.acked && !t.lost && !there[t.marker] && !w.salvaged[t.marker] {
				w.fail("transaction %d, acknowledged by %s, is lost at %s", t.id, t.host.id, h.name)
			}
		}
		w.checkLedger(h, len(there))
	}
}
