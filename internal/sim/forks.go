package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/gossip"
)

// In some worlds a machine is put back from an image of it that was taken while its peer was
// closed: the mark of the clean close is in the image, so the peer goes on under its old id and
// gives dots a second time. What a dot stands for is then no longer one thing, and the oracle,
// which knows transactions by their dots, has nothing to say. Instead each transaction leaves a
// marker and a count, both of which nothing removes: in the end each acknowledged one is there,
// and counted once.

const (
	markerKey = "markers" // a set
	ledgerKey = "ledger"  // a counter
)

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
		what: "count", cell: crdt.KeyAddress(ledgerKey).Type(crdt.TypeValue), adds: 1, count: true,
		do: func(f crdt.Fields) error { return second(f.Counter(ledgerKey).Add(1)) },
	}}
}

// noteFork notes that two deltas have the same dots.
func (w *world) noteFork(h *host, first crdt.Dot) {
	if !w.plan.forks {
		w.fail("dot %v names two deltas; %s has the second one", first, h.id)
	}
	w.doubled = true
	h.say("has a fork at %v", first)
}

// forkedAt returns a dot that stands for two transactions, neither of which is lost.
func (w *world) forkedAt() (crdt.Dot, bool) {
	there := map[crdt.Dot]bool{}
	for _, t := range w.hist.all {
		if t.acked && !t.lost && there[t.first] {
			return t.first, true
		}
		there[t.first] = there[t.first] || t.acked && !t.lost
	}
	return crdt.Dot{}, false
}

// noticeFork takes an alarm about a fork.
func (w *world) noticeFork(h *host, ids []crdt.ReplicaID) {
	if !w.doubled {
		w.fail("%s raises an alarm about a fork of %v, and there was none", h.id, ids)
	}
	w.alarmed = true
}

// takeImage closes a host's peer, keeps an image of the machine, and puts it back after a while.
func (w *world) takeImage(h *host) {
	healing := h.up() && h.node.Rebuilding()
	h.close()
	if h.up() || h.disk.mark == "" {
		return
	}
	image := h.disk.image()
	attempts := 1
	if healing {
		attempts = 10 // it is put back when all know that it has healed
	}
	w.planPutBack(h, image, healing, attempts)
}

func (w *world) planPutBack(h *host, image *disk, healing bool, attempts int) {
	w.after(time.Duration(500+w.rng.IntN(4000))*time.Millisecond, func() {
		switch {
		case w.calm || h.gone || w.putBacks == w.plan.putBacks:
		case w.undisturbed() && (!healing || w.allKnowBranches()):
			w.putBacks++
			h.putBack(image)
		case attempts > 1:
			w.planPutBack(h, image, healing, attempts-1)
		}
	})
}

// allKnowBranches reports whether all hosts know of the same branches, each of them healed: a host
// that is put back to when it was at that learns it from whomever it meets first.
func (w *world) allKnowBranches() bool {
	all := map[gossip.BranchName]int{}
	for _, h := range w.members() {
		for _, b := range h.node.Branches() {
			if all[b.Name()]++; len(b.Healed) == 0 {
				return false
			}
		}
	}
	for _, n := range all {
		if n < len(w.members()) {
			return false
		}
	}
	return true
}

// undisturbed reports whether each host's data can be read.
func (w *world) undisturbed() bool {
	for _, h := range w.members() {
		if !h.up() || h.refusing != nil {
			return false
		}
	}
	return true
}

// putBack puts the host's machine back to an image. What was acknowledged since and is nowhere
// else is lost.
func (h *host) putBack(image *disk) {
	w := h.w
	there := map[string]bool{}
	for _, o := range w.members() {
		if o != h {
			for _, m := range o.readMarkers() {
				there[m] = true
			}
		}
	}
	w.blind = true
	h.replaceDisk(image, "an image of its machine")
	h.start()
	if !h.up() {
		return
	}
	for _, m := range h.readMarkers() {
		there[m] = true
	}
	for _, t := range w.hist.all {
		t.lost = t.lost || !there[t.marker]
	}
	for range 2 {
		w.after(time.Duration(w.rng.IntN(1500))*time.Millisecond, func() {
			if !w.calm && !h.gone && h.up() && h.node.Rebuilding() {
				w.takeImage(h)
			}
		})
	}
}

func (h *host) readMarkers() []string {
	v := h.node.View()
	defer v.Close()
	markers, err := crdt.Root(v).Set(markerKey).Elements()
	h.tolerates(err)
	return markers
}

// checkMarkers checks that each acknowledged transaction is there and was counted once.
func (w *world) checkMarkers() {
	if first, forked := w.forkedAt(); forked && !w.alarmed {
		w.fail("dot %v was issued twice, and nobody noticed", first)
	}
	for _, h := range w.members() {
		markers := h.readMarkers()
		there := make(map[string]bool, len(markers))
		for _, m := range markers {
			there[m] = true
		}
		for _, t := range w.hist.all {
			if t.acked && !t.lost && !there[t.marker] {
				w.fail("transaction %d, acknowledged by %s, is lost at %s", t.id, t.host.id, h.id)
			}
		}
		v := h.node.View()
		counted, err := crdt.Root(v).Counter(ledgerKey).Value()
		v.Close()
		if err != nil || int(counted) != len(markers) {
			w.fail("%s has %d transactions and counted %d (%v)", h.id, len(markers), counted, err)
		}
	}
}
