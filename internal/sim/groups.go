package sim

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/peerd/peerd/crdt"
	"github.com/peerd/peerd/internal/dotted"
)

// Streams have consumer groups. The oracle knows of a group which entries were delivered, one by one: what a reader gets
// are those that are here for it and are not among them, whenever they came and whatever their ids are. It knows nothing
// of marks and epochs.

// grouped is something that is done to a stream or a group of it, and what came of it.
type grouped struct {
	kind            int
	group, consumer string
	nth             int // of the entries that are there, or are pending
	most            int // that are read; a group that is made begins with all entries if it is 0, else with later ones
	noAck           bool
	now             time.Time
	ids             []crdt.StreamID // that it was about, or that were delivered
	wrote           bool            // it changed something
}

// Kinds of what is done to groups.
const (
	makeGroup = iota
	setGroup
	readGroup
	acknowledge
	claim
	forgetConsumer
	destroyGroup
	deleteEntry
)

var groupedNames = [...]string{"make", "set", "read", "acknowledge", "claim", "forget consumer", "destroy", "delete entry"}

// progress is how far a group has read.
type progress struct {
	set       dotted.Time // when it was last said where it begins
	last      int         // the greatest id that was delivered, or behind which it began
	delivered map[int]bool
	passed    map[int]bool // entries behind which it began; of groups that began at once, those of all
}

// drawGrouped returns something that is done to a group, or the removal of an entry.
func (m *mix) drawGrouped() mutation {
	rng := m.streams
	key := m.streamed()
	kinds := []int{makeGroup, makeGroup, setGroup, forgetConsumer, destroyGroup, deleteEntry, acknowledge, claim, readGroup}
	d := &grouped{
		kind: kinds[min(rng.IntN(16), len(kinds)-1)], group: []string{"g", "h"}[rng.IntN(2)],
		consumer: []string{"a", "b"}[rng.IntN(2)], nth: rng.IntN(6), most: []int{0, 1, 3}[rng.IntN(3)],
		noAck: rng.IntN(6) == 0, now: time.UnixMilli(int64(1 + rng.IntN(50))),
	}
	return mutation{what: fmt.Sprintf("%s %q of %q, %q, %d", groupedNames[d.kind], d.group, key, d.consumer, d.most),
		cell: groupAddress(key, d.group).Type(ofProgress), write: true, grouped: d,
		do: func(f crdt.Fields) error { return d.do(f.Stream(key)) }}
}

// groupAddress returns where the oracle has a group. What is of it stands behind.
func groupAddress(key, group string) dotted.Address {
	return dotted.KeyAddress(key).Type(crdt.TypeStream).Name("g" + group)
}

// Cells below a group, and one beside the entries.
const (
	ofProgress dotted.Type = 'g'
	ofPending  dotted.Type = 'p'
	ofConsumer dotted.Type = 'u'
	ofDeleted  dotted.Type = 'i'
)

func (d *grouped) do(s crdt.Stream) (err error) {
	g, done := s.Group(d.group), true
	d.ids = nil
	switch d.kind {
	case makeGroup, setGroup:
		from := crdt.GroupInfo{Read: -1}
		if d.most > 0 {
			from.Last = s.Info().Last
		}
		d.ids = append(d.ids, from.Last)
		if d.kind == setGroup {
			err = g.SetID(from)
		} else {
			done, err = g.Create(from)
		}
	case readGroup:
		var entries []crdt.StreamEntry
		entries, err = g.Read(d.consumer, d.now, d.most, d.noAck)
		for _, e := range entries {
			d.ids = append(d.ids, e.ID)
		}
	case forgetConsumer:
		if done = g.HasConsumer(d.consumer); done {
			_, err = g.RemoveConsumer(d.consumer)
		}
	case destroyGroup:
		done, err = g.Remove()
	default:
		return d.one(s, g)
	}
	if errors.Is(err, crdt.ErrNoGroup) || err == nil && !done {
		return errNothing
	}
	return err
}

