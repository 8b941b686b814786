package sim

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
	"github.com/peerd/peerd/internal/dotted"
	"github.com/peerd/peerd/internal/engine"
)

// Bounds of the end of a world.
const (
	// agreeWithin is how long after the last fault all must hold the same. A source that fell silent
	// may hold a repair up, and a false suspicion keeps a host from checking itself again.
	agreeWithin = 2 * time.Minute
	// quietFor is how long nothing may change once all hold the same.
	quietFor = 3 * time.Second
)

// settle ends all faults, waits until all hosts of each space hold the same, and checks what that is.
func (w *world) settle() {
	w.calm = true
	clear(w.blocked)
	for _, m := range w.present() {
		m.absent, m.slow, m.paused = false, false, 0
		m.scarcity(false)
		m.disk.heal()
	}
	w.say("the faults end")
	if w.plan.forks {
		w.realms[0].endForks()
	}
	w.agree()
	w.expireAll()
	for _, r := range w.realms {
		r.secureAll()
	}
	w.agree() // time has passed, in which a disk may have been found damaged
	w.checkEnd()
	if w.plan.emptied && !w.rotten {
		for _, r := range w.realms {
			r.empty()
		}
	}
}

// any reports whether something is so in some space.
func (w *world) any(is func(*realm) bool) bool { return slices.ContainsFunc(w.realms, is) }

// agree waits until all hosts of each space hold the same.
func (w *world) agree() {
	for _, m := range w.present() {
		for _, id := range sortedIDs(m.links) {
			if w.plan.unordered {
				m.links[id].breaks()
			}
		}
	}
	end := w.now + agreeWithin
	for bases := -1; bases != w.totals.Bases; { // said of ids that were idle while links were broken
		for w.any((*realm).unsettled) {
			if w.now >= end {
				w.fail("no agreement within %v:%s", agreeWithin, w.describe())
			}
			if w.now >= end-agreeWithin/2 {
				for _, r := range w.realms {
					r.giveUpHelpless()
				}
			}
			w.pass(time.Second / 4)
		}
		bases = w.totals.Bases
		w.pass(quietFor)
	}
	expires := w.plan.mix.timed != nil && !w.expired // and whoever removes it is ahead for a moment
	if w.any((*realm).disagrees) && !w.rotten && !expires {
		w.fail("the agreement did not last:%s", w.describe())
	}
}

// unsettled reports whether something is still to be done in the space.
func (w *realm) unsettled() bool {
	return w.disagrees() || w.collecting() || w.basing() || w.clearing()
}

// disagrees reports whether not all hosts are well and hold the same.
func (w *realm) disagrees() bool { return !w.agreed() }

// clearing reports whether some machine has something left of a space that it dropped.
func (w *realm) clearing() bool {
	return slices.ContainsFunc(w.present(), func(m *machine) bool { return m.clears })
}

