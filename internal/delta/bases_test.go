package delta

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/peerd/peerd/crdt"
)

// holder is a replica that has dots and bases, and no data. It is as it was at some time if it is restored.
type holder struct {
	id    crdt.ReplicaID
	seen  crdt.VersionVector
	bases Bases
}

// past is what a dot is: what its issuer had seen, and the bases that it says.
type past struct {
	seen  crdt.VersionVector
	table *Table
}

type bases struct {
	t     *rapid.T
	all   map[crdt.Dot]past
	hosts []*holder
	saved []*holder
	next  crdt.ReplicaID
}

func (b *bases) draw(n int, what string) int { return rapid.IntRange(0, n-1).Draw(b.t, what) }

func (b *bases) start(h *holder) *holder {
	b.next++
	h.id = b.next
	return h
}

func (h *holder) clone() *holder {
	c := &holder{seen: h.seen.Clone()}
	for _, t := range h.bases.Tables() {
		c.bases.Hold(t)
	}
	return c
}

// issue gives a host's next dot, which says bases of some others if that is asked for.
func (b *bases) issue(h *holder, says bool) {
	d := crdt.Dot{Replica: h.id, Counter: h.seen[h.id] + 1}
	p := past{seen: h.seen.Clone()}
	if says {
		table := Table{Dot: d}
		for _, id := range h.seen.Replicas() {
			if id != h.id && b.draw(2, "base") == 0 {
				table.Bases = append(table.Bases, Base{id, h.seen[id], Hash(2 * h.seen[id])})
			}
		}
		p.table = &table
	}
	b.all[d] = p
	b.apply(h, d)
}

func (b *bases) apply(h *holder, d crdt.Dot) {
	h.seen[d.Replica] = d.Counter
	if t := b.all[d].table; t != nil {
		h.bases.Hold(*t)
	}
}

// send brings some dots from one to the other, in an order that is causal.
func (b *bases) send(from, to *holder, most int) {
	for again := true; again && most > 0; {
		again = false
		for _, id := range from.seen.Replicas() {
			d := crdt.Dot{Replica: id, Counter: to.seen[id] + 1}
			if p, known := b.all[d]; known && from.seen.Has(d) && most > 0 && to.seen.Contains(p.seen) {
				b.apply(to, d)
				again = true
				most--
			}
		}
	}
}

// repair makes one what both are together: the source's bases come in its order.
func (b *bases) repair(from, to *holder) {
	for _, t := range from.bases.Tables() {
		if !to.seen.Has(t.Dot) {
			to.bases.Hold(t)
		}
	}
	to.seen.Merge(from.seen)
}

func (h *holder) short() crdt.VersionVector {
	short := crdt.VersionVector{}
	for id, n := range h.seen {
		if !h.bases.LeavesOut(id, n, Hash(2*n)) {
			short[id] = n
		}
	}
	return short
}

// check compares what each takes each other's vector for with what that stands for.
func (b *bases) check() {
	for _, writer := range b.hosts {
		short := writer.short()
		if again := writer.bases.Shorten(writer.seen); !maps.Equal(again, short) {
			b.t.Fatalf("%v is shortened to %v, and to %v", writer.seen, short, again)
		}
		for _, reader := range b.hosts {
			full, _ := reader.bases.Expand(short, nil)
			if !writer.seen.Contains(full) {
				b.t.Fatalf("%v, of %v, is taken for %v", short, writer.seen, full)
			}
			has, lists := reader.seen.Contains(writer.seen), reader.seen.Contains(short)
			if has != lists {
				b.t.Fatalf("%v has all of %v: %v; of its short form %v: %v", reader.seen, writer.seen, has, short, lists)
			}
			if has && !full.Equal(writer.seen) {
				b.t.Fatalf("%v, of %v, is taken for %v by who has all of it", short, writer.seen, full)
			}
			if same := maps.Equal(short, reader.short()); same != reader.seen.Equal(writer.seen) {
				b.t.Fatalf("%v and %v have short forms that are equal: %v", reader.seen, writer.seen, same)
			}
			read := reader.bases.Read(short)
			for id := range b.next + 1 {
				if read.Count(id) != full[id] {
					b.t.Fatalf("of %v %v reads %d, want %d", id, short, read.Count(id), full[id])
				}
			}
		}
	}
}

// TestAShortVectorIsNeverTakenForMoreThanItStandsFor whatever is said by whom, lost, restored and repaired.
func TestAShortVectorIsNeverTakenForMoreThanItStandsFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &bases{t: t, all: map[crdt.Dot]past{}}
		for range 3 {
			b.hosts = append(b.hosts, b.start(&holder{seen: crdt.VersionVector{}}))
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i, j := b.draw(3, "host"), b.draw(3, "other")
			h := b.hosts[i]
			switch b.draw(8, "step") {
			case 0, 1:
				b.issue(h, false)
			case 2:
				b.issue(h, len(h.seen) > 0)
			case 3, 4:
				b.send(b.hosts[j], h, 1+b.draw(4, "dots"))
			case 5:
				b.repair(b.hosts[j], h)
			case 6:
				b.saved = append(b.saved, h.clone())
			case 7:
				back := &holder{seen: crdt.VersionVector{}}
				if len(b.saved) > 0 && b.draw(3, "wiped") > 0 {
					back = b.saved[b.draw(len(b.saved), "saved")].clone()
				}
				b.hosts[i] = b.start(back)
			}
			b.check()
		}
	})
}

func TestASnapshotOfBasesStaysAsItIs(t *testing.T) {
	var b Bases
	dot := func(n uint64) crdt.Dot { return crdt.Dot{Replica: 1, Counter: n} }
	b.Hold(Table{dot(1), []Base{{2, 5, 10}}})
	s := b.Snapshot()
	b.Hold(Table{dot(2), []Base{{2, 7, 14}, {3, 1, 2}}})
	if !s.LeavesOut(2, 5, 10) || s.LeavesOut(3, 1, 2) || len(s.Tables()) != 1 {
		t.Error("it has what came later")
	}
	if b.LeavesOut(2, 5, 10) || !b.LeavesOut(3, 1, 2) {
		t.Error("what came later is not there")
	}
	if b.LeavesOut(3, 1, 4) {
		t.Error("another head is left out")
	}
	if got := slices.Collect(maps.Keys(b.tops)); len(got) != 1 || b.tops[1] != 2 {
		t.Errorf("tops %v", b.tops)
	}
}

// A fork may give an id two chains of one length, and a base of each may be heard of.
func TestWhatIsLeftOutIsExpandedToTheSameBase(t *testing.T) {
	var b Bases
	forked := crdt.ReplicaID(9)
	for i, head := range []Hash{2, 4} {
		says := crdt.ReplicaID(i + 1)
		b.Hold(Table{Dot: crdt.Dot{Replica: says, Counter: 1}, Bases: []Base{{forked, 5, head}}})
	}
	_, heads := b.Expand(crdt.VersionVector{1: 1, 2: 1}, nil)
	if !b.LeavesOut(forked, 5, 2) || b.LeavesOut(forked, 5, 4) || heads[forked] != 2 {
		t.Errorf("the chain with head 2 is left out: %v, and expanded to one with head %v", b.LeavesOut(forked, 5, 2),
			heads[forked])
	}
}