// one does something to an entry.
func (d *grouped) one(s crdt.Stream, g crdt.Group) error {
	var ids []crdt.StreamID
	if d.kind == deleteEntry {
		for e := range s.Range(crdt.StreamID{}, crdt.MaxStreamID) {
			ids = append(ids, e.ID)
		}
	} else {
		for p := range g.Pending(crdt.StreamID{}, crdt.MaxStreamID) {
			ids = append(ids, p.ID)
		}
	}
	if d.nth >= len(ids) {
		return errNothing
	}
	id := ids[d.nth]
	d.ids = append(d.ids, id)
	switch d.kind {
	case deleteEntry:
		return second(s.Remove(id))
	case acknowledge:
		return second(g.Ack(id))
	}
	p, _ := g.PendingOf(id)
	p.Count++
	p.Delivered = d.now
	return g.Assign(d.consumer, d.now, []crdt.Pending{p})
}

// entriesOf returns the entries of a stream in the order of their ids, as far as somebody has seen them.
func entriesOf(cells []*cell, seen func(*effect) bool) (ids []int) {
	for _, c := range cells {
		for _, e := range c.effects {
			if e.entry > 0 && seen(e) {
				ids = append(ids, e.entry)
			}
		}
	}
	return ids
}

// progressOf returns how far a group has read for who sees some effects; nil if there is none.
func progressOf(effects []*effect, live func(*effect) bool) (all *progress) {
	for _, e := range effects {
		p := e.progress
		switch {
		case !live(e), all != nil && p.set < all.set:
			continue
		case all == nil || p.set > all.set:
			all = &progress{set: p.set, delivered: map[int]bool{}, passed: maps.Clone(p.passed)}
		}
		maps.DeleteFunc(all.passed, func(id int, _ bool) bool { return !p.passed[id] })
		all.last = max(all.last, p.last)
		maps.Copy(all.delivered, p.delivered)
	}
	return all
}

// lacks returns which of some entries were not delivered.
func (p *progress) lacks(ids []int) []int {
	return slices.DeleteFunc(ids, p.has)
}

// has reports whether an entry was delivered, or is passed over.
func (p *progress) has(id int) bool { return p.delivered[id] || p.passed[id] }

// deliver notes that all entries up to one were delivered that a transaction has seen, also those
// that were removed since.
func (p *progress) deliver(cells []*cell, t *transaction, to int) {
	for _, id := range entriesOf(cells, func(e *effect) bool { return e.of == t || has(t.saw, e.of) }) {
		if id <= to && !p.passed[id] {
			p.delivered[id] = true
		}
	}
}

// replace has an effect write to a cell, in place of what its transaction sees there.
func (e *effect) replace(cells []*cell, at dotted.Address, written effect) []*cell {
	written.mutation = &mutation{what: e.what, cell: at, clears: at, write: true}
	written.of, written.n = e.of, e.n
	written.remove(cells)
	return written.put(cells)
}

// clear has it remove what its transaction sees under a prefix.
func (e *effect) clear(cells []*cell, at dotted.Address) {
	(&effect{mutation: &mutation{clears: at}, of: e.of, n: e.n}).remove(cells)
}

// effectsAt returns the effects on one cell.
func effectsAt(cells []*cell, at dotted.Address) []*effect {
	if i := find(cells, at); i < len(cells) && cells[i].at == at {
		return cells[i].effects
	}
	return nil
}

// greatest returns the greatest amount of the effects that are live.
func greatest(effects []*effect, live func(*effect) bool) (amount int) {
	for _, e := range effects {
		if live(e) {
			amount = max(amount, e.amount, e.tail)
		}
	}
	return amount
}