// giveUpHelpless does what the log tells people to do: a damaged host that waits in vain for
// somebody who has what only it has, or what it lost, gets an empty disk.
func (w *realm) giveUpHelpless() {
	for _, h := range w.members() {
		if !h.up() {
			continue
		}
		if h.engine.Damaged() != nil && !h.engine.DiscardDue() || h.engine.Rebuilding() && w.rotten {
			h.replaceDisk(newDisk(), "an empty disk, as it is helpless")
		}
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	for until := w.now + d; w.advance(until); {
	}
}

// collecting reports whether some host has baselines to look for.
func (w *realm) collecting() bool {
	return slices.ContainsFunc(w.members(), func(h *host) bool { return h.up() && h.engine.Collecting() })
}

// basing reports whether some host has bases to say.
func (w *realm) basing() bool {
	return slices.ContainsFunc(w.members(), func(h *host) bool { return h.up() && h.engine.Basing() })
}

// agreed reports whether all hosts are well and hold the same.
func (w *realm) agreed() bool {
	members := w.members()
	if len(members) == 0 {
		return true
	}
	if !members[0].up() {
		return false
	}
	context, root, _ := members[0].engine.Digest()
	for _, h := range members {
		if !h.up() || h.refusing != nil || h.engine.Rebuilding() || h.asked > 0 {
			return false
		}
		c, r, settled := h.engine.Digest()
		if c != context || r != root || !settled {
			return false
		}
	}
	return true
}

func (w *world) describe() string {
	var b strings.Builder
	for _, r := range w.realms {
		r.describe(&b)
	}
	return b.String()
}

func (w *realm) describe(b *strings.Builder) {
	for _, h := range w.members() {
		if !h.up() {
			fmt.Fprintf(b, "\n%s is down", h.name)
			continue
		}
		_, root, settled := h.engine.Digest()
		seen, _ := h.engine.Context()
		fmt.Fprintf(b, "\n%s: root %v settled %v repairing %v rebuilding %v damaged %v "+
			"refusing %v waiting %d links %v: %v", h.name, root, settled, h.engine.Pulling(), h.engine.Rebuilding(),
			h.engine.Damaged(), h.refusing, h.engine.Waiting(), sortedIDs(h.links), seen)
	}
}

// checkEnd checks the state that all agree on, and that nothing is left over.
func (w *world) checkEnd() {
	for _, m := range w.present() {
		m.checkLog()
	}
	for _, r := range w.realms {
		r.checkEnd()
	}
	for _, m := range w.present() {
		m.checkNumbers()
	}
}

func (w *realm) checkEnd() {
	for _, h := range w.members() {
		h.check()
		h.checkReopened()
		h.checkVerified()
		h.checkBounds()
	}
	if len(w.members()) == 0 {
		return
	}
	if w.plan.forks {
		w.checkMarkers()
		return
	}
	if w.blind {
		return
	}
	w.checkOrders()
	seen := w.hist.dense(w.members()[0].held)
	for _, t := range w.hist.all {
		if t.acked && !t.lost && !has(seen, t) {
			w.fail("transaction %d, acknowledged by %s, is lost", t.id, t.host.name)
		}
	}
}

// checkLog checks that no space holds the log back: not even one that nobody writes to, or that was dropped.
func (m *machine) checkLog() {
	bound := int64(0)
	for _, h := range m.hosts {
		if h.engine.Damaged() != nil {
			return
		}
		bound = max(bound, h.engine.LogBound())
	}
	if has := m.disk.log.Size(); m.w.several() && has > bound {
		m.w.fail("the log of %s has %d bytes, bound %d", m.id, has, bound)
	}
}

// checkNumbers checks that a disk has records of its spaces alone, beside the table.
func (m *machine) checkNumbers() {
	snap := m.disk.written.Snapshot()
	defer snap.Close()
	_ = snap.ScanKeys(nil, nil, func(key []byte) bool {
		if m.owner(key) == nil && (key[0] != 0 || key[1] != 0) {
			m.w.fail("%s has a record %q of a space that it does not hold", m.id, key)
		}
		return true
	})
}

// checkReopened compares the state in memory with what a process finds that opens the disk anew.
func (h *host) checkReopened() {
	if h.scars().rotten || h.scars().rotLog {
		return
	}
	_, tree, log := h.disk.clone().part(h.w)
	e, err := engine.Open(tree, log, engine.Config{NewID: h.w.newID}, h.w.rng, h.now())
	if err != nil || e.Damaged() != nil {
		h.w.fail("the store of %s does not open: %v %v", h.name, err, e.Damaged())
	}
	e.SetClock(h.judged)
	for e.Clears() > 0 {
		err := e.Step(h.now(), h.wall())
		if err == nil {
			err = engine.CarryOut(e.Ready().Writes, tree, log)
		}
		if e.Advance(); err != nil {
			h.w.fail("what %s cleared cannot be swept: %v", h.name, err)
		}
	}
	context, root, _ := h.engine.Digest()
	c, r, _ := e.Digest()
	keys, cells := h.engine.Counts()
	k, n := e.Counts()
	if c != context || r != root || k != keys || n != cells {
		h.w.fail("%s keeps context %v, root %v, %d keys, %d cells; its disk holds %v, %v, %d, %d",
			h.name, context, root, keys, cells, c, r, k, n)
	}
}

// checkVerified has the replica check itself, as it does when damage is suspected.
func (h *host) checkVerified() {
	for h.engine.Busy() { // with a checkpoint, for what another space wrote
		if _, err := h.roundAlone(); h.tolerates(err) {
			return
		}
	}
	if h.engine.Parked() {
		return // it holds nothing, and what it was given waits for a source that may have left
	}
	pinned, err := h.engine.Pin()
	if err != nil {
		h.w.fail("%s cannot be pinned: %v", h.name, err)
	}
	defer pinned.Close()
	err = pinned.Verify(func() bool { return false })
	if err != nil && !h.scars().rotten && !h.scars().rotLog {
		h.w.fail("%s takes itself for damaged: %v", h.name, err)
	}
}

// isKey reports whether a place is that of a key, perhaps a long one, of which it has the beginning and a sum.
func isKey(place dotted.Address) bool {
	_, rest, whole := place.CutName()
	long := strings.Index(string(place), "\x00\x02")
	return whole && rest == "" || long >= 0 && len(place) == long+2+sha256.Size
}

// checkBounds checks that nothing is kept but what is live, and the log.
func (h *host) checkBounds() {
	h.engine.Checkpoint()
	for h.engine.Busy() {
		if _, err := h.roundAlone(); h.tolerates(err) {
			return
		}
	}
	if h.engine.Parked() {
		return // what waits for a source is nobody's
	}
	kinds := map[byte]int{}
	snap := h.tree.Snapshot()
	defer snap.Close()
	lone := 0
	err := snap.ScanKeys(nil, nil, func(key []byte) bool {
		kinds[key[0]]++
		name := len(key) - 1
		if key[0] == 'c' && key[name] == byte(crdt.TypeString) && isKey(dotted.Address(key[1:name])) {
			if _, summed, _ := snap.Get(append([]byte("k"), key[1:name]...)); !summed {
				lone++
			}
		}
		return true
	})
	if h.tolerates(err) {
		return
	}
	keys, cells := h.engine.Counts()
	switch {
	case kinds['c'] != cells || kinds['t'] != cells:
		h.w.fail("%s has %d cells, and stores %d and %d places", h.name, cells, kinds['c'], kinds['t'])
	case kinds['k'] < keys-lone || kinds['k'] > cells-lone:
		h.w.fail("%s has %d keys in %d cells, and stores %d, %d being lone", h.name, keys, cells, kinds['k'], lone)
	case kinds['s']+kinds['y']+kinds['z'] > 0:
		h.w.fail("%s keeps leftovers: %v", h.name, kinds)
	case h.engine.LogBytes() > h.engine.LogBound():
		h.w.fail("%s keeps a log of %d bytes", h.name, h.engine.LogBytes())
	case len(h.held) > h.w.incarnations:
		h.w.fail("%s knows of %d replicas, there were %d", h.name, len(h.held), h.w.incarnations)
	}
}

// empty deletes everything, and checks that then nothing is left but counters' baselines.
func (w *realm) empty() {
	if len(w.members()) == 0 {
		return
	}
	h := w.members()[0]
	var muts []mutation
	for _, key := range w.hist.keys {
		muts = append(muts, mutation{what: fmt.Sprintf("delete %q", key), clears: dotted.KeyAddress(key),
			do: func(f crdt.Fields) error { return second(f.Remove(key)) }})
	}
	if len(muts) == 0 {
		return
	}
	h.ask(muts)
	w.pass(time.Second)
	w.agree()
	w.checkEnd()
	for _, h := range w.members() {
		if keys, _ := h.engine.Counts(); keys > 0 {
			w.fail("%s has %d keys after all were deleted", h.name, keys)
		}
		w.checkEmptied(h)
	}
}

// checkEmptied checks that the cells that are left hold baselines alone, of ids that crashed: neither of one that a
// host has now, nor of one whose end is known.
func (w *realm) checkEmptied(h *host) {
	v := h.engine.View()
	defer v.Close()
	err := v.Scan("", "", func(a dotted.Address, c dotted.Cell) bool {
		owners := map[crdt.ReplicaID]int{}
		for _, e := range c {
			if owner := w.checkBaseline(h, a, e); c.Visible() || owners[owner] == 2*w.incarnations {
				w.fail("%s still has %d entries at %q", h.name, len(c), a)
			} else {
				owners[owner]++
			}
		}
		return true
	})
	h.tolerates(err)
}

// checkBaseline checks an entry that is left at an address, and returns for whose share it is a baseline.
func (w *realm) checkBaseline(h *host, a dotted.Address, e dotted.Entry) (owner crdt.ReplicaID) {
	owner, ok := a.BaselineOwner(e)
	if !ok {
		w.fail("%s still has an entry at %q, which is no baseline", h.name, a)
	}
	if w.plan.forks {
		return owner // an id is written under at two hosts
	}
	if n, ended := w.ended[owner]; ended && h.held[owner] >= n {
		w.fail("%s still has a baseline for %v, which ended, at %q", h.name, owner, a)
	}
	for _, o := range w.members() {
		if owner == o.writes {
			w.fail("%s still has a baseline for %v, as which %s writes, at %q", h.name, owner, o.id, a)
		}
	}
	return owner
}

func sortedIDs[V any](m map[gossip.NeighbourID]V) []gossip.NeighbourID {
	ids := make([]gossip.NeighbourID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