// grouping notes what is done to a stream or a group, and returns the key's cells. What was read is compared.
func (e *effect) grouping(key string, cells []*cell) []*cell {
	d, t, group := e.grouped, e.of, groupAddress(key, e.grouped.group)
	stream := dotted.KeyAddress(key).Type(crdt.TypeStream)
	was := progressOf(effectsAt(cells, e.cell), t.liveTo)
	if there := was != nil; there == (d.kind == makeGroup) && d.kind != deleteEntry && d.kind != acknowledge {
		e.unlessBlind("is there: %v", there)
		return cells
	}
	switch d.kind {
	case makeGroup, setGroup:
		now := &progress{last: int(d.ids[0].Ms), delivered: map[int]bool{}, passed: map[int]bool{}}
		if d.kind == setGroup {
			now.set = max(t.time, was.set+1)
		} else {
			e.clear(cells, group)
		}
		now.deliver(cells, t, now.last)
		now.passed, now.delivered = now.delivered, now.passed
		return e.replace(cells, e.cell, effect{progress: now})
	case readGroup:
		return e.reading(key, cells, was)
	case acknowledge:
		e.clear(cells, group.Type(ofPending).Name(entryName(int(d.ids[0].Ms))))
	case claim:
		at := group.Type(ofPending).Name(entryName(int(d.ids[0].Ms)))
		p, _ := pendingOf(effectsAt(cells, at), t.liveTo)
		cells = e.replace(cells, at, effect{pending: crdt.Pending{Consumer: d.consumer, Delivered: d.now, Count: p.Count + 1}})
		cells = e.replace(cells, group.Type(ofConsumer).Name(d.consumer), effect{amount: int(d.now.UnixMilli())})
		return e.replace(cells, e.cell, effect{progress: was})
	case forgetConsumer:
		e.forget(cells, group)
	case destroyGroup:
		e.clear(cells, group)
	case deleteEntry:
		id := int(d.ids[0].Ms)
		e.clear(cells, stream.Name(entryName(id)))
		if at := stream.Name("").Type(ofDeleted); id > greatest(effectsAt(cells, at), t.liveTo) {
			return e.replace(cells, at, effect{amount: id})
		}
	}
	return cells
}

// unlessBlind has the world fail.
func (e *effect) unlessBlind(format string, args ...any) {
	if h := e.of.host; !h.w.blind {
		h.w.fail("%s: %s: "+format, append([]any{h.name, e.what}, args...)...)
	}
}

// reading notes what a consumer read, which is all that was not delivered, or the first of it.
func (e *effect) reading(key string, cells []*cell, was *progress) []*cell {
	d, t, group := e.grouped, e.of, groupAddress(key, e.grouped.group)
	want, to := was.lacks(entriesOf(cells, t.liveTo)), math.MaxInt
	if d.most > 0 && len(want) >= d.most {
		want = want[:d.most]
		to = want[d.most-1]
	}
	got := make([]int, 0, len(d.ids))
	for _, id := range d.ids {
		got = append(got, int(id.Ms))
	}
	if !slices.Equal(got, want) {
		e.unlessBlind("reads %v, want %v", got, want)
	}
	if len(want) == 0 && !d.wrote {
		if !was.hasLast(cells, key, t) {
			e.unlessBlind("does not note that what it had not delivered is gone")
		}
		return cells
	}
	was.deliver(cells, t, to)
	for _, id := range want {
		was.last = max(was.last, id)
		if !d.noAck {
			cells = e.replace(cells, group.Type(ofPending).Name(entryName(id)),
				effect{pending: crdt.Pending{Consumer: d.consumer, Delivered: d.now, Count: 1}})
		}
	}
	if len(want) > 0 {
		cells = e.replace(cells, group.Type(ofConsumer).Name(d.consumer), effect{amount: int(d.now.UnixMilli())})
	}
	return e.replace(cells, e.cell, effect{progress: was})
}

// hasLast reports whether of each origin the last entry was delivered: else a read that finds
// nothing says so.
func (p *progress) hasLast(cells []*cell, key string, t *transaction) bool {
	last := map[int]int{}
	for _, e := range effectsAt(cells, dotted.KeyAddress(key).Type(crdt.TypeStream).Name("")) {
		if t.liveTo(e) {
			last[e.of.owner] = max(last[e.of.owner], e.tail)
		}
	}
	for _, id := range last {
		if !p.has(id) {
			return false
		}
	}
	return true
}

// pendingOf returns how an entry is pending: of what is live the latest, and of that what was delivered most often.
func pendingOf(effects []*effect, live func(*effect) bool) (p crdt.Pending, ok bool) {
	var of crdt.Dot
	for _, e := range effects {
		if !live(e) {
			continue
		}
		dot := crdt.Dot{Replica: e.of.first.Replica, Counter: e.of.first.Counter + uint64(e.n)}
		later := cmp.Or(e.pending.Delivered.Compare(p.Delivered), cmp.Compare(e.pending.Count, p.Count), dot.Compare(of))
		if !ok || later > 0 {
			p, of, ok = e.pending, dot, true
		}
	}
	return p, ok
}

// forget removes a consumer, and what is pending for it.
func (e *effect) forget(cells []*cell, group dotted.Address) {
	for _, c := range cells {
		if p, ok := pendingOf(c.effects, e.of.liveTo); ok && p.Consumer == e.grouped.consumer &&
			strings.HasPrefix(string(c.at), string(group.Type(ofPending))) {
			e.clear(cells, c.at)
		}
	}
	e.clear(cells, group.Type(ofConsumer).Name(e.grouped.consumer))
}

// readsStreamed says how a cell of a stream with the given live effects reads.
func (h *history) readsStreamed(key string, c *cell, live []*effect, seen []uint64) fact {
	all := func(*effect) bool { return true }
	text := ""
	switch e := live[0]; {
	case e.entry > 0:
		return fact{at: c.at}
	case e.progress != nil:
		p := progressOf(live, all)
		text = progressText(p.last, p.lacks(entriesOf(h.byKey[key], func(e *effect) bool {
			return has(seen, e.of) && !e.removedBy(seen)
		})))
	case e.pending.Count > 0:
		p, _ := pendingOf(live, all)
		text = pendingText(p)
	default:
		text = fmt.Sprint(greatest(live, all))
	}
	return fact{at: c.at, texts: []string{text}, latest: text}
}

func pendingText(p crdt.Pending) string {
	return fmt.Sprintf("%q since %d, %d times", p.Consumer, p.Delivered.UnixMilli(), p.Count)
}

// progressText tells how far a group has read: up to which id, and which entry it gets next.
func progressText(last int, lacking []int) string {
	if len(lacking) == 0 {
		return fmt.Sprintf("up to %d", last)
	}
	return fmt.Sprintf("up to %d, without %d", last, lacking[0])
}

// readGroups reads what a stream has beside its entries.
func readGroups(s crdt.Stream, at dotted.Address, entries []int, out *reading) error {
	tell := func(at dotted.Address, text string) { out.add(fact{at, []string{text}, text, 0}) }
	info := s.Info()
	if info.Added > 0 {
		tell(at.Name(""), fmt.Sprint(info.Last.Ms))
	}
	if info.MaxDeleted.Ms > 0 {
		tell(at.Name("").Type(ofDeleted), fmt.Sprint(info.MaxDeleted.Ms))
	}
	for name := range s.Groups() {
		g, group := s.Group(name), at.Name("g"+name)
		for c := range g.Consumers() {
			tell(group.Type(ofConsumer).Name(c.Name), fmt.Sprint(c.Seen.UnixMilli()))
		}
		for p := range g.Pending(crdt.StreamID{}, crdt.MaxStreamID) {
			tell(group.Type(ofPending).Name(entryName(int(p.ID.Ms))), pendingText(p))
		}
	}
	for part, value := range s.Parts() { // a copy of a group begins before what it lacks
		if part[0] != 'g' {
			continue
		}
		var ids [4]uint64
		for i := range ids {
			n := 0
			if ids[i], n = binary.Uvarint(value); n <= 0 {
				return fmt.Errorf("group %q: %x is no part", at, value)
			}
			value = value[n:]
		}
		behind := crdt.StreamID{Ms: ids[2], Seq: ids[3]}
		lacking := slices.DeleteFunc(slices.Clone(entries), func(id int) bool {
			return crdt.StreamID{Ms: uint64(id)}.Compare(behind) <= 0
		})
		tell(at.Name(part).Type(ofProgress), progressText(int(ids[0]), lacking))
	}
	return nil
}
